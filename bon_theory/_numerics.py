r"""Log-space primitives whose conventions are named, and one differentiation rule.

Conventions: :math:`0 \log 0 = 0`; :math:`\log 0 = -\infty` with derivative 0, so that an outcome of
probability zero neither contributes nor spoils a gradient; every quotient that tends to a limit
(:math:`\sinh x / x` at 0 and its like) takes that limit, with its derivative.

A cumulative probability is always carried as :math:`\log F`. That one number is accurate in *both*
tails: where :math:`F` is small it is the logarithm itself, and where :math:`1 - F` is small
:math:`\log F \approx -(1 - F)` keeps the relative accuracy of the complement.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "NOTHING",
    "cumulative_log_sum",
    "cumulative_sum",
    "kl_term",
    "linear_map",
    "log1mexp",
    "log1p_quotient",
    "log1p_shortfall",
    "log_diff_exp",
    "log_expm1_quotient",
    "log_mean_power",
    "log_normalised",
    "log_sum_exp",
    "namespace",
    "numpy_or_program",
    "one_program",
    "safe_log",
]

NOTHING = -1e30
"""Stands for log 0 where an infinity would spoil a sum or a gradient."""

one_program = functools.partial(jax.jit, inline=True)
"""Decorates what, called outside a ``jit``, compiles as a whole and not operation by operation."""


def namespace(x: Any) -> Any:
    """The module that computes with ``x``: NumPy for its arrays, which then compile nothing."""
    return np if isinstance(x, np.ndarray | np.generic) else jnp


def numpy_or_program(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function of one ``namespace``: NumPy's arrays by NumPy, others as one program.

    What is done once per law, and before anything is traced, is not worth a compilation. Arrays are
    passed by position and settings, which are static, by keyword.
    """
    names = list(function.__kwdefaults__ or {})
    program = one_program(function, static_argnames=names)

    @functools.wraps(function)
    def either(*arrays: Any, **settings: Any) -> Any:
        if not all(isinstance(array, np.ndarray | np.generic) for array in arrays):
            return program(*arrays, **settings)
        with np.errstate(all="ignore"):  # infinities are meant, as in JAX
            return function(*arrays, **settings)

    return either


@numpy_or_program
def safe_log(x: jax.Array) -> jax.Array:
    r""":math:`\log x` with :math:`\log 0 = -\infty` and derivative 0 there (double ``where``)."""
    xp, positive = namespace(x), x > 0
    # The inner where keeps 1/0 out of the tangent; without it the gradient would be 0·inf = NaN.
    # NaN inputs stay NaN.
    logarithm = xp.log(xp.where(positive, x, 1))
    return xp.where(x == 0, -xp.inf, xp.where(positive, logarithm, xp.nan))


@numpy_or_program
def log1mexp(x: jax.Array) -> jax.Array:
    r""":math:`\log(1 - e^{x})` for :math:`x \le 0`: the logarithm of the complementary probability.

    Switches between ``log(-expm1(x))`` and ``log1p(-exp(x))`` at :math:`-\log 2` (Mächler 2012);
    ``x = 0`` gives :math:`-\infty` with derivative 0 and ``x = -inf`` gives 0.
    """
    xp = namespace(x)
    near_zero = x > -0.6931471805599453
    interior = near_zero & (x < 0)
    small = xp.log(-xp.expm1(xp.where(interior, x, -1)))
    small = xp.where(x == 0, -xp.inf, xp.where(interior, small, xp.nan))
    return xp.where(near_zero, small, xp.log1p(-xp.exp(xp.where(near_zero, -1, x))))


@one_program
def log_diff_exp(a: jax.Array, b: jax.Array) -> jax.Array:
    r""":math:`\log(e^{a} - e^{b})` for :math:`a \ge b`; :math:`-\infty` where they are equal."""
    distinct = a > b
    safe_a = jnp.where(distinct, a, 0)
    difference = jnp.where(distinct, b - safe_a, -1)
    return jnp.where(distinct, safe_a + log1mexp(difference), -jnp.inf)


@one_program
def log_expm1_quotient(x: jax.Array) -> jax.Array:
    r""":math:`\log\frac{1 - e^{-x}}{x}` for real :math:`x`; 0 at :math:`x = 0`, where it is smooth.

    The series :math:`-x/2 + x^2/24 - x^4/2880` serves :math:`|x| < 10^{-2}` (its next term is
    :math:`x^6/181440 < 6\cdot 10^{-18}`).
    """
    small = jnp.abs(x) < 1e-2
    series = x * (-0.5 + x * (1 / 24 - x * x / 2880))
    safe = jnp.where(small, 1, x)
    # 1 - e^{-x} for x < 0 is -(e^{|x|} - 1) = -e^{|x|} (1 - e^{-|x|}); the sign cancels against x.
    magnitude = jnp.abs(safe)
    direct = jnp.maximum(-safe, 0) + jnp.log(-jnp.expm1(-magnitude)) - jnp.log(magnitude)
    return jnp.where(small, series, direct)


def log_sum_exp(x: jax.Array, axis: int) -> jax.Array:
    r""":math:`\log\sum e^x` along an axis, for numbers of at least ``NOTHING`` or less.

    ``jax.nn.logsumexp`` also serves NaN, complex numbers and infinities of either sign, which makes
    a program of three times the size; the sum of nothing is about ``NOTHING`` here.
    """
    top = jax.lax.stop_gradient(jnp.maximum(jnp.max(x, axis=axis, keepdims=True), NOTHING))
    return jnp.squeeze(top, axis) + jnp.log(jnp.sum(jnp.exp(x - top), axis=axis))


@numpy_or_program
def log_normalised(probs: jax.Array) -> jax.Array:
    """Logarithms of probabilities ``[..., K]`` whose sum is one to rounding, which is divided out.

    A law with a negative entry, or another sum, is NaN throughout.
    """
    xp = namespace(probs)
    tolerance = float(jnp.finfo(probs.dtype).eps) ** 0.5
    total = xp.sum(probs, axis=-1, keepdims=True)
    admissible = xp.all(probs >= 0, axis=-1, keepdims=True) & (abs(total - 1) <= tolerance)
    return xp.where(admissible, safe_log(probs / total), xp.nan)


_BLOCK = 16


@numpy_or_program
def cumulative_log_sum(x: jax.Array, *, reverse: bool = False) -> jax.Array:
    r""":math:`\log \sum_{j \le i} e^{x_j}` along the last axis (:math:`j \ge i` if ``reverse``).

    Sums within blocks, then over blocks by itself. Unlike ``lax.cumlogsumexp`` its gradient is
    finite where leading entries are ``-inf``, and both compile to a few operations.
    """
    if reverse:
        return cumulative_log_sum(x[..., ::-1])[..., ::-1]
    xp = namespace(x)
    total = _cumulative_log_sum(xp.maximum(x, NOTHING))
    return xp.where(total > 0.5 * NOTHING, total, -xp.inf)


def _cumulative_log_sum(x: jax.Array) -> jax.Array:
    xp, size = namespace(x), x.shape[-1]
    width = max(1, min(size, _BLOCK))
    shape = (*x.shape[:-1], -(-size // width), width)  # a batch may be of no laws
    padding = [(0, 0)] * (x.ndim - 1) + [(0, -size % width)]
    blocks = xp.pad(x, padding, constant_values=NOTHING).reshape(shape)
    within = _within_blocks(blocks)
    if within.shape[-2] > 1:
        before = _cumulative_log_sum(within[..., -1])[..., :-1]
        start = xp.full_like(before[..., :1], NOTHING)
        within = xp.logaddexp(within, xp.concatenate([start, before], axis=-1)[..., None])
    return within.reshape(*x.shape[:-1], shape[-2] * width)[..., :size]


def _within_blocks(x: Any) -> Any:
    """Along the last axis, which is short: JAX sums for each number apart, in a few operations."""
    if namespace(x) is np:
        return np.logaddexp.accumulate(x, axis=-1)
    earlier = np.tri(x.shape[-1], dtype=bool).reshape((1,) * (x.ndim - 1) + 2 * x.shape[-1:])
    terms = jnp.where(earlier, x[..., None, :], jnp.asarray(NOTHING, x.dtype))
    top = jax.lax.stop_gradient(jnp.max(terms, axis=-1, keepdims=True))
    return top[..., 0] + jnp.log(jnp.sum(jnp.exp(terms - top), axis=-1))


def cumulative_sum(x: jax.Array) -> jax.Array:
    """Running sums along the last axis, in blocks by a matrix of ones.

    A few operations at any size, of which XLA makes of ``jnp.cumsum`` a dozen.
    """
    size, width = x.shape[-1], 64
    upper = np.tri(min(size, width)).T.astype(x.dtype)
    if size <= width:
        return jnp.matmul(x, upper, precision="highest")
    blocks = -(-size // width)
    rows = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, blocks * width - size)])
    rows = rows.reshape(*x.shape[:-1], blocks, width)
    within = jnp.matmul(rows, upper, precision="highest")
    before = cumulative_sum(within[..., -1]) - within[..., -1]
    return (within + before[..., None]).reshape(*x.shape[:-1], blocks * width)[..., :size]


@one_program
def log1p_quotient(x: jax.Array) -> jax.Array:
    r""":math:`\log(1 + x)/x` for :math:`x > -1`; 1 at :math:`x = 0`, where it is smooth."""
    small = jnp.abs(x) < 1e-3
    series = 1 + x * (-1 / 2 + x * (1 / 3 + x * (-1 / 4 + x * (1 / 5 - x / 6))))
    safe = jnp.where(small, 1, x)
    return jnp.where(small, series, jnp.log1p(safe) / safe)


@one_program
def log1p_shortfall(x: jax.Array) -> jax.Array:
    r""":math:`x - \log(1 + x) \ge 0` for :math:`x > -1`, without cancellation near 0."""
    log = jnp.log1p(x)
    return kl_term(-log, jnp.ones_like(x), 1 + x)


@one_program
def kl_term(ell: jax.Array, p: jax.Array, q: jax.Array) -> jax.Array:
    """P ℓ - P + Q = Q (ℓ e^ℓ - e^ℓ + 1) >= 0, without cancellation for small ℓ; 0 log 0 = 0."""
    small = jnp.abs(ell) < 0.2
    finite = jnp.where(jnp.isfinite(ell) & ~small, ell, 0)
    direct = p * finite - p + q
    direct = jnp.where(p == 0, q, direct)
    direct = jnp.where(ell == jnp.inf, jnp.inf, direct)
    return jnp.where(small, q * _kl_series(jnp.where(small, ell, 0)), direct)


@jax.custom_jvp  # whose derivative is not that of the sum, term by term
def _kl_series(x: jax.Array) -> jax.Array:
    """x e^x - e^x + 1 for |x| of at most 0.2, as the sum of (j-1)/j! x^j over j >= 2, by Horner."""
    series = jnp.zeros_like(x)
    for j in range(13, 1, -1):  # the next term is below 1e-17 of the first
        series = series * x + (j - 1) / math.factorial(j)
    return x * x * series


_kl_series.defjvps(lambda dx, _, x: x * jnp.exp(x) * dx)


@one_program
def log_mean_power(n: jax.Array, log_a: jax.Array, log_b: jax.Array) -> jax.Array:
    r""":math:`\log\frac{b^n - a^n}{b - a}` for :math:`0 \le a \le b \le 1`, from the logarithms.

    At :math:`a = b` it is the derivative :math:`\log(n b^{n-1})`, at :math:`a = 0` it is
    :math:`(n-1)\log b`. With :math:`\delta = \log(b/a)`,

    .. math:: \frac{b^n - a^n}{b - a} = b^{n-1}\,\frac{1 - e^{-n\delta}}{1 - e^{-\delta}} .

    The quotient is insensitive to rounding in :math:`\delta`, so the mass of a tiny atom in the
    middle of the distribution keeps its relative accuracy. Derived here.
    """
    empty_below = log_a == -jnp.inf
    delta = jnp.where(empty_below, 1, log_b - jnp.where(empty_below, 0, log_a))
    quotient = jnp.log(n) + log_expm1_quotient(n * delta) - log_expm1_quotient(delta)
    exponent = n - 1
    # 0 · log 0 = 0: at n = 1 every power is 1, whatever b.
    nothing = log_b == -jnp.inf
    power = exponent * jnp.where(nothing, 0, log_b)
    power = jnp.where(nothing & (exponent > 0), -jnp.inf, power)
    return power + jnp.where(empty_below, 0, quotient)


def linear_map(
    apply: Callable[[jax.Array], jax.Array],
    transpose: Callable[[jax.Array], jax.Array],
    operand: jax.Array,
) -> jax.Array:
    """``apply(operand)`` for a linear ``apply`` whose transpose is ``transpose``, not derived.

    Loops with a data-dependent length can be differentiated forwards but not transposed; given both
    directions, forward and reverse mode work, under ``vmap`` and ``jit`` as well. ``apply`` must
    map the operand's shape to itself. Built on ``custom_linear_solve`` for the identity, whose
    solver is free; nothing is solved.
    """
    return jax.lax.custom_linear_solve(
        lambda x: x,
        operand,
        solve=lambda _, b: apply(b),
        transpose_solve=lambda _, b: transpose(b),
    )
