r"""The race with noise of any law: the highest of :math:`r_i + \sigma\varepsilon_i` wins.

With :math:`f` and :math:`N` the density and the distribution function of the noise,

.. math:: \frac{P(y)}{\pi(y)} = \int n\,H(s)^{n-1} f\Bigl(\frac{s - r(y)}{\sigma}\Bigr)
          \frac{ds}{\sigma}, \qquad H(s) = \sum_z \pi(z)\,N\Bigl(\frac{s - r(z)}{\sigma}\Bigr),

one integral over the winning score, from which all outcomes are read. It is cut so that within a
piece no outcome's noise changes its log-odds by more than a few units, wherever the rewards lie:
then :math:`H^{n-1}` is smooth there at any :math:`n`, and Gauss–Legendre nodes see all of it
(docs/theory.md). Kinks of the density are ends of pieces. A piece is walked to from the last one,
by the law of the noise alone; positions are kept as distances from the nearest reward, so that no
gap between rewards costs accuracy. Derived here.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._numerics import NOTHING, linear_map, log_sum_exp
from bon_theory._reward_cdf import log_from_both_tails
from bon_theory.noise import Noise

__all__ = ["noisy_race_log_ratio", "noisy_race_winning_noise"]

_PIECE = 2.5  # units of log-odds
_RATIO = 1.25  # units of log |e|, which heavy tails need: their densities are powers of e
_NODES = {"float64": 20, "float32": 12}  # of a piece
_PIECES = 8  # at a time
_FINE = (-45.0, 80.0)  # log-odds beyond which pieces grow: e^-45 is nothing, and so is 1e15 e^-80
_GROWTH = 1.25
_FARTHEST = 745.0  # log-odds: e^-745 is the smallest number there is


class _Place(NamedTuple):
    """A score, as a distance from one of the rewards in units of the noise."""

    outcome: jax.Array  # whose reward
    distance: jax.Array


class _Piece(NamedTuple):
    """Where the nodes of a piece lie."""

    outcome: jax.Array  # [B]
    distances: jax.Array  # [B, G] from its reward
    log_weights: jax.Array  # [B, G]


class _March(NamedTuple):
    """The state of the loop over pieces."""

    place: _Place
    is_alive: jax.Array
    carry: Any


def noisy_race_log_ratio(
    log_probs: jax.Array, rewards: jax.Array, n: jax.Array, precision: jax.Array, *, noise: Noise
) -> jax.Array:
    r""":math:`\log P/\pi` of the highest noisy score; see the module's formula.

    Args:
        log_probs: :math:`\log\pi`, ``[K]``, ``-inf`` allowed.
        rewards: ``[K]``, finite.
        n: number of candidates.
        precision: :math:`1/\sigma`, finite.
        noise: the law of :math:`\varepsilon`.

    Differentiable once, forwards and backwards, under the integral sign; a second derivative raises
    ``NotImplementedError``.
    """
    operand = jnp.concatenate([log_probs, rewards, n[None], precision[None]])
    log_ratio = _noisy_race(noise, operand)
    # Bounded noise does not bridge every gap.
    return jnp.where(log_ratio > NOTHING / 2, log_ratio, -jnp.inf)


def noisy_race_winning_noise(
    log_probs: jax.Array, rewards: jax.Array, n: jax.Array, precision: jax.Array, *, noise: Noise
) -> jax.Array:
    r""":math:`E[\varepsilon]` of the winner, its noise in units of :math:`\sigma`; a scalar.

    .. math:: \sum_y \pi(y) \int e\,n\,H(r(y) + \sigma e)^{n-1} f(e)\,de

    Takes what :func:`noisy_race_log_ratio` does.
    """
    operand = jnp.concatenate([log_probs, rewards, n[None], precision[None]])

    def add(total: jax.Array, piece: _Piece) -> jax.Array:
        masses = jnp.exp(_log_terms(noise, operand, operand, piece) + log_probs[None, :])
        return total + jnp.sum(masses * _distances(rewards, precision, piece))

    return _fold(noise, operand, add, jnp.zeros_like(n))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _noisy_race(noise: Noise, operand: jax.Array) -> jax.Array:
    def add(total: jax.Array, piece: _Piece) -> jax.Array:
        terms = _log_terms(noise, operand, operand, piece)
        return jnp.logaddexp(total, log_sum_exp(terms, 0))

    size = (operand.size - 2) // 2
    return _fold(noise, operand, add, jnp.full(size, NOTHING, operand.dtype))


@_noisy_race.defjvp
def _noisy_race_jvp(noise: Noise, primals: Any, tangents: Any) -> Any:
    operand = _first_order_only(primals[0])
    log_ratio = _noisy_race(noise, operand)
    size = log_ratio.size

    def share(terms: jax.Array) -> jax.Array:
        """What a node is of the integral of an outcome, ``[S, K]``."""
        exists = terms > NOTHING / 2
        return jnp.where(exists, jnp.exp(jnp.where(exists, terms - log_ratio[None, :], 0)), 0)

    def forward(vector: jax.Array) -> jax.Array:
        def add(total: jax.Array, piece: _Piece) -> jax.Array:
            at_nodes = functools.partial(_log_terms, noise, operand, piece=piece)
            terms, change = jax.jvp(at_nodes, (operand,), (vector,))
            return total + jnp.sum(share(terms) * change, axis=0)

        moved = _fold(noise, operand, add, jnp.zeros_like(log_ratio))
        return jnp.pad(moved, (0, operand.size - size))

    def backward(vector: jax.Array) -> jax.Array:
        def add(total: jax.Array, piece: _Piece) -> jax.Array:
            at_nodes = functools.partial(_log_terms, noise, operand, piece=piece)
            terms, pull = jax.vjp(at_nodes, operand)
            return total + pull(share(terms) * vector[None, :size])[0]

        return _fold(noise, operand, add, jnp.zeros_like(operand))

    # A zero-probability outcome's log has no meaningful tangent and no influence.
    vector = jnp.where(operand > -jnp.inf, tangents[0], 0)
    return log_ratio, linear_map(forward, backward, vector)[:size]


@jax.custom_jvp
def _first_order_only(x: jax.Array) -> jax.Array:
    return x


@_first_order_only.defjvp
def _no_second_order(primals: Any, tangents: Any) -> Any:
    raise NotImplementedError(
        "noisy best-of-n can be differentiated once: its derivative is computed by its own loop, "
        "which is not differentiable again. Take finite differences of the gradient for curvature."
    )


def _log_terms(noise: Noise, at: jax.Array, operand: jax.Array, piece: _Piece) -> jax.Array:
    """Logarithms of the integrand's share in each node, ``[S, K]``.

    Nodes lie where ``at`` puts them, and stay there when the ``operand`` varies.
    """
    log_probs, rewards, n, precision = _parts(operand)
    _, placed, _, before = _parts(at)
    scaled = jnp.where(before > 0, precision / jnp.where(before > 0, before, 1), 1)
    moved = piece._replace(distances=piece.distances * scaled)
    e = _distances(rewards, precision, moved, placed)

    masses = jnp.where(log_probs > -jnp.inf, log_probs, NOTHING)[None, :]
    log_below = log_sum_exp(masses + _finite(noise.log_cdf(e)), 1)
    log_above = log_sum_exp(masses + _finite(noise.log_survival(e)), 1)
    log_h = _finite(log_from_both_tails(jnp.minimum(log_below, 0), log_above), -1e18)
    log_slope = jnp.log(n) + (n - 1) * log_h + piece.log_weights.reshape(-1)
    density = _finite(noise.log_density(e)) + jnp.where(precision > 0, jnp.log(scaled), 0)
    return _finite(log_slope[:, None] + density)


def _distances(
    rewards: jax.Array, precision: jax.Array, piece: _Piece, placed: jax.Array | None = None
) -> jax.Array:
    """Noise that takes each outcome to each node, ``[S, K]``; pieces lie by ``placed [K]``."""
    placed = rewards if placed is None else placed
    gaps = (placed[piece.outcome][:, None] - rewards[None, :]) * precision  # [B, K]
    return (gaps[:, None, :] + piece.distances[:, :, None]).reshape(-1, rewards.size)


def _parts(operand: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Log-probabilities and rewards ``[K]``, the number of candidates and 1/σ."""
    log_probs, rewards = operand[:-2].reshape(2, -1)
    return log_probs, rewards, operand[-2], operand[-1]


def _finite(x: jax.Array, least: float = NOTHING) -> jax.Array:
    return jnp.where(x > least, x, least)


# --- where the nodes are ------------------------------------------------------------------


def _fold(noise: Noise, operand: jax.Array, add: Any, initial: Any) -> Any:
    """Fold ``add(carry, piece)`` over pieces that cover all scores that matter."""
    log_probs, rewards, _, precision = _parts(operand)
    edges, kinks = _edges(noise, operand.dtype.name), np.asarray(noise.kinks, operand.dtype)
    possible = log_probs > -jnp.inf
    lowest = jnp.argmin(jnp.where(possible, rewards, jnp.inf))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES[operand.dtype.name])
    halves = jnp.asarray((1 + nodes) / 2, operand.dtype)
    log_weights = jnp.asarray(np.log(weights / 2), operand.dtype)

    def walk(place: _Place, _: None) -> tuple[_Place, tuple[jax.Array, jax.Array, jax.Array]]:
        here = (rewards[place.outcome] - rewards) * precision + place.distance
        ends = _next_end(here, jnp.asarray(edges), kinks)
        steps = jnp.where(possible, ends - here, jnp.inf)
        first = jnp.argmin(steps)
        step = jnp.where(steps[first] < jnp.inf, steps[first], 0)
        # Seen from the outcome that ends the piece, and then from the nearest: what rounding a long
        # way leaves must not move it.
        there = (rewards[first] - rewards) * precision + ends[first]
        nearest = jnp.argmin(jnp.where(possible, jnp.abs(there), jnp.inf))
        moved = _Place(nearest, there[nearest])
        place_after = jax.tree.map(lambda new, old: jnp.where(step > 0, new, old), moved, place)
        return place_after, (place.outcome, place.distance, step)

    def over_pieces(march: _March) -> _March:
        place, (outcome, start, length) = jax.lax.scan(walk, march.place, length=_PIECES)
        log_length = jnp.where(length > 0, jnp.log(jnp.where(length > 0, length, 1)), NOTHING)
        piece = _Piece(
            outcome,
            start[:, None] + length[:, None] * halves[None, :],
            log_length[:, None] + log_weights[None, :],
        )
        return _March(place, length[-1] > 0, add(march.carry, piece))

    start = _Place(lowest, jnp.asarray(edges[0], operand.dtype))
    known = jnp.isfinite(precision) & jnp.all(jnp.isfinite(rewards))
    march = _March(start, known, initial)
    return jax.lax.while_loop(lambda march: march.is_alive, over_pieces, march).carry


def _next_end(here: jax.Array, edges: jax.Array, kinks: np.ndarray) -> jax.Array:
    """Where a piece that begins at a distance ``here [K]`` ends for each outcome's sake."""
    # Into the first piece from before it, out of the last one, and else on by one piece.
    count = np.arange(edges.size, dtype=edges.dtype)
    end = jnp.interp(jnp.interp(here, edges, count) + 1, count, edges)
    end = jnp.where(here < edges[-2], end, here + (edges[-1] - edges[-2]))
    # A kink that rounding has put just ahead lies behind.
    rounding = 8 * jnp.finfo(here.dtype).eps * jnp.abs(here)
    end = jnp.maximum(end, here + rounding)
    for kink in kinks:
        end = jnp.where(here < kink - rounding, jnp.minimum(end, kink), end)
    return jnp.where(here < edges[-1], end, jnp.inf)


@functools.cache
def _edges(noise: Noise, dtype: str) -> np.ndarray:
    """Ends of the pieces for a single outcome, ascending, from its reward in units of the noise."""
    # Their squares must be numbers.
    far = 10.0 ** np.linspace(-30, int(np.log10(np.finfo(dtype).max) / 2), 9001)
    places = np.concatenate([-far[::-1], [0.0], far]).astype(dtype)
    with jax.ensure_compile_time_eval():
        tails = jax.jit(lambda e: (noise.log_cdf(e), noise.log_survival(e)))(places)
        lower, upper = (np.asarray(tail, np.float64) for tail in tails)
    odds = lower - upper
    places, odds = places[np.abs(odds) <= _FARTHEST], odds[np.abs(odds) <= _FARTHEST]
    # How many pieces lie before a place; they grow where there is nothing to see.
    inner = np.clip(odds, *_FINE)
    outer = np.maximum(np.abs(odds), 1) / np.maximum(np.abs(inner), 1)
    by_odds = np.diff(inner) / _PIECE
    by_ratio = np.where(by_odds > 0, np.diff(np.arcsinh(places)) / _RATIO, 0)
    beyond = np.diff(np.sign(odds) * np.log(outer)) / np.log(_GROWTH)
    pieces = np.concatenate([[0.0], np.cumsum(np.maximum(by_odds, by_ratio) + beyond)])
    pieces, first = np.unique(pieces, return_index=True)
    places = places[first]
    wanted = np.arange(np.ceil(pieces[0]), pieces[-1])
    edges = [places[0], *np.interp(wanted, pieces, places), places[-1], *noise.kinks]
    return np.unique(np.asarray(edges, dtype))
