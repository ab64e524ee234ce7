"""Every closed form that a claim uses, checked by the process it describes, as one family."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax

from paper_repro.papers.bonbon_alignment import margins
from simulations.experiments import theory_checks
from simulations.statistics.checks import Family

FALSE_ALARM = 1e-6
SEED = 20240602


@dataclass(frozen=True)
class Config:
    """What is simulated.

    Attributes:
        laws: the matrix of selection laws.
        margin_trials: pairs simulated for the contrastive identity.
        seed: of everything.
    """

    laws: theory_checks.Config = theory_checks.DEFAULT
    margin_trials: int = 2_000_000
    seed: int = SEED


QUICK = Config()
FULL = Config(
    laws=replace(theory_checks.DEFAULT, min_trials=2_000_000),
    margin_trials=20_000_000,
)


def subjects(config: Config) -> set[str]:
    """What is simulated, as a claim's `checked_by` may name it: with parameters or without."""
    cases = config.laws.cases
    named = {f"{case.selection} on {case.problem}" for case in cases} | {c.name for c in cases}
    return named | set(margins.CHECK_NAMES)


def run(config: Config, progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Simulate, judge all checks as one family, and try what was planted against its threshold.

    Returns:
        A JSON-able dictionary; see the code's last lines.
    """
    laws_key, margins_key = jax.random.split(jax.random.key(config.seed))
    total = len(config.laws.cases) + 1
    done = itertools.count()
    laws = theory_checks.run(
        config.laws, laws_key, progress=lambda name: progress(name, next(done), total)
    )
    progress("contrastive margin", total - 1, total)
    pairs = margins.run(margins_key, num_trials=config.margin_trials)

    # Planned by the matrix alone, so judging all of them together keeps the rate.
    checks = (*laws.report.checks, *pairs.checks)
    report = Family(tuple(check.name for check in checks), FALSE_ALARM).judge(checks)
    planted = (*(p for outcome in laws.outcomes for p in outcome.planted), *pairs.planted)
    missed = [check.name for check in planted if check.p_value > report.threshold]
    return {
        "false_alarm": report.false_alarm,
        "threshold": report.threshold,
        "checks": [asdict(check) for check in checks],
        "rejected": [check.name for check in report.rejected],
        "planted": [asdict(check) for check in planted],
        "missed": missed,
        "trials": _trials(laws.outcomes) + config.margin_trials,
        "seed": config.seed,
        "passed": report.passed and not missed,
    }


def _trials(outcomes: tuple[theory_checks.Outcome, ...]) -> int:
    return sum(outcome.simulation.num_trials for outcome in outcomes)
