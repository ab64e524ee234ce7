r"""What a Gumbel race earns on average, and how that changes with its weights and its size.

A mean needs no law of the winner: exchanging sum and integral in :mod:`bon_theory.race.gumbel`,

.. math:: E_P f = \int_0^\infty g(M)\,E_\pi[f W e^{-tW}]\,dt, \qquad
          M(t) = E_\pi e^{-tW}, \quad g(M) = n M^{n-1},

two sums over outcomes at every time. With :math:`X = tW` and :math:`D` the derivative of
:math:`\log W` in some parameter, the derivatives of the mean are sums of the same kind,

.. math:: \int g(M)\,E_\pi[f D X (1 - X) e^{-X}] - g'(M)\,E_\pi[D X e^{-X}]\,E_\pi[f X e^{-X}]\,
          \frac{dt}{t}, \qquad
          \int g(M)\,(1 + n \log M)\,E_\pi[f X e^{-X}]\,\frac{dt}{t}

in that parameter and in :math:`\log n`: one loop gives all three, where the derivative of the law
takes a loop of its own. Derived here.

The integrals are trapezoidal sums over :math:`\log t`. Outcomes come by falling weight, so at any
time those that matter are neighbours: before them all have rung (:math:`e^{-X} = 0`), after them
all wait (:math:`X = 0`). Each law walks through its own tiles of 16 nodes by 16 outcomes and jumps
to the next outcome when all before it have rung: a law costs at most some ten tiles per outcome, at
any temperature, and many laws advance together, whichever tile each of them is at.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bon_theory._numerics import cumulative_sum

__all__ = ["Mean", "race_mean"]

_NODES = 16  # of a tile
_OUTCOMES = 16


class Mean(NamedTuple):
    """The mean of a race, and its derivatives, one number per law."""

    value: jax.Array
    by_weights: jax.Array  # along the direction given for the log-weights
    by_log_n: jax.Array


class _Walk(NamedTuple):
    """Where each law is, and what it has added up so far."""

    s: jax.Array  # [L] log t at the first node of the tile
    first: jax.Array  # [L] outcomes before it have rung
    chunk: jax.Array  # [L] the tile's first outcome
    rung: jax.Array  # [L] how many outcomes will have rung at the next nodes
    sums: tuple[jax.Array, ...]  # [S, L] over outcomes so far, at the nodes
    totals: Mean
    done: jax.Array  # [L]


def race_mean(
    log_probs: jax.Array,
    gaps: jax.Array,
    d_gaps: jax.Array,
    values: jax.Array,
    n: jax.Array,
    coarse: jax.Array,
) -> Mean:
    r"""The mean of ``values`` under the winner of ``n`` candidates, and its derivatives.

    Args:
        log_probs: :math:`\log\pi`, ``[L, K]``, outcomes by falling weight.
        gaps: by how much :math:`\log w` falls from each outcome to the next, ``[L, K - 1]``.
        d_gaps: the derivative of the gaps in a parameter, at least 0.
        values: :math:`f`, ``[L, K]``.
        n: number of candidates, ``[L]``, real, at least 1.
        coarse: whether an error of 1e-10 of the values will do, at half the cost, ``[L]``.
    """
    eps = float(jnp.finfo(n.dtype).eps)
    coarse |= eps > 1e-12
    # The trapezoidal error exp(-π²/step), for a power near 1 by way of its branch point at M = 0
    # exp(-2 (2π² (n - 1)/step)^½) and less (docs/theory.md); an X, or e^{-X}, that is nothing.
    step = jnp.where(n < 3, 0.125, 0.25) * jnp.where(coarse, 1.5, 1)
    step, nothing = step.astype(n.dtype), jnp.where(coarse, 24, 40).astype(n.dtype)
    log_n = jnp.log(n)
    waits, has_rung = -(nothing + log_n), jnp.log(nothing + 4 + log_n)
    # Longer gaps are nothing but time to jump over.
    longest = nothing + log_n + jnp.exp(has_rung)
    is_cut = gaps > longest[:, None]
    size = log_probs.shape[1]

    def positions(falls: jax.Array) -> jax.Array:
        return jnp.pad(-cumulative_sum(falls), ((0, 0), (1, 0)))

    def within(falls: jax.Array) -> jax.Array:
        """Positions from the last long gap on: across one, only noise would be compared."""
        total = positions(jnp.where(is_cut, 0, falls))
        starts = jnp.pad(jnp.where(is_cut, total[:, 1:], 0), ((0, 0), (1, 0)))
        return total - jax.lax.cummin(starts, axis=1)  # positions fall: the last is the lowest

    def table(rows: jax.Array, filler: str = "constant") -> jax.Array:
        return jnp.pad(rows, ((0, 0), (0, _OUTCOMES)), mode=filler).T  # [K + 16, L]

    log_weights = table(positions(jnp.where(is_cut, longest[:, None], gaps)), "edge")
    slopes = table(within(d_gaps), "edge")
    probs, earned = table(jnp.exp(log_probs)), table(values)
    mass_before = jnp.pad(cumulative_sum(probs.T).T, ((1, 0), (0, 0)))

    def at(rows: jax.Array, index: jax.Array) -> jax.Array:
        return jnp.take_along_axis(rows, jnp.minimum(index, rows.shape[0] - 1)[None], axis=0)[0]

    offsets = step[None] * jnp.arange(_NODES, dtype=n.dtype)[:, None]  # [S, L]
    growth = jnp.exp(offsets)
    beside = jnp.arange(_OUTCOMES, dtype=jnp.int32)[:, None]  # [C, 1]

    def add_tile(walk: _Walk) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """The sums over outcomes with those of one more tile, and how many will have rung."""
        index = walk.chunk[None] + beside  # [C, L]
        tables = log_weights, slopes, probs, earned
        rows = tuple(jnp.take_along_axis(rows, index, axis=0) for rows in tables)

        def add(sums: tuple[jax.Array, ...], row: tuple[jax.Array, ...]) -> tuple[Any, None]:
            w, d, p, f = row  # [L]
            x = jnp.exp(walk.s + w)[None] * growth  # [S, L]
            decay = jnp.exp(-x)
            series = x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5))))
            ringing = p[None] * (x * decay)
            terms = (
                p[None] * jnp.where(x < 0.01, series, 1 - decay),
                ringing * f[None],
                ringing * d[None],
                ringing * (f * d)[None] * (1 - x),
            )
            return tuple(map(jnp.add, sums, terms)), None

        # Outcome by outcome: XLA then works on all laws in one fused loop, which is 3 times faster
        # than a sum over an axis of outcomes, and compiles sooner.
        sums, _ = jax.lax.scan(add, walk.sums, rows)
        next_s = walk.s + _NODES * step
        rung = jnp.sum((index < size) & (next_s[None] + rows[0] > has_rung[None]), axis=0)
        return sums, walk.rung + rung.astype(walk.rung.dtype)

    def collected(walk: _Walk, sums: tuple[jax.Array, ...]) -> tuple[Mean, jax.Array]:
        """The totals with the nodes of a finished strip, and log M at the last."""
        complement, mean, slope, mean_slope = sums
        complement = jnp.minimum(complement + at(mass_before, walk.first)[None], 1 - eps / 2)
        log_m = jnp.log1p(-complement)
        g = (step * n)[None] * jnp.exp((n - 1)[None] * log_m)
        by_weights = mean_slope - (n - 1)[None] / (1 - complement) * slope * mean
        added = g * mean, g * by_weights, g * mean * (1 + n[None] * log_m)
        totals = (total + jnp.sum(x, axis=0) for total, x in zip(walk.totals, added, strict=True))
        return Mean(*totals), log_m[-1]

    def advance(walk: _Walk) -> _Walk:
        sums, rung = add_tile(walk)
        further = walk.chunk + _OUTCOMES
        ended = (further >= size) | (walk.s + offsets[-1] + at(log_weights, further) < waits)
        totals, log_m = collected(walk, sums)
        first = walk.first + rung
        # On to the next nodes, or to where the next outcome no longer waits.
        s = jnp.maximum(walk.s + _NODES * step, waits - at(log_weights, first))
        done = walk.done | (ended & ((first >= size) | (n * log_m < -nothing)))
        clear = tuple(jnp.zeros_like(x) for x in sums)
        fresh = _Walk(s, first, first, jnp.zeros_like(rung), clear, totals, done)
        same = _Walk(walk.s, walk.first, further, rung, sums, walk.totals, done)
        new = jax.tree.map(lambda x, y: jnp.where(ended, x, y), fresh, same)
        return new._replace(
            totals=jax.tree.map(lambda x, y: jnp.where(walk.done, x, y), walk.totals, new.totals)
        )

    zero, none = jnp.zeros_like(n), jnp.zeros(n.shape, jnp.int32)
    start = _Walk(
        waits, none, none, none,
        (jnp.zeros((_NODES, *n.shape), n.dtype),) * 4,
        Mean(zero, zero, zero),
        jnp.isnan(n + jnp.sum(log_weights + probs, axis=0)),
    )  # fmt: skip
    walk = jax.lax.while_loop(lambda walk: ~jnp.all(walk.done), advance, start)
    unknown = start.done
    return Mean(*(jnp.where(unknown, jnp.nan, total) for total in walk.totals))
