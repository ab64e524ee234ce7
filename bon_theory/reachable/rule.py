r"""The rule that has a reachable law: draw an order of the outcomes, keep the best draw by it.

Every law that some rule of :math:`n` draws can have is a mixture of best-of-:math:`n` under fixed
orders (the extreme points of :math:`\{P : P(A) \le g(\pi(A))\}`, Edmonds 1970). To find one, take
a block of outcomes that comes right after others of mass :math:`p_0`, with
:math:`f(A) = g(p_0 + \pi(A)) - g(p_0)` the most that a set can get and the block getting all of it:

* :math:`v`, best-of-:math:`n` in the block by falling :math:`P/\pi`, is one order. Let
  :math:`y = P + t\,(P - v)` move away from it, to the largest :math:`t` at which still
  :math:`y(A) \le f(A)` for every :math:`A`; the sets to be watched begin the order by falling
  :math:`y/\pi`. Then :math:`P = \theta v + (1 - \theta)\,y` with :math:`\theta = t/(1 + t)`.
* Some set is tight at that :math:`t`: in :math:`y` its outcomes come before the others. The block
  falls into two blocks, each of which goes on by itself.

One number in [0, 1] is drawn and decides in all blocks at once, so every split adds one order to
the mixture, and :math:`K` outcomes need at most :math:`K` orders. An error in :math:`y` counts
:math:`1 - \theta` times in :math:`P` and was magnified :math:`1 + t` times, its inverse: rounding
does not build up. Derived here.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bon_theory._arguments import Numbers, is_concrete, static_number
from bon_theory._laws import require_same_outcomes
from bon_theory._numerics import log_sum_exp
from bon_theory.policy import Policy
from bon_theory.reachable.nearest import require_reachable
from bon_theory.selection import best_of_n

__all__ = ["OrderMixture", "mixture_of_orders"]

Masses = NDArray[np.float64]
Outcomes = NDArray[np.int64]

_ROUNDING = 1e-15  # of sums of probabilities
_LEAST = 1e-300


class OrderMixture(NamedTuple):
    r"""A rule: draw an order with these probabilities, then keep the draw that is first in it.

    Attributes:
        weights: probabilities of the orders, ``[J]``.
        orders: the outcomes, best first, ``[J, K]``.

    Example:
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> rule = bt.OrderMixture(jnp.array([0.5, 0.5]), jnp.array([[0, 2, 1], [1, 2, 0]]))
        >>> rule.places.tolist()
        [[0, 2, 1], [2, 0, 1]]

    Derived here.
    """

    weights: jax.Array
    orders: jax.Array

    @property
    def places(self) -> jax.Array:
        """Where each outcome stands in each order, from 0, ``[J, K]``."""
        return jnp.argsort(self.orders, axis=-1)

    def law(self, reference: Policy, n: Numbers) -> Policy:
        r""":math:`\sum_j \theta_j\,\mathrm{BoN}_{\sigma_j}`, what the rule returns of n draws.

        Args:
            reference: the law of one draw, one law without batch axes.
            n: number of draws, real, at least 1; a scalar.

        Raises:
            ValueError: ``n < 1`` or not finite.

        Example:
            >>> import jax.numpy as jnp
            >>> import bon_theory as bt
            >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
            >>> rule = bt.OrderMixture(jnp.array([0.5, 0.5]), jnp.array([[0, 1], [1, 0]]))
            >>> rule.law(reference, n=8).probs.tolist()
            [0.5, 0.5]

        Derived here.
        """
        ranked = Policy.from_logits(
            jnp.broadcast_to(reference.log_probs, self.orders.shape),
            -self.places.astype(reference.dtype),
        )
        each = best_of_n(ranked, n).log_probs + jnp.log(self.weights)[:, None]
        mixed = log_sum_exp(each, axis=0)
        return reference.with_log_ratio(mixed - reference.log_probs)


def mixture_of_orders(policy: Policy, reference: Policy, n: Numbers) -> OrderMixture:
    r"""The rule of n draws that has the law ``policy``, as a mixture of at most K orders.

    Args:
        policy: a law that n draws can reach, such as :func:`nearest_reachable` returns; discrete,
            without batch axes.
        reference: :math:`\pi`, the law of one draw.
        n: number of draws, real, at least 1; a scalar.

    Raises:
        ValueError: no rule of n draws has this law, to rounding; it is continuous, batched or
            traced (the number of orders is not known beforehand).

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> target = bt.exponential_tilt(reference, temperature=0.5)
        >>> rule = bt.mixture_of_orders(target, reference, n=4)  # 3.37 draws are enough
        >>> [round(float(w), 4) for w in rule.weights], rule.orders.tolist()
        ([0.8373, 0.1144, 0.0483], [[2, 1, 0], [0, 2, 1], [2, 0, 1]])
        >>> float(bt.total_variation(rule.law(reference, 4), target)) < 1e-12
        True

    Takes about :math:`K^2 \log K` operations. Derived here.
    """
    count = _checked(policy, reference, n)
    masses, law = (np.asarray(each.probs, np.float64) for each in (reference, policy))
    possible = np.flatnonzero(masses > 0)
    impossible = np.flatnonzero(masses == 0)
    pieces = _pieces(law[possible], masses[possible], count)

    cuts = np.unique([piece.start for piece in pieces])
    orders = np.empty((len(cuts), len(masses)), np.int64)
    orders[:, len(possible) :] = impossible
    for piece in pieces:
        rows = slice(*np.searchsorted(cuts, (piece.start, piece.end)))
        orders[rows, piece.place : piece.place + len(piece.order)] = possible[piece.order]
    weights = np.diff(cuts, append=1.0)
    return OrderMixture(jnp.asarray(weights, reference.dtype), jnp.asarray(orders))


class _Piece(NamedTuple):
    """An order of some outcomes, from a place on, for numbers drawn from [start, end)."""

    order: Outcomes
    place: int
    start: float
    end: float


def _pieces(law: Masses, masses: Masses, n: float) -> list[_Piece]:
    """The orders of all blocks; those of any one number in [0, 1] follow each other."""
    pieces: list[_Piece] = []
    blocks = [_Block(np.arange(len(law)), law, masses, 0.0, 0.0, 0, 0.0)]
    while blocks:
        block = blocks.pop()
        order, weight, halves = block.split(n)
        end = 1.0 if not halves else block.start + weight * (1 - block.start)
        if end > block.start:
            pieces.append(_Piece(block.outcomes[order], block.place, block.start, end))
        if end < 1:
            blocks += [half._replace(start=end) for half in halves]
    return pieces


class _Block(NamedTuple):
    """Outcomes that come right after others and get together all that they can get.

    Attributes:
        outcomes: which, ``[k]``.
        law: what each of them is to get, ``[k]``.
        masses: the reference's, ``[k]``.
        before: mass of the outcomes that come first.
        after: mass of those that come last.
        place: number of the outcomes that come first.
        start: the block is for numbers in [start, 1).
    """

    outcomes: Outcomes
    law: Masses
    masses: Masses
    before: float
    after: float
    place: int
    start: float

    def most(self, order: Outcomes, n: float) -> Masses:
        """What the first 1, …, k outcomes of an order can get of n draws."""
        masses = self.masses[order]
        before = self.before + np.append(0.0, np.cumsum(masses))
        after = self.after + np.append(np.cumsum(masses[::-1])[::-1], 0.0)
        with np.errstate(divide="ignore"):  # nothing is left after the last outcome
            log_after = np.where(
                before < after, np.log1p(-np.minimum(before, after)), np.log(after)
            )
        missed = np.exp(n * log_after)
        return missed[0] - missed[1:]

    def split(self, n: float) -> tuple[Outcomes, float, tuple[_Block, ...]]:
        """The order by P/π, its weight, and the two blocks of what is left of the law."""
        order = np.argsort(-self.law / self.masses, kind="stable")
        best = np.empty_like(self.law)
        best[order] = np.diff(self.most(order, n), prepend=0.0)
        step, away = np.inf, self.law - best
        ranking = tight = order[::-1]
        first = 0
        while True:
            gained = np.cumsum(away[ranking])[:-1]
            room = (self.most(ranking, n) - np.cumsum(self.law[ranking]))[:-1]
            grows = gained > _ROUNDING
            bounds = np.where(grows, np.maximum(room, 0) / np.where(grows, gained, 1), np.inf)
            if not np.min(bounds, initial=np.inf) < step * (1 - _ROUNDING):
                break
            tight, first = ranking, int(np.argmin(bounds)) + 1
            step = bounds[first - 1]
            ranking = np.argsort(-(self.law + step * away) / self.masses, kind="stable")
        if step == np.inf:
            return order, 1.0, ()
        left = np.maximum(self.law + step * away, 0)
        parts = tight[:first], tight[first:]
        most = self.most(tight, n)
        totals = most[first - 1], most[-1] - most[first - 1]
        inner = [float(np.sum(self.masses[part])) for part in parts]
        borders = (self.before, self.after + inner[1]), (self.before + inner[0], self.after)
        halves = tuple(
            _Block(
                self.outcomes[part],
                left[part] * (total / max(np.sum(left[part]), _LEAST)),  # equal, but for rounding
                self.masses[part],
                *border,
                place,
                self.start,
            )
            for part, total, border, place in zip(
                parts, totals, borders, (self.place, self.place + first), strict=True
            )
        )
        return order, step / (1 + step), halves


def _checked(policy: Policy, reference: Policy, n: Numbers) -> float:
    """The number of draws, if they can reach the one concrete, discrete law."""
    require_same_outcomes(policy, "reference", reference)
    count = static_number("n", n)
    if not is_concrete(policy, reference):
        raise ValueError(
            "policy and reference must be known, got traced ones: the number of orders depends on "
            "them; call mixture_of_orders outside jit, vmap and grad."
        )
    if policy.continuous or policy.batch_shape or reference.batch_shape:
        kind = "continuous ones" if policy.continuous else "a batch"
        raise ValueError(
            f"policy and reference must be two discrete laws, got {kind}: make one rule at a time."
        )
    require_reachable(policy, reference, count)
    return count
