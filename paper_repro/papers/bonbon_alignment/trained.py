"""Claims on training: tables end where theory says, and a transformer passes by on its way."""

from __future__ import annotations

from functools import cache, partial

import jax
import numpy as np

from paper_repro.papers.claim import DERIVED, Claim, Tolerance
from simulations.experiments import enumerable_alignment, tabular_alignment
from simulations.experiments.enumerable_alignment import (
    EnumerableAlignmentConfig,
    EnumerableAlignmentResults,
    Path,
)

_claim = partial(Claim, paper="bonbon_alignment", provenance=DERIVED)

_SEED = 20261126
_CONFIG = EnumerableAlignmentConfig(
    names=("SFT-BoN", "BoNBoN, β*", "matched targets", "matched targets, further draws"),
    num_steps=320,
    decays=True,
)
_N = _CONFIG.n
_MODEL = (
    f"a transformer over {_CONFIG.num_tokens} tokens, responses of at most "
    f"{_CONFIG.max_new_tokens}, all known; RMSprop, {_CONFIG.num_steps} updates on "
    f"{_CONFIG.batch_size} fresh pairs each, n = {_N}, evaluated exactly"
)


@cache
def _results() -> EnumerableAlignmentResults:
    return enumerable_alignment.run(_CONFIG, jax.random.key(_SEED))


def _path(name: str) -> Path:
    return _results().path(name)


@cache
def _tables() -> dict[str, tabular_alignment.TableEnd]:
    return tabular_alignment.run(_CONFIG, jax.random.key(_SEED))


def _ends() -> list[float]:
    ends = _tables().values()
    return [x for end in ends for x in (end.win_rate / end.exact_win_rate, end.kl / end.exact_kl)]


def _past_and_back() -> tuple[float, float, float]:
    """Best win rate above best-of-n's; largest KL above its; the last win rate below it."""
    path, best = _path("BoNBoN, β*"), _results().landmark("best-of-n")
    return (
        float(path.win_rate.max()) - best.win_rate,
        float(path.kl.max()) - best.kl,
        best.win_rate - float(path.win_rate[-1]),
    )


def _closer() -> list[float]:
    """What targets of their own take off BoNBoN's distance from best-of-n at the end."""
    bonbon = _path("BoNBoN, β*").total_variation[-1]
    names = ("matched targets", "matched targets, further draws")
    return [float(bonbon - _path(name).total_variation[-1]) for name in names]


def _slower() -> float:
    """How many observed updates more SFT-BoN takes to best-of-n's KL divergence."""
    steps, target = _results().steps, _results().landmark("best-of-n").kl
    first = [
        int(steps[np.argmax(_path(name).kl >= 0.8 * target)]) for name in ("SFT-BoN", "BoNBoN, β*")
    ]
    return float(first[0] - first[1])


_NAMES = tuple(tabular_alignment.LOSSES)

CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="bonbon/tables-end-at-the-minimisers",
        where="beside eqs. 4.1–4.4",
        statement=(
            "Losses of given log-probabilities, as training minimises them, averaged over the "
            "exact law of pairs of the responses of a transformer and minimised by L-BFGS over all "
            "laws, end where their population minimisers are. Entries: win rate and KL as "
            "shares of the minimiser's."
        ),
        compute=_ends,
        expected=(1.0,) * (2 * len(_NAMES)),
        tolerance=Tolerance("where L-BFGS stops", absolute=1e-3),
        labels=tuple(f"{what}, {name}" for name in _NAMES for what in ("win rate", "KL")),
        figure="alignment",
        test="simulations/test_enumerable_alignment.py::test_tables_end_at_the_minimisers",
    ),
    _claim(
        id="bonbon/training-runs-past-best-of-n",
        kind="empirical",
        where="beside Figure 3",
        statement=(
            "Does training stop before BoNBoN's minimiser (win rate .814 at n = 8), at best-of-n "
            f"(.889), or run past it? It runs past, and comes back: {_MODEL}. Entries: highest win "
            "rate less that of best-of-n, largest KL less its, and its win rate less the last one."
        ),
        compute=_past_and_back,
        expected=(0.03, 1.0, 0.01),
        relation=">=",
        tolerance=Tolerance("what is stated is that much at least"),
        labels=("win rate past", "KL past", "win rate at the end, below"),
        figure="alignment",
        test="simulations/test_enumerable_alignment.py::test_bonbon_runs_past_best_of_n_and_stays_below_its_win_rate",
    ),
    _claim(
        id="bonbon/own-targets-end-nearer-to-best-of-n",
        kind="empirical",
        where="beside eq. 4.3",
        statement=(
            "With each pair's own margin as its target, exact or estimated from 56 further draws, "
            "training ends nearer to best-of-n than with BoNBoN's one target for all. Entries: by "
            f"how much in total variation; {_MODEL}."
        ),
        compute=_closer,
        expected=(0.02, 0.02),
        relation=">=",
        tolerance=Tolerance("what is stated is that much at least"),
        labels=("exact", "from further draws"),
        figure="alignment",
        test="simulations/test_enumerable_alignment.py::test_own_targets_end_nearer_to_best_of_n",
    ),
)
