r"""The ten selections: each maps a reference law to the law of what is selected.

A rank selection is a distortion of the reward CDF (:mod:`bon_theory.distortion`); a value selection
weighs rewards by :math:`w = e^{r/\lambda}` and is a race among candidates (:mod:`bon_theory.race`)
or the tilt that the race tends to. Temperatures are [V]'s: small :math:`\lambda` is greedy.
(Others write :math:`\beta = 1/\lambda`, or :math:`e^{\lambda r}`.)

Scalar parameters may also be arrays that broadcast against the reference's batch axes. Inadmissible
concrete values raise ``ValueError``; traced ones (under ``jit``, ``vmap``, ``grad``) give NaN.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory.arguments import Numbers, require, require_batches, scalar
from bon_theory.distortion import (
    BestOfN,
    BestOfPoisson,
    Distortion,
    TopFraction,
    WinRateOptimal,
    WorstOfN,
)
from bon_theory.numerics import safe_log
from bon_theory.policy import Policy, aligned
from bon_theory.race import Candidates, gumbel_race_log_ratio
from bon_theory.uniform_race import exponential_race_log_ratio

__all__ = [
    "best_of_n",
    "best_of_poisson",
    "chi_squared_tilt",
    "exponential_race",
    "exponential_tilt",
    "soft_best_of_n",
    "soft_best_of_poisson",
    "top_fraction",
    "win_rate_optimal",
    "worst_of_n",
]


def best_of_n(reference: Policy, n: Numbers) -> Policy:
    r"""The law of the best of :math:`n` i.i.d. draws, ties broken uniformly.

    .. math:: P(y) = \pi(y)\,\frac{F(r)^n - F(r-)^n}{F(r) - F(r-)}, \quad r = r(y);
              \text{ without ties } P(y) = \pi(y)\, n F(r)^{n-1}.

    Args:
        reference: the law of one draw.
        n: number of candidates, real, at least 1.

    Raises:
        ValueError: ``n < 1`` or not finite.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.7, 0.3], rewards=[0.0, 1.0])
        >>> [round(float(p), 6) for p in bt.best_of_n(reference, n=8).probs]
        [0.057648, 0.942352]

    [G] §2; [B] Lemma 1.
    """
    reference, count = _aligned(reference, n=_Real(n, at_least=1))
    return _distort(reference, BestOfN(count))


def worst_of_n(reference: Policy, n: Numbers) -> Policy:
    r"""The law of the worst of :math:`n` i.i.d. draws: best-of-n for the reward :math:`-r`.

    .. math:: P(y) = \pi(y)\,\frac{(1 - F(r-))^n - (1 - F(r))^n}{F(r) - F(r-)}

    Args and Raises: as :func:`best_of_n`.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.7, 0.3], rewards=[0.0, 1.0])
        >>> [round(float(p), 3) for p in bt.worst_of_n(reference, n=2).probs]
        [0.91, 0.09]

    The losing side of [G]'s contrastive pairs, §4.
    """
    reference, count = _aligned(reference, n=_Real(n, at_least=1))
    return _distort(reference, WorstOfN(count))


def best_of_poisson(reference: Policy, mean_extra_draws: Numbers) -> Policy:
    r"""The best of :math:`1 + \mathrm{Poisson}(\mu)` draws.

    .. math:: H(u) = u e^{\mu(u-1)}, \qquad h(u) = (1 + \mu u) e^{\mu(u-1)}

    Args:
        reference: the law of one draw.
        mean_extra_draws: :math:`\mu \ge 0`.

    Raises:
        ValueError: ``mean_extra_draws`` is negative or not finite.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> round(float(bt.kl_divergence(bt.best_of_poisson(uniform, 2.0), uniform)), 6)
        0.298724

    [K], Best-of-Poisson; the discrete law with ties is derived here.
    """
    reference, mu = _aligned(reference, mean_extra_draws=_Real(mean_extra_draws, at_least=0))
    return _distort(reference, BestOfPoisson(mu))


def win_rate_optimal(reference: Policy, strength: Numbers) -> Policy:
    r"""The law with the highest win rate at its KL divergence from the reference.

    .. math:: H(u) = \frac{e^{cu} - 1}{e^c - 1}, \qquad h(u) = \frac{c\,e^{cu}}{e^c - 1}

    An atom on ranks :math:`[a, b]` gets :math:`H(b) - H(a)`: the continuous optimum seen through
    the atoms, which is also the best of a zero-truncated Poisson(:math:`c`) number of draws. (The
    optimum over discrete laws for half-counted ties tilts by the mid-rank instead.)

    Args:
        reference: the law of one draw.
        strength: :math:`c \ge 0`; 0 is the reference. RLHF on the reward :math:`F(r)` with
            :math:`\beta = 1/c`.

    Raises:
        ValueError: ``strength`` is negative or not finite.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> round(float(bt.win_rate(bt.win_rate_optimal(uniform, 5.0), uniform)), 10)
        0.8067836549

    [G] Theorem 1; the mixture over the number of draws is derived here.
    """
    reference, c = _aligned(reference, strength=_Real(strength, at_least=0))
    return _distort(reference, WinRateOptimal(c))


def top_fraction(reference: Policy, fraction: Numbers) -> Policy:
    r"""The reference conditioned on its top ``fraction`` of ranks, a tie at the threshold shared.

    .. math:: H(u) = \max\bigl(0, (u - 1 + q)/q\bigr), \qquad \mathrm{KL}(P\|\pi) = -\log q
              \text{ without ties}.

    Args:
        reference: the law of one draw. If continuous, its lattice needs a break at ``1 -
            fraction``: ``Policy.from_quantile(..., breaks=(1 - fraction,))``, because the density
            jumps there.
        fraction: :math:`q \in (0, 1]`.

    Raises:
        ValueError: ``fraction`` is outside (0, 1], or the lattice cannot represent the jump.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> bt.top_fraction(reference, 0.8).probs.tolist()
        [0.375, 0.625]

    The threshold rule is standard; the form with ties is derived here.
    """
    least = float(jnp.finfo(reference.dtype).tiny)
    reference, q = _aligned(reference, fraction=_Real(fraction, at_least=least, at_most=1))
    policy = _distort(reference, TopFraction(q))
    if reference.continuous:
        require(
            lambda: np.abs(np.asarray(policy.probs).sum(-1) - 1) < 1e-6,
            lambda: (
                f"fraction={np.asarray(fraction)} cuts between quadrature nodes of this continuous "
                "reference: build it with breaks=(1 - fraction,), or use Policy.from_samples."
            ),
            policy,
        )
    return policy


@overload
def soft_best_of_n(
    reference: Policy, n: Numbers, temperature: Numbers, *, full_output: Literal[False] = False
) -> Policy: ...
@overload
def soft_best_of_n(
    reference: Policy, n: Numbers, temperature: Numbers, *, full_output: Literal[True]
) -> tuple[Policy, jax.Array]: ...
def soft_best_of_n(
    reference: Policy, n: Numbers, temperature: Numbers, *, full_output: bool = False
) -> Policy | tuple[Policy, jax.Array]:
    r"""Draw :math:`n`, return candidate :math:`i` with probability :math:`\propto e^{r_i/\lambda}`.

    .. math:: P(x) = n\,\pi(x)\,E\frac{w(x)}{w(x) + \sum_{i=2}^n w(X_i)}
              = \pi(x) w(x) \int_0^\infty n\,e^{-t w(x)} M(t)^{n-1} dt, \quad M(t) = E_\pi e^{-tW}

    Exact at any :math:`n` and :math:`\lambda`: :math:`\lambda = 0` is :func:`best_of_n`,
    :math:`\lambda = \infty` the reference, :math:`n \to \infty` the :func:`exponential_tilt`. A
    temperature so small that rounding in :math:`r/\lambda` would exceed a tenth counts as 0.

    Args:
        reference: the law of one draw.
        n: number of candidates, real, at least 1.
        temperature: :math:`\lambda \in [0, \infty]`, in units of the reward.
        full_output: also return the certificate.

    Returns:
        The policy, or with ``full_output`` the pair ``(policy, certificate)``: the certificate, one
        per batch element, is :math:`|\sum P - 1|`; for a continuous reference it is at least
        :math:`e^{-\pi^2/\Delta}`, the error of resolving :math:`r/\lambda` on nodes that are
        :math:`\Delta` apart where there is mass.

    Raises:
        ValueError: ``n < 1`` or not finite; ``temperature`` negative or NaN.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> policy = bt.soft_best_of_n(reference, n=4, temperature=0.5)
        >>> [round(float(p), 6) for p in policy.probs]
        [0.261558, 0.337852, 0.40059]

    [V] Lemma 1 for the expectation; the integral is derived here (:mod:`bon_theory.race`). Costs
    ``O(K S)`` with ``S`` about four nodes per unit of :math:`\log w`, in constant memory.
    Differentiable once.
    """
    reference, count, lam = _aligned(
        reference, n=_Real(n, at_least=1), temperature=_Real(temperature, at_least=0, finite=False)
    )
    race = functools.partial(gumbel_race_log_ratio, candidates=_FIXED_NUMBER)
    policy = _race(reference, race, count, lam, BestOfN(count))
    if not full_output:
        return policy
    mass_error = jnp.abs(jnp.sum(policy.probs, axis=-1) - 1)
    return policy, jnp.maximum(mass_error, _node_error(reference, policy, lam))


def soft_best_of_poisson(
    reference: Policy, mean_extra_draws: Numbers, temperature: Numbers
) -> Policy:
    r"""Soft best-of-N with :math:`N = 1 + \mathrm{Poisson}(\nu)` candidates.

    .. math:: P(x) = \pi(x) w(x) \int_0^\infty e^{-t w(x)} (1 + \nu M(t))\, e^{-\nu(1 - M(t))}\, dt

    Args:
        reference: the law of one draw.
        mean_extra_draws: :math:`\nu \ge 0`.
        temperature: :math:`\lambda \in [0, \infty]`; 0 is :func:`best_of_poisson`.

    Raises:
        ValueError: ``mean_extra_draws`` or ``temperature`` is negative or NaN.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(float(bt.soft_best_of_poisson(reference, 0.0, 0.5).probs[1]), 6)
        0.5

    [K] for the mechanism; the integral is derived here.
    """
    reference, nu, lam = _aligned(
        reference,
        mean_extra_draws=_Real(mean_extra_draws, at_least=0),
        temperature=_Real(temperature, at_least=0, finite=False),
    )
    race = functools.partial(gumbel_race_log_ratio, candidates=_POISSON_NUMBER)
    return _race(reference, race, nu, lam, BestOfPoisson(nu))


def exponential_race(reference: Policy, n: Numbers, temperature: Numbers) -> Policy:
    r"""Draw :math:`n`, return :math:`\arg\max_i r_i/\lambda + E_i` with :math:`E_i` i.i.d. Exp(1).

    .. math:: P(x) = \pi(x)\, n \int_{w}^\infty \frac{w}{s^2} H(s)^{n-1} ds,
              \qquad H(s) = E_\pi\bigl[(1 - W/s)_+\bigr]

    in closed form on a discrete law. It is nearer to the tilt than soft best-of-n in every
    :math:`f`-divergence.

    Args:
        reference: the law of one draw, discrete (on a continuous one :math:`H` would have a kink at
            every node).
        n: number of candidates, real, at least 1.
        temperature: :math:`\lambda \in [0, \infty]`; 0 is :func:`best_of_n`.

    Raises:
        ValueError: ``n < 1`` or not finite; ``temperature`` negative or NaN.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> policy = bt.exponential_race(reference, n=64, temperature=0.5)
        >>> tilt = bt.exponential_tilt(reference, temperature=0.5)
        >>> float(bt.total_variation(policy, tilt)) < 1e-6
        True

    Differentiable; in tied rewards only along directions that keep the tie. Relative errors are
    about the machine precision times the range of ``reward / temperature``.

    [U] (uniform race, ExpBoN); the closed form is derived here.
    """
    if reference.continuous:
        raise ValueError(
            "reference must be discrete for exponential_race, got a continuous one: "
            "discretise it, for instance Policy.from_samples(reference quantiles)."
        )
    reference, count, lam = _aligned(
        reference, n=_Real(n, at_least=1), temperature=_Real(temperature, at_least=0, finite=False)
    )
    return _race(reference, exponential_race_log_ratio, count, lam, BestOfN(count))


def exponential_tilt(reference: Policy, temperature: Numbers) -> Policy:
    r"""The Gibbs law :math:`P^*(y) = \pi(y) e^{r(y)/\lambda} / E_\pi e^{r/\lambda}`.

    The optimum of :math:`E\,r - \lambda\,\mathrm{KL}(\cdot\|\pi)`, and the limit of soft best-of-n.

    Args:
        reference: the law of one draw.
        temperature: :math:`\lambda \in [0, \infty]`; 0 conditions on the highest reward.

    Raises:
        ValueError: ``temperature`` is negative or NaN, or the reference is continuous with a tail
            too heavy for the tilt to exist (or to be resolved by its nodes).

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> [round(float(p), 6) for p in bt.exponential_tilt(reference, 0.5).probs]
        [0.179, 0.291944, 0.529056]

    [V] Eq. (2); [G] §3.
    """
    reference, lam = _aligned(reference, temperature=_Real(temperature, at_least=0, finite=False))
    log_weights, is_hard = _log_weights(reference, lam)
    log_probs, shape = reference.log_probs, log_weights.shape
    at_top = _rewards_below_top(reference) == 0
    exponent = jnp.where(is_hard, jnp.where(at_top, 0, -jnp.inf), log_weights)
    log_normaliser = jax.nn.logsumexp(log_probs + exponent, axis=-1, keepdims=True)
    policy = reference.with_log_ratio(jnp.broadcast_to(exponent - log_normaliser, shape))
    if reference.continuous:
        require(
            lambda: np.asarray(policy.probs)[..., -1] < 1e-9,
            lambda: (
                f"temperature={np.asarray(temperature)} is too small for this continuous reward: "
                "E exp(reward / temperature) diverges or lies beyond the nodes; raise it."
            ),
            policy,
        )
    return policy


def chi_squared_tilt(reference: Policy, strength: Numbers) -> Policy:
    r"""The optimum of :math:`E\,r - \tfrac{\beta}{2}\,\chi^2(\cdot\|\pi)`: a clipped linear tilt.

    .. math:: P(y) = \pi(y)\,\frac{(r(y) - \nu)_+}{\beta}, \qquad E_\pi (r - \nu)_+ = \beta

    The level is found exactly: :math:`\nu = \max_k (S_k - \beta)/A_k` over the :math:`k` highest
    rewards, with :math:`A_k` their probability and :math:`S_k` their sum of :math:`\pi r`.

    Args:
        reference: the law of one draw. If continuous, give it a break at the rank of :math:`\nu`
            for full accuracy: the density has a kink there.
        strength: :math:`\beta > 0`, in units of the reward.

    Raises:
        ValueError: ``strength`` is not positive or not finite.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> [round(float(p), 4) for p in bt.chi_squared_tilt(reference, 1.0).probs]
        [0.25, 0.75]

    [H], the target of InferenceTimePessimism; the formula for the level is derived here.
    """
    least = float(jnp.finfo(reference.dtype).tiny)
    reference, beta = _aligned(reference, strength=_Real(strength, at_least=least))
    shape = jnp.broadcast_shapes(beta.shape, reference.rewards.shape)
    rewards = jnp.broadcast_to(_rewards_below_top(reference), shape)
    probs = jnp.broadcast_to(reference.probs, shape)
    order = jnp.argsort(-rewards, axis=-1)
    mass = jnp.cumsum(jnp.take_along_axis(probs, order, axis=-1), axis=-1)
    total = jnp.cumsum(jnp.take_along_axis(probs * rewards, order, axis=-1), axis=-1)
    positive = mass > 0
    levels = jnp.where(positive, (total - beta) / jnp.where(positive, mass, 1), -jnp.inf)
    excess = rewards - jnp.max(levels, axis=-1, keepdims=True)
    log_ratio = safe_log(jnp.maximum(excess, 0)) - jnp.log(beta)
    return reference.with_log_ratio(log_ratio)


class _Real(NamedTuple):
    """A scalar parameter as given, and its range."""

    value: Numbers
    at_least: float
    at_most: float = math.inf
    finite: bool = True


def _aligned(reference: Policy, **parameters: _Real) -> tuple[Any, ...]:
    """The reference and the checked parameters, all of one rank; outcomes are the last axis."""
    batches, checked = reference.batch_shape, []
    for name, real in parameters.items():
        limits = real._asdict()
        array = scalar(name, limits.pop("value"), reference.dtype, **limits)
        require_batches(name, array.shape, batches)
        batches = jnp.broadcast_shapes(array.shape, batches)
        checked.append(array[..., None])
    (reference,) = aligned(reference, ndim=max(array.ndim for array in checked))
    ndim = reference.log_probs.ndim
    return reference, *(a.reshape((1,) * (ndim - a.ndim) + a.shape) for a in checked)


def _distort(reference: Policy, distortion: Distortion) -> Policy:
    """F_policy = H∘F, atom by atom."""
    log_ratio = distortion.log_ratio(reference.log_cdf_below, reference.log_cdf)
    log_cdf = distortion.log_cdf(reference.log_cdf)
    below = log_cdf if reference.continuous else distortion.log_cdf(reference.log_cdf_below)
    return reference.with_log_ratio(log_ratio, log_cdf, below)


def _log_weights(reference: Policy, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The weights (r - max r) / temperature, and where the temperature counts as zero."""
    below_top = _rewards_below_top(reference)
    extent = -jnp.min(below_top, axis=-1, keepdims=True)
    # Beyond this range r/temperature is rounded by more than a tenth and orders no more than ranks
    # do.
    is_hard = temperature <= jax.lax.stop_gradient(extent) * 16 * jnp.finfo(reference.dtype).eps
    is_hard |= temperature == 0
    return jnp.where(is_hard, 0, below_top / jnp.where(is_hard, 1, temperature)), is_hard


def _rewards_below_top(reference: Policy) -> jax.Array:
    """The rewards less the highest possible one; 0 for outcomes of probability zero."""
    possible = reference.log_probs > -jnp.inf
    supported = jnp.where(possible, reference.rewards, -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(supported, axis=-1, keepdims=True))
    return jnp.where(possible, reference.rewards - top, 0)


def _race(
    reference: Policy,
    log_ratio: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    parameter: jax.Array,
    temperature: jax.Array,
    hard: Distortion,
) -> Policy:
    """The winner of a race among candidates; at temperature 0 it is the ``hard`` rank selection."""
    log_weights, is_hard = _log_weights(reference, temperature)
    race = jnp.vectorize(log_ratio, signature="(k),(k),()->(k)")
    soft_ratio = race(reference.log_probs, log_weights, parameter[..., 0])
    hard_ratio = hard.log_ratio(reference.log_cdf_below, reference.log_cdf)
    # A loop over nodes cannot pass NaN on.
    unknown = jnp.isnan(parameter) | jnp.isnan(temperature)
    for array in (log_weights, reference.log_probs):
        unknown |= jnp.any(jnp.isnan(array), axis=-1, keepdims=True)
    ratio = jnp.where(is_hard, hard_ratio, soft_ratio)
    return reference.with_log_ratio(jnp.where(unknown, jnp.nan, ratio))


def _node_error(reference: Policy, policy: Policy, temperature: jax.Array) -> jax.Array:
    """Error of integrating exp(-t w) over the nodes of a continuous law; 0 for a discrete one."""
    if not reference.continuous:
        return jnp.zeros((), reference.dtype)
    log_weights, _ = _log_weights(reference, temperature)
    mass = jnp.maximum(policy.log_probs, reference.log_probs)
    matters = jnp.minimum(mass[..., 1:], mass[..., :-1]) > jnp.log(jnp.finfo(mass.dtype).eps)
    spacing = jnp.max(jnp.where(matters, jnp.diff(log_weights, axis=-1), 0), axis=-1)
    return jnp.where(spacing > 0, jnp.exp(-(jnp.pi**2) / jnp.where(spacing > 0, spacing, 1)), 0)


def _log_slope_of_n(log_m: jax.Array, parameter: jax.Array) -> jax.Array:
    """Log of d/dz z^n."""
    return jnp.log(parameter) + (parameter - 1) * log_m


def _log_slope_of_poisson(log_m: jax.Array, parameter: jax.Array) -> jax.Array:
    """Log of d/dz [z e^{ν(z-1)}]."""
    return jnp.log1p(parameter * jnp.exp(log_m)) + parameter * jnp.expm1(log_m)


_FIXED_NUMBER = Candidates(_log_slope_of_n, is_power=True)
_POISSON_NUMBER = Candidates(_log_slope_of_poisson, is_power=False)
