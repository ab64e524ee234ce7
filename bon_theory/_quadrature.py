r"""The trapezoidal rule on a lattice, by which all but noisy races are integrated.

A smooth function that decays at both ends of the real line is integrated by the plain trapezoidal
rule with an error that is exponentially small in 1/step (Trefethen & Weideman, SIAM Review 2014,
Thm 5.1). Continuous laws live on a lattice in the log-odds :math:`x = \log\frac{u}{1-u}` of the
rank :math:`u`, so both tails of the reward are resolved; races live on a lattice in log time.

Besides the plain sum, three things can be had from values on such a lattice: the running integral
(sinc-indefinite integration), the value between nodes (Hermite interpolation), and the integral
of an absolute value, whose kinks the plain sum would not see.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from bon_theory._numerics import one_program

__all__ = ["absolute_sum", "gaps", "lattice_sum", "log_odds_nodes", "running_sum"]

_LOG_ODDS_RANGE = 80.0  # exp(-80) ≈ 2e-35 is the mass beyond either end; normal in float32 too


def log_odds_nodes(
    num_nodes: int, breaks: tuple[float, ...] = ()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Trapezoidal nodes for :math:`\int_0^1 f(u)\,du`, in float64.

    The unit interval is cut at ``breaks`` (where :math:`f` may jump or kink) and every panel
    :math:`[a, b]` carries its own lattice in the log-odds of :math:`(u-a)/(b-a)`.

    Returns ``log_u``, ``1 - u`` (both to relative rounding) and ``log_weights`` (they sum to one),
    each of shape ``[K]``, ascending in ``u``. ``num_nodes`` is the number of nodes per panel.
    """
    x = np.linspace(-_LOG_ODDS_RANGE, _LOG_ODDS_RANGE, num_nodes)
    log_v, log_w = -np.logaddexp(0, -x), -np.logaddexp(0, x)
    log_step = np.log(2 * _LOG_ODDS_RANGE / (num_nodes - 1))
    edges = [0.0, *breaks, 1.0]
    log_u, log_complement, log_weights = [], [], []
    for a, b in itertools.pairwise(edges):
        with np.errstate(divide="ignore"):
            log_a, log_width, log_after = np.log(a), np.log(b - a), np.log1p(-b)
        log_u.append(np.logaddexp(log_a, log_width + log_v))
        log_complement.append(np.logaddexp(log_after, log_width + log_w))
        log_weights.append(log_step + log_width + log_v + log_w)
    log_u, log_complement, log_weights = map(np.concatenate, (log_u, log_complement, log_weights))
    # Each logarithm from the tail in which it is well conditioned: log u = log(1 - s) as u → 1.
    smaller = np.exp(np.minimum(log_u, log_complement))
    log_u = np.where(log_u <= log_complement, log_u, np.log1p(-smaller))
    # Nodes crowd at the breaks; rounding must not put them out of order.
    complement = np.minimum.accumulate(np.exp(log_complement))
    return np.maximum.accumulate(log_u), complement, log_weights


def gaps(reward_at: Callable[[np.ndarray], np.ndarray], num_nodes: int, end: float) -> list[float]:
    """Ranks at which the reward jumps, or rises so steeply that no lattice without a break sees it.

    ``reward_at`` takes log-odds of ranks, of any one shape; ``end`` is the largest log-odds to look
    at. Every interval between nodes is halved towards the larger rise: of a smooth function the
    rise shrinks with the interval, of a jump it stays.
    """
    nodes = np.linspace(-_LOG_ODDS_RANGE, _LOG_ODDS_RANGE, num_nodes)
    low, high = nodes, np.append(nodes[1:], nodes[-1])
    at_low, at_high = reward_at(low), reward_at(high)
    rise = at_high - at_low
    rounding = 64 * np.finfo(rise.dtype).eps * np.maximum(abs(at_low), abs(at_high))
    steep = (low >= -40) & (high <= end) & (rise > rounding)
    for halving in range(50):
        middle = (low + high) / 2
        at_middle = reward_at(middle)
        left = at_middle - at_low > at_high - at_middle
        low, high = np.where(left, low, middle), np.where(left, middle, high)
        at_low, at_high = np.where(left, at_low, at_middle), np.where(left, at_middle, at_high)
        if halving == 9:  # a thousandth of the interval
            steep &= at_high - at_low > rise / 2
            if not steep.any():
                return []
    return [float(rank) for rank in 1 / (1 + np.exp(-high[steep]))]


@one_program
def lattice_sum(terms: jax.Array, masses: jax.Array) -> jax.Array:
    r"""The trapezoidal sum over ``terms [..., K]``, and what lies beyond both ends of the lattice.

    There the integrand goes on as it ends, as a geometric series: exactly so for a reward with a
    power tail, :math:`s^{-1/\alpha}` at the rank :math:`1 - s`, however slowly its mean converges.
    Where it does not fall although the ``masses`` of the nodes do, the integral does not exist and
    is infinite. Derived here.
    """
    scale = jnp.sum(jnp.abs(terms), axis=-1)
    above = _beyond(terms, masses, scale)
    below = _beyond(terms[..., ::-1], masses[..., ::-1], scale)
    return jnp.sum(terms, axis=-1) + above + below


def _beyond(terms: jax.Array, masses: jax.Array, scale: jax.Array) -> jax.Array:
    """The geometric series that goes on behind the last node that has mass."""
    size = terms.shape[-1]
    span = max(1, size // 64)  # 2.5 units of log-odds
    last = size - 1 - jnp.argmax(masses[..., ::-1] != 0, axis=-1, keepdims=True)
    last = jnp.maximum(last, span)

    def at(array: jax.Array, index: jax.Array) -> jax.Array:
        return jnp.take_along_axis(array, index, axis=-1)[..., 0]

    end, before = at(terms, last), at(terms, last - span)
    # Masses rise towards an edge of the support inside the lattice: there is nothing behind it.
    matters = (jnp.abs(end) > 1e-30 * scale) & (jnp.sign(end) * jnp.sign(before) > 0)
    matters &= at(masses, last) < at(masses, last - span)
    decay = jnp.log(jnp.where(matters, before, 1) / jnp.where(matters, end, 1))
    falls = decay > 4096 * jnp.finfo(terms.dtype).eps  # rounding of s^{-1/α} at s = e^{-80}
    series = end / jnp.expm1(jnp.where(falls, decay, 1) / span)
    return jnp.where(matters, jnp.where(falls, series, jnp.sign(end) * jnp.inf), 0)


@functools.cache
def _sine_integral_weights(size: int) -> np.ndarray:
    r""":math:`\tfrac12 + \mathrm{Si}(\pi m)/\pi` for :math:`m = -(K-1), …, K-1`."""
    sine_integral, _ = scipy.special.sici(np.pi * np.arange(1 - size, size))
    return 0.5 + sine_integral / np.pi


def running_sum(mass: jax.Array) -> jax.Array:
    r"""Integral up to each node of the density whose lattice masses are ``mass [..., K]``.

    Sinc-indefinite integration, :math:`\sum_j m_j\,[\tfrac12 + \mathrm{Si}(\pi(k-j))/\pi]`
    (Stenger 1993, §3.6; Haber 1993): as accurate as the plain sum, where cumulative sums are only
    of second order. Errors are absolute, about 1e-16 of the total.
    """
    size = mass.shape[-1]
    kernel = jnp.asarray(_sine_integral_weights(size), mass.dtype)
    length = 1 << (3 * size - 2).bit_length()
    transfer = jnp.broadcast_to(jnp.fft.rfft(kernel, length), (*mass.shape[:-1], length // 2 + 1))
    product = jnp.fft.rfft(mass, length) * transfer
    return jnp.fft.irfft(product, length)[..., size - 1 : 2 * size - 1]


_STENCIL = (-2, -1, 0, 1, 2, 3)  # nodes around the interval [0, 1]: value and slope at each


@functools.cache
def _hermite_coefficients() -> np.ndarray:
    """Rows: monomials in the offset; columns: six values, then six slopes. Solved exactly."""
    size = 2 * len(_STENCIL)
    values = [[Fraction(k) ** p for p in range(size)] for k in _STENCIL]
    slopes = [
        [p * Fraction(k) ** (p - 1) if p else Fraction(0) for p in range(size)] for k in _STENCIL
    ]
    rows = [
        row + [Fraction(int(i == j)) for j in range(size)] for i, row in enumerate(values + slopes)
    ]
    for i in range(size):  # Gauss–Jordan on fractions
        pivot = next(r for r in range(i, size) if rows[r][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [entry / rows[i][i] for entry in rows[i]]
        for r in range(size):
            if r != i and rows[r][i] != 0:
                rows[r] = [x - rows[r][i] * y for x, y in zip(rows[r], rows[i], strict=True)]
    return np.array([[float(entry) for entry in row[size:]] for row in rows])


def absolute_sum(running: jax.Array, slope: jax.Array) -> jax.Array:
    r"""Total variation :math:`\int |D'|` of a function known on the lattice with its slope.

    ``running [..., K]`` holds :math:`D` at the nodes and ``slope [..., K]`` its derivative per
    lattice step. Where the slope changes sign inside an interval, :math:`D` is followed to its
    extremum there by the Hermite polynomial of degree 11 through six nodes (error about
    1e-13 of the range at the default spacing). Differentiable; the extremum needs no derivative.
    """
    padded = [jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(2, 3)], mode="edge") for a in (running, slope)]
    intervals = running.shape[-1] - 1
    stack = jnp.stack([p[..., k : k + intervals] for p in padded for k in range(len(_STENCIL))])
    polynomial = jnp.tensordot(jnp.asarray(_hermite_coefficients(), running.dtype), stack, 1)
    left, right = slope[..., :-1], slope[..., 1:]
    turning = left * right < 0
    gap = jnp.where(turning, left - right, 1)
    offset = jnp.where(turning, jnp.where(turning, left, 0) / gap, 0.5)  # the secant's root

    def evaluate(offset: jax.Array, order: int) -> jax.Array:
        coefficients = polynomial
        for _ in range(order):
            powers = jnp.arange(1, coefficients.shape[0], dtype=running.dtype)
            coefficients = coefficients[1:] * powers.reshape(-1, *[1] * running.ndim)
        return functools.reduce(lambda total, c: total * offset + c, coefficients[::-1])

    for _ in range(4):  # Newton from the secant point; quadratic, and the extremum is flat
        curvature = evaluate(offset, 2)
        step = evaluate(offset, 1) / jnp.where(curvature == 0, 1, curvature)
        offset = jnp.clip(offset - jnp.where(turning, step, 0), 0, 1)
    extremum = evaluate(jax.lax.stop_gradient(offset), 0)
    through = jnp.abs(extremum - running[..., :-1]) + jnp.abs(running[..., 1:] - extremum)
    direct = jnp.abs(running[..., 1:] - running[..., :-1])
    return jnp.where(turning, through, direct).sum(-1)
