"""Choosing the parameters of a selection: for a budget, on the frontier, against a true reward."""

from bon_theory.tuning.targets import (
    n_for_kl,
    n_for_reward,
    n_for_win_rate,
    temperature_for_kl,
    temperature_for_reward,
    temperature_for_win_rate,
)

__all__ = [
    "n_for_kl",
    "n_for_reward",
    "n_for_win_rate",
    "temperature_for_kl",
    "temperature_for_reward",
    "temperature_for_win_rate",
]
