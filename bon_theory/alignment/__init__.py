r"""What alignment losses aim at: their population minimisers, losses and gradient flows.

A loss on samples from best-of-n, or on best-and-worst pairs, has in the limit of infinite data and
of a policy that can be anything a minimiser of its own. It is best-of-n for SFT, and for IPO with
each pair's own margin as its target (:func:`ipo_matched`); it is not for IPO-BoN and BoNBoN.
Letters in brackets are those of the bibliography; :math:`h = \log\pi_\theta/\pi` throughout.
"""

from bon_theory.alignment.distillation import (
    bond,
    bond_loss,
    variational_best_of_n,
    variational_best_of_n_loss,
)
from bon_theory.alignment.flow import gradient_flow
from bon_theory.alignment.inference_aware import InferenceAware, inference_aware
from bon_theory.alignment.losses import (
    bonbon_loss,
    dpo_loss,
    ipo_loss,
    ipo_matched_loss,
    sft_best_of_n_loss,
)
from bon_theory.alignment.margins import best_of_n_beta, mean_margin
from bon_theory.alignment.minimisers import (
    bonbon,
    dpo,
    ipo,
    ipo_best_of_n,
    ipo_matched,
    sft_best_of_n,
)
from bon_theory.alignment.pairs import best_and_worst_probs

__all__ = [
    "best_and_worst_probs",
    "best_of_n_beta",
    "mean_margin",
    "sft_best_of_n_loss",
    "ipo_loss",
    "ipo_matched_loss",
    "bonbon_loss",
    "dpo_loss",
    "sft_best_of_n",
    "ipo",
    "ipo_best_of_n",
    "bonbon",
    "ipo_matched",
    "dpo",
    "bond_loss",
    "bond",
    "variational_best_of_n_loss",
    "variational_best_of_n",
    "InferenceAware",
    "inference_aware",
    "gradient_flow",
]
