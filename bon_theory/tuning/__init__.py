"""Choosing the parameters of a selection: for a budget, on the frontier, against a true reward."""

from bon_theory.tuning.hedging import Hedge, hedge_mean_extra_draws, hedge_n, hedge_temperature
from bon_theory.tuning.learned_reward import pairwise_error, regret_bound
from bon_theory.tuning.overoptimization import (
    NoisyProxy,
    OveroptimizationFit,
    fit_overoptimization,
    noisy_proxy,
)
from bon_theory.tuning.pareto import (
    Frontier,
    SoftChoice,
    choose_n_and_temperature,
    frontier,
)
from bon_theory.tuning.stopping import (
    mean_draws_stopped,
    pandora_threshold,
    threshold_for_mean_draws,
)
from bon_theory.tuning.targets import (
    n_for_kl,
    n_for_reward,
    n_for_win_rate,
    temperature_for_kl,
    temperature_for_reward,
    temperature_for_win_rate,
)

__all__ = [
    "Frontier",
    "Hedge",
    "NoisyProxy",
    "OveroptimizationFit",
    "SoftChoice",
    "choose_n_and_temperature",
    "fit_overoptimization",
    "frontier",
    "hedge_mean_extra_draws",
    "hedge_n",
    "hedge_temperature",
    "mean_draws_stopped",
    "n_for_kl",
    "n_for_reward",
    "n_for_win_rate",
    "noisy_proxy",
    "pairwise_error",
    "pandora_threshold",
    "regret_bound",
    "temperature_for_kl",
    "temperature_for_reward",
    "temperature_for_win_rate",
    "threshold_for_mean_draws",
]
