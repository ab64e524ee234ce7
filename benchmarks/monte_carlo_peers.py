"""Best-of-n as one would write it in NumPy, stock JAX, PyTorch and numba; chunks of 2¹⁶ trials.

Each peer is a function of a :class:`Work` that gives a function of the number of trials, a multiple
of 2¹⁶, that gives the mean reward of the picks.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

CHUNK = 2**16


@dataclass(frozen=True)
class Work:
    """A selection: best-of-n, or soft best-of-n at a temperature.

    Attributes:
        n: candidates per trial.
        temperature: λ, or None for the best.
        probs: ``[K]``, or None for a continuous reward.
        rewards: ``[K]``.
        reward: "uniform" or "Gaussian", if continuous.
    """

    n: int
    temperature: float | None
    probs: NDArray[np.float64] | None = None
    rewards: NDArray[np.float64] | None = None
    reward: str = ""

    def sorted_law(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Upper edges of all outcomes but the last, and rewards, by reward."""
        assert self.probs is not None
        assert self.rewards is not None
        order = np.argsort(self.rewards)
        edges = np.cumsum(self.probs[order])[:-1]
        return edges.astype(np.float32), self.rewards[order].astype(np.float32)


Peer = Callable[[Work], Callable[[int], float]]


def numpy_peer(work: Work) -> Callable[[int], float]:
    """Arrays of candidates, ``argmax``, ``take_along_axis``."""
    return array_peer(work, np)


def array_peer(work: Work, xp: Any, *, chunk: int = CHUNK) -> Callable[[int], float]:
    """The same in NumPy or in what has its names, such as CuPy."""
    rng, shape = xp.random.default_rng(0), (chunk, work.n)
    law = work.sorted_law() if work.probs is not None else (None, None)
    edges, rewards = (None if each is None else xp.asarray(each) for each in law)

    def mean_of_chunk() -> float:
        if edges is not None and rewards is not None:
            drawn = rewards[xp.searchsorted(edges, rng.random(shape, np.float32), side="right")]
        elif work.reward == "uniform":
            drawn = rng.random(shape, np.float32)
        else:
            drawn = rng.standard_normal(shape, np.float32)
        if work.temperature is None:
            return float(drawn.max(axis=1).mean())
        noise = -xp.log(rng.standard_exponential(shape, np.float32))
        pick = xp.argmax(drawn / np.float32(work.temperature) + noise, axis=1)
        return float(xp.take_along_axis(drawn, pick[:, None], axis=1).mean())

    return lambda trials: float(np.mean([mean_of_chunk() for _ in range(trials // chunk)]))


def jax_peer(work: Work) -> Callable[[int], float]:
    """The same with ``jax.random``, one jitted chunk."""
    shape = (CHUNK, work.n)
    edges, rewards = work.sorted_law() if work.probs is not None else (None, None)

    @jax.jit
    def chunk(key: jax.Array) -> jax.Array:
        draw, noise = jax.random.split(key)
        if edges is not None and rewards is not None:
            uniform = jax.random.uniform(draw, shape, jnp.float32)
            drawn = jnp.asarray(rewards)[jnp.searchsorted(jnp.asarray(edges), uniform)]
        elif work.reward == "uniform":
            drawn = jax.random.uniform(draw, shape, jnp.float32)
        else:
            drawn = jax.random.normal(draw, shape, jnp.float32)
        if work.temperature is None:
            return jnp.mean(jnp.max(drawn, axis=1))
        gumbel = jax.random.gumbel(noise, shape, jnp.float32)
        pick = jnp.argmax(drawn / jnp.float32(work.temperature) + gumbel, axis=1)
        return jnp.mean(jnp.take_along_axis(drawn, pick[:, None], axis=1))

    def run(trials: int) -> float:
        keys = jax.random.split(jax.random.key(0), trials // CHUNK)
        return float(np.mean([chunk(key) for key in keys]))

    return run


def torch_peer(work: Work, *, device: str = "cpu", chunk: int = CHUNK) -> Callable[[int], float]:
    """The same with PyTorch, on the processor or on a card."""
    import torch  # pyright: ignore[reportMissingImports]

    generator = torch.Generator(device).manual_seed(0)
    shape, where = (chunk, work.n), {"generator": generator, "device": device}
    law = work.sorted_law() if work.probs is not None else (None, None)
    edges, rewards = (None if each is None else torch.from_numpy(each).to(device) for each in law)

    def mean_of_chunk() -> float:
        if edges is not None and rewards is not None:
            drawn = rewards[torch.searchsorted(edges, torch.rand(shape, **where), right=True)]
        elif work.reward == "uniform":
            drawn = torch.rand(shape, **where)
        else:
            drawn = torch.randn(shape, **where)
        if work.temperature is None:
            return float(drawn.amax(dim=1).mean())
        noise = torch.empty(shape, device=device).exponential_(generator=generator)
        noise = -torch.log(noise)
        pick = torch.argmax(drawn / work.temperature + noise, dim=1)
        return float(torch.gather(drawn, 1, pick[:, None]).mean())

    return lambda trials: float(np.mean([mean_of_chunk() for _ in range(trials // chunk)]))


def numba_peer(work: Work) -> Callable[[int], float]:
    """One loop over trials and candidates on all cores; an alias table where discrete."""
    import numba  # pyright: ignore[reportMissingImports]

    discrete, uniform = work.probs is not None, work.reward == "uniform"
    soft, rate = work.temperature is not None, 1 / (work.temperature or 1.0)
    split, alias, rewards = _alias(work) if discrete else (np.ones(1), np.zeros(1, int), np.ones(1))
    n, size = work.n, len(split)

    @numba.njit(parallel=True, fastmath=True)
    def total(trials: int) -> float:
        added = 0.0
        for _trial in numba.prange(trials):
            best, winner = -np.inf, 0.0
            for _draw in range(n):
                if discrete:
                    place = np.random.random() * size
                    column = int(place)
                    cell = column if place - column < split[column] else alias[column]
                    reward = rewards[cell]
                elif uniform:
                    reward = np.random.random()
                else:
                    reward = np.random.standard_normal()
                score = reward
                if soft:
                    score = reward * rate - np.log(-np.log(1.0 - np.random.random()))
                if score > best:
                    best, winner = score, reward
            added += winner
        return added

    return lambda trials: total(trials) / trials


def _alias(work: Work) -> tuple[NDArray, NDArray, NDArray]:
    """Walker's table in floating point."""
    assert work.probs is not None
    assert work.rewards is not None
    rest = work.probs * len(work.probs)
    split, alias = np.ones(len(rest)), np.arange(len(rest))
    small, large = list(np.flatnonzero(rest < 1)), list(np.flatnonzero(rest >= 1))
    while small and large:
        k, donor = small.pop(), large[-1]
        split[k], alias[k] = rest[k], donor
        rest[donor] -= 1 - rest[k]
        if rest[donor] < 1:
            small.append(large.pop())
    return split, alias, work.rewards


PEERS: MappingProxyType[str, Peer] = MappingProxyType(
    {
        "numpy": numpy_peer,
        "jax": jax_peer,
        **({"torch": torch_peer} if importlib.util.find_spec("torch") else {}),
        **({"numba": numba_peer} if importlib.util.find_spec("numba") else {}),
    }
)
