"""References twice: as something to draw from, and as an exact law of ``bon_theory``.

Rewards are distinct, tied or continuous; sequences have independent or Markov symbols and are kept
symbol by symbol, in blocks, or whole.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory import sequence
from simulations.draws.chains import blockwise, markov_chain
from simulations.draws.references import (
    DiscreteReference,
    Reference,
    discrete_reference,
    exponential_reward,
    gaussian_reward,
    uniform_reward,
)
from simulations.selection import drafts, samplers
from simulations.selection.particles import particles
from simulations.selection.races import Sampler
from simulations.tools.programs import compiled_in_haste

_BINS = 16
_NODES = 321  # per bin: laws over bins to 1e-12
# What discrete laws are filled up to, or a multiple: all rows from all starts; their outcomes.
_LAWS, _OUTCOMES = 12, 16

Exact = tuple[NDArray[np.float64], Array, Array]
"""Probabilities of the histogram's cells ``[R, C]``, mean rewards and win rates ``[R]``."""


class TheoryProblem(Protocol):
    """What is selected from."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Of the reward, if it has any."""
        ...

    def sampler(self, process: str, parameters: tuple[float, ...]) -> Sampler:
        """The process of that name."""
        ...

    def exact(self, selection: str, rows: NDArray[np.float64]) -> Exact:
        """The exact theory of the selection of that name, per row of parameters ``[R, P]``."""
        ...


@dataclass(frozen=True)
class Rewards:
    """One candidate is one outcome.

    Attributes:
        reference: what the process draws from.
        policy: the same law for the exact theory; a function, since it is built on first use.
        groups: probability masses of the policy's outcomes (or nodes) to those of the histogram.
        bounds: of the reward, or None.
    """

    reference: Reference
    policy: Callable[[], bt.Policy]
    groups: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    bounds: tuple[float, float] | None

    def sampler(self, process: str, parameters: tuple[float, ...]) -> Sampler:
        """See :class:`TheoryProblem`."""
        return getattr(samplers, process)(self.reference, *parameters)

    def exact(self, selection: str, rows: NDArray[np.float64]) -> Exact:
        """See :class:`TheoryProblem`."""
        reference = self.policy()
        masses, rewards, win_rates = _asked(_selected(reference, rows, selection), reference)
        return self.groups(np.asarray(masses)), rewards, win_rates


def _selected(reference: bt.Policy, rows: NDArray[np.float64], selection: str) -> bt.Policy:
    """The selection's law ``[R, ...]``, per row of parameters ``[R, P]``.

    Discrete laws of all problems, with outcomes of probability 0 at their ends, share a program.
    """
    if reference.continuous:
        return _select(reference, rows, selection)
    batch, size = reference.batch_shape, reference.num_outcomes
    num_laws = math.prod(batch) * len(rows)
    spare = [(0, -num_laws % _LAWS), (0, -size % _OUTCOMES)]

    def every(values: Array, **mode: Any) -> NDArray[np.float64]:
        copies = np.broadcast_to(values, (len(rows), *batch, size)).reshape(num_laws, size)
        return np.pad(np.pad(copies, [spare[0], (0, 0)], mode="edge"), [(0, 0), spare[1]], **mode)

    laws = bt.Policy.from_logits(
        every(reference.log_probs, constant_values=-np.inf), every(reference.rewards, mode="edge")
    )
    parameters = np.repeat(rows, math.prod(batch), axis=0)
    found = _select_each(laws, np.pad(parameters, [spare[0], (0, 0)], mode="edge"), selection)
    log_probs = np.asarray(found.log_probs)[:num_laws, :size].reshape(len(rows), *batch, size)
    return bt.Policy.from_logits(log_probs, np.asarray(reference.rewards))


# The selection is a program of its own: what is then asked of its law is one for all selections.
@partial(compiled_in_haste, static_argnames="selection")
def _select(reference: bt.Policy, rows: Array, selection: str) -> bt.Policy:
    return jax.vmap(lambda row: _selection(selection)(reference, *row))(rows)


@partial(compiled_in_haste, static_argnames="selection")
def _select_each(laws: bt.Policy, rows: Array, selection: str) -> bt.Policy:
    return jax.vmap(lambda law, row: _selection(selection)(law, *row))(laws, rows)


@compiled_in_haste
def _asked(policies: bt.Policy, reference: bt.Policy) -> tuple[Array, Array, Array]:
    """Probabilities ``[R, K]``, mean rewards and win rates ``[R]`` of each law."""

    def of(policy: bt.Policy) -> tuple[Array, Array, Array]:
        return policy.probs, bt.expected_reward(policy), bt.win_rate(policy, reference)

    return jax.vmap(of)(policies)


def _selection(name: str) -> Callable[..., bt.Policy]:
    """A selection of the library, or the best that so many draws can do for the tilt."""
    if name not in ("nearest_reachable", "nearest_in_mean_draws"):
        return getattr(bt, name)
    nearest = getattr(bt, name)

    def to_tilt(reference: bt.Policy, draws: Array, temperature: Array) -> bt.Policy:
        return nearest(bt.exponential_tilt(reference, temperature), reference, draws)

    return to_tilt


@dataclass(frozen=True)
class Drafts:
    """One candidate is an outcome of a proposal, or of the reference where no draft will do.

    Attributes:
        reference: probabilities of the target model.
        proposal: probabilities of a draft.
        rewards: of the outcomes.
    """

    reference: tuple[float, ...]
    proposal: tuple[float, ...]
    rewards: tuple[float, ...]

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the reward."""
        return min(self.rewards), max(self.rewards)

    def sampler(self, process: str, parameters: tuple[float, ...]) -> Sampler:
        """See :class:`TheoryProblem`."""
        n, *others = parameters
        return getattr(drafts, process)(
            self.reference, self.rewards, int(n), *others, proposal=self.proposal
        )

    def exact(self, selection: str, rows: NDArray[np.float64]) -> Exact:
        """See :class:`TheoryProblem`."""
        reference, proposal = (
            bt.Policy.from_probs(jnp.asarray(p), jnp.asarray(self.rewards))
            for p in (self.reference, self.proposal)
        )
        found = getattr(bt, selection)(reference, *rows.T, proposal=proposal)
        law = found.policy if isinstance(found, bt.GuidedDraft) else found
        masses, rewards, win_rates = _asked(law, reference)
        return np.asarray(masses), rewards, win_rates


@dataclass(frozen=True)
class Sequences:
    """One candidate is a block of symbols; a cell of the histogram is a whole sequence.

    Attributes:
        initial: probabilities of the first symbol.
        transition: of the next symbol, given the one before (row); None for independent symbols.
        levels: rewards of the symbols.
        length: number of symbols.
        block_length: symbols that are kept at a time; None for all.
    """

    initial: tuple[float, ...]
    transition: tuple[tuple[float, ...], ...] | None
    levels: tuple[int, ...]
    length: int
    block_length: int | None

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the total reward."""
        return self.length * min(self.levels), self.length * max(self.levels)

    def sampler(self, process: str, parameters: tuple[float, ...]) -> Sampler:
        """See :class:`TheoryProblem`."""
        rows = self.transition or (self.initial,) * len(self.initial)
        chain = markov_chain(self.initial, rows, self.levels)
        if process in _PARTICLES:
            n, temperature = parameters
            return particles(
                chain,
                self.length,
                int(n),
                temperature,
                block_length=self.block_length,
                twisted=_PARTICLES[process],
                by="words",
            )
        select, size = getattr(samplers, process), self.block_length
        return blockwise(chain, self.length, select, *parameters, block_length=size, by="words")

    def exact(self, selection: str, rows: NDArray[np.float64]) -> Exact:
        """See :class:`TheoryProblem`."""
        if selection in _PARTICLES:
            return self._of_particles(_PARTICLES[selection], rows)
        words = np.array(list(itertools.product(range(len(self.levels)), repeat=self.length)))
        moves = np.array(self.transition or (self.initial,) * len(self.initial))
        chances = np.array(self.initial)[words[:, 0]]
        chances = chances * moves[words[:, :-1], words[:, 1:]].prod(axis=1)
        levels = np.array(self.levels)
        drawn = bt.Policy.from_probs(chances, levels[words].sum(axis=1, dtype=float))
        gains = levels - levels.min()
        reference = self._law()
        blocks = tuple(_selected(law, rows, selection) for law in _levels(reference))
        masses, rewards, win_rates = _asked_of_words(blocks, reference, drawn, words, gains)
        return np.asarray(masses), rewards, win_rates

    def _of_particles(self, twisted: bool, rows: NDArray[np.float64]) -> Exact:
        reference = self._law()
        drawn, laws = sequence.enumerated(reference), []
        for n, temperature in rows.tolist():
            values = sequence.look_ahead(reference, temperature) if twisted else None
            law = sequence.particle_law(reference, int(n), temperature, look_ahead=values)
            laws.append((law.probs, bt.expected_reward(law), bt.win_rate(law, drawn)))
        probs, rewards, win_rates = map(jnp.stack, zip(*laws, strict=True))
        return np.asarray(probs), rewards, win_rates

    def _law(self) -> sequence.SequenceLaw:
        initial, levels = jnp.asarray(self.initial), jnp.asarray(self.levels, float)
        if self.transition is None:
            symbol = bt.Policy.from_probs(initial, levels)
            return sequence.SequenceLaw.independent(
                symbol, self.length, block_length=self.block_length
            )
        chain = sequence.MarkovChain.from_probs(initial, jnp.asarray(self.transition), levels)
        return sequence.SequenceLaw.markov(chain, self.length, block_length=self.block_length)


@compiled_in_haste
def _levels(reference: sequence.SequenceLaw) -> tuple[bt.Policy, ...]:
    """The law of a block's reward, which is what is selected by, of each stretch."""
    return tuple(stretch.levels for stretch in reference.stretches)


@compiled_in_haste
def _asked_of_words(
    blocks: tuple[bt.Policy, ...],
    reference: sequence.SequenceLaw,
    drawn: bt.Policy,
    words: Array,
    gains: Array,
) -> tuple[Array, Array, Array]:
    """Probabilities of the words ``[R, W]``, mean rewards and win rates ``[R]`` of each law.

    ``blocks`` are what is selected from :func:`_levels`, per row of parameters.
    """

    def of(blocks: tuple[bt.Policy, ...]) -> tuple[Array, Array, Array]:
        selected = iter(blocks)
        law = reference.select(lambda levels: next(selected))
        policy = drawn.with_log_ratio(_log_ratio(law, reference, words, gains))
        return policy.probs, sequence.expected_reward(law), bt.win_rate(policy, drawn)

    return jax.vmap(of)(blocks)


def _log_ratio(
    law: sequence.SequenceLaw, reference: sequence.SequenceLaw, words: Array, gains: Array
) -> Array:
    """log P/π of every word ``[W]``: a sum over blocks of what their start, reward and end give."""
    log_ratio, place = jnp.zeros(words.shape[0]), 0
    for ours, theirs in zip(law.stretches, reference.stretches, strict=True):
        possible = theirs.log_joint > -jnp.inf
        table = jnp.where(possible, ours.log_joint - theirs.log_joint, 0)  # [1, S, N, E]
        size = (table.shape[2] - 1) // (law.lattice.num_levels - 1)
        for _ in range(ours.count):
            block = words[:, place : place + size]
            start = words[:, place - 1] if place else jnp.int64(-1)
            start = start if table.shape[1] > 1 else jnp.int64(0)
            end = block[:, -1] if table.shape[3] > 1 else jnp.int64(0)
            log_ratio += table[0, start, jnp.sum(gains[block], axis=1), end]
            place += size
    return log_ratio


def _discrete(probs: tuple[float, ...], rewards: tuple[float, ...]) -> Rewards:
    return Rewards(
        _with_empty_levels(discrete_reference(probs, rewards)),
        cache(lambda: bt.Policy.from_probs(jnp.asarray(probs), jnp.asarray(rewards))),
        lambda masses: masses,
        (min(rewards), max(rewards)),
    )


def _with_empty_levels(reference: DiscreteReference) -> DiscreteReference:
    """The same law with empty levels below, as many for tied rewards as for distinct ones.

    So a process is one program for both.
    """
    found = np.asarray(reference.level_thresholds)
    spare = reference.thresholds.size + 1 - found.size
    return replace(reference, level_thresholds=jnp.asarray(np.pad(found, (spare, 0))))


def _continuous(
    reference: Reference,
    quantile: Callable[[Array], Array],
    bounds: tuple[float, float] | None = None,
) -> Rewards:
    """Quadrature panels are the bins of the histogram, so their masses are the nodes' sums."""

    def policy() -> bt.Policy:
        # Nodes crowd at the breaks until their ranks round to the same number; the running maximum
        # keeps the rounding of the quantile function from undoing their order.
        return bt.Policy.from_quantile(
            jax.jit(lambda u: jax.lax.cummax(quantile(u))),
            num_nodes=_NODES,
            breaks=tuple(k / _BINS for k in range(1, _BINS)),
        )

    return Rewards(
        reference,
        cache(policy),
        lambda masses: masses.reshape(-1, _BINS, _NODES).sum(axis=2),
        bounds,
    )


#: Whether sequential Monte Carlo looks ahead. It is no selection from one law, but a rule on
#: sequences.
_PARTICLES = {"particles": False, "twisted_particles": True}
_SYMBOLS = (0.25, 0.45, 0.3)
_MOVES = ((0.5, 0.4, 0.1), (0.25, 0.6, 0.15), (0.1, 0.0, 0.9))  # one move is impossible
_LEVELS = (0, 3, 1)
_LENGTH = 4
_KEPT = {"symbolwise": 1, "blockwise": 3, "whole": None}  # blocks of 3 and of what is left, 1

PROBLEMS: MappingProxyType[str, TheoryProblem] = MappingProxyType(
    {
        "distinct rewards": _discrete((0.3, 0.1, 0.25, 0.15, 0.2), (0.2, 1.0, 0.0, 0.7, 0.5)),
        "tied rewards": _discrete((0.3, 0.1, 0.25, 0.15, 0.2), (0.0, 1.0, 0.5, 1.0, 0.0)),
        "uniform reward": _continuous(uniform_reward(_BINS), lambda u: u, (0.0, 1.0)),
        "Gaussian reward": _continuous(gaussian_reward(_BINS), jax.scipy.special.ndtri),
        "exponential reward": _continuous(exponential_reward(_BINS), lambda u: -jnp.log1p(-u)),
        "drafts": Drafts(
            (0.3, 0.1, 0.25, 0.15, 0.2), (0.2, 0.3, 0.1, 0.15, 0.25), (0.0, 1.0, 0.5, 1.0, 0.0)
        ),
    }
    | {
        f"{kind} sequence, {kept}": Sequences(_SYMBOLS, moves, _LEVELS, _LENGTH, size)
        for kind, moves in (("i.i.d.", None), ("Markov", _MOVES))
        for kept, size in _KEPT.items()
    }
)
