r"""Rank distortions: increasing maps :math:`H` of [0, 1] onto itself that bend the reward CDF.

A rule that looks only at the ranks of i.i.d. draws turns the reward distribution function :math:`F`
into :math:`H \circ F`. Two numbers per outcome are all that is needed, and each works on
logarithms, accurate in both tails:

* ``log_ratio(log_a, log_b)`` is :math:`\log\frac{H(b) - H(a)}{b - a}`, the log-ratio of new to old
  probability of an atom that occupies the ranks :math:`[a, b]`. At :math:`a = b` it is the log
  density :math:`\log H'(b)`, so that an outcome of a continuous law is the same formula.
* ``log_cdf(log_u)`` is :math:`\log H(u)`, where it has a closed form.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp

from bon_theory._numerics import log1mexp, log_expm1_quotient, log_mean_power, safe_log
from bon_theory._order_statistics import log_mean_beta, log_odds
from bon_theory._reward_cdf import log_from_both_tails

__all__ = [
    "BestOfN",
    "BestOfNStopped",
    "BestOfPoisson",
    "Distortion",
    "KthBestOfN",
    "TopFraction",
    "TopKOfN",
    "WinRateOptimal",
    "WorstOfN",
]


class Distortion(Protocol):
    """What a rank selection needs to know of its distortion; parameters broadcast against ranks."""

    def log_ratio(self, log_a: jax.Array, log_b: jax.Array) -> jax.Array:
        """log[(H(b) - H(a)) / (b - a)], and log H'(b) where the ranks coincide."""
        ...

    def log_cdf(self, log_u: jax.Array) -> jax.Array:
        """Log H(u)."""
        ...


def _width(log_a: jax.Array, log_b: jax.Array) -> jax.Array:
    """The width b - a, without cancellation where the two are close."""
    both = log_a == log_b  # also where both are -inf
    return jnp.where(both, 0, -jnp.exp(log_b) * jnp.expm1(jnp.where(both, 0, log_a - log_b)))


@dataclasses.dataclass(frozen=True)
class BestOfN:
    r"""The maximum of :math:`n` draws: :math:`H(u) = u^n` ([G] §2, [B] Lemma 1)."""

    n: jax.Array

    def log_ratio(self, log_a: jax.Array, log_b: jax.Array) -> jax.Array:
        return log_mean_power(self.n, log_a, log_b)

    def log_cdf(self, log_u: jax.Array) -> jax.Array:
        return self.n * log_u


@dataclasses.dataclass(frozen=True)
class WorstOfN:
    r"""The minimum of :math:`n` draws: :math:`H(u) = 1 - (1-u)^n`."""

    n: jax.Array

    def log_ratio(self, log_a: jax.Array, log_b: jax.Array) -> jax.Array:
        return log_mean_power(self.n, log1mexp(log_b), log1mexp(log_a))

    def log_cdf(self, log_u: jax.Array) -> jax.Array:
        return log1mexp(self.n * log1mexp(log_u))


@dataclasses.dataclass(frozen=True)
class BestOfPoisson:
    r"""The best of :math:`1 + \mathrm{Poisson}(\mu)` draws: :math:`H(u) = u e^{\mu(u-1)}` ([K])."""

    mean_extra_draws: jax.Array

    def log_ratio(self, log_a: jax.Array, log_b: jax.Array) -> jax.Array:
        # [b e^{-μ(1-b)} - a e^{-μ(1-a)}] / (b - a) = e^{-μ(1-b)} [1 + a (1 - e^{-μ(b-a)}) / (b -
        # a)]
        mu = self.mean_extra_draws
        slope = mu * jnp.exp(log_a + log_expm1_quotient(mu * _width(log_a, log_b)))
        return mu * jnp.expm1(log_b) + jnp.log1p(slope)

    def log_cdf(self, log_u: jax.Array) -> jax.Array:
        return log_u + self.mean_extra_draws * jnp.expm1(log_u)


@dataclasses.dataclass(frozen=True)
class WinRateOptimal:
    r"""The best win rate at its KL: :math:`H(u) = \frac{e^{cu} - 1}{e^c - 1}` ([G] Theorem 1).

    Also the maximum of a zero-truncated Poisson(:math:`c`) number of draws (derived here).
    """

    strength: jax.Array

    def log_ratio(self, log_a: jax.Array, log_b: jax.Array) -> jax.Array:
        # With φ(x) = (1 - e^{-x})/x:  e^{-c(1-b)} φ(c(b-a)) / φ(c)
        c = self.strength
        width = _width(log_a, log_b)
        return c * jnp.expm1(log_b) + log_expm1_quotient(c * width) - log_expm1_quotient(c)

    def log_cdf(self, log_u: jax.Array) -> jax.Array:
        c, complement = self.strength, -jnp.expm1(log_u)
        from_below = (
            log_u - c * complement + log_expm1_quotient(c * jnp.exp(log_u)) - log_expm1_quotient(c)
        )
        log_upper = (
            safe_log(complement) + log_expm1_quotient(c * complement) - log_expm1_quotient(c)
        )
        from_above = log1mexp(jnp.minimum(log_upper, 0))
        return jnp.where(log_upper < from_below, from_above, jnp.minimum(from_below, 0))


@dataclasses.dataclass(frozen=True)
class TopFraction:
    r"""The law conditioned on its top fraction: :math:`H(u) = \max(0, 1 - (1-u)/q)`."""

    fraction: jax.Array

    def log_ratio(self, log_a: jax.Array, log_b: jax.Array) -> jax.Array:
        # Share of the atom's ranks that lies above the threshold 1 - q, over q.
        above_a, above_b = -jnp.expm1(log_a), -jnp.expm1(log_b)  # 1 - a >= 1 - b
        width = _width(log_a, log_b)
        kept = jnp.clip(self.fraction - above_b, 0, width)
        point = (above_b < self.fraction).astype(width.dtype)
        share = jnp.where(width > 0, kept / jnp.where(width > 0, width, 1), point)
        share = jnp.where(above_a <= self.fraction, 1, share)
        return safe_log(share) - jnp.log(self.fraction)

    def log_cdf(self, log_u: jax.Array) -> jax.Array:
        shortfall = -jnp.expm1(log_u) / self.fraction
        inside = shortfall < 1
        return jnp.where(inside, jnp.log1p(-jnp.where(inside, shortfall, 0)), -jnp.inf)


@dataclasses.dataclass(frozen=True)
class KthBestOfN:
    r"""The :math:`k`-th highest of :math:`n` draws: :math:`H(u) = I_u(n-k+1, k)`."""

    n: jax.Array
    k: jax.Array

    def log_ratio(self, log_a: jax.Array, log_b: jax.Array) -> jax.Array:
        return log_mean_beta(_places_below(self) + 1, self.k, log_a, log_b)


@dataclasses.dataclass(frozen=True)
class TopKOfN:
    r"""One of the :math:`k` highest of :math:`n` draws: :math:`h(u) = \frac nk I_u(n-k, k)`."""

    n: jax.Array
    k: jax.Array

    def log_ratio(self, log_a: jax.Array, log_b: jax.Array) -> jax.Array:
        # With f the density of the k-th highest, h(t) = n/k [I_t(n-k+1, k) + (1-t) f(t)/n], and
        # the mean of I over [a, b] is I_a + ∫ f(s) (b-s) ds / (b-a): only positive terms. So there
        # are two intervals for each outcome, [0, a] and [a, b], and weights on the second.
        size = log_a.shape[-1]
        top, n = log_odds(log_b)[..., None, None], self.n[..., None, None]

        def log_weight(x: jax.Array) -> jax.Array:
            # (1 - s)/n + b - s, where b - s = b (1 - s) (1 - e^{x - top})
            x = x[..., size:, :, :]
            left = -jnp.expm1(jnp.minimum(x - top, 0)) * jax.nn.sigmoid(top)
            weight = jnp.log(left + 1 / n) - jax.nn.softplus(x)
            return jnp.concatenate([jnp.zeros_like(weight), weight], axis=-3)

        starts = jnp.concatenate([jnp.full_like(log_a, -jnp.inf), log_a], axis=-1)
        ends = jnp.concatenate([log_a, log_b], axis=-1)
        means = log_mean_beta(_places_below(self) + 1, self.k, starts, ends, log_weight)
        mixed = jnp.logaddexp(log_a + means[..., :size], means[..., size:])
        return jnp.log(self.n / self.k) + mixed


def _places_below(rule: KthBestOfN | TopKOfN) -> jax.Array:
    """How many draws are below the k-th place; NaN for more places than draws."""
    return jnp.where(rule.k <= rule.n, rule.n - rule.k, jnp.nan)


@dataclasses.dataclass(frozen=True)
class BestOfNStopped:
    r"""The first draw of rank :math:`a` or more; of :math:`N` below it, the best.

    :math:`H(u) = u^N` below :math:`a`, and :math:`1 - H(u) = \frac{1-a^N}{1-a} (1-u)` above.
    """

    threshold: jax.Array
    n_max: jax.Array

    @property
    def _log_above(self) -> jax.Array:
        """Log of the density above the threshold, the mean number of draws."""
        a, n = self.threshold, self.n_max
        low = a < 0.5  # where the logarithm of a would lose the derivative at 0
        small, large = jnp.where(low, a, 0), jnp.where(low, 1, a)
        from_zero = jnp.log1p(-(small**n)) - jnp.log1p(-small)
        from_one = log_mean_power(n, jnp.log(large), jnp.zeros_like(large))
        return jnp.where(low, from_zero, from_one)

    def log_ratio(self, log_a: jax.Array, log_b: jax.Array) -> jax.Array:
        a, log_above = self.threshold, self._log_above
        # From 1 no rank is left to move: flat, whatever the branches say.
        level = jnp.where(a < 1, safe_log(jnp.where(a < 1, a, 1)), jnp.where(a == 1, 0, a))
        middle, width = jnp.clip(level, log_a, log_b), _width(log_a, log_b)
        wide = width > 0
        below, above = (
            jnp.where(wide, part / jnp.where(wide, width, 1), point.astype(width.dtype))
            for part, point in (
                (_width(log_a, middle), log_b < level),
                (_width(middle, log_b), log_b >= level),
            )
        )
        best = log_mean_power(self.n_max, log_a, middle)
        mixed = below * jnp.exp(jnp.minimum(best - log_above, 0)) + above
        return jnp.where(log_b < level, best, log_above + safe_log(mixed))

    def log_cdf(self, log_u: jax.Array) -> jax.Array:
        log_above = self._log_above
        upper = jnp.minimum(log_above + log1mexp(log_u), 0)
        level = safe_log(self.threshold)
        over = jnp.where(log_u > level, log_u, 0)
        lower = jnp.logaddexp(
            self.n_max * level, log_above + safe_log(_width(jnp.minimum(level, over), over))
        )
        from_above = log_from_both_tails(jnp.minimum(lower, 0), upper)
        return jnp.where(log_u > level, from_above, self.n_max * log_u)
