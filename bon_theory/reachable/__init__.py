"""What n draws can reach at best: the nearest law to a target, and the rule that has it."""

from bon_theory.reachable.mean_draws import nearest_in_mean_draws
from bon_theory.reachable.nearest import (
    Unreachable,
    distance_to_reachable,
    draws_for_exact,
    nearest_reachable,
)
from bon_theory.reachable.rule import OrderMixture, mixture_of_orders
from bon_theory.reachable.swapped_ranks import SwappedRanks, swapped_ranks

__all__ = [
    "OrderMixture",
    "SwappedRanks",
    "Unreachable",
    "distance_to_reachable",
    "draws_for_exact",
    "mixture_of_orders",
    "nearest_in_mean_draws",
    "nearest_reachable",
    "swapped_ranks",
]
