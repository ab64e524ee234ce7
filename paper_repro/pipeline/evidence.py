"""Selection among sampled candidates, predicted and measured, as the report shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from paper_repro.pipeline.payloads import PredictionTable, SelectionEvidence
from simulations.experiments.reward_pools import PoolComparison
from simulations.statistics.checks import Report

QUANTITIES = {
    "expected_reward": "expected reward",
    "win_rate": "win rate",
    "kl_divergence": "KL divergence",
}


class Judge(Protocol):
    """The checks of an experiment as one family."""

    def __call__(self, *, planted: bool = False) -> Report:
        """Of the theory as it is, or of the wrong one that is ``planted``."""
        ...


def evidence(
    judge: Judge, comparisons: Mapping[str, PoolComparison], rewards: Mapping[str, str], seed: int
) -> SelectionEvidence:
    """What an experiment found; ``rewards`` are by name, in words."""
    report, planted = judge(), judge(planted=True)
    missed = sorted({check.name for check in planted.checks} - {c.name for c in planted.rejected})
    # At larger n, n and n+1 hardly differ: there nothing can be proved at this size.
    unproved = [name for name in missed if ", n=1," in name or ", n=2," in name]
    return SelectionEvidence(
        seed=seed,
        false_alarm=report.false_alarm,
        threshold=report.threshold,
        num_checks=len(report.checks),
        largest_z=max(abs(check.statistic) for check in report.checks),
        rejected=tuple(check.name for check in report.rejected),
        num_planted=len(planted.checks),
        planted_rejected=len(planted.rejected),
        unproved=tuple(unproved),
        tables=tuple(
            table for name, title in rewards.items() for table in _tables(title, comparisons[name])
        ),
    )


def _tables(reward: str, pools: PoolComparison) -> Iterator[PredictionTable]:
    """One per quantity and temperature."""
    for quantity, title in QUANTITIES.items():
        comparison = getattr(pools, quantity)
        predicted = (comparison.predicted - comparison.predicted_bias).mean(axis=-1)
        measured = comparison.measured.mean(axis=-1)
        error = comparison.measured_std_error
        for row, temperature in enumerate(pools.temperatures):
            yield PredictionTable(
                reward=reward,
                quantity=title,
                temperature=float(temperature),
                numbers=tuple(pools.numbers.tolist()),
                predicted=tuple(predicted[row].tolist()),
                measured=tuple(measured[row].tolist()),
                error=tuple(error[row].tolist()),
            )
