"""Noisy races: what Gumbel, exponential or any other noise leaves of the order of rewards."""

from bon_theory.race.exponential import exponential_race_log_ratio
from bon_theory.race.gumbel import NumberOfCandidates, gumbel_race_log_ratio
from bon_theory.race.mean import Mean, race_mean
from bon_theory.race.noisy import noisy_race_log_ratio, noisy_race_winning_noise

__all__ = [
    "Mean",
    "NumberOfCandidates",
    "exponential_race_log_ratio",
    "gumbel_race_log_ratio",
    "noisy_race_log_ratio",
    "noisy_race_winning_noise",
    "race_mean",
]
