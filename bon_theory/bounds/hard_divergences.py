r"""Bounds on best-of-n: its divergences from the reference, and its reward.

Without ties the log-ratio to the reference is a function of the rank alone and every divergence a
function of :math:`n`. A tie merges ranks, and by data processing only lowers a divergence.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._numerics import log1mexp
from bon_theory.bounds.inequality import Parameter, inequality
from bon_theory.bounds.quantities import (
    BEST_CHI_SQUARED,
    BEST_HELLINGER,
    BEST_KL,
    BEST_RENYI,
    BEST_REVERSE_KL,
    BEST_REWARD,
    BEST_TOTAL_VARIATION,
)
from bon_theory.bounds.statistics import (
    collision_probability,
    log1p_quotient,
    log_level_mass,
    reward_extremes,
    tie_free_kl,
    top_level_log_mass,
)
from bon_theory.performance import expected_reward
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n

__all__ = [
    "best_of_n_kl",
    "best_of_n_kl_from_top_level",
    "best_of_n_kl_from_top_atom",
    "best_of_n_kl_from_selected_atom",
    "best_of_n_kl_from_selected_level",
    "best_of_n_kl_from_collisions",
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

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.7, 0.3], rewards=[0.0, 1.0])
        >>> round(float(bounds.best_of_n_kl_from_top_atom(reference, n=8).value), 6)
        1.004115
    """
    hit, hidden = _top_atom(top_level_log_mass(reference), n)
    return tie_free_kl(n) - hit * hidden


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
    hit, hidden = _top_atom(log_level_mass(reference), n[..., None])
    return tie_free_kl(n) - jnp.sum(best_of_n(reference, n).probs * hit * hidden, axis=-1)


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
    _, hidden = _top_atom(log_level_mass(reference), n[..., None])
    return tie_free_kl(n) - jnp.sum(best_of_n(reference, n).probs * hidden, axis=-1)


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
    return tie_free_kl(n) - 2 * n * (n - 1) * collision_probability(reference)


@inequality("upper", BEST_REVERSE_KL, source="[M]; ties derived here")
def best_of_n_reverse_kl(n: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(\pi\|P_n) \le n - 1 - \log n`, an equality without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_reverse_kl(n=8).value), 6)
        4.920558
    """
    return (n - 1) - jnp.log(n)


@inequality("upper", BEST_CHI_SQUARED, source="[M]; ties derived here")
def best_of_n_chi_squared(n: Parameter) -> jax.Array:
    r""":math:`\chi^2(P_n\|\pi) \le \frac{(n-1)^2}{2n-1}`, an equality without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_chi_squared(n=3).value), 6)
        0.8
    """
    return (n - 1) ** 2 / (2 * n - 1)


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
    return 2 * (jnp.sqrt(n) - 1) ** 2 / (n + 1)


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
    # With α(n-1)+1 = n (1 + x) nothing cancels near α = 1.
    share = (n - 1) / n
    x = jnp.where(share > 0, (order - 1) * share, 0)
    return jnp.log(n) - share * log1p_quotient(x)


@inequality("upper", BEST_REWARD, source="[V], converse, for sequences of length 1; [M]")
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
    log_mean = jax.nn.logsumexp(
        reference.log_probs + reference.rewards / temperature[..., None], axis=-1
    )
    return temperature * (tie_free_kl(n) + log_mean)


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


def _top_atom(log_atom: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""For an atom on the top ranks: that it is selected, and the divergence it hides.

    :math:`h = 1 - (1-\varepsilon)^n` and :math:`k(1-\varepsilon, \varepsilon) =
    \log\frac{n\varepsilon}{h} - \frac{n-1}{n} - (n-1)\frac{(1-\varepsilon)^n}{h}
    \log(1-\varepsilon)`; without an atom both are 0.
    """
    no_atom = log_atom == -jnp.inf
    safe_atom = jnp.where(no_atom, -1, log_atom)
    log_rest = log1mexp(safe_atom)
    certain = log_rest == -jnp.inf  # then (1-ε)^n log(1-ε) is 0
    safe_rest = jnp.where(certain, -1, log_rest)
    log_hit = jnp.where(certain, 0, log1mexp(n * safe_rest))
    odds = jnp.where(certain, 0, jnp.exp(n * safe_rest - log_hit) * safe_rest)
    hidden = jnp.log(n) + safe_atom - log_hit - (n - 1) / n - (n - 1) * odds
    return jnp.where(no_atom, 0, jnp.exp(log_hit)), jnp.where(no_atom, 0, hidden)
