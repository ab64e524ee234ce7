r"""Laws of noise: what a judge, or a rule that wants to explore, adds to every reward.

A law is three functions of the noise, each accurate far out: the logarithms of its density and of
both tails. The constructors take a scale; :func:`~bon_theory.noisy_best_of_n` takes a law of about
unit scale, and the scale beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from bon_theory._arguments import shown, static_number
from bon_theory._numerics import log1mexp, safe_log

__all__ = ["Noise"]

Logarithm = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Noise:
    r"""A law of noise, by three logarithms that are accurate far out.

    Attributes:
        log_density: :math:`e \mapsto \log f_\varepsilon(e)`.
        log_survival: :math:`e \mapsto \log P(\varepsilon > e)`.
        log_cdf: :math:`e \mapsto \log P(\varepsilon \le e)`; left out where the law is symmetric.
        kinks: where the density jumps or has a kink, such as where its support begins.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> laplace = bt.Noise(
        ...     lambda e: -jnp.abs(e) - jnp.log(2.0),
        ...     lambda e: jnp.where(e > 0, -e - jnp.log(2.0), jnp.log1p(-jnp.exp(-jnp.abs(e)) / 2)),
        ...     kinks=(0.0,),
        ... )
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> best = bt.noisy_best_of_n(coin, n=2, scale=0.5, noise=laplace)
        >>> round(float(best.probs[1]), 6)  # 3/4 - e^{-2}/2
        0.682332
    """

    log_density: Logarithm
    log_survival: Logarithm
    log_cdf: Logarithm = None  # pyright: ignore[reportAssignmentType]
    kinks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Reflect the upper tail where no lower one is given."""
        if self.log_cdf is None:
            survival = self.log_survival
            object.__setattr__(self, "log_cdf", lambda e: survival(-e))

    @staticmethod
    def gaussian(scale: float = 1.0) -> Noise:
        r"""Normal with standard deviation ``scale``.

        Example:
            >>> import jax.numpy as jnp
            >>> import bon_theory as bt
            >>> round(float(bt.Noise.gaussian(2.0).log_density(jnp.zeros(()))), 6)
            -1.612086
        """
        return _gaussian(_positive("scale", scale))

    @staticmethod
    def logistic(scale: float = 1.0) -> Noise:
        r"""Logistic, with tails :math:`e^{-|e|/s}`.

        Example:
            >>> import jax.numpy as jnp
            >>> import bon_theory as bt
            >>> round(float(bt.Noise.logistic(1.0).log_survival(jnp.zeros(()))), 6)
            -0.693147
        """
        return _logistic(_positive("scale", scale))

    @staticmethod
    def gumbel(scale: float = 1.0) -> Noise:
        r"""Gumbel, :math:`P(\varepsilon \le e) = \exp(-e^{-e/s})`: that of soft best-of-n.

        Example:
            >>> import jax.numpy as jnp
            >>> import bon_theory as bt
            >>> round(float(bt.Noise.gumbel().log_cdf(jnp.zeros(()))), 6)
            -1.0
        """
        return _gumbel(_positive("scale", scale))

    @staticmethod
    def exponential(scale: float = 1.0) -> Noise:
        r"""Exponential with mean ``scale``: that of the exponential race.

        Example:
            >>> import jax.numpy as jnp
            >>> import bon_theory as bt
            >>> round(float(bt.Noise.exponential().log_survival(jnp.ones(()))), 6)
            -1.0
        """
        return _exponential(_positive("scale", scale))

    @staticmethod
    def student_t(degrees_of_freedom: float, scale: float = 1.0) -> Noise:
        r"""Student's t, whose tails fall like :math:`|e|^{-\nu}`.

        For one and two degrees of freedom in closed form; else by the incomplete beta function,
        which is some fifty times slower.

        Example:
            >>> import jax.numpy as jnp
            >>> import bon_theory as bt
            >>> round(float(bt.Noise.student_t(1.0).log_survival(jnp.ones(()))), 6)  # log 1/4
            -1.386294
        """
        degrees = _positive("degrees_of_freedom", degrees_of_freedom)
        closed = {1.0: _cauchy, 2.0: _student_t2}
        law = closed.get(degrees, functools.partial(_student_t, degrees))
        return law(_positive("scale", scale))

    @staticmethod
    def student_t2(scale: float = 1.0) -> Noise:
        r"""Student's t with two degrees of freedom; its tails fall like :math:`1/e^2`.

        .. math:: f(\varepsilon) = (2 + \varepsilon^2)^{-3/2}, \qquad
                  P(\varepsilon > e) = \frac{1}{q\,(q + e)}, \quad q = \sqrt{2 + e^2},

        in units of ``scale``.

        Example:
            >>> import jax.numpy as jnp
            >>> import bon_theory as bt
            >>> round(float(bt.Noise.student_t2(1.0).log_survival(jnp.asarray(1e6))), 4)
            -28.3242
        """
        return _student_t2(_positive("scale", scale))


# A law is an argument of programs, which are compiled once for each: so each is made once.


def _symmetric(log_density: Logarithm, log_tail: Logarithm) -> Noise:
    """A symmetric law from its upper tail; computed once where both tails are asked for."""

    def log_survival(e: jax.Array) -> jax.Array:
        tail = log_tail(jnp.abs(e))
        return jnp.where(e > 0, tail, log1mexp(tail))

    def log_cdf(e: jax.Array) -> jax.Array:
        tail = log_tail(jnp.abs(e))
        return jnp.where(e > 0, log1mexp(tail), tail)

    return Noise(log_density, log_survival, log_cdf)


@functools.cache
def _gaussian(scale: float) -> Noise:
    norm = jax.scipy.stats.norm
    return _symmetric(
        lambda e: norm.logpdf(e / scale) - math.log(scale),
        lambda e: jax.scipy.special.log_ndtr(-e / scale),
    )


@functools.cache
def _logistic(scale: float) -> Noise:
    sigmoid = jax.nn.log_sigmoid
    return Noise(
        lambda e: sigmoid(e / scale) + sigmoid(-e / scale) - math.log(scale),
        lambda e: sigmoid(-e / scale),
    )


@functools.cache
def _gumbel(scale: float) -> Noise:
    def log_cdf(e: jax.Array) -> jax.Array:
        largest = 0.9 * math.log(jnp.finfo(e.dtype).max)  # of a logarithm whose number is finite
        return -jnp.exp(jnp.minimum(-e / scale, largest))

    return Noise(
        lambda e: log_cdf(e) - e / scale - math.log(scale), lambda e: log1mexp(log_cdf(e)), log_cdf
    )


@functools.cache
def _exponential(scale: float) -> Noise:
    def log_density(e: jax.Array) -> jax.Array:
        return jnp.where(e >= 0, -e / scale - math.log(scale), -jnp.inf)

    def log_survival(e: jax.Array) -> jax.Array:
        return -jnp.maximum(e, 0) / scale

    return Noise(log_density, log_survival, lambda e: log1mexp(log_survival(e)), kinks=(0.0,))


@functools.cache
def _student_t(degrees: float, scale: float) -> Noise:
    normaliser = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    normaliser -= math.log(degrees * math.pi) / 2 + math.log(scale)

    def log_density(e: jax.Array) -> jax.Array:
        return normaliser - (degrees + 1) / 2 * jnp.log1p((e / scale) ** 2 / degrees)

    def log_tail(e: jax.Array) -> jax.Array:
        # 2 P(ε > e) = I_x(ν/2, 1/2), x = ν/(ν + e²).
        a, half = (jnp.asarray(x, e.dtype) for x in (degrees / 2, 0.5))
        x = degrees / (degrees + (e / scale) ** 2)
        return safe_log(jax.scipy.special.betainc(a, half, x) / 2)

    return _symmetric(log_density, log_tail)


@functools.cache
def _cauchy(scale: float) -> Noise:
    return _symmetric(
        lambda e: -jnp.log1p((e / scale) ** 2) - math.log(math.pi * scale),
        lambda e: jnp.log(jnp.arctan2(jnp.ones_like(e), e / scale) / math.pi),
    )


@functools.cache
def _student_t2(scale: float) -> Noise:
    def log_tail(e: jax.Array) -> jax.Array:
        root = jnp.sqrt(2 + (e / scale) ** 2)
        return -jnp.log(root * (root + e / scale))

    return _symmetric(lambda e: -1.5 * jnp.log(2 + (e / scale) ** 2) - math.log(scale), log_tail)


def _positive(name: str, value: float) -> float:
    number = static_number(name, value)
    if not 0 < number < math.inf:
        raise ValueError(
            f"{name} must be positive and finite, got {shown(value)}: it shapes the noise."
        )
    return number
