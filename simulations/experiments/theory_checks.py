"""Every selection law of ``bon_theory`` against the process it describes, in one calibrated report.

Each case runs the real process once and asks four things of the same sample: is its histogram the
exact law's (for a continuous reward, over equal-probability bins of the rank; for sequences, over
every one of them), is its distribution function, its mean reward and its mean win rate the exact
ones. All of it is one family with one
false-alarm rate. The sample is as large as it takes to reject each *planted* law — n off by one, λ
or a strength off by 2 %, and if wanted the probability of any atom off by 1 % — and the report must
reject every one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from simulations.engine.simulate import Simulation, simulate
from simulations.experiments.theory_problems import PROBLEMS
from simulations.statistics.checks import (
    Check,
    Family,
    Report,
    check_distribution,
    check_histogram,
    check_mean,
    required_trials,
)
from simulations.tools.precision import require_float64

Law = NDArray[np.float64]
_ROWS = 3  # parameters of a case and what is planted, or a multiple


@dataclass(frozen=True)
class Case:
    """One selection on one problem.

    Attributes:
        problem: key of :data:`simulations.experiments.theory_problems.PROBLEMS`.
        selection: name of the function, the same in ``bon_theory`` and in ``samplers``.
        parameters: its parameters.
        planted: parameters of wrong laws, each of which this case's sample must reject.
        process: name of another function of ``samplers`` that makes the same selection.
    """

    problem: str
    selection: str
    parameters: tuple[float, ...]
    planted: tuple[tuple[float, ...], ...]
    process: str = ""

    @property
    def name(self) -> str:
        """Selection, parameters and problem: unique within the matrix."""
        by = f" by {self.process}" if self.process else ""
        return f"{self.selection}{_tuple(self.parameters)}{by} on {self.problem}"


@dataclass(frozen=True)
class TheoryChecksOutcome:
    """What came of a case.

    Attributes:
        case: the case.
        law: exact probabilities of the histogram's cells.
        simulation: counts, mean reward and mean win rate.
        expected_reward: exact.
        win_rate: exact, against the reference, ties counting half.
        checks: the case's checks, to be judged within the whole family.
        planted: the histogram check against each planted law.
    """

    case: Case
    law: Law
    simulation: Simulation
    expected_reward: float
    win_rate: float
    checks: tuple[Check, ...]
    planted: tuple[Check, ...]


@dataclass(frozen=True)
class TheoryChecksConfig:
    """What is checked, and how surely.

    Attributes:
        cases: the matrix.
        false_alarm: chance, at most, that a right theory fails the report.
        miss: chance, nearly, that any planted law goes unnoticed.
        min_trials: smallest sample of a case.
        max_trials: largest sample of a case; needing more is an error in the matrix.
        atom_error: relative error of one probability that is planted too, in each atom of at least
            ``smallest_atom`` in turn; 0 for none.
        smallest_atom: see there. (An error of 1 % in an atom of 1e-6 takes 10¹¹ trials to see.)
    """

    cases: tuple[Case, ...]
    false_alarm: float = 1e-6
    miss: float = 1e-3
    min_trials: int = 200_000
    max_trials: int = 8_000_000
    atom_error: float = 0.0
    smallest_atom: float = 0.1


@dataclass(frozen=True)
class TheoryChecksResults:
    """The outcomes, the verdict on the theory, and which planted laws were rejected.

    Attributes:
        outcomes: one per case.
        report: the verdict on all checks of all cases.
    """

    outcomes: tuple[TheoryChecksOutcome, ...]
    report: Report

    @property
    def missed(self) -> tuple[Check, ...]:
        """Planted laws that the report would not have rejected; empty if it has its power."""
        planted = (check for outcome in self.outcomes for check in outcome.planted)
        return tuple(check for check in planted if check.p_value > self.report.threshold)

    @property
    def passed(self) -> bool:
        """Whether every law passed and every planted law was rejected."""
        return self.report.passed and not self.missed


def run(
    config: TheoryChecksConfig, key: Array, *, progress: Callable[[str], None] | None = None
) -> TheoryChecksResults:
    """Run all cases; needs float64 (``jax.enable_x64``), for the exact side.

    Args:
        config: the matrix and its error rates; :data:`DEFAULT`, or part of it.
        key: typed key; consumed.
        progress: called with each case's name before it runs.

    Raises:
        ValueError: without float64, or if a planted law needs more than ``max_trials``.
    """
    require_float64("theory_checks")
    # Planned before any sample is seen: the rates depend on the matrix alone.
    family = Family(
        tuple(name for case in config.cases for name in _check_names(case)), config.false_alarm
    )
    # Each atom is planted on its own, so their number, at most, enters the share of misses.
    per_case = 1 / config.smallest_atom if config.atom_error else 0
    num_planted = sum(len(case.planted) + per_case for case in config.cases)

    outcomes = []
    for case, case_key in zip(config.cases, jax.random.split(key, len(config.cases)), strict=True):
        if progress is not None:
            progress(case.name)
        outcomes.append(_run_case(config, case, case_key, family.threshold, num_planted))
    report = family.judge(check for outcome in outcomes for check in outcome.checks)
    return TheoryChecksResults(tuple(outcomes), report)


def _run_case(
    config: TheoryChecksConfig, case: Case, key: Array, threshold: float, num_planted: float
) -> TheoryChecksOutcome:
    problem = PROBLEMS[case.problem]
    rows = np.array((case.parameters, *case.planted))
    # As many rows in every case, so that they share programs.
    filled = np.pad(rows, [(0, -len(rows) % _ROWS), (0, 0)], mode="edge")
    laws, rewards, win_rates = map(np.asarray, problem.exact(case.selection, filled))
    expected, win_rate = float(rewards[0]), float(win_rates[0])
    law, *wrong = laws[: len(rows)]
    labels = [f"taken for {_tuple(parameters)}" for parameters in case.planted]
    for atom in np.flatnonzero(law >= config.smallest_atom) if config.atom_error else ():
        wrong.append(_with_error(law, int(atom), config.atom_error))
        labels.append(f"with atom {atom} off by {config.atom_error:.0%}")
    miss = config.miss / max(1, num_planted)
    trials = max(
        (required_trials(w, law, false_alarm=threshold, miss=miss) for w in wrong),
        default=config.min_trials,
    )
    if trials > config.max_trials:
        raise ValueError(
            f"planted laws of {case.name} need {trials} trials, more than max_trials "
            f"{config.max_trials}: choose parameters at which they are easier to tell apart"
        )

    sampler = problem.sampler(case.process or case.selection, case.parameters)
    simulation = simulate(key, sampler, num_trials=max(trials, config.min_trials))
    names = _check_names(case)
    checks = (
        check_histogram(names[0], simulation.counts, law),
        check_distribution(names[1], simulation.counts, np.cumsum(law)),
        check_mean(names[2], simulation.reward, expected, bounds=problem.bounds),
        check_mean(names[3], simulation.win_rate, win_rate, bounds=(0.0, 1.0)),
    )
    planted = tuple(
        check_histogram(f"{case.name} {label}", simulation.counts, w)
        for label, w in zip(labels, wrong, strict=True)
    )
    return TheoryChecksOutcome(case, law, simulation, expected, win_rate, checks, planted)


def _with_error(law: Law, atom: int, error: float) -> Law:
    """The law with one probability larger by ``error`` of itself, the others in proportion."""
    raised = law * (1 - error * law[atom] / (1 - law[atom]))
    raised[atom] = law[atom] * (1 + error)
    return raised


def _check_names(case: Case) -> tuple[str, ...]:
    quantities = ("law", "distribution function", "expected reward", "win rate")
    return tuple(f"{case.name}: {quantity}" for quantity in quantities)


def _tuple(parameters: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{p:g}" for p in parameters) + ")"


# The matrix: per selection, its parameters and what is planted, then the problems it runs on.

_DISCRETE = ("distinct rewards", "tied rewards")
_BOUNDED = (*_DISCRETE, "uniform reward")
_ALL = (*_BOUNDED, "Gaussian reward", "exponential reward")
_SEQUENCES = tuple(name for name in PROBLEMS if "sequence" in name)
_WHOLE = ("Markov sequence, whole",)

# Parameters are where the planted 2 % are easiest to see: about 10⁶ trials.
_MATRIX: tuple[
    tuple[str, tuple[float, ...], tuple[tuple[float, ...], ...], tuple[str, ...]], ...
] = (
    ("best_of_n", (8,), ((9,),), _ALL),
    ("worst_of_n", (8,), ((9,),), _BOUNDED),
    ("best_of_poisson", (8.0,), ((8.16,),), _BOUNDED),
    ("win_rate_optimal", (8.0,), ((8.16,),), _BOUNDED),
    ("top_fraction", (0.25,), ((0.255,),), ("distinct rewards",)),
    ("top_fraction", (0.3,), ((0.306,),), ("tied rewards",)),  # below ¼ all of it is the tie
    ("top_fraction", (0.25,), ((0.3125,),), ("uniform reward",)),  # a bin edge, as it must be
    ("kth_best_of_n", (5, 2), ((6, 2), (5, 3)), _BOUNDED),
    ("top_k_of_n", (6, 3), ((7, 3), (6, 4)), _BOUNDED),
    ("best_of_n_stopped", (0.6, 4), ((0.612, 4), (0.6, 5)), _DISCRETE),
    ("best_of_n_stopped", (0.75, 4), ((0.6875, 4), (0.75, 5)), ("uniform reward",)),
    ("soft_best_of_n", (8, 0.2), ((9, 0.2), (8, 0.204)), ("distinct rewards", "uniform reward")),
    ("soft_best_of_n", (8, 0.25), ((9, 0.25), (8, 0.255)), ("tied rewards",)),
    ("soft_best_of_n", (8, 0.6), ((9, 0.6), (8, 0.612)), ("Gaussian reward",)),
    ("soft_best_of_n", (8, 1.0), ((9, 1.0), (8, 1.02)), ("exponential reward",)),
    ("soft_best_of_poisson", (8.0, 0.2), ((9.0, 0.2), (8.0, 0.204)), _BOUNDED),
    ("exponential_race", (8, 0.3), ((9, 0.3), (8, 0.306)), _DISCRETE),
    ("noisy_best_of_n", (8, 0.3), ((9, 0.3), (8, 0.306)), _DISCRETE),
    ("exponential_tilt", (0.2,), ((0.204,),), _BOUNDED),
    ("chi_squared_tilt", (0.1,), ((0.102,),), ("distinct rewards",)),
    ("chi_squared_tilt", (0.4,), ((0.408,),), ("tied rewards",)),
    ("chi_squared_tilt", (0.125,), ((0.1275,),), ("uniform reward",)),  # kink at rank ½, a bin edge
    ("nearest_reachable", (4, 0.25), ((5, 0.25), (4, 0.255)), ("distinct rewards",)),
    ("nearest_reachable", (8, 0.4), ((8, 0.408),), ("tied rewards",)),  # the tilt itself
    ("nearest_reachable", (5, 0.25), ((5, 0.255),), ("uniform reward",)),  # too, by swapped ranks
    ("nearest_in_mean_draws", (3.0, 0.25), ((3.06, 0.25), (3.0, 0.255)), ("distinct rewards",)),
    ("nearest_in_mean_draws", (2.0, 0.2), ((2.04, 0.2), (2.0, 0.204)), ("tied rewards",)),
    ("soft_best_of_drafts", (8, 0.3), ((9, 0.3), (8, 0.306)), ("drafts",)),
    ("guided_draft", (8, 0.3, 0.8), ((9, 0.3, 0.8), (8, 0.315, 0.8)), ("drafts",)),
    ("best_of_n", (4,), ((5,),), _SEQUENCES),
    ("soft_best_of_n", (8, 1.5), ((9, 1.5), (8, 1.53)), _SEQUENCES),
    ("worst_of_n", (4,), ((5,),), _WHOLE),
    ("best_of_poisson", (8.0,), ((8.16,),), _WHOLE),
    ("win_rate_optimal", (8.0,), ((8.16,),), _WHOLE),
    ("top_fraction", (0.3,), ((0.306,),), _WHOLE),
    ("kth_best_of_n", (5, 2), ((6, 2), (5, 3)), _WHOLE),
    ("top_k_of_n", (6, 3), ((7, 3), (6, 4)), _WHOLE),
    ("best_of_n_stopped", (0.7, 4), ((0.686, 4), (0.7, 5)), _WHOLE),
    ("soft_best_of_poisson", (8.0, 2.0), ((9.0, 2.0), (8.0, 2.04)), _WHOLE),
    ("exponential_race", (8, 2.0), ((9, 2.0), (8, 2.04)), _WHOLE),
    ("noisy_best_of_n", (8, 2.0), ((9, 2.0), (8, 2.04)), _WHOLE),
    ("exponential_tilt", (3.0,), ((3.06,),), _WHOLE),
    ("chi_squared_tilt", (1.0,), ((1.02,),), _WHOLE),
    ("nearest_reachable", (8, 2.0), ((9, 2.0), (8, 2.04)), _WHOLE),
    ("nearest_in_mean_draws", (4.0, 2.0), ((4.08, 2.0), (4.0, 2.04)), _WHOLE),
    ("particles", (3, 1.5), ((4, 1.5), (3, 1.53)), ("Markov sequence, blockwise",)),
    ("twisted_particles", (4, 1.5), ((5, 1.5), (4, 1.53)), ("Markov sequence, symbolwise",)),
)

# The same laws by other processes.
_OTHERWISE: tuple[Case, ...] = (
    *(
        Case(problem, "soft_best_of_n", (8, 0.25), ((9, 0.25), (8, 0.255)), "exponential_clocks")
        for problem in _DISCRETE
    ),
    Case(
        "Gaussian reward",
        "soft_best_of_n",
        (8, 0.6),
        ((9, 0.6), (8, 0.612)),
        "exponential_clocks",
    ),
    Case("distinct rewards", "nearest_reachable", (4, 0.25), ((5, 0.25),), "swapped_ranks"),
)

DEFAULT = TheoryChecksConfig(
    (
        *(
            Case(problem, selection, parameters, planted)
            for selection, parameters, planted, problems in _MATRIX
            for problem in problems
        ),
        *_OTHERWISE,
    )
)


def two_sided(config: TheoryChecksConfig) -> TheoryChecksConfig:
    """The same matrix with errors of the other sign planted as well, and 1 % of any atom.

    n − 1 beside n + 1, λ and strengths 2 % too small beside 2 % too large.
    """
    cases = []
    for case in config.cases:
        other = tuple(_mirrored(case.parameters, planted) for planted in case.planted)
        cases.append(replace(case, planted=case.planted + other))
    return replace(config, cases=tuple(cases), atom_error=0.01, max_trials=200_000_000)


def _mirrored(parameters: tuple[float, ...], planted: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(2 * right - wrong for right, wrong in zip(parameters, planted, strict=True))
