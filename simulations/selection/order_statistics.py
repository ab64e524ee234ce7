"""Places among the candidates: the k-th best of n, or a random one of the k best; no formula."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array, lax

from simulations.draws.references import Reference
from simulations.draws.words import derived_key, high_product, threefry_words
from simulations.selection.races import draw_words
from simulations.tools.pytree import pytree


@pytree(data_fields=["reference", "n"], meta_fields=["k", "shared"])
@dataclass(frozen=True)
class PlaceRace:
    """Remember the k best of n draws, in order; of equal rewards the earlier one comes first.

    Attributes:
        reference: what candidates are drawn from.
        n: int32, how many there are.
        k: how many are remembered.
        shared: whether each of them is kept with probability 1/k; otherwise the last one is.
    """

    reference: Reference
    n: Array
    k: int
    shared: bool

    @property
    def typical_draws(self) -> int:
        """About how many candidates a trial has."""
        return int(self.n) * self.k

    @property
    def numbers_per_trial(self) -> int:
        """A reward and a draw of each that is remembered, before and after a draw."""
        return 4 * self.k

    def __call__(self, key: Array, trials: Array) -> Array:
        """The winners' words, uint32, one per trial index."""

        def step(draw: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
            """The k best rewards and their draws, ``[k, S]`` each, after one more draw."""
            number = jnp.full_like(trials, draw)
            reward = self.reference.reward(draw_words(key, trials, number)[0])
            rewards, draws = [], []
            for held, holder in zip(*best, strict=True):
                better = reward > held
                rewards.append(jnp.where(better, reward, held))
                draws.append(jnp.where(better, number, holder))
                reward = jnp.where(better, held, reward)
                number = jnp.where(better, holder, number)
            return jnp.stack(rewards), jnp.stack(draws)

        shape = (self.k, *trials.shape)
        nothing = jnp.full(shape, -jnp.inf, jnp.float32), jnp.zeros(shape, jnp.uint32)
        _, draws = lax.fori_loop(jnp.uint32(0), self.n.astype(jnp.uint32), step, nothing)
        place = jnp.full_like(trials, self.k - 1)
        if self.shared:
            lots, _ = threefry_words(derived_key(key), trials, jnp.zeros_like(trials))
            place = high_product(lots, place)
        winner = jnp.take_along_axis(draws, place[None].astype(jnp.int32), axis=0)[0]
        return draw_words(key, trials, winner)[0]
