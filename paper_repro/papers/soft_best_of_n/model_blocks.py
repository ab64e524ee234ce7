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
        tolerance=Tolerance("estimates, of standard errors below 0.1 nats", absolute=0.1),
        labels=_CASES,
        figure="block_selection",
        test="simulations/test_block_selection.py::test_measured_means_are_those_of_the_exact_laws",
    ),
)
