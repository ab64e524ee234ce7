"""What is asked about winners."""

from __future__ import annotations

from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from simulations.statistics.estimate import Estimate


class Outcomes(Protocol):
    """What is asked about winners: which outcome a word is, and what is averaged of it."""

    @property
    def num_outcomes(self) -> int:
        """K, how many outcomes are told apart."""
        ...

    @property
    def num_observables(self) -> int:
        """V, how many numbers are averaged beyond the counts."""
        ...

    def reward(self, words: Array, /) -> Array:
        """The winners' rewards, float32."""
        ...

    def outcome(self, words: Array, /) -> Array:
        """The winners' outcomes, int32 in [0, K)."""
        ...

    def observables(self, words: Array, /) -> Array:
        """What is to be averaged beyond the counts, ``[V, S]`` float32."""
        ...

    def summarise(
        self, counts: NDArray[np.int64], averages: tuple[Estimate, ...]
    ) -> tuple[Estimate, Estimate]:
        """Mean reward and mean chance to beat a fresh draw, from counts ``[K]`` and averages."""
        ...


class Counted:
    """Outcomes of which their counts tell everything: nothing else is averaged, V = 0."""

    num_observables = 0

    def observables(self, words: Array) -> Array:
        """See :class:`Outcomes`."""
        return jnp.zeros((0, *words.shape), jnp.float32)
