"""The divergences that have a name, each arranged so that its terms have one sign."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers, require_batches, scalar
from bon_theory._laws import aligned, require_same_outcomes
from bon_theory._numerics import kl_term, one_program, safe_log
from bon_theory._quadrature import absolute_sum
from bon_theory._ragged import law_program
from bon_theory.divergences.terms import log_ratio_of, outcome_log_probs, ratio_and_masses
from bon_theory.policy import Policy

__all__ = [
    "chi_squared_divergence",
    "chi_squared_of",
    "hockey_stick_divergence",
    "jensen_shannon",
    "kl_divergence",
    "squared_hellinger",
    "total_variation",
]


def kl_divergence(policy: Policy, reference: Policy) -> jax.Array:
    r""":math:`\mathrm{KL}(P\|Q) = \sum P \log\frac{P}{Q}`, in nats; swap for the reverse.

    Summed as :math:`\sum Q\,(\ell e^\ell - e^\ell + 1)`, whose terms are non-negative.

    Args:
        policy: :math:`P`, batch axes leading.
        reference: :math:`Q`.

    Raises:
        ValueError: the policies are not on the same outcomes.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> round(float(bt.kl_divergence(bt.best_of_n(uniform, n=8), uniform)), 6)  # log 8 - 7/8
        1.204442

    [G] §2, [B] Thm 1 for best-of-n, where without ties it is :math:`\log n - (n-1)/n`.
    """
    return _kl(*outcome_log_probs(policy, reference))


@jax.jit
def _kl(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    return jnp.sum(kl_term(*ratio_and_masses(log_p, log_q)), axis=-1)


def chi_squared_divergence(policy: Policy, reference: Policy) -> jax.Array:
    r""":math:`\chi^2(P\|Q) = \sum \frac{(P - Q)^2}{Q}`.

    Args and Raises: as :func:`kl_divergence`.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> round(float(bt.chi_squared_divergence(bt.best_of_n(uniform, n=3), uniform)), 6)  # 4/5
        0.8

    [M]; for best-of-n without ties :math:`(n-1)^2/(2n-1)`.
    """
    return _chi_squared(*outcome_log_probs(policy, reference))


@jax.jit
def _chi_squared(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    return chi_squared_of(log_ratio_of(log_p, log_q), log_p, log_q)


@one_program
def chi_squared_of(ell: jax.Array, log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    r""":math:`\sum (P - Q)^2/Q` from :math:`\ell = \log P/Q` and the logarithms of both."""
    # (P - Q)²/Q as P²/Q (1 - Q/P)² where P is the larger: Q may have underflowed there.
    impossible = ell == jnp.inf
    rises = (ell > 0) & ~impossible
    up, down = jnp.where(rises, ell, 0), jnp.where(ell > 0, 0, ell)
    rising = jnp.exp(jnp.where(rises, log_p, 0) + up) * jnp.expm1(-up) ** 2
    terms = jnp.where(rises, rising, jnp.exp(log_q) * jnp.expm1(down) ** 2)
    return jnp.sum(jnp.where(impossible, jnp.inf, terms), axis=-1)


def total_variation(policy: Policy, reference: Policy) -> jax.Array:
    r""":math:`\mathrm{TV}(P, Q) = \tfrac12 \sum |P - Q|`.

    For continuous laws the kinks of :math:`|P - Q|` are located between nodes, so the integral is
    as accurate as that of a smooth function.

    Args and Raises: as :func:`kl_divergence`.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> round(float(bt.total_variation(bt.best_of_n(uniform, n=2), uniform)), 10)
        0.25

    [M], [D]; for best-of-n without ties :math:`(1 - 1/n)\, n^{-1/(n-1)}`.
    """
    require_same_outcomes(policy, "reference", reference)
    return _total_variation(*aligned(policy, reference))


@functools.partial(law_program, ranks=True)
def _total_variation(policy: Policy, reference: Policy) -> jax.Array:
    ell, p, q = ratio_and_masses(policy.log_probs, reference.log_probs)
    # P - Q from whichever law is larger, by expm1: nearly equal laws keep their relative accuracy.
    finite = jnp.where(jnp.isfinite(ell), ell, 0)
    larger = jnp.where(finite > 0, p, q)
    signed = -jnp.sign(finite) * larger * jnp.expm1(-jnp.abs(finite))
    signed = jnp.where(jnp.isfinite(ell), signed, p - q)
    if not policy.continuous:
        return 0.5 * jnp.sum(jnp.abs(signed), axis=-1)
    running = jnp.exp(policy.log_cdf) - jnp.exp(reference.log_cdf)
    return 0.5 * absolute_sum(jnp.broadcast_to(running, signed.shape), signed)


def hockey_stick_divergence(policy: Policy, reference: Policy, ratio: Numbers) -> jax.Array:
    r""":math:`E_c(P\|Q) = \sum (P - c\,Q)_+`: how much of the policy exceeds c times the reference.

    The largest :math:`P(A) - c\,Q(A)` of any set :math:`A`. A rule that may go on drawing, on
    average :math:`c` times, can have every law of ratios up to :math:`c` and no other; so
    :math:`E_c(P^*\|\pi)` is the least total variation between a target and such rules. It is the
    total variation at :math:`c = 1` and 0 from the largest ratio on.

    Args:
        policy: :math:`P`.
        reference: :math:`Q`.
        ratio: :math:`c \ge 0`, broadcasting against the batch axes.

    Raises:
        ValueError: ``ratio`` is negative or not finite, or the policies are not on the same
            outcomes.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> best = bt.best_of_n(uniform, n=2)
        >>> round(float(bt.hockey_stick_divergence(best, uniform, 1.5)), 10)  # (1 - 3/4)^2
        0.0625

    Polyanskiy, Poor & Verdú 2010; what it says of draws is derived here (Wald's identity and
    rejection sampling).
    """
    require_same_outcomes(policy, "reference", reference)
    c = scalar("ratio", ratio, policy.dtype, at_least=0)
    batches = jnp.broadcast_shapes(policy.batch_shape, reference.batch_shape)
    require_batches("ratio", c.shape, batches)
    policy, reference = aligned(policy, reference, ndim=c.ndim + 1)
    ndim = policy.log_probs.ndim
    return _hockey_stick(policy, reference, c.reshape((1,) * (ndim - 1 - c.ndim) + c.shape + (1,)))


@functools.partial(law_program, ranks=True)
def _hockey_stick(policy: Policy, reference: Policy, ratio: jax.Array) -> jax.Array:
    ell, p, q = ratio_and_masses(policy.log_probs, reference.log_probs)
    # P - cQ from whichever is larger, by expm1.
    excess = ell - jnp.where(ratio > 0, safe_log(ratio), -jnp.inf)
    above, finite = excess > 0, jnp.isfinite(excess)
    less = jnp.expm1(-jnp.abs(jnp.where(finite, excess, 0)))
    more = jnp.where(finite, -p * less, p)
    if not policy.continuous:
        return jnp.sum(jnp.where(above, more, 0), axis=-1)
    slope = jnp.where(above, more, jnp.where(finite, ratio * q * less, -ratio * q))
    running = jnp.exp(policy.log_cdf) - ratio * jnp.exp(reference.log_cdf)
    absolute = absolute_sum(jnp.broadcast_to(running, slope.shape), slope)
    return jnp.maximum((absolute + 1 - ratio[..., 0]) / 2, 0)


def squared_hellinger(policy: Policy, reference: Policy) -> jax.Array:
    r""":math:`\sum (\sqrt P - \sqrt Q)^2`, between 0 and 2 (some authors halve it).

    Args and Raises: as :func:`kl_divergence`.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> best = bt.best_of_n(uniform, n=4)
        >>> round(float(bt.squared_hellinger(best, uniform)), 10)  # 2(√n-1)²/(n+1)
        0.4

    [M], with their convention.
    """
    return _squared_hellinger(*outcome_log_probs(policy, reference))


@jax.jit
def _squared_hellinger(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    ell, p, q = ratio_and_masses(log_p, log_q)
    safe = jnp.where(q > 0, ell, 0)
    upwards = jnp.where(p > 0, p, 0) * jnp.expm1(-0.5 * jnp.abs(safe)) ** 2
    downwards = q * jnp.expm1(0.5 * jnp.minimum(safe, 0)) ** 2
    return jnp.sum(jnp.where(q > 0, jnp.where(safe > 0, upwards, downwards), p), axis=-1)


def jensen_shannon(policy: Policy, reference: Policy) -> jax.Array:
    r""":math:`\tfrac12[\mathrm{KL}(P\|M) + \mathrm{KL}(Q\|M)]`, :math:`M = \tfrac12(P+Q)`, in nats.

    At most :math:`\log 2`.

    Args and Raises: as :func:`kl_divergence`.

    Example:
        >>> import bon_theory as bt
        >>> certain = bt.Policy.from_probs([1.0, 0.0], rewards=[0.0, 1.0])
        >>> other = bt.Policy.from_probs([0.0, 1.0], rewards=[0.0, 1.0])
        >>> round(float(bt.jensen_shannon(certain, other)), 6)  # log 2
        0.693147

    Lin 1991.
    """
    return _jensen_shannon(*outcome_log_probs(policy, reference))


@jax.jit
def _jensen_shannon(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    ell, p, q = ratio_and_masses(log_p, log_q)
    # log P/M = -log((1 + e^{-ℓ})/2), log Q/M = -log((1 + e^ℓ)/2), accurate near ℓ = 0
    nearer = jnp.log1p(0.5 * jnp.expm1(-jnp.abs(ell)))
    to_p, to_q = jnp.minimum(ell, 0) - nearer, -jnp.maximum(ell, 0) - nearer
    mean = 0.5 * (p + q)
    from_p = kl_term(jnp.where(p > 0, to_p, -jnp.inf), p, mean)
    from_q = kl_term(jnp.where(q > 0, to_q, -jnp.inf), q, mean)
    return 0.5 * jnp.sum(from_p + from_q, axis=-1)
