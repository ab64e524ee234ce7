r"""Divergences between two laws on the same outcomes, in nats; ``(policy, reference)`` throughout.

Every sum is over :math:`\ell = \log P/Q` and is arranged so that its terms have one sign. A
divergence of nearly equal laws therefore keeps its relative accuracy. Where :math:`Q` has no mass
but :math:`P` has, the value is the divergence's own limit (:math:`\infty` for KL, not NaN).
Outcomes are compared position by position, and rewards are not looked at. The total variation has a
kink, with one-sided derivatives only, wherever :math:`P = Q`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, require_batches, scalar
from bon_theory._numerics import log1p_quotient, log_expm1_quotient, one_program
from bon_theory._quadrature import absolute_sum
from bon_theory.policy import Policy, aligned, require_same_outcomes

__all__ = [
    "chi_squared_divergence",
    "f_divergence",
    "jensen_shannon",
    "kl_divergence",
    "log_ratio",
    "renyi_divergence",
    "squared_hellinger",
    "total_variation",
]


def log_ratio(policy: Policy, reference: Policy) -> jax.Array:
    r""":math:`\ell(y) = \log P(y) - \log Q(y)`, shape ``[..., K]``.

    0 where both are zero, :math:`-\infty` where only the policy is, :math:`+\infty` where only the
    reference is.

    Raises:
        ValueError: the policies are not on the same number of outcomes, or one is continuous and
            the other discrete.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> bt.log_ratio(bt.worst_of_n(reference, n=1), reference).tolist()
        [0.0, 0.0]

    Standard.
    """
    require_same_outcomes(policy, "reference", reference)
    policy, reference = aligned(policy, reference)
    return _log_ratio(policy.log_probs, reference.log_probs)


@one_program
def _log_ratio(p: jax.Array, q: jax.Array) -> jax.Array:
    both_zero = (p == -jnp.inf) & (q == -jnp.inf)
    p_zero, q_zero = p == -jnp.inf, q == -jnp.inf
    finite = jnp.where(p_zero, 0, p) - jnp.where(q_zero, 0, q)
    one_sided = jnp.where(p_zero, -jnp.inf, jnp.where(q_zero, jnp.inf, finite))
    return jnp.where(both_zero, 0, one_sided)


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
    ell, p, q = _terms(policy, reference)
    return jnp.sum(_kl_term(ell, p, q), axis=-1)


def renyi_divergence(policy: Policy, reference: Policy, order: Numbers) -> jax.Array:
    r""":math:`D_\alpha(P\|Q) = \frac{1}{\alpha-1}\log\sum P^\alpha Q^{1-\alpha}`, in nats.

    The limits are taken: :math:`\alpha = 1` is the KL divergence, :math:`\alpha = 0` is
    :math:`-\log Q(P > 0)`, :math:`\alpha = \infty` is :math:`\max \log P/Q`. Near
    :math:`\alpha = 1` nothing cancels and the order may be differentiated.

    Args:
        policy: :math:`P`.
        reference: :math:`Q`.
        order: :math:`\alpha \ge 0`, broadcasting against the batch axes.

    Raises:
        ValueError: ``order`` is negative or NaN, or the policies are not on the same outcomes.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> best = bt.best_of_n(uniform, n=4)
        >>> round(float(bt.renyi_divergence(best, uniform, 2.0)), 6)  # 2 log 4 - log 7
        0.826679

    [M] for best-of-n: :math:`[\alpha\log n - \log(\alpha(n-1)+1)]/(\alpha-1)`.
    """
    require_same_outcomes(policy, "reference", reference)
    alpha = scalar("order", order, policy.dtype, at_least=0, finite=False)[..., None]
    batches = jnp.broadcast_shapes(policy.batch_shape, reference.batch_shape)
    require_batches("order", alpha.shape[:-1], batches)
    policy, reference = aligned(policy, reference, ndim=alpha.ndim)
    ell, p, q = _terms(policy, reference)
    alpha = alpha.reshape((1,) * (ell.ndim - alpha.ndim) + alpha.shape)
    at_limit = (alpha == 0) | (alpha == jnp.inf)
    a = jnp.where(at_limit, 2, alpha)
    excess = a - 1
    # T with Σ P^α Q^{1-α} = 1 + (α-1) T and T → KL as α → 1; every term of T is non-negative.
    # Presence is asked of the logarithms: a probability may underflow and still count.
    both, present = jnp.isfinite(ell), ~_absent(policy, ell)
    finite = jnp.where(both, ell, 0)
    exponent = excess * finite
    tame = jnp.abs(exponent) < 40
    quotient = jnp.exp(log_expm1_quotient(-jnp.where(tame, exponent, 0)))
    # P - Q from the larger law; each exponential is kept from overflowing where it is not used.
    rise, fall = jnp.expm1(-jnp.maximum(finite, 0)), jnp.expm1(jnp.minimum(finite, 0))
    gain = jnp.where(finite > 0, -p * rise, q * fall)
    small_terms = jnp.where(both, p * finite * quotient - gain, q)
    sum_of_terms = jnp.sum(small_terms, axis=-1)
    t = excess[..., 0] * sum_of_terms
    near = jnp.all(tame & (ell < jnp.inf), axis=-1) & (jnp.abs(t) < 0.5)
    close = sum_of_terms * log1p_quotient(jnp.where(near, t, 0))
    # Far from 1 the sum of powers itself is well conditioned.
    log_p = jnp.where(present, policy.log_probs, 0)
    power = jnp.where(present, log_p + excess * jnp.where(present, ell, 0), -jnp.inf)
    far = jax.nn.logsumexp(power, axis=-1) / jnp.where(excess == 0, 1, excess)[..., 0]
    far = jnp.where(alpha[..., 0] == 1, kl_divergence(policy, reference), far)
    generic = jnp.where(near, close, far)
    maximum = jnp.max(jnp.where(present, ell, -jnp.inf), axis=-1)
    support = -jnp.log(jnp.sum(jnp.where(present, q, 0), axis=-1))
    limit = jnp.where(alpha[..., 0] == 0, support, maximum)
    return jnp.where(at_limit[..., 0], limit, generic)


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
    ell, _, q = _terms(policy, reference)
    # (P - Q)²/Q as P²/Q (1 - Q/P)² where P is the larger: Q may have underflowed there.
    impossible = ell == jnp.inf
    rises = (ell > 0) & ~impossible
    up, down = jnp.where(rises, ell, 0), jnp.where(ell > 0, 0, ell)
    log_p = jnp.where(rises, aligned(policy, ndim=ell.ndim)[0].log_probs, 0)
    terms = jnp.where(rises, jnp.exp(log_p + up) * jnp.expm1(-up) ** 2, q * jnp.expm1(down) ** 2)
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
    ell, p, q = _terms(policy, reference)
    # P - Q from whichever law is larger, by expm1: nearly equal laws keep their relative accuracy.
    finite = jnp.where(jnp.isfinite(ell), ell, 0)
    larger = jnp.where(finite > 0, p, q)
    signed = -jnp.sign(finite) * larger * jnp.expm1(-jnp.abs(finite))
    signed = jnp.where(jnp.isfinite(ell), signed, p - q)
    if not policy.continuous:
        return 0.5 * jnp.sum(jnp.abs(signed), axis=-1)
    policy, reference = aligned(policy, reference)
    running = jnp.exp(policy.log_cdf) - jnp.exp(reference.log_cdf)
    return 0.5 * absolute_sum(jnp.broadcast_to(running, signed.shape), signed)


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
    ell, p, q = _terms(policy, reference)
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
    ell, p, q = _terms(policy, reference)
    log2 = jnp.log(jnp.asarray(2, ell.dtype))
    # log P/M = log 2 - log(1 + e^{-ℓ}),  log Q/M = log 2 - log(1 + e^{ℓ})
    to_p, to_q = log2 - jax.nn.softplus(-ell), log2 - jax.nn.softplus(ell)
    mean = 0.5 * (p + q)
    from_p = _kl_term(jnp.where(p > 0, to_p, -jnp.inf), p, mean)
    from_q = _kl_term(jnp.where(q > 0, to_q, -jnp.inf), q, mean)
    return 0.5 * jnp.sum(from_p + from_q, axis=-1)


def f_divergence(
    policy: Policy, reference: Policy, generator: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    r""":math:`D_f(P\|Q) = \sum Q\, f(P/Q)`, ``generator`` :math:`f` convex, :math:`f(1) = 0`.

    Where :math:`Q = 0 < P` the term is :math:`P \lim_{t\to\infty} f(t)/t`, read off at the largest
    power of ten the precision allows and taken as infinite when it still grows there. A generator
    with kinks (:math:`|t - 1|`) is integrated to second order only on a continuous law; use
    :func:`total_variation`.

    Args:
        policy: :math:`P`.
        reference: :math:`Q`.
        generator: elementwise function of the ratio :math:`t = P/Q \ge 0`.

    Raises:
        ValueError: the policies are not on the same outcomes.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> best = bt.best_of_n(uniform, n=3)
        >>> round(float(bt.f_divergence(best, uniform, lambda t: (t - 1) ** 2)), 6)
        0.8

    Csiszár 1967; distribution-free for rank policies without ties.
    """
    ell, p, q = _terms(policy, reference)
    outside = _absent(reference, ell)
    impossible = outside | (ell == -jnp.inf)
    # Clipped: f and its derivative may be infinite at 0, and where a probability has underflowed
    # its logarithm has not.
    limit = 0.98 * float(np.log(np.finfo(p.dtype).max))
    finite = jnp.clip(jnp.where(impossible, 0, ell), -limit, limit)
    t = jnp.where(impossible, jnp.where(outside, 1, 0), jnp.exp(finite))
    # Of the two laws the larger one multiplies: the smaller may have underflowed.
    inside = jnp.where(t > 1, p * (generator(t) / jnp.maximum(t, 1)), q * generator(t))
    large = jnp.asarray([1e30, 1e36] if p.dtype == jnp.float32 else [1e120, 1e150], p.dtype)
    slope = generator(large) / large
    bounded = jnp.abs(slope[1] - slope[0]) <= 1e-6 * jnp.abs(slope[0])
    # Infinity is added, not multiplied by p: its product with a zero tangent would be NaN.
    missing = p * jnp.where(bounded, slope[1], 0) + jnp.where(bounded | (p == 0), 0, jnp.inf)
    return jnp.sum(jnp.where(outside, missing, inside), axis=-1)


def _terms(policy: Policy, reference: Policy) -> tuple[jax.Array, jax.Array, jax.Array]:
    ell = log_ratio(policy, reference)
    laws = aligned(policy, reference)
    p, q = (jnp.broadcast_to(law.probs, ell.shape) for law in laws)
    return ell, p, q


def _absent(policy: Policy, like: jax.Array) -> jax.Array:
    """Where the policy has no mass at all, not even one that underflows."""
    (policy,) = aligned(policy, ndim=like.ndim)
    return jnp.broadcast_to(policy.log_probs == -jnp.inf, like.shape)


@one_program
def _kl_term(ell: jax.Array, p: jax.Array, q: jax.Array) -> jax.Array:
    """P ℓ - P + Q = Q (ℓ e^ℓ - e^ℓ + 1) >= 0, without cancellation for small ℓ; 0 log 0 = 0."""
    small = jnp.abs(ell) < 0.2
    x = jnp.where(small, ell, 0)
    # Σ_{j>=2} (j-1)/j! x^j by Horner; the next term is below 1e-17 of the first at |x| = 0.2.
    series = jnp.zeros_like(x)
    factorial = 479001600.0 * 13  # 13!
    for j in range(13, 1, -1):
        series = series * x + (j - 1) / factorial
        factorial /= j
    finite = jnp.where(jnp.isfinite(ell) & ~small, ell, 0)
    direct = p * finite - p + q
    direct = jnp.where(p == 0, q, direct)
    direct = jnp.where(ell == jnp.inf, jnp.inf, direct)
    return jnp.where(small, q * x * x * series, direct)
