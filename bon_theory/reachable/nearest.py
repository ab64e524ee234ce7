r"""What :math:`n` draws can reach at best: the nearest law, its distance, and when it is zero.

Whatever rule returns one of :math:`n` i.i.d. draws from :math:`\pi`, it returns something in
:math:`A` only if a draw is in :math:`A`. With :math:`g(p) = 1 - (1-p)^n`, its law therefore obeys

.. math:: P(A) \le g(\pi(A)) \quad \text{for every set } A \text{ of outcomes},

and every law that does is that of some rule (Strassen 1965, Artstein 1983). Of a target
:math:`P^*` only the sets :math:`\{L \ge t\}` on which :math:`L = dP^*/d\pi` is largest matter. With
their masses :math:`s` and :math:`p` the curve :math:`h(s) = g(p)` says what can be reached, and the
law whose cumulated mass is the greatest convex minorant of :math:`h` is nearest to the target in
every :math:`f`-divergence, in both directions. The proof is in the documentation, "what n draws can
do". Derived here; the least total variation, for drafts in speculative decoding, is Hu et al. 2025.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, is_concrete, shown
from bon_theory._laws import aligned, require_same_outcomes
from bon_theory._numerics import (
    NOTHING,
    cumulative_log_sum,
    log_mean_power,
    log_sum_exp,
)
from bon_theory._ragged import law_program
from bon_theory._reward_cdf import log_from_both_tails
from bon_theory.policy import Policy
from bon_theory.reachable.isotonic import increasing_log_slopes
from bon_theory.selection import best_of_n
from bon_theory.selection.parameters import Real, aligned_parameters

__all__ = [
    "Unreachable",
    "distance_to_reachable",
    "draws_for_exact",
    "log_after",
    "nearest_reachable",
    "order_by_ratio",
    "require_reachable",
]


class Unreachable(NamedTuple):
    """How far a target is from what :math:`n` draws can reach.

    Attributes:
        total_variation: the least total variation of any rule, ``[...]``.
        event: the outcomes, ``[..., K]``, that no rule returns often enough: the target's mass of
            this set is that much more than the chance that one of the draws is in it. Empty where
            the target can be reached.
    """

    total_variation: jax.Array
    event: jax.Array


def nearest_reachable(target: Policy, reference: Policy, n: Numbers) -> Policy:
    r"""The law nearest to ``target`` among all that a rule can have which returns one of n draws.

    .. math:: P = P^* \cdot X'(s), \qquad X = \text{greatest convex minorant of } s \mapsto
              1 - (1 - p)^n,

    :math:`s` and :math:`p` the target's and the reference's mass of outcomes with at least so large
    a ratio :math:`P^*/\pi`. It is best-of-n by that ratio, with neighbours in its order pooled in
    the target's proportions until :math:`P/P^*` rises along the order. No law of any rule is nearer
    in any :math:`f`-divergence, from or to the target: total variation, KL and reverse KL,
    :math:`\chi^2`, Hellinger, Rényi. Where the target can be reached it is the target.

    Args:
        target: :math:`P^*`, any law on the reference's outcomes.
        reference: :math:`\pi`, the law of one draw. Of continuous laws the nodes are the outcomes,
            each of its own mass: the error is of second order in their spacing.
        n: number of draws, real, at least 1.

    Raises:
        ValueError: ``n < 1`` or not finite; the laws are not on the same outcomes.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> target = bt.exponential_tilt(reference, temperature=0.5)
        >>> for n in (2, 4):
        ...     soft = bt.soft_best_of_n(reference, n, temperature=0.5)
        ...     best = bt.nearest_reachable(target, reference, n)
        ...     print([round(float(bt.kl_divergence(target, law)), 6) for law in (soft, best)])
        [0.125154, 0.05934]
        [0.036633, 0.0]

    Costs a sort and a pass over the outcomes. Derived here.
    """
    target, reference, count = _aligned(target, reference, n)
    return _nearest(target, reference, count)


def distance_to_reachable(target: Policy, reference: Policy, n: Numbers) -> Unreachable:
    r"""The least total variation between ``target`` and any rule that returns one of n draws.

    .. math:: \min_P \mathrm{TV}(P, P^*) = \max_A\,[P^*(A) - 1 + (1 - \pi(A))^n]_+

    with the set :math:`A` that attains it. It is the total variation to :func:`nearest_reachable`,
    by another formula.

    Args and Raises: as :func:`nearest_reachable`.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> target = bt.exponential_tilt(reference, temperature=0.5)
        >>> distance, event = bt.distance_to_reachable(target, reference, n=2)
        >>> round(float(distance), 6), event.tolist()
        (0.169056, [False, False, True])

    The value is Hu et al. 2025 (arXiv 2502.18779); derived here for selections.
    """
    target, reference, count = _aligned(target, reference, n)
    excess, event = _excess(target, reference, count)
    return Unreachable(jnp.max(excess, axis=-1), event)


def draws_for_exact(
    target: Policy, reference: Policy, *, rounding: Literal["up"] | None = None
) -> jax.Array:
    r"""The number of draws from which ``target`` can be sampled exactly, by one of them.

    .. math:: n^* = \sup_A \frac{\log P^*(A^c)}{\log \pi(A^c)}
                  = \sup_t \frac{\log P^*(L < t)}{\log \pi(L < t)}, \qquad L = \frac{dP^*}{d\pi}.

    It is at least the largest ratio :math:`L`, by which rejection sampling is bounded *on average*:
    what is known is that no fixed number below :math:`n^*` is enough.

    Args:
        target: :math:`P^*`, any law on the reference's outcomes.
        reference: :math:`\pi`, the law of one draw.
        rounding: ``None`` for the real :math:`n^*`, ``"up"`` for the smallest whole number of draws
            (one that is larger by rounding alone does not count).

    Returns:
        :math:`n^* \ge 1`; ``inf`` where the target lacks an outcome of the reference, or the
        reference one of the target.

    Raises:
        ValueError: the laws are not on the same outcomes; an unknown ``rounding``.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> target = bt.exponential_tilt(uniform, temperature=0.25)
        >>> round(float(bt.draws_for_exact(target, uniform)), 6)  # 1/(λ(1 - e^{-1/λ}))
        4.074629
        >>> int(bt.draws_for_exact(target, uniform, rounding="up"))
        5

    Derived here.
    """
    if rounding not in (None, "up"):
        raise ValueError(f'rounding must be None or "up", got {shown(rounding)}.')
    require_same_outcomes(target, "reference", reference)
    n = _draws_for_exact(*aligned(target, reference))
    if rounding is None:
        return n
    slack = 64 * float(jnp.finfo(target.dtype).eps)
    return jnp.ceil(n * (1 - slack))


def require_reachable(policy: Policy, reference: Policy, n: jax.Array | float) -> jax.Array:
    """Raise ``ValueError`` unless some rule of n draws has this law; where traced, NaN instead.

    To rounding, which is relative to the logarithms of masses, and to the error of the nodes, which
    is what they are wrong by of best-of-n.

    Returns:
        n, or NaN.
    """
    lack = distance_to_reachable(policy, reference, n).total_variation
    finfo = jnp.finfo(policy.dtype)
    slack = jnp.asarray(-2 * float(finfo.eps) * float(np.log(finfo.tiny)), policy.dtype)
    if policy.continuous:
        slack += distance_to_reachable(best_of_n(reference, n), reference, n).total_variation
    reached = lack <= slack
    if is_concrete(reached) and bool(lack > slack):
        raise ValueError(
            f"policy must be the law of a rule of {float(np.asarray(n)):g} draws, got one at a "
            f"total variation of {float(lack):.3g} from all of these: pass "
            "nearest_reachable(policy, reference, n)."
        )
    return jnp.where(reached, n, jnp.nan)


def _aligned(target: Policy, reference: Policy, n: Numbers) -> tuple[Policy, Policy, jax.Array]:
    """The laws and the number of draws ``[..., 1]``, all of one rank."""
    require_same_outcomes(target, "reference", reference)
    reference, count = aligned_parameters(reference, n=Real(n, at_least=1))
    target, reference = aligned(target, reference)
    count = count.reshape((1,) * (target.log_probs.ndim - count.ndim) + count.shape)
    return target, reference, count


class _Curve(NamedTuple):
    """Outcomes in the order of falling ratio of target to reference, ``[..., K]`` each.

    Attributes:
        order: the outcomes.
        log_ratio: what they are ordered by; lowest where neither law has mass.
        log_target: the target's masses.
        log_reference: the reference's masses.
    """

    order: jax.Array
    log_ratio: jax.Array
    log_target: jax.Array
    log_reference: jax.Array


def order_by_ratio(target: Policy, reference: Policy) -> _Curve:
    """The outcomes by falling ratio."""
    log_p, log_q = jnp.broadcast_arrays(target.log_probs, reference.log_probs)
    nowhere = (log_p == -jnp.inf) & (log_q == -jnp.inf)
    ratio = jnp.where(nowhere, -jnp.inf, log_p - jnp.where(nowhere, 0, log_q))
    ratio = jax.lax.stop_gradient(ratio)
    order = jnp.argsort(-ratio, axis=-1)
    return _Curve(order, *(jnp.take_along_axis(x, order, axis=-1) for x in (ratio, log_p, log_q)))


def log_after(log_masses: jax.Array) -> jax.Array:
    """Log of the mass after the first 0, 1, … K outcomes ``[..., K + 1]``, in both tails."""
    nothing = jnp.full_like(log_masses[..., :1], -jnp.inf)
    before = jnp.concatenate([nothing, cumulative_log_sum(log_masses)], axis=-1)
    after = jnp.concatenate([cumulative_log_sum(log_masses, reverse=True), nothing], axis=-1)
    return log_from_both_tails(after, before)


@law_program
def _nearest(target: Policy, reference: Policy, n: jax.Array) -> Policy:
    order, _, log_p, log_q = order_by_ratio(target, reference)
    after = log_after(log_q)
    log_ratio = log_mean_power(n, after[..., 1:], after[..., :-1])  # of best-of-n in this order
    greedy, order, log_p, log_q = jnp.broadcast_arrays(log_q + log_ratio, order, log_p, log_q)
    pooled = jnp.vectorize(increasing_log_slopes, signature="(k),(k)->(k)")(greedy, log_p)

    # What the target lacks gets what is left, in the reference's proportions.
    lacks = log_p == -jnp.inf
    left = _log_sum(greedy, lacks) - _log_sum(log_q, lacks)
    log_law = jnp.where(lacks, left + log_q, log_p + jnp.where(lacks, 0, pooled))
    possible = log_q > -jnp.inf
    log_ratio = jnp.where(possible, log_law - jnp.where(possible, log_q, 0), 0)
    unknown = jnp.isnan(log_p) | jnp.isnan(log_q) | jnp.isnan(n)
    log_ratio = jnp.where(jnp.any(unknown, axis=-1, keepdims=True), jnp.nan, log_ratio)
    back = jnp.put_along_axis(jnp.zeros_like(log_ratio), order, log_ratio, axis=-1, inplace=False)
    return reference.without_ranks().with_log_ratio(back)


@functools.partial(law_program, per_outcome=True)
def _excess(target: Policy, reference: Policy, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What no rule can give to sets of outcomes that begin the order, and the set with most."""
    order, ratio, log_p, log_q = order_by_ratio(target, reference)
    rest, missed = log_after(log_p)[..., 1:], n * log_after(log_q)[..., 1:]
    # (1 - p)^n - (1 - s), with relative accuracy.
    lacking = missed > rest
    missed, rest = (jnp.where(lacking, x, -1) for x in (missed, rest))
    excess = jnp.where(lacking, -jnp.exp(missed) * jnp.expm1(rest - missed), 0)
    most = jnp.argmax(excess, axis=-1, keepdims=True)
    order, ratio = (jnp.broadcast_to(x, excess.shape) for x in (order, ratio))
    event = (ratio >= jnp.take_along_axis(ratio, most, axis=-1)) & (
        jnp.max(excess, axis=-1, keepdims=True) > 0
    )
    event = jnp.put_along_axis(jnp.zeros_like(event), order, event, axis=-1, inplace=False)
    return excess, event


@law_program
def _draws_for_exact(target: Policy, reference: Policy) -> jax.Array:
    _, _, log_p, log_q = order_by_ratio(target, reference)
    rest, rest_of_reference = log_after(log_p)[..., 1:], log_after(log_q)[..., 1:]
    # Sets with all of the reference's mass ask nothing; those with none, if at all, too much.
    inner = (rest_of_reference > -jnp.inf) & (rest_of_reference < 0)
    needed = rest / jnp.where(inner, rest_of_reference, -1)
    otherwise = jnp.where((rest_of_reference == 0) & (rest < 0), jnp.inf, 1)
    return jnp.max(jnp.where(inner, needed, otherwise), axis=-1, initial=1)


def _log_sum(log_masses: jax.Array, where: jax.Array) -> jax.Array:
    """``log Σ e^x`` over some outcomes, ``[..., 1]``."""
    return log_sum_exp(jnp.where(where, log_masses, NOTHING), axis=-1)[..., None]
