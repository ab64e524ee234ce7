r"""The selections: each maps a reference law to the law of what is selected.

A rank selection is a distortion of the reward CDF (:mod:`bon_theory.distortion`); a value selection
weighs rewards by :math:`w = e^{r/\lambda}` and is a race among candidates (:mod:`bon_theory.race`)
or the tilt that the race tends to. Temperatures are [V]'s: small :math:`\lambda` is greedy.
(Others write :math:`\beta = 1/\lambda`, or :math:`e^{\lambda r}`.)

Scalar parameters may also be arrays that broadcast against the reference's batch axes. Inadmissible
concrete values raise ``ValueError``; traced ones (under ``jit``, ``vmap``, ``grad``) give NaN.
"""

from bon_theory.selection.races import (
    exponential_race,
    noisy_best_of_n,
    soft_best_of_n,
    soft_best_of_poisson,
)
from bon_theory.selection.ranks import (
    best_of_n,
    best_of_n_stopped,
    best_of_poisson,
    kth_best_of_n,
    top_fraction,
    top_k_of_n,
    win_rate_optimal,
    worst_of_n,
)
from bon_theory.selection.tilts import chi_squared_tilt, exponential_tilt

__all__ = [
    "best_of_n",
    "best_of_n_stopped",
    "best_of_poisson",
    "chi_squared_tilt",
    "exponential_race",
    "exponential_tilt",
    "kth_best_of_n",
    "noisy_best_of_n",
    "soft_best_of_n",
    "soft_best_of_poisson",
    "top_fraction",
    "top_k_of_n",
    "win_rate_optimal",
    "worst_of_n",
]
