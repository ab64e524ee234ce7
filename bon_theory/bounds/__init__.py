r"""Inequalities about selections: each a function that returns a :class:`Bound`.

A bound is a formula of the parameters and of cheap statistics of the reference; it never computes
the quantity that it bounds. :data:`REGISTRY` lists them all, each with that quantity, and
:func:`table` sets every bound that applies to a problem beside the exact value.

The functions check their arguments as the selections do: ``n`` below 1, a ``temperature`` or
``strength`` that is not positive and finite, a negative ``order`` or ``mean_extra_draws`` raise
``ValueError`` (and give NaN while traced). Parameters broadcast against the batch axes of the
reference; ``n`` is real throughout.
"""

from bon_theory.bounds.hard_divergences import (
    best_of_n_chi_squared,
    best_of_n_kl,
    best_of_n_kl_from_collisions,
    best_of_n_kl_from_half_the_collisions,
    best_of_n_kl_from_selected_atom,
    best_of_n_kl_from_selected_level,
    best_of_n_kl_from_top_atom,
    best_of_n_kl_from_top_level,
    best_of_n_renyi,
    best_of_n_reverse_kl,
    best_of_n_reward,
    best_of_n_reward_from_range,
    best_of_n_squared_hellinger,
    best_of_n_total_variation,
)
from bon_theory.bounds.hard_win_rates import (
    best_of_n_penalised_win_rate,
    best_of_n_win_rate,
    best_of_n_win_rate_from_collisions,
    best_of_n_win_rate_from_largest_level,
    best_of_n_win_rate_ties_lost,
    best_of_n_win_rate_ties_lost_from_collisions,
    best_of_n_win_rate_ties_lost_from_largest_level,
    best_of_n_win_rate_ties_won,
    best_of_n_win_rate_ties_won_from_collisions,
    best_of_n_win_rate_ties_won_from_largest_level,
)
from bon_theory.bounds.inequality import REGISTRY, Bound, Inequality
from bon_theory.bounds.learned_reward import (
    best_of_n_true_win_rate_above_learned,
    best_of_n_true_win_rate_below_learned,
    best_of_n_true_win_rate_regret,
    best_of_n_true_win_rate_regret_exponential,
)
from bon_theory.bounds.problem import Problem
from bon_theory.bounds.quantities import Quantity
from bon_theory.bounds.rank_families import (
    best_of_poisson_kl,
    best_of_poisson_win_rate,
    win_rate_optimal_kl,
    win_rate_optimal_kl_from_collisions,
    win_rate_optimal_win_rate,
    win_rate_optimal_win_rate_ties_lost,
    win_rate_optimal_win_rate_ties_lost_from_collisions,
    win_rate_optimal_win_rate_ties_won,
    win_rate_optimal_win_rate_ties_won_from_collisions,
)
from bon_theory.bounds.soft_limit import (
    soft_best_of_n_kl_from_tilt,
    soft_best_of_n_kl_to_tilt,
    soft_best_of_n_kl_to_tilt_from_range,
    soft_best_of_n_kl_to_tilt_over_n,
    soft_best_of_n_kl_to_tilt_pointwise,
    soft_best_of_n_max_log_ratio,
    soft_best_of_n_reward_above_reference,
    soft_best_of_n_reward_below_best_of_n,
    soft_best_of_n_reward_below_tilt,
    soft_best_of_n_reward_floor,
    soft_best_of_n_total_variation,
    soft_best_of_n_total_variation_pointwise,
)
from bon_theory.bounds.soft_race import (
    exponential_race_kl_from_tilt,
    exponential_race_kl_to_tilt,
    exponential_race_total_variation,
)
from bon_theory.bounds.soft_spread import (
    soft_best_of_n_kl_below_best_of_n,
    soft_best_of_n_kl_below_cooler,
    soft_best_of_n_kl_below_tilt,
    soft_best_of_n_kl_from_range,
    soft_best_of_n_kl_tie_free,
    tilt_chi_squared_from_range,
)
from bon_theory.bounds.table import Row, Table, table

__all__ = [
    "REGISTRY",
    "Bound",
    "Inequality",
    "Problem",
    "Quantity",
    "Row",
    "Table",
    "table",
    "best_of_n_kl",
    "best_of_n_kl_from_top_level",
    "best_of_n_kl_from_top_atom",
    "best_of_n_kl_from_selected_atom",
    "best_of_n_kl_from_selected_level",
    "best_of_n_kl_from_collisions",
    "best_of_n_kl_from_half_the_collisions",
    "best_of_n_reverse_kl",
    "best_of_n_chi_squared",
    "best_of_n_total_variation",
    "best_of_n_squared_hellinger",
    "best_of_n_renyi",
    "best_of_n_reward",
    "best_of_n_reward_from_range",
    "best_of_n_win_rate",
    "best_of_n_win_rate_from_largest_level",
    "best_of_n_win_rate_from_collisions",
    "best_of_n_win_rate_ties_won",
    "best_of_n_win_rate_ties_won_from_largest_level",
    "best_of_n_win_rate_ties_won_from_collisions",
    "best_of_n_win_rate_ties_lost",
    "best_of_n_win_rate_ties_lost_from_largest_level",
    "best_of_n_win_rate_ties_lost_from_collisions",
    "best_of_n_penalised_win_rate",
    "best_of_n_true_win_rate_above_learned",
    "best_of_n_true_win_rate_below_learned",
    "best_of_n_true_win_rate_regret",
    "best_of_n_true_win_rate_regret_exponential",
    "best_of_poisson_kl",
    "best_of_poisson_win_rate",
    "win_rate_optimal_kl",
    "win_rate_optimal_kl_from_collisions",
    "win_rate_optimal_win_rate",
    "win_rate_optimal_win_rate_ties_won",
    "win_rate_optimal_win_rate_ties_won_from_collisions",
    "win_rate_optimal_win_rate_ties_lost",
    "win_rate_optimal_win_rate_ties_lost_from_collisions",
    "soft_best_of_n_kl_to_tilt",
    "soft_best_of_n_kl_to_tilt_over_n",
    "soft_best_of_n_kl_to_tilt_pointwise",
    "soft_best_of_n_kl_to_tilt_from_range",
    "soft_best_of_n_max_log_ratio",
    "soft_best_of_n_kl_from_tilt",
    "soft_best_of_n_total_variation",
    "soft_best_of_n_total_variation_pointwise",
    "soft_best_of_n_reward_floor",
    "soft_best_of_n_reward_above_reference",
    "soft_best_of_n_reward_below_tilt",
    "soft_best_of_n_reward_below_best_of_n",
    "exponential_race_total_variation",
    "exponential_race_kl_to_tilt",
    "exponential_race_kl_from_tilt",
    "soft_best_of_n_kl_below_tilt",
    "soft_best_of_n_kl_tie_free",
    "soft_best_of_n_kl_from_range",
    "soft_best_of_n_kl_below_best_of_n",
    "soft_best_of_n_kl_below_cooler",
    "tilt_chi_squared_from_range",
]
