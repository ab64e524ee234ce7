"""Rejection: the first accepted candidate wins, with no end to their number; no formula."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array, lax

from simulations.draws.references import Reference
from simulations.draws.words import derived_key, threefry_words
from simulations.selection.races import (
    BLOCK,
    NO_DRAW,
    Score,
    draw_words,
    draws_of_block,
    materialised,
)
from simulations.tools.pytree import pytree


@pytree(
    data_fields=["reference", "parameter"],
    meta_fields=["accept"],
)
@dataclass(frozen=True)
class Rejection:
    """The first accepted candidate wins; every candidate comes with its own random word.

    Attributes:
        reference: what candidates are drawn from.
        parameter: what the rule depends on.
        accept: see :data:`Score`; of bool.
    """

    reference: Reference
    parameter: Array
    accept: Score
    numbers_per_trial = 2 * BLOCK

    @property
    def typical_draws(self) -> int:
        """About how many candidates a trial has."""
        return BLOCK

    def __call__(self, key: Array, trials: Array) -> Array:
        """The winners' words, uint32, one per trial index."""
        winner = self.num_draws(key, trials) - jnp.uint32(1)
        words = draw_words(key, trials, winner)[0]
        lots, _ = threefry_words(derived_key(key), trials, winner)
        return self.reference.spread_ties(words, lots)

    def num_draws(self, key: Array, trials: Array) -> Array:
        """How many candidates are drawn, the accepted one included, uint32, one per trial."""
        none = jnp.uint32(NO_DRAW)

        def accepted(draws: Array) -> Array:
            words, noise = draw_words(key, trials, draws)
            return self.accept(self.reference, words, noise, self.parameter)

        def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
            block, winner = state
            draws = draws_of_block(block, BLOCK)
            accepts = materialised(lambda: accepted(draws[:, None]), block)
            for draw, accept in zip(draws, accepts, strict=True):
                winner = jnp.where((winner == none) & accept, draw, winner)
            return block + jnp.uint32(1), winner

        start = (jnp.uint32(0), jnp.full_like(trials, none))
        winner = lax.while_loop(lambda state: jnp.any(state[1] == none), step, start)[1]
        return winner + jnp.uint32(1)
