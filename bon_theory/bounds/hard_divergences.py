r"""Bounds on best-of-n: its divergences from the reference, and its reward.

Without ties the log-ratio to the reference is a function of the rank alone and every divergence a
function of :math:`n`. A tie merges ranks, and by data processing only lowers a divergence.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._numerics import (
    kl_term,
    log1mexp,
    log1p_quotient,
    log_expm1_quotient,
    log_mean_power,
)
from bon_theory.bounds.inequality import Parameter, inequality
from bon_theory.bounds.quantities import (
    BEST_CHI_SQUARED,
    BEST_HELLINGER,
    BEST_KL,
    BEST_RENYI,
    BEST_REVERSE_KL,
    BEST_REWARD,
    BEST_TOTAL_VARIATION,
    above_zero,
)
from bon_theory.bounds.statistics import (
    collision_probability,
    log_level_mass,
    log_mean_weight,
    reverse_tie_free_kl,
    tie_free_kl,
    top_level_log_mass,
)
from bon_theory.performance import expected_reward, reward_extremes
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n

__all__ = [
    "best_of_n_kl",
    "best_of_n_kl_from_top_level",
    "best_of_n_kl_from_top_atom",
    "best_of_n_kl_from_selected_atom",
    "best_of_n_kl_from_selected_level",
    "best_of_n_kl_from_collisions",
    "best_of_n_kl_from_half_the_collisions",
    "best_of_n_reverse_kl",
    "best_of_n_chi_squared",
    "best_of_n_total_variation",
    "best_of_n_squared_hellinger",
    "best_of_n_renyi",
    "best_of_n_reward",
    "best_of_n_reward_from_range",
]


@inequality("upper", BEST_KL, source="[B] Theorem 1; real n derived here")
def best_of_n_kl(n: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|\pi) \le \log n - \frac{n-1}{n}`, an equality without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_kl(n=8).value), 6)
        1.204442
    """
    return tie_free_kl(n)


@inequality("upper", BEST_KL, source="Derived here: the limit of a divergence that increases in n")
def best_of_n_kl_from_top_level(reference: Policy) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|\pi) \le -\log p_{top}`, at any :math:`n`.

    :math:`p_{top}` is the probability of the highest reward, on which :math:`P_n` comes to rest.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.best_of_n_kl_from_top_level(reference).value), 6)  # log 5
        1.609438
    """
    return -top_level_log_mass(reference)


@inequality("upper", BEST_KL, source="Derived here, by data processing from [B]'s estimator")
def best_of_n_kl_from_top_atom(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|\pi) \le \hat D(p_{top})`, sharper than both bounds it joins.

    .. math:: \hat D(\varepsilon) = (1-\varepsilon)^n \bigl(\log n + (n-1)\log(1-\varepsilon)
              - \tfrac{n-1}{n}\bigr) + \bigl(1 - (1-\varepsilon)^n\bigr)
              \log\frac{1 - (1-\varepsilon)^n}{\varepsilon}

    is the divergence for one top atom above a continuum; any other reward merges ranks of that one.
    Computed as three divergences, of the atom and of what is below it, none of them negative.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.7, 0.3], rewards=[0.0, 1.0])
        >>> round(float(bounds.best_of_n_kl_from_top_atom(reference, n=8).value), 6)
        1.004115
    """
    return _top_atom_kl(top_level_log_mass(reference), n)


@inequality("upper", BEST_KL, source="Conjectured by [B] for its estimator, proved here")
def best_of_n_kl_from_selected_atom(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|\pi) \le E_{Y\sim P_n} \hat D(p_Y)`, with :math:`\hat D` as above.

    :math:`p_Y` is the probability of the reward of what was selected: an estimator that knows
    nothing else is too large in the mean. It is the weaker half of
    :func:`best_of_n_kl_from_selected_level`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([float(i) for i in range(100)])
        >>> round(float(bounds.best_of_n_kl_from_selected_atom(reference, n=10).value), 8)
        1.40255251
    """
    known = _top_atom_kl(log_level_mass(reference), n[..., None])
    return jnp.sum(best_of_n(reference, n).probs * known, axis=-1)


@inequality("upper", BEST_KL, source="Derived here, sharpening [B]'s estimator")
def best_of_n_kl_from_selected_level(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|\pi) \le \log n - \frac{n-1}{n} - E_{Y\sim P_n}\, k(1 - p_Y, p_Y)`.

    :math:`k(a, p)` is the divergence from uniform of the density :math:`\propto u^{n-1}` on
    :math:`[a, a+p]`, what a level on these ranks hides: the exact divergence has
    :math:`k(a_Y, p_Y)`. With :math:`u = a + pv` its density is :math:`\propto e^T`,
    :math:`T = (n-1)\log(s + v)`, :math:`s = a/p`, and :math:`\partial_s k =
    \mathrm{Cov}(T, \partial_s T) \le 0`, because :math:`T` increases and :math:`\partial_s T`
    decreases in :math:`v`. So a level hides least at the top, where :math:`a = 1 - p`. Since
    :math:`\hat D(p) = \log n - \frac{n-1}{n} - (1 - (1-p)^n)\,k(1-p, p)` is larger still, [B]'s
    conjecture follows.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([float(i) for i in range(100)])
        >>> round(float(bounds.best_of_n_kl_from_selected_level(reference, n=10).value), 8)
        1.40224428
    """
    log_rest, log_gain = _top_atom(log_level_mass(reference), number := n[..., None])
    # log n - (n-1)/n - k(1-p, p) = log(hit/p) + (n-1) (1-p)^n log(1-p) / hit
    odds = number * log_rest - log_expm1_quotient(-number * log_rest)
    known = jnp.maximum(log_gain - (number - 1) / number * jnp.exp(odds), 0)
    return jnp.sum(best_of_n(reference, n).probs * known, axis=-1)


@inequality("lower", BEST_KL, source="[B]")
def best_of_n_kl_from_collisions(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|\pi) \ge \log n - \frac{n-1}{n} - 2n(n-1)\,e^{-H_2}`.

    :math:`e^{-H_2}` is the probability that two draws have the same reward.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([float(i) for i in range(1000)])
        >>> round(float(bounds.best_of_n_kl_from_collisions(reference, n=8).value), 6)
        1.092442
    """
    return tie_free_kl(n) - 2 * n * ((n - 1) * collision_probability(reference))


@inequality("lower", BEST_KL, source="[G] Appendix B, Theorems 7–9; ties and real n derived here")
def best_of_n_kl_from_half_the_collisions(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|\pi) \ge \log n - \frac{n-1}{n} - n(n-1)\,e^{-H_2}`.

    Half of what [B] allows for. [G]'s :math:`\sum p_i^2` over responses of distinct rewards is the
    probability :math:`e^{-H_2}` that two draws have the same reward.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([float(i) for i in range(1000)])
        >>> bound = bounds.best_of_n_kl_from_half_the_collisions(reference, n=8)
        >>> round(float(bound.value), 6)
        1.148442
    """
    return tie_free_kl(n) - n * ((n - 1) * collision_probability(reference))


@inequality("upper", BEST_REVERSE_KL, source="[M]; ties derived here")
def best_of_n_reverse_kl(n: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(\pi\|P_n) \le n - 1 - \log n`, an equality without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_reverse_kl(n=8).value), 6)
        4.920558
    """
    return reverse_tie_free_kl(n)


@inequality("upper", BEST_CHI_SQUARED, source="[M]; ties derived here")
def best_of_n_chi_squared(n: Parameter) -> jax.Array:
    r""":math:`\chi^2(P_n\|\pi) \le \frac{(n-1)^2}{2n-1}`, an equality without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_chi_squared(n=3).value), 6)
        0.8
    """
    return (n - 1) * ((n - 1) / (2 * n - 1))


@inequality("upper", BEST_TOTAL_VARIATION, source="[M]; ties derived here")
def best_of_n_total_variation(n: Parameter) -> jax.Array:
    r""":math:`\mathrm{TV}(P_n, \pi) \le (1 - \tfrac1n)\, n^{-1/(n-1)}`, an equality without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_total_variation(n=2).value), 6)
        0.25
    """
    return (n - 1) / n * jnp.exp(-log1p_quotient(n - 1))


@inequality("upper", BEST_HELLINGER, source="[M]; ties derived here")
def best_of_n_squared_hellinger(n: Parameter) -> jax.Array:
    r""":math:`\sum(\sqrt{P_n} - \sqrt\pi)^2 \le \frac{2(\sqrt n - 1)^2}{n+1}`, = without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_squared_hellinger(n=4).value), 6)
        0.4
    """
    return 2 * ((n - 1) / (jnp.sqrt(n) + 1)) ** 2 / (n + 1)


@inequality("upper", BEST_RENYI, source="[M]; ties and orders below 1 derived here")
def best_of_n_renyi(n: Parameter, order: Parameter) -> jax.Array:
    r""":math:`D_\alpha(P_n\|\pi) \le \frac{\alpha\log n - \log(\alpha(n-1)+1)}{\alpha-1}`.

    An equality without ties. The limits are taken: order 1 is :func:`best_of_n_kl`, order infinity
    :math:`\log n`, the largest log-ratio.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_renyi(n=4, order=2.0).value), 6)
        0.826679
    """
    infinite = order == jnp.inf
    a, m = jnp.where(infinite, 2, order), n - 1
    # Few draws: Σ_{k>=2} (-m)^k/k (α + … + α^{k-1}), the terms of both logarithms at once.
    few = jnp.maximum(a, 1) * m < 0.05
    x = -jnp.where(few, m, 0)
    y = jnp.where(few, a, 0) * x
    power, mixed, series = x * x, x * x, jnp.zeros_like(x)
    for k in range(2, 14):
        series = series + mixed / k
        power = power * x
        mixed = power + y * mixed
    # Low orders: (log(1 + α m) - α log n)/(1-α); high ones with α m + 1 = n (1 + (α-1) m/n).
    low = a < 0.5
    below = jnp.where(low, a, 0)
    from_below = below * (m * log1p_quotient(below * m) - jnp.log(n)) / (1 - below)
    share = m / n
    from_above = jnp.log(n) - share * log1p_quotient(jnp.where(low, 1, a - 1) * share)
    value = jnp.where(few, a * series, jnp.where(low, from_below, from_above))
    return jnp.where(infinite, jnp.log(n), value)


@inequality(
    "upper",
    BEST_REWARD,
    source="[V], converse, for sequences of length 1; [M]",
    also={"temperature": above_zero},
)
def best_of_n_reward(reference: Policy, n: Parameter, temperature: Parameter) -> jax.Array:
    r"""What :math:`\log n - \frac{n-1}{n}` nats can buy, at any :math:`\lambda`.

    .. math:: E_{P_n} r \le \lambda\Bigl(\log n - \frac{n-1}{n}\Bigr)
              + \lambda\log E_\pi e^{r/\lambda}

    Any rule that selects among :math:`n` draws spends no more KL than best-of-n without ties; this
    is Cramér's bound on what it can buy, in dual form. Minimise it over :math:`\lambda`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.best_of_n_reward(reference, n=3, temperature=0.4).value), 6)
        0.725653
    """
    _, highest = reward_extremes(reference)
    log_mean = log_mean_weight(reference, temperature)
    return highest + temperature * (tie_free_kl(n) + log_mean)


@inequality("upper", BEST_REWARD, source="[V], converse; [M], with Hoeffding's lemma")
def best_of_n_reward_from_range(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`E_{P_n} r \le E_\pi r + R\,\sqrt{\tfrac12\bigl(\log n - \tfrac{n-1}{n}\bigr)}`.

    :math:`R` is the range of the reward, for a continuous law that of its nodes. Holds for every
    rule that selects among :math:`n` draws.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.best_of_n_reward_from_range(reference, n=3).value), 6)
        0.814729
    """
    lowest, highest = reward_extremes(reference)
    divergence = tie_free_kl(n)
    positive = divergence > 0  # the root has no slope at n = 1
    root = jnp.where(positive, jnp.sqrt(jnp.where(positive, divergence, 1) / 2), 0)
    return expected_reward(reference) + (highest - lowest) * root


def _top_atom_kl(log_atom: jax.Array, n: jax.Array) -> jax.Array:
    r""":math:`\hat D(\varepsilon)`: of the atom, and of the density :math:`n u^{n-1}` below it."""
    log_rest, log_gain = _top_atom(log_atom, n)
    atom, rest, power = jnp.exp(log_atom), jnp.exp(log_rest), (n - 1) * log_rest
    of_atom = kl_term(log_gain, jnp.exp(log_atom + log_gain), atom)
    below = kl_term(power, jnp.exp(power), jnp.ones_like(power)) + jnp.exp(power) * tie_free_kl(n)
    return of_atom + rest * below


def _top_atom(log_atom: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    r""":math:`\log(1-\varepsilon)` and :math:`\log\frac{1-(1-\varepsilon)^n}{\varepsilon}`.

    A certain atom leaves :math:`e^{-1000}`, which is 0, so that nothing is infinite.
    """
    log_rest = jnp.maximum(log1mexp(log_atom), -1e3)
    return log_rest, log_mean_power(n, log_rest, jnp.zeros_like(log_rest))
