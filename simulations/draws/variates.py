"""Random words to uniforms, exponentials, Gumbels and Gaussians: float32, accurate in both tails.

The library's logarithms and its normal quantile cost three to eight times the random bits they are
fed with, since they serve every float; these serve the numbers that 32-bit words give. Each is a
dozen fused instructions: split off the binary exponent, then one polynomial. Coefficients are
minimax fits in relative error made for this project (Lawson's iteration in float64).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_ROOT_HALF_BITS = 0x3F3504F3  # √½ as float32
_LOG_2 = 0.6931471805599453

# log(1 + t)/t on [√½ − 1, √2 − 1], to 3e-8.
_LOG = (
    *(1.0, -0.49999988, 0.33334187, -0.25002074, 0.19956833),
    *(-0.16562393, 0.14952268, -0.1436684, 0.08722349),
)
# z/(1 − 2u) of the normal quantile z(u), in q − 2.5 with q = −log(4u(1 − u)) ≤ 5; to 3e-7.
_NORMAL_CENTRE = (
    *(2.1233132, 0.34880364, -0.005906122, -0.0017743169),
    *(0.00030735956, -5.7900725e-06, -4.50552e-06, 4.4637295e-07),
)
# The same in √q − 3.4, for 5 ≤ q ≤ 31 log 2 + 0.01, which is u down to 2⁻³³; to 4e-7.
_NORMAL_TAIL = (
    *(4.5746746, 1.4236008, 0.0056218733, -0.0035408684),
    *(0.0020862767, -0.0016272707, 0.00096744054, -0.00023858617),
)


def unit_interval(words: Array) -> Array:
    """(word + ½)·2⁻³² in float32: uniform on (0, 1], accurate relative to its own size near 0.

    Near 1 the steps are 2⁻²⁴. Whoever needs that tail reads ``unit_interval(~words)``, which is
    1 − U to full relative accuracy.

    Example:
        >>> import jax.numpy as jnp
        >>> float(unit_interval(jnp.uint32(0)) * 2.0**33)
        1.0
    """
    # The product is exact, so that a fused instruction rounds no more than the sum does.
    return words.astype(jnp.float32) * jnp.float32(2.0**-32) + jnp.float32(2.0**-33)


def exponential(words: Array) -> Array:
    """−log U: Exp(1), to 1e-6 relative at every word, from 2⁻³³ (the earliest clock) to 22.9.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(exponential(jnp.uint32(2**31))), 4)
        0.6931
    """
    return exponential_quantile(unit_interval(~words), unit_interval(words))


def gumbel(words: Array) -> Array:
    """−log(−log U): standard Gumbel, to 1e-6 of max(1, |value|), upper tail included."""
    return -_log(exponential(words), None)


def exponential_quantile(rank: Array, survival: Array) -> Array:
    """−log(1 − rank), with ``survival`` = 1 − rank given to its own accuracy."""
    return -_log(survival, rank)


def gaussian_quantile(rank: Array, survival: Array) -> Array:
    """The standard normal quantile Φ⁻¹(rank), for rank and survival = 1 − rank from 2⁻³³ up.

    With q = −log(4u(1 − u)), z/(1 − 2u) is smooth in q, and in √q in the tails (the variable is
    that of Giles, Approximating the erfinv function, GPU Computing Gems 2, 2011; the fits are
    ours). Error at most 1e-6 relative, or 1e-7 absolute near the median.
    """
    q = -_log(jnp.float32(4) * rank * survival, None)
    centre = _polynomial(_NORMAL_CENTRE, q - jnp.float32(2.5))
    tail = _polynomial(_NORMAL_TAIL, jnp.sqrt(q) - jnp.float32(3.4))
    return (rank - survival) * jnp.where(q < 5, centre, tail)


def _log(x: Array, complement: Array | None) -> Array:
    """log x for normal x > 0; where 1 − x is given, to its relative accuracy near x = 1."""
    # x = 2ᵉ·m with m in [√½, √2).
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    exponent = (bits - jnp.int32(_ROOT_HALF_BITS)) >> 23
    t = jax.lax.bitcast_convert_type(bits - (exponent << 23), jnp.float32) - jnp.float32(1)
    if complement is not None:
        t = jnp.where(exponent == 0, -complement, t)
    return exponent.astype(jnp.float32) * jnp.float32(_LOG_2) + t * _polynomial(_LOG, t)


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """Horner's rule for even and odd powers side by side; two coefficients or more.

    So a sum of nine terms waits for six operations and not eight. A soft score of a Gaussian reward
    takes five such sums, two after each other: one chain each leaves a processor without AVX-512
    waiting, which then selects a tenth fewer a second.
    """
    square = x * x
    even, odd = (_horner(coefficients[first::2], square) for first in (0, 1))
    return odd * x + even


def _horner(coefficients: Sequence[float], x: Array) -> Array:
    """From the highest power down."""
    value = jnp.full_like(x, np.float32(coefficients[-1]))
    for coefficient in coefficients[-2::-1]:
        value = value * x + np.float32(coefficient)
    return value
