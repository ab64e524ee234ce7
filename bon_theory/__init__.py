"""Exact theory of best-of-n and soft best-of-n sampling, in JAX.

Laws, divergences and win rates of what is selected, at any number of candidates and any
temperature, in closed form or by quadrature to rounding; jit, vmap and grad throughout. Nats.
"""

from bon_theory import alignment as alignment
from bon_theory import bounds as bounds
from bon_theory import pools as pools
from bon_theory import sequence as sequence
from bon_theory.certificate import certificate, quadrature_error
from bon_theory.divergences import (
    chi_squared_divergence,
    f_divergence,
    hockey_stick_divergence,
    jensen_shannon,
    kl_divergence,
    log_ratio,
    renyi_divergence,
    squared_hellinger,
    total_variation,
)
from bon_theory.drafts import (
    GuidedDraft,
    guided_draft,
    soft_best_of_drafts,
    tempered,
    truncated,
)
from bon_theory.judging import (
    Judged,
    ScoresChoice,
    judged_value,
    scores_for_budget,
    scores_to_select_on,
)
from bon_theory.noise import Noise
from bon_theory.performance import expected_reward, expected_value, win_rate
from bon_theory.policy import Policy
from bon_theory.reachable import (
    OrderMixture,
    SwappedRanks,
    Unreachable,
    distance_to_reachable,
    draws_for_exact,
    mixture_of_orders,
    nearest_in_mean_draws,
    nearest_reachable,
    swapped_ranks,
)
from bon_theory.selection import (
    best_of_n,
    best_of_n_stopped,
    best_of_poisson,
    chi_squared_tilt,
    exponential_race,
    exponential_tilt,
    kth_best_of_n,
    noisy_best_of_n,
    soft_best_of_n,
    soft_best_of_poisson,
    top_fraction,
    top_k_of_n,
    win_rate_optimal,
    worst_of_n,
)
from bon_theory.tuning import (
    Frontier,
    Hedge,
    NoisyProxy,
    OveroptimizationFit,
    SoftChoice,
    choose_n_and_temperature,
    fit_overoptimization,
    frontier,
    hedge_mean_extra_draws,
    hedge_n,
    hedge_temperature,
    mean_draws_stopped,
    n_for_kl,
    n_for_reward,
    n_for_win_rate,
    noisy_proxy,
    pairwise_error,
    pandora_threshold,
    regret_bound,
    temperature_for_kl,
    temperature_for_reward,
    temperature_for_win_rate,
    threshold_for_mean_draws,
)

__version__ = "0.1.0"


def __dir__() -> list[str]:
    """What completion offers: the public names alone."""
    return sorted([*__all__, "__version__", "alignment", "bounds", "pools", "sequence"])


__all__ = [
    "Frontier",
    "GuidedDraft",
    "Hedge",
    "Judged",
    "Noise",
    "NoisyProxy",
    "OrderMixture",
    "OveroptimizationFit",
    "Policy",
    "ScoresChoice",
    "SoftChoice",
    "SwappedRanks",
    "Unreachable",
    "best_of_n",
    "best_of_n_stopped",
    "best_of_poisson",
    "certificate",
    "chi_squared_divergence",
    "chi_squared_tilt",
    "choose_n_and_temperature",
    "distance_to_reachable",
    "draws_for_exact",
    "expected_reward",
    "expected_value",
    "exponential_race",
    "exponential_tilt",
    "f_divergence",
    "fit_overoptimization",
    "frontier",
    "guided_draft",
    "hedge_mean_extra_draws",
    "hedge_n",
    "hedge_temperature",
    "hockey_stick_divergence",
    "jensen_shannon",
    "judged_value",
    "kl_divergence",
    "kth_best_of_n",
    "log_ratio",
    "mean_draws_stopped",
    "mixture_of_orders",
    "n_for_kl",
    "n_for_reward",
    "n_for_win_rate",
    "nearest_in_mean_draws",
    "nearest_reachable",
    "noisy_best_of_n",
    "noisy_proxy",
    "pairwise_error",
    "pandora_threshold",
    "quadrature_error",
    "regret_bound",
    "renyi_divergence",
    "scores_for_budget",
    "scores_to_select_on",
    "soft_best_of_drafts",
    "soft_best_of_n",
    "soft_best_of_poisson",
    "squared_hellinger",
    "swapped_ranks",
    "temperature_for_kl",
    "temperature_for_reward",
    "temperature_for_win_rate",
    "tempered",
    "threshold_for_mean_draws",
    "top_fraction",
    "top_k_of_n",
    "total_variation",
    "truncated",
    "win_rate",
    "win_rate_optimal",
    "worst_of_n",
]
