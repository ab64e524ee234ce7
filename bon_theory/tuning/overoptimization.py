r"""Over-optimisation of a noisy proxy, exactly: joint laws of a true reward and its proxy ([Gao]).

A selection that sees only the proxy :math:`p = t + \varepsilon` earns
:math:`E_P[m(p)]`, :math:`m(p) = E_\pi[t \mid p]`: of the joint law, the law of the proxy and the
curve :math:`m` are all that matters. With noise independent of :math:`t`,

.. math:: F(p) = E_t\,F_\varepsilon(p - t), \qquad
          m(p) = \frac{E_t[t\,f_\varepsilon(p - t)]}{E_t[f_\varepsilon(p - t)]},

and what becomes of :math:`m` far out decides everything. For a standard normal :math:`t`, Gaussian
noise leaves :math:`m(p) = p/(1 + s^2)`, which grows for ever; exponential tails
:math:`e^{-\varepsilon/s}` bound it by :math:`1/s`, the mean under :math:`\phi(t) e^{t/s}`; and
polynomial tails send it back to 0, since an extreme proxy is then the noise's doing. Derived here.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, real_array, require, shown
from bon_theory._laws import require_policy
from bon_theory._numerics import log1mexp, one_program
from bon_theory.noise import Noise
from bon_theory.policy import Policy
from bon_theory.tuning.root import increasing_root

__all__ = ["NoisyProxy", "OveroptimizationFit", "fit_overoptimization", "noisy_proxy"]


_LARGEST = 85.0  # sinh(85) = 4e36: where a Cauchy law's last rank lies, and a float32


class NoisyProxy(NamedTuple):
    """What of a joint law matters to a selection by the proxy.

    Attributes:
        reference: the law of the proxy.
        true_reward: the mean true reward given the proxy, at the outcomes of ``reference``.
    """

    reference: Policy
    true_reward: jax.Array


class OveroptimizationFit(NamedTuple):
    """Coefficients of the parabola in the square root of the KL divergence.

    Attributes:
        alpha: initial slope.
        beta: how it bends.
        residual: largest absolute deviation from the curve that was fitted.
    """

    alpha: jax.Array
    beta: jax.Array
    residual: jax.Array


def noisy_proxy(true_reward: Policy, noise: Noise, *, num_nodes: int = 641) -> NoisyProxy:
    r"""The proxy :math:`p = t + \varepsilon` of a true reward, and :math:`E[t \mid p]`.

    Args:
        true_reward: the law of :math:`t`, discrete or continuous.
        noise: the law of :math:`\varepsilon`, independent of it. Its scale must not be far below
            the spacing of a continuous law's nodes, about 0.1 standard deviations.
        num_nodes: nodes of the proxy's law (static).

    Raises:
        ValueError: ``true_reward`` is no law or a batch of laws, or ``noise`` is no :class:`Noise`.

    Example:
        >>> import bon_theory as bt
        >>> proxy = bt.noisy_proxy(bt.Policy.gaussian_reward(), bt.Noise.gaussian(1.0))
        >>> best = bt.best_of_n(proxy.reference, n=2)
        >>> round(float(bt.expected_value(best, proxy.true_reward)), 6)  # 1/sqrt(2 pi)
        0.398942

    [Gao] for the setting; the quadrature is derived here.
    """
    require_policy("true_reward", true_reward)
    if not isinstance(noise, Noise):
        raise ValueError(
            f"noise must be a Noise, got {shown(noise)}: pass Noise.gaussian(scale), for instance."
        )
    if true_reward.batch_shape:
        raise ValueError(
            f"true_reward must be a single law, got batch axes {true_reward.batch_shape}: use vmap."
        )
    lattice = Policy.uniform_reward(num_nodes=num_nodes)
    lattice = jax.tree.map(lambda leaf: leaf.astype(true_reward.dtype), lattice)
    rewards, means = _quantiles(true_reward, noise, lattice.log_cdf)
    return NoisyProxy(dataclasses.replace(lattice, rewards=rewards), means)


@functools.partial(jax.jit, static_argnums=1)
def _quantiles(
    true_reward: Policy, noise: Noise, log_cdf: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The proxy at each rank, and the mean true reward there."""

    def gaps(z: jax.Array) -> jax.Array:
        return jnp.sinh(z)[:, None] - true_reward.rewards[None, :]  # sinh, for heavy tails

    def mixed(log_terms: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(true_reward.log_probs[None, :] + log_terms, axis=1)

    def excess(z: jax.Array) -> jax.Array:
        below, above = mixed(noise.log_cdf(gaps(z))), mixed(noise.log_survival(gaps(z)))
        return below - above - (log_cdf - log1mexp(log_cdf))  # in log-odds: both tails count

    low, infinity = jnp.full_like(log_cdf, -_LARGEST), jnp.full_like(log_cdf, jnp.inf)
    z = increasing_root(excess, low, -low, -infinity, infinity)
    posterior = jax.nn.softmax(true_reward.log_probs[None, :] + noise.log_density(gaps(z)), axis=1)
    return jnp.sinh(z), posterior @ true_reward.rewards


def fit_overoptimization(kl: Numbers, gain: Numbers) -> OveroptimizationFit:
    r"""Least squares for :math:`R(d) = d\,(\alpha - \beta d)`, :math:`d = \sqrt{\mathrm{KL}}`.

    Args:
        kl: KL divergences from the reference along a family, ``[..., S]``, at least two of them
            positive and different.
        gain: expected true reward above that of the reference, ``[..., S]``.

    Raises:
        ValueError: the shapes differ, a number is not finite, a divergence is negative, or two
            different positive ones are not among them.

    Example:
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> d = jnp.array([0.5, 1.0, 2.0])
        >>> fit = bt.fit_overoptimization(d**2, d * (1.0 - 0.25 * d))
        >>> round(float(fit.alpha), 6), round(float(fit.beta), 6)
        (1.0, 0.25)

    [Gao] §3, the form for best-of-n.
    """
    kl, gain = real_array("kl", kl), real_array("gain", gain)
    if kl.shape != gain.shape:
        raise ValueError(
            f"gain must have one value per kl, got shapes {gain.shape} and {kl.shape}: give points "
            "of one curve."
        )
    require(
        lambda: np.isfinite(gain),
        lambda: f"gain must be finite, got {shown(gain)}: drop such points.",
        gain,
    )
    require(
        lambda: _determines(np.asarray(kl)),
        lambda: (
            "kl must be finite and at least 0, with two different positive values, got "
            f"{shown(kl)}: a parabola through the reference needs two more points."
        ),
        kl,
    )
    return _least_squares(kl, gain)


@one_program
def _least_squares(kl: jax.Array, gain: jax.Array) -> OveroptimizationFit:
    # The reference itself, a point at 0, has no weight; its square root, no derivative.
    d = jnp.where(kl == 0, 0, jnp.sqrt(jnp.where(kl == 0, 1, kl)))
    basis, triangle = jnp.linalg.qr(jnp.stack([d, -kl], axis=-1))
    moments = jnp.einsum("...si,...s->...i", basis, gain)
    solution = jax.scipy.linalg.solve_triangular(triangle, moments[..., None])[..., 0]
    alpha, beta = jnp.moveaxis(solution, -1, 0)
    fitted = d * (alpha[..., None] - beta[..., None] * d)
    return OveroptimizationFit(alpha, beta, jnp.max(jnp.abs(fitted - gain), axis=-1))


def _determines(kl: np.ndarray) -> bool:
    lowest = np.min(np.where(kl > 0, kl, np.inf), axis=-1)
    return bool(np.all((kl >= 0) & (kl < np.inf)) and np.all(np.max(kl, axis=-1) > lowest))
