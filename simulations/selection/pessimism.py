"""Inference-time pessimism as it is run: the normaliser of the χ² rule from draws of its own.

The rule keeps y with probability ∝ π(y)(r(y) − ν)₊, where E_π(r − ν)₊ = β. Whoever runs it does not
know π and estimates ν from n draws, the ν̂ with mean (r_i − ν̂)₊ = β; then candidates are drawn
afresh until one is accepted, with probability (r − ν̂)₊/(r_max − ν̂). What is kept follows the χ²
tilt of ν̂, averaged over the first draws: another law than the tilt of ν, by O(1/n).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array, lax

from simulations.draws.references import Reference
from simulations.draws.words import derived_key
from simulations.selection.races import draw_words, materialised
from simulations.selection.rejection import Rejection
from simulations.selection.scores import accept_chi_squared
from simulations.tools.pytree import pytree

_BLOCK = 16


@pytree(data_fields=["reference", "n", "strength"], meta_fields=[])
@dataclass(frozen=True)
class PessimisticRejection:
    """n draws for the normaliser, then fresh ones until one is accepted.

    Attributes:
        reference: what candidates are drawn from.
        n: int32, draws that estimate ν.
        strength: β, float32.

    Source:
        Huang et al., Is Best-of-N the Best of Them? (2025), Algorithm 1; without its bound on the
        number of fresh draws.
    """

    reference: Reference
    n: Array
    strength: Array
    numbers_per_trial = Rejection.numbers_per_trial

    @property
    def typical_draws(self) -> int:
        """About how many candidates a trial has: ν̂ takes some passes over its n."""
        return 8 * int(self.n) + _BLOCK

    def __call__(self, key: Array, trials: Array) -> Array:
        """The winners' words, uint32, one per trial index."""
        nu = self.normaliser(key, trials)
        rule = Rejection(self.reference, nu[None, :], accept_chi_squared)
        return rule(derived_key(key), trials)

    def normaliser(self, key: Array, trials: Array) -> Array:
        """ν̂ of each trial, float32 ``[S]``.

        Newton's method on a convex, piecewise linear function: from below, each pass replaces ν̂ by
        (Σ_{r_i > ν̂} r_i − nβ)/#{r_i > ν̂}, until no trial's changes. Passes draw the same
        candidates again; none is stored.
        """

        def improve(state: tuple[Array, Array]) -> tuple[Array, Array]:
            nu, _ = state
            total, number = self._above(key, trials, nu)
            better = (total - self.n.astype(jnp.float32) * self.strength) / number
            return jnp.maximum(nu, better), jnp.any(better > nu)

        start = jnp.full(trials.shape, -jnp.inf, jnp.float32), jnp.array(True)
        return lax.while_loop(lambda state: state[1], improve, start)[0]

    def _above(self, key: Array, trials: Array, nu: Array) -> tuple[Array, Array]:
        """Sum and number of the rewards above ν̂ among a trial's n."""
        n = self.n.astype(jnp.uint32)

        def step(block: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
            draws = block * jnp.uint32(_BLOCK) + jnp.arange(_BLOCK, dtype=jnp.uint32)[:, None]
            rewards = materialised(
                lambda: self.reference.reward(draw_words(key, trials, draws)[0]), block
            )
            counted = (draws < n) & (rewards > nu[None, :])
            total = jnp.sum(jnp.where(counted, rewards, jnp.float32(0)), axis=0)
            return sums[0] + total, sums[1] + jnp.sum(counted.astype(jnp.float32), axis=0)

        steps = (n + jnp.uint32(_BLOCK - 1)) // jnp.uint32(_BLOCK)
        nothing = jnp.zeros(trials.shape, jnp.float32)
        return lax.fori_loop(jnp.uint32(0), steps, step, (nothing, nothing))
