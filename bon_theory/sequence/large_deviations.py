r"""Long sequences: what a reward per symbol costs, and the phase transition in the number of draws.

**Necessary draws.** Let any rule pick one of :math:`n` i.i.d. sequences. The sequence is in a set
:math:`A` only if one of the draws is, so :math:`P(A) \le 1 - (1 - \pi(A))^n`: among all rules
best-of-n on a tie-free score has the most concentrated density, and as KL is a convex functional of
the density, :math:`\mathrm{KL}(P\|\pi) \le \log n - (n-1)/n`. On the other side (Donsker and
Varadhan) a law whose mean reward per symbol is :math:`x` has :math:`\mathrm{KL}(P\|\pi^m) \ge
\sup_\theta\,[m \theta x - m \log E e^{\theta r}] = m I(x)`, with :math:`I` the Cramér rate. Hence

.. math:: \log n - \frac{n-1}{n} \ge m\,I(E_\pi r + g) \ge \frac{2 m g^2}{R^2},

the last by Hoeffding's lemma for rewards in a range :math:`R`: a gain :math:`g` per symbol needs
exponentially many whole sequences.

**Phase transition.** With :math:`n = e^{\rho m}` sequences and :math:`D = \mathrm{KL}(P^*\|\pi)` of
one symbol, the typical sequences of :math:`P^*` have probability :math:`e^{-mD}` under the
reference, relative to their own. If :math:`\rho < D` none is drawn, or one, which is then kept:
:math:`P_n(x) \approx n\,\pi(x)` there, and :math:`\mathrm{KL}(P^{*m}\|P_n)/m \to D - \rho`. The law
is frozen into that of hard best-of-n: the best of :math:`e^{\rho m}` sequences has reward
:math:`x_\rho` per symbol, :math:`I(x_\rho) = \rho`. Beyond :math:`D` many are drawn and the softmax
among them is the tilt. Derived here; [V] states the exponential law.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, positive, require, require_batches, scalar
from bon_theory.divergences import kl_divergence
from bon_theory.performance import expected_reward
from bon_theory.policy import Policy
from bon_theory.selection import exponential_tilt
from bon_theory.sequence.law import single
from bon_theory.tuning.root import increasing_root

__all__ = ["cramer_rate", "limit_kl", "limit_reward", "necessary_log_n"]


def cramer_rate(reference: Policy, mean_reward: Numbers) -> jax.Array:
    r"""The rate :math:`I(x) = \sup_\theta\,[\theta x - \log E_\pi e^{\theta r}]`, in nats.

    It is the least :math:`\mathrm{KL}(P\|\pi)` of any :math:`P` with :math:`E_P r = x`, attained by
    the tilt of that mean, and is computed as that divergence: without cancellation near the mean,
    where it is :math:`(x - E_\pi r)^2/(2\mathrm{Var}_\pi r)`. :math:`-\log \pi(r = x)` at the
    lowest and highest reward, infinite beyond.

    Args:
        reference: :math:`\pi`, discrete, without batch axes (``vmap`` for many): the law of one
            symbol, or :func:`~bon_theory.sequence.total_reward` of whole sequences.
        mean_reward: :math:`x`; any shape.

    Raises:
        ValueError: the reference is continuous or batched, or ``mean_reward`` is not finite.

    Example:
        >>> import jax
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(float(sequence.cramer_rate(coin, 0.75)), 6)  # log 2 - entropy(1/4)
        0.130812
        >>> slope = jax.grad(lambda x: sequence.cramer_rate(coin, x))(0.75)
        >>> round(float(slope), 5)  # θ of the tilt with that mean
        1.09861

    Cramér 1938; computed as a divergence, derived here.
    """
    x = scalar("mean_reward", mean_reward, single("reference", reference).dtype)
    return _rates(reference, x)


def necessary_log_n(reference: Policy, mean_reward: Numbers, *, length: Numbers = 1) -> jax.Array:
    r"""The least :math:`\log n` with which any rule among :math:`n` sequences can earn so much.

    The root of :math:`\log n - (n-1)/n = m\,I(x)`, see the module's derivation; 0 up to the mean of
    the reference, which one draw earns.

    Args:
        reference: the law of one symbol, discrete, without batch axes.
        mean_reward: :math:`x`, the expected reward per symbol of what is kept; any shape.
        length: :math:`m`, the number of symbols; broadcasts with ``mean_reward``.

    Raises:
        ValueError: as :func:`cramer_rate`; ``length`` is not a whole number of at least 1.

    Example:
        >>> import math
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(math.exp(sequence.necessary_log_n(coin, 0.75, length=64)))
        11753

    [V] for the exponential law; the bound is derived here.
    """
    x = scalar("mean_reward", mean_reward, single("reference", reference).dtype)
    mean = expected_reward(reference)
    rate = jnp.where(x > mean, cramer_rate(reference, jnp.maximum(x, mean)), 0)
    symbols = scalar("length", length, rate.dtype, at_least=1)
    require(
        lambda: np.asarray(symbols) % 1 == 0,
        lambda: f"length must be a whole number of symbols, got {length}: choose one.",
        symbols,
    )
    require_batches("length", symbols.shape, rate.shape)
    cost = symbols * rate

    def newton(_: int, y: jax.Array) -> jax.Array:
        # y - 1 + e^{-y} = cost is convex and increasing; from the right of the root it converges.
        return y - (y + jnp.expm1(-y) - cost) / -jnp.expm1(-y)

    # The start is right of the root, which is 0 or infinite where the cost is.
    costly = (cost > 0) & (cost < jnp.inf)
    start = jnp.where(costly, cost + jnp.sqrt(2 * jnp.where(costly, cost, 1)), 1)
    before = jax.lax.stop_gradient(jax.lax.fori_loop(0, 12, newton, start))
    return jnp.where(costly, newton(0, before), cost)  # the last step carries the derivative


def limit_kl(symbol: Policy, temperature: Numbers, growth_rate: Numbers) -> jax.Array:
    r""":math:`\lim_m \mathrm{KL}(P^{*m}\|P_n)/m` with :math:`n = e^{\rho m}` whole sequences.

    .. math:: \lim_{m\to\infty} \tfrac1m \mathrm{KL}(P^{*m}\|P_n) = \max(D - \rho, 0),
              \qquad D = \mathrm{KL}(P^*\|\pi)

    Args:
        symbol: :math:`\pi`, the law of one symbol.
        temperature: :math:`\lambda`.
        growth_rate: :math:`\rho \ge 0`, nats of :math:`\log n` per symbol; broadcasts with
            ``temperature``.

    Raises:
        ValueError: ``growth_rate`` is negative, not finite, or does not broadcast, or as
            :func:`exponential_tilt`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(float(sequence.limit_kl(coin, temperature=0.5, growth_rate=0.1)), 6)
        0.227813

    Derived here.
    """
    limit = kl_divergence(exponential_tilt(symbol, temperature), symbol)
    rho = scalar("growth_rate", growth_rate, symbol.dtype, at_least=0)
    require_batches("growth_rate", rho.shape, limit.shape)
    return jnp.maximum(jnp.subtract(*jnp.broadcast_arrays(limit, rho)), 0)


def limit_reward(symbol: Policy, temperature: Numbers, growth_rate: Numbers) -> jax.Array:
    r"""The limit of the reward per symbol with :math:`n = e^{\rho m}` whole sequences.

    .. math:: \lim_{m\to\infty} \tfrac1m E_{P_n} R = x, \qquad I(x) = \min(\rho, D),
              \quad x \ge E_\pi r

    the best of :math:`e^{\rho m}` sequences while :math:`\rho < D`, the tilt's mean beyond.

    Args:
        symbol: :math:`\pi`, the law of one symbol, discrete, without batch axes.
        temperature: :math:`\lambda > 0`; any shape.
        growth_rate: :math:`\rho \ge 0`; broadcasts with ``temperature``.

    Raises:
        ValueError: ``growth_rate`` is negative, ``temperature`` not positive, one not finite, or
            their shapes do not broadcast.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> rewards = sequence.limit_reward(coin, 0.5, [0.1, 1.0])
        >>> [round(float(reward), 4) for reward in rewards]
        [0.7198, 0.8808]

    Derived here.
    """
    dtype = single("symbol", symbol).dtype
    rho = scalar("growth_rate", growth_rate, dtype, at_least=0)
    lam = positive("temperature", temperature, dtype)
    require_batches("growth_rate", rho.shape, lam.shape)
    return _limit_rewards(symbol, lam, rho)


@jax.jit
def _rates(reference: Policy, means: jax.Array) -> jax.Array:
    excess, lowest = _from_lowest(reference)
    return jnp.vectorize(functools.partial(_rate, excess))(means - lowest)


@jax.jit
def _limit_rewards(symbol: Policy, lam: jax.Array, rho: jax.Array) -> jax.Array:
    excess, lowest = _from_lowest(symbol)
    of_each = jnp.vectorize(functools.partial(_limit_reward, excess))
    return lowest + of_each(*jnp.broadcast_arrays(lam, rho))


def _rate(reference: Policy, x: jax.Array) -> jax.Array:
    rewards, highest = reference.rewards, jnp.max(reference.rewards)
    inside = (x > 0) & (x < highest)
    x_inside = jnp.where(inside, x, expected_reward(reference))

    def excess(theta: jax.Array) -> jax.Array:
        return expected_reward(_tilted(reference, theta)) - x_inside

    limit = _steepest(reference)
    theta = increasing_root(excess, -limit, limit, -x_inside, highest - x_inside)
    rate = kl_divergence(_tilted(reference, theta), reference)
    at_end = -jax.nn.logsumexp(jnp.where(rewards == x, reference.log_probs, -jnp.inf))
    beyond = jnp.where((x < 0) | (x > highest), jnp.inf, at_end)
    return jnp.where(jnp.isnan(x), jnp.nan, jnp.where(inside, rate, beyond))


def _limit_reward(symbol: Policy, lam: jax.Array, rho: jax.Array) -> jax.Array:
    def cost(theta: jax.Array) -> jax.Array:
        return kl_divergence(_tilted(symbol, theta), symbol)

    steepest = 1 / jnp.maximum(lam, 1 / _steepest(symbol))
    most = cost(steepest)
    target = jnp.minimum(rho, most)
    theta = increasing_root(
        lambda theta: cost(theta) - target, jnp.zeros_like(lam), steepest, -target, most - target
    )
    return expected_reward(_tilted(symbol, theta))


def _from_lowest(reference: Policy) -> tuple[Policy, jax.Array]:
    """The reference with rewards above the lowest possible one, and that one."""
    possible = reference.log_probs != -jnp.inf
    lowest = jax.lax.stop_gradient(jnp.min(jnp.where(possible, reference.rewards, jnp.inf)))
    excess = jnp.where(possible, reference.rewards - lowest, 0)
    return dataclasses.replace(reference, rewards=excess), lowest


def _tilted(reference: Policy, theta: jax.Array) -> Policy:
    """The tilt by e^{θr} for θ of either sign; the highest weight is 1."""
    top = jnp.where(theta > 0, jnp.max(reference.rewards), 0)
    log_weights = theta * (reference.rewards - top)
    log_normaliser = jax.nn.logsumexp(reference.log_probs + log_weights)
    return reference.with_log_ratio(log_weights - log_normaliser)


def _steepest(reference: Policy) -> jax.Array:
    """The |θ| beyond which a tilt is the lowest or highest reward to rounding."""
    rewards, highest = reference.rewards, jnp.max(reference.rewards)
    distances = jnp.minimum(rewards, highest - rewards)
    gap = jnp.min(jnp.where(distances > 0, distances, highest))
    rarest = jnp.min(jnp.where(reference.log_probs > -jnp.inf, reference.log_probs, 0))
    return (-jnp.log(jnp.finfo(gap.dtype).tiny) - rarest) / jnp.where(gap > 0, gap, 1)
