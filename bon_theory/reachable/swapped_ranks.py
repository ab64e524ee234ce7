r"""The rule that has a reachable law, in closed form: draws swap ranks, and the best is kept.

Let :math:`u` be the rank of a draw in the order of the ratio of the law to the reference, uniform
on [0, 1] (and uniform within an outcome), :math:`p(u)` the density of the law, which rises, and
:math:`q(u) = n u^{n-1}` that of the highest of n ranks. What the law has too much beside
best-of-:math:`n` above a rank, and what it lacks there, is

.. math:: R_+(u) = \int_u^1 (p - q)_+, \qquad R_-(u) = \int_u^1 (q - p)_+ ,

and :math:`R_- \ge R_+` says that :math:`n` draws can reach the law. The partner of a rank at which
:math:`p > q` is the rank :math:`v` with :math:`R_-(v) = R_+(u)`, which is higher; of one at which
:math:`p < q`, that with :math:`R_+(v) = R_-(u)`, which is lower. The rule:

    Every draw takes its partner's rank, instead of its own, with the chance
    :math:`w(u) = \frac{p(u) - q(u)}{q(v) - q(u)}`. The draw with the highest rank is returned.

* As many go as come: :math:`|p(u) - q(u)|\,du = |p(v) - q(v)|\,dv` of partners, whose denominators
  are equal. So ranks are still independent and uniform, and one that became :math:`s` is returned
  with the density :math:`q(s)`.
* The law returned has the density :math:`(1 - w)\,q(u) + w\,q(v) = p(u)`.
* :math:`0 \le w \le 1`: where :math:`p > q`, :math:`p(u) \le p(v) < q(v)`, as :math:`p` rises;
  where :math:`p < q`, :math:`p(u) \ge p(v) > q(v)`.

The chances that a rank is kept or swapped make the *inverse transform martingale coupling* of
:math:`p(U)` and :math:`q(U)` (Jourdain & Margheriti 2020, arXiv 1808.01390); that a rule of n draws
comes of it is derived here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, require, scalar, shown
from bon_theory._laws import require_same_outcomes
from bon_theory._numerics import cumulative_sum, one_program
from bon_theory._ragged import completed
from bon_theory.policy import Policy
from bon_theory.reachable.nearest import log_after, order_by_ratio, require_reachable

__all__ = ["SwappedRanks", "swapped_ranks"]


class Swap(NamedTuple):
    """What may happen to the rank of a draw.

    Attributes:
        log_rank: logarithm of the partner's rank.
        chance: that the draw takes it.
    """

    log_rank: jax.Array
    chance: jax.Array


class SwappedRanks(NamedTuple):
    r"""A rule of n draws: what becomes of the rank of each, of which the highest is kept.

    Attributes:
        n: number of draws.
        log_ranks: logarithms of the ranks below and up to each outcome, ``[K]`` each; equal where
            the law is continuous and outcomes are nodes.
        log_edges: stretches of ranks from the highest down, ``[S + 1]`` logarithms. On the first of
            three :math:`p > q`, on the second :math:`p < q`, on the third :math:`p > q` again.
        log_density: :math:`\log p` at the upper end of each stretch, ``[S]``.
        slope: of :math:`\log p` in the rank, constant on each stretch, ``[S]``.
        above: :math:`R_+` and :math:`R_-` at the edges, ``[2, S + 1]``.

    Example:
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> tilt = bt.exponential_tilt(uniform, temperature=0.25)
        >>> rule = bt.swapped_ranks(tilt, uniform, n=5)
        >>> partner, chance = rule.swap(jnp.log(jnp.array([0.3, 0.9])))
        >>> [round(float(u), 4) for u in jnp.exp(partner)], [round(float(w), 4) for w in chance]
        ([0.8892, 0.3269], [0.0672, 0.1704])

    Derived here.
    """

    n: jax.Array
    log_ranks: tuple[jax.Array, jax.Array]
    log_edges: jax.Array
    log_density: jax.Array
    slope: jax.Array
    above: jax.Array

    def swap(self, log_rank: jax.Array) -> Swap:
        r"""The partner :math:`v` of a rank :math:`u`, and the chance :math:`w` to take its rank.

        Args:
            log_rank: :math:`\log u \le 0`, any shape. As logarithms both tails are accurate.

        Raises:
            ValueError: ``log_rank`` is NaN or positive. (Where traced, both results are NaN.)

        The partner is found by bisection and has no derivative.

        Example:
            >>> import jax.numpy as jnp
            >>> import bon_theory as bt
            >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
            >>> rule = bt.swapped_ranks(reference, reference, n=2)
            >>> partner, chance = rule.swap(jnp.log(jnp.array(0.2)))
            >>> round(float(jnp.exp(partner)), 12)  # (1/2 - u)² + (v - 1/2)² = 1/4
            0.9
            >>> round(float(chance), 12)  # (1 - w) q(u) + w q(v) = 4/7 · .4 + 3/7 · 1.8 = 1
            0.428571428571

        Derived here.
        """
        log_rank = jnp.asarray(log_rank, self.log_edges.dtype)
        most = 8 * float(jnp.finfo(log_rank.dtype).eps)  # the rank 1 may be a rounded sum
        require(
            lambda: np.asarray(log_rank) <= most,
            lambda: (
                f"log_rank must be at most 0, got {shown(log_rank)}: pass the logarithms of ranks "
                "in [0, 1]."
            ),
            log_rank,
        )
        is_rank, log_rank = log_rank <= most, jnp.minimum(log_rank, 0)
        log_rank = jnp.maximum(log_rank, _lowest(self.log_edges.dtype) + 1)  # above all edges at 0
        stretch = jnp.searchsorted(-self.log_edges, -log_rank, side="right") - 1
        stretch = jnp.clip(stretch, 0, self.slope.shape[0] - 1)
        # log p - log q here, whose sign tells more than the stretch does at its ends.
        log_p, log_n = self._log_density(stretch, log_rank), jnp.log(self.n)
        excess = log_p - log_n - (self.n - 1) * log_rank
        falls = excess < 0
        partner = self._partner(stretch, falls, jnp.abs(self._gain(stretch, log_rank)))

        # log q there - log q here, log p here - log q there.
        rise = (self.n - 1) * (partner - log_rank)
        scale = jnp.where(falls, 0, log_p - log_n - (self.n - 1) * partner)
        moves = (rise * excess) > 0
        safe = jnp.where(moves, jnp.abs(rise), 1)
        share = jnp.expm1(-jnp.abs(jnp.where(moves, excess, 0))) / jnp.expm1(-safe)
        chance = jnp.where(moves, jnp.exp(jnp.where(moves, scale, 0)) * share, 0)
        # What is no law that so many draws can have, and no rank, has no partner.
        unknown = jnp.isnan(self.above[0, -1]) | ~is_rank
        found = Swap(partner, jnp.clip(chance, 0, 1))
        return Swap(*(jnp.where(unknown, jnp.nan, x) for x in found))

    def _log_density(self, stretch: jax.Array, log_rank: jax.Array) -> jax.Array:
        """``log p`` at a rank of the stretch."""
        width = _width(log_rank, self.log_edges[stretch])
        return self.log_density[stretch] - self.slope[stretch] * width

    def _gain(self, stretch: jax.Array, log_rank: jax.Array) -> jax.Array:
        """The integral of ``p - q`` from a rank of the stretch to its upper end."""
        top, slope = self.log_edges[stretch], self.slope[stretch]
        return _gain(self.n, top, self.log_density[stretch], slope, log_rank)

    def _partner(self, stretch: jax.Array, falls: jax.Array, beyond: jax.Array) -> jax.Array:
        """Where as much is above, of the other sign, as there is ``beyond`` in the stretch."""
        too_much, lacking = self.above
        above = beyond + jnp.where(falls, lacking[stretch], too_much[stretch])
        # Not 0: the partner of rank 1 is the lowest above which there is nothing of the other sign.
        above = jnp.maximum(above, jnp.finfo(above.dtype).tiny)
        above = jnp.minimum(above, jnp.where(falls, too_much[-1], lacking[-1]))
        other = jnp.where(
            falls,
            jnp.searchsorted(too_much, above, side="left"),
            jnp.searchsorted(lacking, above, side="left"),
        )
        other = jnp.maximum(other - 1, 0)
        rest = above - jnp.where(falls, too_much[other], lacking[other])
        return _crossing(
            lambda x: rest - jnp.abs(self._gain(other, x)),
            self.log_edges[other + 1],
            self.log_edges[other],
        )


def swapped_ranks(policy: Policy, reference: Policy, n: Numbers) -> SwappedRanks:
    r"""The rule of n draws that has the law ``policy``: draws swap ranks, the highest is returned.

    .. math:: u \to v \text{ with chance } w(u) = \frac{p(u) - q(u)}{q(v) - q(u)}, \qquad
              q(u) = n u^{n-1},

    with :math:`u` the rank of a draw by the ratio :math:`P/\pi`, uniform between ``rule.log_ranks``
    of its outcome, :math:`p` the density of ``policy`` at it, and :math:`v` its partner: above both
    the law has as much too much, or lacks as much, beside best-of-n. Ranks stay independent and
    uniform, and the law returned has the density :math:`(1 - w) q(u) + w q(v) = p(u)`.

    To run it, draw n outcomes with their ranks :math:`u_i`, replace each by :math:`v_i` with the
    chance :math:`w_i`, and return the outcome whose rank is then the highest. Unlike
    :func:`mixture_of_orders` it treats draws alike and one by one, takes a sort instead of
    :math:`K^2 \log K` operations, and runs on continuous rewards.

    Args:
        policy: a law that n draws can reach, such as :func:`nearest_reachable` returns, without
            batch axes. If it is continuous, its ratio to the reference has to rise with the reward,
            so that ranks are those of the reward.
        reference: :math:`\pi`, the law of one draw.
        n: number of draws, real, at least 1; a scalar. (To be run, whole.)

    Returns:
        The rule, a pytree; ``rule.swap(log_rank)`` says what becomes of a rank. Exact for discrete
        laws, and where the logarithm of the density is linear in the rank, as that of the tilt of a
        uniform reward is. Otherwise it is taken for linear between nodes, an error of second order
        in their spacing.

    Raises:
        ValueError: ``n < 1`` or not finite; no rule of n draws has this law, to rounding and, if it
            is continuous, to the error of its nodes; it is batched, or continuous with a ratio that
            falls. Where traced, all that the rule says is NaN.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> tilt = bt.exponential_tilt(uniform, temperature=0.25)
        >>> rule = bt.swapped_ranks(tilt, uniform, n=5)
        >>> draws, coins = jax.random.uniform(jax.random.key(0), (2, 100_000, 5))
        >>> partner, chance = jax.jit(rule.swap)(jnp.log(draws))
        >>> score = jnp.where(coins < chance, jnp.exp(partner), draws)
        >>> kept = jnp.take_along_axis(draws, jnp.argmax(score, axis=1)[:, None], axis=1)
        >>> bool(abs(jnp.mean(kept) - bt.expected_reward(tilt)) < 0.003)
        True

    Derived here; the coupling is Jourdain & Margheriti 2020 (arXiv 1808.01390).
    """
    require_same_outcomes(policy, "reference", reference)
    count = scalar("n", n, policy.dtype, at_least=1)
    if policy.batch_shape or reference.batch_shape or count.shape:
        raise ValueError(
            f"policy, reference and n must be one of each, got shapes {policy.batch_shape}, "
            f"{reference.batch_shape} and {count.shape}: use jax.vmap."
        )
    count = require_reachable(policy, reference, count)
    if policy.continuous:
        ratio = policy.log_probs - reference.log_probs
        slack = float(jnp.finfo(policy.dtype).eps) ** 0.5
        require(
            lambda: np.diff(np.asarray(ratio)) >= -slack * (1 + np.abs(np.asarray(ratio)[1:])),
            lambda: (
                "policy must have a ratio to the reference that rises with the reward, got one "
                "that falls: make both laws discrete, or turn the reward around."
            ),
            ratio,
        )
        return _between_nodes(ratio, reference.log_cdf, count)
    rule = _on_outcomes(*completed(policy, reference, beside=count), count)
    size = policy.num_outcomes
    return rule._replace(log_ranks=jax.tree.map(lambda x: x[:size], rule.log_ranks))


@one_program
def _on_outcomes(policy: Policy, reference: Policy, n: jax.Array) -> SwappedRanks:
    """Constant densities, of outcomes by falling ratio."""
    order, ratio, _, log_q = order_by_ratio(policy, reference)
    edges = log_after(log_q)
    log_ranks = tuple(
        jnp.put_along_axis(jnp.zeros_like(x), order, x, axis=-1, inplace=False)
        for x in (edges[1:], edges[:-1])
    )
    return _rule(n, log_ranks, edges, ratio, jnp.zeros_like(ratio))


@one_program
def _between_nodes(ratio: jax.Array, log_ranks: jax.Array, n: jax.Array) -> SwappedRanks:
    """Densities whose logarithms are linear in the rank between nodes, and constant beyond them."""
    falling = jax.lax.cummin(log_ranks[::-1])  # ranks that are sums may be out of order by rounding
    nothing = jnp.full(1, -jnp.inf, ratio.dtype)
    edges = jnp.concatenate([jnp.zeros_like(nothing), falling, nothing])
    at_nodes = ratio[::-1]
    log_density = jnp.concatenate([at_nodes[:1], at_nodes])
    width = _width(edges[1:], edges[:-1])
    falls = jnp.concatenate([log_density[:-1] - log_density[1:], jnp.zeros_like(nothing)])
    is_sloped = (width > 0) & (falls > 0) & (falls < jnp.inf)
    slope = jnp.where(is_sloped, falls / jnp.where(is_sloped, width, 1), 0)
    total = jnp.sum(_mass(log_density, slope, width))
    return _rule(n, (log_ranks, log_ranks), edges, log_density - jnp.log(total), slope)


def _rule(
    n: jax.Array,
    log_ranks: tuple[jax.Array, ...],
    edges: jax.Array,
    log_density: jax.Array,
    slope: jax.Array,
) -> SwappedRanks:
    """Cells of a density, from the highest rank down, cut where it meets that of best-of-n."""
    edges = jnp.maximum(edges, _lowest(edges.dtype))
    log_density = jnp.maximum(log_density, _lowest(edges.dtype))
    top, bottom = edges[:-1], edges[1:]

    def excess(x: jax.Array) -> jax.Array:
        """``log p - log q``, which is convex in the rank."""
        return log_density - slope * _width(x, top) - jnp.log(n) - (n - 1) * x

    steep = slope > 0
    least = jnp.where(steep, jnp.log(n - 1) - jnp.log(jnp.where(steep, slope, 1)), jnp.inf)
    least = jnp.clip(least, bottom, top)
    upper = _crossing(excess, least, top)
    lower = _crossing(lambda x: -excess(x), bottom, least)
    parts = jnp.stack([top, upper, lower], axis=-1)
    log_parts = log_density[:, None] - slope[:, None] * _width(parts, top[:, None])

    tops, log_parts = parts.ravel(), log_parts.ravel()
    slopes = jnp.repeat(slope, 3)
    stretches = jnp.append(tops, edges[-1])
    gains = _gain(n, tops, log_parts, slopes, stretches[1:])
    falls = jnp.arange(gains.size) % 3 == 1
    parts_of = jnp.stack([jnp.where(falls, 0, gains), jnp.where(falls, -gains, 0)])
    above = jnp.pad(cumulative_sum(jnp.maximum(parts_of, 0)), ((0, 0), (1, 0)))
    below, upto = log_ranks
    return SwappedRanks(n, (below, upto), stretches, log_parts, slopes, above)


def _gain(
    n: jax.Array, top: jax.Array, log_density: jax.Array, slope: jax.Array, log_rank: jax.Array
) -> jax.Array:
    """The integral of ``p - q`` from a rank to one above it, at which ``log p`` is given."""
    ours = _mass(log_density, slope, _width(log_rank, top))
    return ours - jnp.exp(n * top) * -jnp.expm1(n * (log_rank - top))


def _mass(log_density: jax.Array, slope: jax.Array, width: jax.Array) -> jax.Array:
    """The integral of ``p`` over ranks at whose upper end ``log p`` is given."""
    falls = slope * width
    flat = falls == 0
    return (
        jnp.exp(log_density)
        * width
        * jnp.where(flat, 1, -jnp.expm1(-falls) / jnp.where(flat, 1, falls))
    )


def _width(low: jax.Array, high: jax.Array) -> jax.Array:
    """The difference of two ranks."""
    return jnp.exp(high) * -jnp.expm1(jnp.minimum(low - high, 0))


def _lowest(dtype: jnp.dtype) -> float:
    """The logarithm that stands for rank 0."""
    return float(np.log(jnp.finfo(dtype).tiny))


def _crossing(
    rising: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array
) -> jax.Array:
    """Where a rising function of the logarithm of a rank is 0, or the end at which it nearly is."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        is_low = rising(middle) < 0
        return jnp.where(is_low, middle, low), jnp.where(is_low, high, middle)

    halvings = jnp.finfo(high.dtype).nmant + 12  # the longest stretch is e^700
    ends = tuple(jnp.broadcast_arrays(low, high))
    low, high = jax.lax.fori_loop(0, halvings, halve, ends)
    return (low + high) / 2
