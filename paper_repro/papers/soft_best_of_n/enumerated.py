"""A claim on a language model whose every sequence is known: blocks as drawn, and the exact law."""

from __future__ import annotations

import jax

from paper_repro.papers.claim import DERIVED, Claim, Tolerance
from paper_repro.papers.soft_best_of_n.laws import claim
from simulations.experiments import enumerable_model
from simulations.experiments.enumerable_model import RULES, EnumerableModelConfig

_SEED = 20250505
_CONFIG = EnumerableModelConfig()
_VALUES = 2  # additive rewards, and the look-ahead of one that is not
_LAWS = _VALUES * len(RULES) * len(_CONFIG.block_lengths)


def _rejected() -> tuple[int, int]:
    """How many laws are rejected, and how many laws of twice the candidates."""
    results = enumerable_model.run(_CONFIG, jax.random.key(_SEED))
    return len(results.report.rejected), len(results.planted.rejected)


CLAIMS: tuple[Claim, ...] = (
    claim(
        id="soft/enumerated-model",
        where="blockwise sampling",
        provenance=DERIVED,
        kind="empirical",
        statement=(
            "A transformer over 4 tokens, sequences of at most 4, all known: selecting blocks of "
            f"{', '.join(map(str, _CONFIG.block_lengths))} tokens as they are drawn, by partial "
            "rewards or by a look-ahead, with best-of-n, soft best-of-n, the exponential race and "
            "a threshold, gives sequences with the product of the exact conditional laws."
        ),
        stage="enumerated-model",
        compute=_rejected,
        expected=(0, _LAWS),
        tolerance=Tolerance(
            f"counts; {_LAWS} tests of {_CONFIG.num_sequences:,} sequences each, which reject a "
            f"right law with probability {_CONFIG.false_alarm:g} in all"
        ),
        checked_by=("soft_best_of_n(8, 1.5) on i.i.d. sequence, blockwise",),
        labels=("laws rejected", "laws of twice the candidates rejected"),
        test="simulations/test_enumerable_model.py::test_what_is_drawn_has_the_exact_law",
    ),
)
