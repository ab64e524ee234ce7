"""Noisy races among candidates: what Gumbel and exponential noise leave of a reward's order."""

from bon_theory.race.exponential import exponential_race_log_ratio
from bon_theory.race.gumbel import NumberOfCandidates, gumbel_race_log_ratio
from bon_theory.race.mean import Mean, race_mean

__all__ = [
    "Mean",
    "NumberOfCandidates",
    "exponential_race_log_ratio",
    "gumbel_race_log_ratio",
    "race_mean",
]
