"""The Rényi divergence of any order, without cancellation near orders 0 and 1."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers, require_batches, scalar
from bon_theory._numerics import log1p_quotient, log_expm1_quotient
from bon_theory.divergences.terms import log_ratio_of, outcome_log_probs
from bon_theory.policy import Policy

__all__ = ["renyi_divergence"]


def renyi_divergence(policy: Policy, reference: Policy, order: Numbers) -> jax.Array:
    r""":math:`D_\alpha(P\|Q) = \frac{1}{\alpha-1}\log\sum P^\alpha Q^{1-\alpha}`, in nats.

    The limits are taken: :math:`\alpha = 1` is the KL divergence, :math:`\alpha = 0` is
    :math:`-\log Q(P > 0)`, :math:`\alpha = \infty` is :math:`\max \log P/Q`. Nothing cancels near
    orders 0 and 1, and the order may be differentiated there: with

    .. math:: S = \frac{1}{\alpha-1} \sum \bigl(P^\alpha Q^{1-\alpha} - \alpha P
              - (1-\alpha) Q\bigr), \qquad D_\alpha = \frac{\log(1 + (\alpha-1) S)}{\alpha-1},

    every term of :math:`S` is non-negative (Young's inequality). Where the sum of powers is far
    from 1 it is well conditioned by itself.

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

    [M] for best-of-n: :math:`[\alpha\log n - \log(\alpha(n-1)+1)]/(\alpha-1)`. The arrangement of
    the sum is derived here; its terms are those of the :math:`\alpha`-divergence of Amari.
    """
    log_p, log_q = outcome_log_probs(policy, reference, beside=order)
    alpha = scalar("order", order, policy.dtype, at_least=0, finite=False)
    require_batches("order", alpha.shape, jnp.broadcast_shapes(log_p.shape, log_q.shape)[:-1])
    ndim = max(log_p.ndim, alpha.ndim + 1)
    log_p, log_q, alpha = (
        array.reshape((1,) * (ndim - array.ndim) + array.shape)
        for array in (log_p, log_q, alpha[..., None])
    )
    return _renyi(log_p, log_q, alpha)


@jax.jit
def _renyi(log_p: jax.Array, log_q: jax.Array, alpha: jax.Array) -> jax.Array:
    """Arrays ``[..., K]`` and an order ``[..., 1]`` of the same rank."""
    infinite = alpha == jnp.inf
    order = jnp.where(infinite, 2, alpha)
    excess, s = order[..., 0] - 1, _sum_of_young_terms(log_p, log_q, order)
    near = jnp.abs(excess * s) < 0.5
    close = jnp.where(near, s, 0) * log1p_quotient(jnp.where(near, excess * s, 0))
    close = jnp.where((excess == 0) & ~near, s, close)  # 0·inf: KL is infinite
    far = _log_sum_of_powers(log_p, log_q, order) / jnp.where(near, 1, excess)
    ell = jnp.where(log_p != -jnp.inf, log_ratio_of(log_p, log_q), -jnp.inf)
    largest = jnp.max(ell, axis=-1)
    # A power beyond the largest number: what is missing from the largest log-ratio is beyond eps.
    far = jnp.where((far == jnp.inf) & (excess > 0), largest, far)
    value = jnp.where(near | (excess == 0), close, far)
    return jnp.where(infinite[..., 0], largest, value)


def _sum_of_young_terms(log_p: jax.Array, log_q: jax.Array, alpha: jax.Array) -> jax.Array:
    r""":math:`S = \frac{1}{\alpha-1} \sum (P^\alpha Q^{1-\alpha} - \alpha P - (1-\alpha) Q)`.

    A term over :math:`\alpha` is symmetric under :math:`(P, Q, \alpha) \to (Q, P, 1-\alpha)`, so
    orders below one half are computed as those above, with the laws swapped.
    """
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    only_p = (log_p != -jnp.inf) & (log_q == -jnp.inf)
    both = (log_p != -jnp.inf) & (log_q != -jnp.inf)
    log_p, log_q = jnp.where(both, log_p, 0), jnp.where(both, log_q, 0)
    swap = alpha < 0.5
    a, b = jnp.where(swap, log_q, log_p), jnp.where(swap, log_p, log_q)
    of_both = alpha * _young_term(
        a, b, jnp.where(swap, 1 - alpha, alpha), jnp.where(swap, -alpha, alpha - 1)
    )
    below_one = alpha < 1
    of_p = jnp.where(below_one, p * alpha / jnp.where(below_one, 1 - alpha, 1), jnp.inf)
    of_one = jnp.where(only_p, of_p, q)
    return jnp.sum(jnp.where(both, of_both, of_one), axis=-1)


def _young_term(
    log_p: jax.Array, log_q: jax.Array, alpha: jax.Array, excess: jax.Array
) -> jax.Array:
    r""":math:`\frac{1}{\alpha(\alpha-1)} (P^\alpha Q^{1-\alpha} - \alpha P - (1-\alpha) Q) \ge 0`.

    For :math:`\alpha \ge \tfrac12` with ``excess`` :math:`= \alpha - 1`, as accurate as that is.
    """
    p, q, ell = jnp.exp(log_p), jnp.exp(log_q), log_p - log_q
    small = jnp.maximum(alpha, 1) * jnp.abs(ell) < 0.2
    # Q Σ_{k>=2} ℓ^k/k! (1 + α + … + α^{k-2}); the next term is below 1e-17 of the first.
    x = jnp.where(small, ell, 0)
    y = jnp.where(small, alpha, 0) * x
    power, mixed, series, factorial = jnp.ones_like(x), jnp.ones_like(x), jnp.zeros_like(x), 1.0
    for k in range(2, 14):
        factorial *= k
        series = series + mixed / factorial
        power = power * x
        mixed = power + y * mixed
    # Elsewhere P ℓ (e^x - 1)/x - (P - Q) over α, with x = (α-1)ℓ.
    exponent = excess * jnp.where(small, 1, ell)
    tame = jnp.abs(exponent) < 1
    mild = jnp.where(tame, exponent, 0)
    rise = p * ell * jnp.exp(log_expm1_quotient(-mild))
    leap = (jnp.exp(log_p + jnp.where(tame, 0, exponent)) - p) / jnp.where(tame, 1, excess)
    # P - Q from the larger law, by expm1.
    gain = -p * jnp.expm1(-jnp.maximum(ell, 0)) + q * jnp.expm1(jnp.minimum(ell, 0))
    return jnp.where(small, q * x * x * series, (jnp.where(tame, rise, leap) - gain) / alpha)


def _log_sum_of_powers(log_p: jax.Array, log_q: jax.Array, alpha: jax.Array) -> jax.Array:
    r""":math:`\log \sum P^\alpha Q^{1-\alpha}`."""
    present = (log_p != -jnp.inf) & ((log_q != -jnp.inf) | (alpha > 1))
    absent = present & (log_q == -jnp.inf)  # an order above 1 makes it infinite
    finite = present & ~absent
    log_p, log_q = jnp.where(finite, log_p, 0), jnp.where(finite, log_q, 0)
    # From the nearer law: at α = 0 the sum is Q's, at α = 1 it is P's.
    by_p, by_q = log_p + (alpha - 1) * (log_p - log_q), log_q + alpha * (log_p - log_q)
    power = jnp.where(finite, jnp.where(alpha < 0.5, by_q, by_p), -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(power, axis=-1, keepdims=True))
    safe = jnp.where(jnp.isfinite(top), top, 0)
    shifted = jnp.where(jnp.isfinite(top), power - safe, 0)
    total = jnp.log(jnp.sum(jnp.exp(shifted), axis=-1)) + safe[..., 0]
    top = jnp.where(jnp.any(absent, axis=-1), jnp.inf, top[..., 0])
    return jnp.where(jnp.isfinite(top), total, top)
