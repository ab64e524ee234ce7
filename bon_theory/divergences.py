r"""Divergences between two laws on the same outcomes, in nats; ``(policy, reference)`` throughout.

Every sum is over :math:`\ell = \log P/Q` and is arranged so that its terms have one sign. A
divergence of nearly equal laws therefore keeps its relative accuracy. Where :math:`Q` has no mass
but :math:`P` has, the value is the divergence's own limit (:math:`\infty` for KL, not NaN).
Probabilities that underflow are read off their logarithms, so log-ratios of thousands of nats cost
no accuracy. Outcomes are compared position by position, and rewards are not looked at. The total
variation has a kink, with one-sided derivatives only, wherever :math:`P = Q`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, require, require_batches, scalar
from bon_theory._numerics import kl_term, log1p_quotient, log_expm1_quotient, one_program
from bon_theory._quadrature import absolute_sum
from bon_theory._ragged import completed, law_program
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
    return _log_ratio_of(*aligned(policy, reference))


@functools.partial(law_program, per_outcome=True)
def _log_ratio_of(policy: Policy, reference: Policy) -> jax.Array:
    return _log_ratio(policy.log_probs, reference.log_probs)


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
    return _kl(*_log_probs(policy, reference))


@jax.jit
def _kl(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    return jnp.sum(kl_term(*_terms(log_p, log_q)), axis=-1)


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
    log_p, log_q = _log_probs(policy, reference, beside=order)
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
    ell = jnp.where(log_p != -jnp.inf, _log_ratio(log_p, log_q), -jnp.inf)
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
    return _chi_squared(*_log_probs(policy, reference))


@jax.jit
def _chi_squared(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    return chi_squared_of(_log_ratio(log_p, log_q), log_p, log_q)


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
    ell, p, q = _terms(policy.log_probs, reference.log_probs)
    # P - Q from whichever law is larger, by expm1: nearly equal laws keep their relative accuracy.
    finite = jnp.where(jnp.isfinite(ell), ell, 0)
    larger = jnp.where(finite > 0, p, q)
    signed = -jnp.sign(finite) * larger * jnp.expm1(-jnp.abs(finite))
    signed = jnp.where(jnp.isfinite(ell), signed, p - q)
    if not policy.continuous:
        return 0.5 * jnp.sum(jnp.abs(signed), axis=-1)
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
    return _squared_hellinger(*_log_probs(policy, reference))


@jax.jit
def _squared_hellinger(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    ell, p, q = _terms(log_p, log_q)
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
    return _jensen_shannon(*_log_probs(policy, reference))


@jax.jit
def _jensen_shannon(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    ell, p, q = _terms(log_p, log_q)
    # log P/M = -log((1 + e^{-ℓ})/2), log Q/M = -log((1 + e^ℓ)/2), accurate near ℓ = 0
    nearer = jnp.log1p(0.5 * jnp.expm1(-jnp.abs(ell)))
    to_p, to_q = jnp.minimum(ell, 0) - nearer, -jnp.maximum(ell, 0) - nearer
    mean = 0.5 * (p + q)
    from_p = kl_term(jnp.where(p > 0, to_p, -jnp.inf), p, mean)
    from_q = kl_term(jnp.where(q > 0, to_q, -jnp.inf), q, mean)
    return 0.5 * jnp.sum(from_p + from_q, axis=-1)


def f_divergence(
    policy: Policy, reference: Policy, generator: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    r""":math:`D_f(P\|Q) = \sum Q\, f(P/Q)`, ``generator`` :math:`f` convex, :math:`f(1) = 0`.

    Summed with :math:`f(t) - f'(1)(t-1)`, which has the same divergence and no negative value. An
    outcome that one law lacks takes the limit of :math:`f(t)` at 0 or of :math:`f(t)/t` at
    infinity. So does one whose ratio is beyond the range of floating point, unless the generator
    is affine in :math:`\log t` there, as logarithms are: then that line goes on. Both are read off
    at ratios as extreme as the generator bears; what still grows there has an infinite limit.

    A generator with kinks (:math:`|t - 1|`) is integrated to second order only on a continuous law;
    use :func:`total_variation`.

    Args:
        policy: :math:`P`.
        reference: :math:`Q`.
        generator: elementwise function of the ratio :math:`t = P/Q > 0`, differentiable at 1; it
            is not evaluated at 0.

    Raises:
        ValueError: the policies are not on the same outcomes, the generator is NaN at a ratio, or a
            ratio is beyond the range of floating point where the generator has neither a limit nor
            such a line (NaN while traced): use :func:`kl_divergence` or :func:`renyi_divergence`,
            which know no ratios.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> best = bt.best_of_n(uniform, n=3)
        >>> round(float(bt.f_divergence(best, uniform, lambda t: (t - 1) ** 2)), 6)
        0.8

    Csiszár 1967; distribution-free for rank policies without ties.
    """
    log_p, log_q = _log_probs(policy, reference)
    one, extremes = jnp.ones((), log_p.dtype), _extreme_ratios(log_p.dtype)
    _, tangent = jax.jvp(generator, (one,), (one,))
    ends = _ends(extremes, generator(extremes), generator(jnp.stack([one / 2, 2 * one])), tangent)
    ell, ratios = _ratios(log_p, log_q, ends)
    terms = _generated(log_p, log_q, ratios, generator(ratios), ends)
    require(
        lambda: ~np.isnan(np.asarray(terms)) | np.isnan(np.asarray(ell)),
        lambda: (
            "generator must be a number, or have a limit, at every ratio P/Q, got NaN at a log "
            f"ratio of {np.asarray(ell)[np.isnan(np.asarray(terms))].flat[0]:.6g}: for log ratios "
            "beyond floating point use kl_divergence or renyi_divergence."
        ),
        terms,
    )
    return jnp.sum(terms, axis=-1)


class _Ends(NamedTuple):
    """What a generator f less ``tangent``·(t-1) does towards ratios 0 and infinity, ``[2]`` each.

    Attributes:
        ratios: the most extreme ones at which it is evaluated.
        limits: of f at 0 and of f(t)/t at infinity: infinite where it still grows, NaN where it
            changes too slowly to tell.
        values: of f, or of f(t)/t, at ``ratios``.
        slopes: by which they go on per unit of log t: NaN where they are not affine in it.
        tangent: f'(1).
    """

    ratios: jax.Array
    limits: jax.Array
    values: jax.Array
    slopes: jax.Array
    tangent: jax.Array


def _extreme_ratios(dtype: Any) -> jax.Array:
    """Ratios ``[2, 2, 4]``: towards 0 and infinity; two of which the first is more extreme; powers.

    The first is at the end of floating point, then its root, its cubic and fourth root: a fourth
    power of the last is representable.
    """
    small = (2**14 * float(jnp.finfo(dtype).tiny)) ** (1 / np.arange(1, 5))
    towards_zero = np.stack([small, small**0.8])
    return jnp.asarray(np.stack([towards_zero, 1 / towards_zero]), dtype)


@one_program
def _ends(ratios: jax.Array, values: jax.Array, sizes: jax.Array, tangent: jax.Array) -> _Ends:
    """From ``values`` of the generator at the extreme ``ratios``, and ``sizes`` near 1 ``[2]``."""
    tangent = jnp.where(jnp.isfinite(tangent), tangent, 0)
    scaled = _over_larger(ratios, values, tangent)
    borne = jnp.argmax(jnp.all(jnp.isfinite(scaled), axis=1), axis=-1)  # [2]
    sides = jnp.arange(2)
    value, before = scaled[sides, 0, borne], scaled[sides, 1, borne]
    scale = jnp.abs(value) + jnp.sum(jnp.abs(sizes)) + jnp.abs(tangent)
    # An error like a power of the ratio is smaller at the end than the change on the way there.
    settled = jnp.abs(value - before) <= (8 * jnp.finfo(ratios.dtype).eps) ** 0.8 * scale
    grows = value - before > 1e-3 * scale
    limits = jnp.where(settled, value, jnp.where(grows | (value == jnp.inf), jnp.inf, jnp.nan))
    # The line through the two, where it meets the value at the root of the most extreme ratio.
    end, root = ratios[sides, 0, borne], jnp.minimum(borne + 1, ratios.shape[-1] - 1)
    steps = jnp.log(ratios[sides, 1, borne]) - jnp.log(end)  # of two logarithms: none overflows
    slopes = (before - value) / steps
    on_line = value + slopes * (jnp.log(ratios[sides, 0, root]) - jnp.log(end))
    misfit = jnp.abs(scaled[sides, 0, root] - on_line)
    is_affine = (root > borne) & (misfit <= 64 * jnp.finfo(ratios.dtype).eps * scale)
    return _Ends(end, limits, value, jnp.where(is_affine, slopes, jnp.nan), tangent)


@one_program
def _ratios(log_p: jax.Array, log_q: jax.Array, ends: _Ends) -> tuple[jax.Array, jax.Array]:
    """log P/Q, and P/Q itself where the generator bears it, 1 elsewhere; ``[..., K]`` both."""
    ell, (least, most) = _log_ratio(log_p, log_q), jnp.log(ends.ratios)
    return ell, jnp.exp(jnp.where((ell < least) | (ell > most), 0, ell))


@one_program
def _generated(
    log_p: jax.Array, log_q: jax.Array, ratios: jax.Array, values: jax.Array, ends: _Ends
) -> jax.Array:
    """The terms Q f(P/Q) ``[..., K]``, each from the larger law: Q f(t), or P f(t)/t if t > 1."""
    ell = _log_ratio(log_p, log_q)
    weight = jnp.exp(jnp.where(ell > 0, log_p, log_q))
    inside = jnp.maximum(_over_larger(ratios, values, ends.tangent), 0)
    limit = jnp.where(ell > 0, ends.limits[1], ends.limits[0])
    # Beyond floating point a finite limit says what the generator is, or else its line.
    side = (ell > 0).astype(int)
    beyond = jnp.where(jnp.isinf(ell), 0, ell - jnp.log(ends.ratios)[side])
    line = ends.values[side] + ends.slopes[side] * beyond
    limit = jnp.where(jnp.isfinite(limit) | jnp.isinf(ell), limit, line)
    value = jnp.where((ratios == 1) & (jnp.abs(ell) > 1), limit, inside)
    # Not multiplied where infinite: the weight may underflow, and its slope would be NaN.
    infinite = value == jnp.inf
    return jnp.where(infinite, jnp.inf, weight * jnp.where(infinite, 0, value))


def _over_larger(ratios: jax.Array, values: jax.Array, tangent: jax.Array) -> jax.Array:
    """(f(t) - tangent (t-1)) / max(t, 1), from the ``values`` f(t)."""
    larger = jnp.maximum(ratios, 1)
    return values / larger - tangent * ((ratios - 1) / larger)


def _log_probs(policy: Policy, reference: Policy, beside: Any = ()) -> tuple[jax.Array, jax.Array]:
    """Both ``[..., K]``, of one rank, completed: for what sums over outcomes."""
    require_same_outcomes(policy, "reference", reference)
    policy, reference = aligned(*completed(policy, reference, beside=beside))
    return policy.log_probs, reference.log_probs


@one_program
def _log_ratio(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    p_zero, q_zero = log_p == -jnp.inf, log_q == -jnp.inf
    finite = jnp.where(p_zero, 0, log_p) - jnp.where(q_zero, 0, log_q)
    one_sided = jnp.where(p_zero, -jnp.inf, jnp.where(q_zero, jnp.inf, finite))
    return jnp.where(p_zero & q_zero, 0, one_sided)


def _terms(log_p: jax.Array, log_q: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    ell = _log_ratio(log_p, log_q)
    p, q = (jnp.broadcast_to(jnp.exp(x), ell.shape) for x in (log_p, log_q))
    return ell, p, q
