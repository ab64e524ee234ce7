"""Claims on a trained language model whose responses are selected block by block.

``compute`` takes what ``paper_repro.pipeline.model_blocks`` found, which this module does not
import: claims on theory do without the language model's stack.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paper_repro.papers.claim import DERIVED, Claim, Tolerance
from paper_repro.papers.closed_forms import tie_free_kl
from paper_repro.papers.soft_best_of_n.laws import claim

NUMBERS, BLOCK_LENGTHS, LONGEST = (2, 4, 8), (1, 2, 4, 8, 16, 24), 24
_CASES = tuple(f"n={n}, blocks of {length}" for n in NUMBERS for length in BLOCK_LENGTHS)


def _beyond_the_bound(found: Any) -> NDArray[np.float64]:
    """KL less what as many blocks without ties have."""
    blocks = np.ceil(LONGEST / np.array(BLOCK_LENGTHS))
    bounds = np.outer([tie_free_kl(n) for n in NUMBERS], blocks)
    return np.ravel(found.results.kl_divergence.value - bounds)


def _short_over_whole(found: Any) -> NDArray[np.float64]:
    """Reward, then KL, of best-of-8 in blocks of 1, 2 and 4 tokens less that of whole responses."""
    results = found.results
    tables = (results.reward.value[-1], results.kl_divergence.value[-1])
    return np.concatenate([table[:3] - table[-1] for table in tables])


def _growth(found: Any) -> list[float]:
    """By what factor candidates for a gain per token grow from 12 tokens to 24."""
    needed = found.needed
    short, long = (int(np.flatnonzero(needed.length == m)[0]) for m in (12, 24))
    return [float(column[long] / column[short]) for column in (needed.model, needed.independent)]


CLAIMS: tuple[Claim, ...] = (
    claim(
        id="soft/model-blocks-divergence",
        where="blockwise sampling",
        provenance=DERIVED,
        kind="inequality",
        relation="<=",
        statement=(
            "A trained language model's responses, best-of-n for every block: the divergence from "
            "the model is at most log n − (n−1)/n for each block (entries: what it exceeds that)."
        ),
        stage="model-blocks",
        compute=_beyond_the_bound,
        expected=(0.0,) * len(_CASES),
        tolerance=Tolerance(
            "estimates, of standard errors below 0.05 nats near the bound", absolute=0.1
        ),
        labels=_CASES,
        figure="block_selection",
        test="simulations/test_block_selection.py::test_measured_means_are_those_of_the_exact_laws",
    ),
    claim(
        id="soft/model-short-blocks",
        where="blockwise sampling",
        provenance=DERIVED,
        kind="empirical",
        relation=">=",
        statement=(
            "At equal draws (8 drawn tokens for each token kept), blocks of 1, 2 and 4 tokens of a "
            "trained language model's responses earn more of an additive reward than whole "
            "responses do, and go further from the model."
        ),
        stage="model-blocks",
        compute=_short_over_whole,
        expected=(1.0,) * 6,
        tolerance=Tolerance("stated with room: of words found 4, of nats 5 to 8"),
        labels=tuple(f"{what}, blocks of {b}" for what in ("words", "nats") for b in (1, 2, 4)),
        figure="block_selection",
        test="simulations/test_block_selection.py::test_measured_means_are_those_of_the_exact_laws",
    ),
    claim(
        id="soft/model-whole-responses",
        where="blockwise sampling",
        provenance=DERIVED,
        kind="empirical",
        relation=">=",
        statement=(
            "The candidates that whole responses need for half a standard deviation of additive "
            "reward per token multiply as responses get twice as long, from 12 tokens to 24: a "
            "trained language model's, and independent tokens' of the same law of rewards."
        ),
        stage="model-blocks",
        compute=_growth,
        expected=(1.5, 2.5),
        tolerance=Tolerance("stated with room: 2.5 and 3.8 were found"),
        labels=("language model", "independent tokens"),
        figure="block_selection",
        test="simulations/test_whole_responses.py::test_the_candidates_earn_the_gain",
    ),
)
