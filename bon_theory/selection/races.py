r"""The selections in which candidates race: the highest :math:`r/\lambda` plus noise wins."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers, shown
from bon_theory._laws import require_policy
from bon_theory._ragged import law_program
from bon_theory.distortion import BestOfN, BestOfPoisson, Distortion
from bon_theory.noise import Noise
from bon_theory.policy import Policy
from bon_theory.race import (
    NumberOfCandidates,
    exponential_race_log_ratio,
    gumbel_race_log_ratio,
    noisy_race_log_ratio,
)
from bon_theory.selection.parameters import (
    Real,
    aligned_parameters,
    counts_as_zero,
    entrants,
    float_limits,
    rewards_below_top,
)

__all__ = ["exponential_race", "noisy_best_of_n", "soft_best_of_n", "soft_best_of_poisson"]


def soft_best_of_n(reference: Policy, n: Numbers, temperature: Numbers) -> Policy:
    r"""Draw :math:`n`, return candidate :math:`i` with probability :math:`\propto e^{r_i/\lambda}`.

    .. math:: P(x) = n\,\pi(x)\,E\frac{w(x)}{w(x) + \sum_{i=2}^n w(X_i)}
              = \pi(x) w(x) \int_0^\infty n\,e^{-t w(x)} M(t)^{n-1} dt, \quad M(t) = E_\pi e^{-tW}

    Exact at any :math:`n` and :math:`\lambda`: :math:`\lambda = 0` is :func:`best_of_n`,
    :math:`\lambda = \infty` the reference, :math:`n \to \infty` the :func:`exponential_tilt`. A
    placeholder reward far below the others, such as -1e9, costs no accuracy.

    Args:
        reference: the law of one draw.
        n: number of candidates, real, from 1 to 1e276 (1e34 in float32).
        temperature: :math:`\lambda \in [0, \infty]`, in units of the reward.

    Returns:
        The law, not normalised: :func:`~bon_theory.certificate` is the mass that the integral lost.
        Of a continuous reference the nodes must resolve :math:`e^{r/\lambda}`, and
        :func:`~bon_theory.quadrature_error` says how well they do.

    Raises:
        ValueError: ``n`` outside its range; ``temperature`` negative or NaN.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> policy = bt.soft_best_of_n(reference, n=4, temperature=0.5)
        >>> [round(float(p), 6) for p in policy.probs]
        [0.261558, 0.337852, 0.40059]

    [V] Lemma 1 for the expectation; the integral is derived here (:mod:`bon_theory.race`). Costs
    ``O(K S)`` at every temperature, in constant memory: ``S`` is the number of nodes, at least four
    per unit of :math:`\log t`, over the 40 units or so in which an outcome is neither sure to wait
    nor sure to have rung. ``vmap`` takes laws of more than 256 outcomes one at a time.
    Differentiable once.
    """
    reference, count, lam = aligned_parameters(
        reference,
        n=Real(n, at_least=1, at_most=_most_candidates(reference)),
        temperature=Real(temperature, at_least=0, finite=False),
    )
    return _race(reference, count, lam, log_ratio=_fixed_number, hard=BestOfN)


def soft_best_of_poisson(
    reference: Policy, mean_extra_draws: Numbers, temperature: Numbers
) -> Policy:
    r"""Soft best-of-N with :math:`N = 1 + \mathrm{Poisson}(\nu)` candidates.

    .. math:: P(x) = \pi(x) w(x) \int_0^\infty e^{-t w(x)} (1 + \nu M(t))\, e^{-\nu(1 - M(t))}\, dt

    Args:
        reference: the law of one draw.
        mean_extra_draws: :math:`\nu \ge 0`, up to the limit on ``n`` of :func:`soft_best_of_n`.
        temperature: :math:`\lambda \in [0, \infty]`; 0 is :func:`best_of_poisson`.

    Returns:
        The law, not normalised, as from :func:`soft_best_of_n`.

    Raises:
        ValueError: ``mean_extra_draws`` is negative, NaN or too large; ``temperature`` is negative
            or NaN.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(float(bt.soft_best_of_poisson(reference, 0.0, 0.5).probs[1]), 6)
        0.5

    [K] for the mechanism; the integral is derived here.
    """
    reference, nu, lam = aligned_parameters(
        reference,
        mean_extra_draws=Real(mean_extra_draws, at_least=0, at_most=_most_candidates(reference)),
        temperature=Real(temperature, at_least=0, finite=False),
    )
    return _race(reference, nu, lam, log_ratio=_poisson_number, hard=BestOfPoisson)


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
    require_policy("reference", reference)
    if reference.continuous:
        raise ValueError(
            "reference must be discrete for exponential_race, got a continuous one: "
            "discretise it, for instance Policy.from_samples(reference quantiles)."
        )
    reference, count, lam = aligned_parameters(
        reference, n=Real(n, at_least=1), temperature=Real(temperature, at_least=0, finite=False)
    )
    return _race(reference, count, lam, log_ratio=exponential_race_log_ratio, hard=BestOfN)


def noisy_best_of_n(
    reference: Policy, n: Numbers, scale: Numbers, *, noise: Noise | None = None
) -> Policy:
    r"""Draw :math:`n`, add noise :math:`\sigma\varepsilon_i` to each reward, keep the highest sum.

    .. math:: P(y) = \pi(y) \int n\,H(s)^{n-1} f\Bigl(\frac{s - r(y)}\sigma\Bigr)\frac{ds}\sigma,
              \qquad H(s) = \sum_z \pi(z)\,N\Bigl(\frac{s - r(z)}\sigma\Bigr)

    with :math:`f` and :math:`N` the density and the distribution function of :math:`\varepsilon`:
    what a judge who errs makes of best-of-n. Gumbel noise is :func:`soft_best_of_n`, exponential
    noise :func:`exponential_race`, both at :math:`\lambda = \sigma` and both faster there;
    :math:`\sigma = 0` is :func:`best_of_n`, :math:`\sigma = \infty` the reference.

    Args:
        reference: the law of one draw. The nodes of a continuous one must resolve the noise:
            ``scale`` not far below the rewards' distance from node to node.
        n: number of candidates, real, from 1 to 1e15.
        scale: :math:`\sigma \in [0, \infty]`, in units of the reward.
        noise: the law of :math:`\varepsilon`, of about unit scale (static); standard normal if it
            is left out.

    Returns:
        The law, not normalised: :func:`~bon_theory.certificate` is the mass that the integral lost.

    Raises:
        ValueError: ``n`` outside its range, ``scale`` negative or NaN, or ``noise`` no
            :class:`Noise`.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> judged = bt.noisy_best_of_n(reference, n=4, scale=0.5, noise=bt.Noise.student_t(2.0))
        >>> [round(float(p), 6) for p in judged.probs]
        [0.279218, 0.338623, 0.382159]

    Derived here (:mod:`bon_theory.race.noisy`). Costs ``O(K S)`` with some 2000 nodes ``S`` for
    each group of rewards that the noise does not mix, some 80 more for each ``scale`` of its width,
    and 400 for each reward where the density has a kink. Differentiable once.
    """
    noise = Noise.gaussian() if noise is None else noise
    if not isinstance(noise, Noise):
        raise ValueError(
            f"noise must be a Noise, got {shown(noise)}: pass Noise.gaussian(), for instance."
        )
    reference, count, sigma = aligned_parameters(
        reference,
        n=Real(n, at_least=1, at_most=1e15),
        scale=Real(scale, at_least=0, finite=False),
    )
    return _noisy(reference, count, sigma, noise=noise)


@functools.partial(law_program, ranks=True, static_argnames="noise")
def _noisy(reference: Policy, n: jax.Array, scale: jax.Array, *, noise: Noise) -> Policy:
    is_hard = counts_as_zero(reference, scale)
    precision = jnp.where(is_hard, 0, 1 / jnp.where(is_hard, 1, scale))
    race = functools.partial(noisy_race_log_ratio, noise=noise)
    soft_ratio = jnp.vectorize(race, signature="(k),(k),(),()->(k)")(
        reference.log_probs, rewards_below_top(reference), n[..., 0], precision[..., 0]
    )
    # The derivative of the branch not taken must not overflow.
    of_ranks = BestOfN(jnp.where(is_hard, n, 1))
    hard_ratio = of_ranks.log_ratio(reference.log_cdf_below, reference.log_cdf)
    unknown = jnp.isnan(n) | jnp.isnan(scale)
    unknown |= jnp.any(jnp.isnan(reference.log_probs), axis=-1, keepdims=True)
    ratio = jnp.where(unknown, jnp.nan, jnp.where(is_hard, hard_ratio, soft_ratio))
    return reference.without_ranks().with_log_ratio(ratio)


@functools.partial(law_program, ranks=True, static_argnames=("log_ratio", "hard"))
def _race(
    reference: Policy,
    parameter: jax.Array,
    temperature: jax.Array,
    *,
    log_ratio: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    hard: Callable[[jax.Array], Distortion],
) -> Policy:
    """The winner of a race among candidates; at temperature 0 it is the ``hard`` rank selection."""
    racing = entrants(reference, temperature)
    race = jnp.vectorize(log_ratio, signature="(k),(k),()->(k)")
    soft_ratio = racing.by_outcome(race(racing.log_probs, racing.log_weights, parameter[..., 0]))
    # The derivative of the branch not taken must not overflow.
    of_ranks = hard(jnp.where(racing.is_hard, parameter, 1))
    hard_ratio = of_ranks.log_ratio(reference.log_cdf_below, reference.log_cdf)
    ratio = jnp.where(racing.is_hard, hard_ratio, soft_ratio)
    # A loop over nodes cannot pass NaN on.
    inputs = racing.log_weights + racing.log_probs
    unknown = jnp.isnan(parameter) | jnp.isnan(temperature)
    unknown |= jnp.any(jnp.isnan(inputs), axis=-1, keepdims=True)
    ratio = jnp.where(unknown, jnp.nan, ratio)
    return reference.without_ranks().with_log_ratio(ratio)


def _most_candidates(reference: Policy) -> float:
    """The largest n, a power of ten, whose first ring at t = 1/n is far from underflow."""
    return 10.0 ** math.floor(-0.9 * math.log10(float_limits(reference).tiny))


def _log_slope_of_n(log_m: jax.Array, n: jax.Array) -> jax.Array:
    """Log of d/dz z^n."""
    return jnp.log(n) + (n - 1) * log_m


def _derivatives_of_n(log_m: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.broadcast_to(n - 1, log_m.shape), 1 / n + log_m


def _log_slope_of_poisson(log_m: jax.Array, nu: jax.Array) -> jax.Array:
    """Log of d/dz [z e^{ν(z-1)}]."""
    return jnp.log1p(nu * jnp.exp(log_m)) + nu * jnp.expm1(log_m)


def _derivatives_of_poisson(log_m: jax.Array, nu: jax.Array) -> tuple[jax.Array, jax.Array]:
    m = jnp.exp(log_m)
    return nu * m * (1 + 1 / (1 + nu * m)), m / (1 + nu * m) + jnp.expm1(log_m)


_fixed_number = functools.partial(
    gumbel_race_log_ratio,
    candidates=NumberOfCandidates(_log_slope_of_n, _derivatives_of_n, is_power=True),
)
_poisson_number = functools.partial(
    gumbel_race_log_ratio,
    candidates=NumberOfCandidates(_log_slope_of_poisson, _derivatives_of_poisson, is_power=False),
)
