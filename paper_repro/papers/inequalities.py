"""Published inequalities as claims: the number of random problems on which one is violated."""

from __future__ import annotations

from functools import cache

import jax

from bon_theory.bounds import REGISTRY
from paper_repro.papers.claim import Claim, Provenance, Tolerance
from simulations.experiments import bounds_sweep

NUM_PROBLEMS = 4096
_SEED = 20260601
_COUNT = Tolerance(
    "a count; a violation is an excess of more than 1e-9 of the larger side, which rounding cannot "
    "cause"
)


@cache
def _violations(*names: str) -> list[int]:
    """On how many random problems (5 outcomes, ties in 40 %) each of these bounds fails."""
    config = bounds_sweep.BoundsSweepConfig(tuple(REGISTRY[name] for name in names), NUM_PROBLEMS)
    outcomes = bounds_sweep.run(config, jax.random.key(_SEED)).outcomes
    return [outcomes[name].violations for name in names]


def never_violated(
    *names: str,
    id: str,
    paper: str,
    where: str,
    provenance: Provenance,
    statement: str,
    sharper: str = "",
    figure: str = "bounds",
    test: str = "",
) -> Claim:
    """The claim that none of these bounds of ``bon_theory.bounds`` fails on random problems.

    Example:
        >>> never_violated(
        ...     "best_of_n_kl",
        ...     id="example/kl",
        ...     paper="example",
        ...     where="Theorem 1",
        ...     provenance=Provenance("read"),
        ...     statement="KL.",
        ... ).labels
        ('best_of_n_kl',)
    """
    zeros = (0.0,) * len(names)
    return Claim(
        id=id,
        paper=paper,
        where=where,
        provenance=provenance,
        kind="inequality",
        statement=f"{statement} Entries: violations in {NUM_PROBLEMS:,} random problems.",
        compute=lambda: _violations(*names),
        expected=zeros,
        relation="<=",
        tolerance=_COUNT,
        labels=names,
        sharper=sharper,
        sharp_value=zeros if sharper else (),
        figure=figure,
        test=test,
    )
