"""Every closed form that a claim uses, checked by the process it describes, as one family."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax

from paper_repro.papers.bonbon_alignment import margins
from paper_repro.pipeline.payloads import MonteCarloResults
from simulations.experiments import theory_checks
from simulations.statistics.checks import Check, Family

FALSE_ALARM = 1e-6
SEED = 20240602


@dataclass(frozen=True)
class MonteCarloConfig:
    """What is simulated.

    Attributes:
        laws: the matrix of selection laws.
        margin_trials: pairs simulated for the contrastive identity.
        seed: of everything.
    """

    laws: theory_checks.TheoryChecksConfig = theory_checks.DEFAULT
    margin_trials: int = 2_000_000
    seed: int = SEED


QUICK = MonteCarloConfig()
FULL = MonteCarloConfig(
    laws=replace(theory_checks.DEFAULT, min_trials=2_000_000),
    margin_trials=20_000_000,
)


def subjects(config: MonteCarloConfig) -> set[str]:
    """What is simulated, as a claim's ``checked_by`` may name it: with parameters or without."""
    cases = config.laws.cases
    named = {f"{case.selection} on {case.problem}" for case in cases} | {c.name for c in cases}
    return named | set(margins.CHECK_NAMES)


def run(config: MonteCarloConfig, progress: Callable[[str, int, int], None]) -> MonteCarloResults:
    """Simulate, judge all checks as one family, and try what was planted against its threshold."""
    laws_key, margins_key = jax.random.split(jax.random.key(config.seed))
    total = len(config.laws.cases) + 1
    done = itertools.count()
    laws = theory_checks.run(
        config.laws, laws_key, progress=lambda name: progress(name, next(done), total)
    )
    progress("contrastive margin", total - 1, total)
    pairs = margins.run(margins_key, num_trials=config.margin_trials)

    trials = sum(outcome.simulation.num_trials for outcome in laws.outcomes)
    return judge(
        (*laws.report.checks, *pairs.checks),
        (*(p for outcome in laws.outcomes for p in outcome.planted), *pairs.planted),
        trials=trials + config.margin_trials,
        seed=config.seed,
    )


def judge(
    checks: Sequence[Check], planted: Sequence[Check], *, trials: int, seed: int
) -> MonteCarloResults:
    """The verdict on all checks as one family, planned by the matrix alone, which keeps its rate.

    What is planted must be rejected at the threshold of the family, not at its false-alarm rate.
    """
    report = Family(tuple(check.name for check in checks), FALSE_ALARM).judge(checks)
    return MonteCarloResults(
        false_alarm=report.false_alarm,
        threshold=report.threshold,
        checks=tuple(checks),
        rejected=tuple(check.name for check in report.rejected),
        planted=tuple(planted),
        missed=tuple(check.name for check in planted if check.p_value > report.threshold),
        trials=trials,
        seed=seed,
    )
