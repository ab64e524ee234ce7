"""The selections that look only at ranks: each is a distortion of the reward CDF."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import numpy as np

from bon_theory._arguments import Numbers, require, shown
from bon_theory._ragged import law_program
from bon_theory.distortion import (
    BestOfN,
    BestOfNStopped,
    BestOfPoisson,
    Distortion,
    KthBestOfN,
    TopFraction,
    TopKOfN,
    WinRateOptimal,
    WorstOfN,
)
from bon_theory.policy import Policy
from bon_theory.selection.parameters import Real, aligned_parameters, float_limits

__all__ = [
    "best_of_n",
    "best_of_n_stopped",
    "best_of_poisson",
    "kth_best_of_n",
    "top_fraction",
    "top_k_of_n",
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
    reference, count = aligned_parameters(reference, n=Real(n, at_least=1))
    return _distort(BestOfN, reference, count)


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
    reference, count = aligned_parameters(reference, n=Real(n, at_least=1))
    return _distort(WorstOfN, reference, count)


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
    reference, mu = aligned_parameters(
        reference, mean_extra_draws=Real(mean_extra_draws, at_least=0)
    )
    return _distort(BestOfPoisson, reference, mu)


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
    reference, c = aligned_parameters(reference, strength=Real(strength, at_least=0))
    return _distort(WinRateOptimal, reference, c)


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
    least = float(float_limits(reference).tiny)
    reference, q = aligned_parameters(reference, fraction=Real(fraction, at_least=least, at_most=1))
    policy = _distort(TopFraction, reference, q)
    _require_break(policy, "fraction", fraction, where="1 - fraction")
    return policy


def best_of_n_stopped(reference: Policy, threshold: Numbers, n_max: Numbers) -> Policy:
    r"""Draw until a candidate's rank is at least :math:`a`, at most :math:`N` times; else the best.

    .. math:: h(u) = N u^{N-1} \text{ below } a, \qquad h(u) = \frac{1 - a^N}{1 - a}
              \text{ from } a \text{ on}

    which is also the mean number of draws. A tie at the threshold is accepted in proportion. The
    rank of a reward :math:`\tau`, for "stop at a reward of at least :math:`\tau`", is
    :math:`P(r < \tau)`.

    Args:
        reference: the law of one draw. If continuous, its lattice needs a break at ``threshold``,
            where the density jumps.
        threshold: :math:`a \in [0, 1]`; 0 is the reference, 1 is :func:`best_of_n`.
        n_max: :math:`N`, real, at least 1; many are the :func:`top_fraction` :math:`1 - a`.

    Raises:
        ValueError: ``threshold`` is outside [0, 1], ``n_max < 1`` or not finite, or the lattice
            cannot represent the jump.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward(breaks=(0.7,))
        >>> stopped = bt.best_of_n_stopped(uniform, threshold=0.7, n_max=5)
        >>> round(float(bt.win_rate(stopped, uniform)), 6)  # by 2.7731 draws, not by 5
        0.805181

    Differentiable; in ``threshold`` where it is not at an end of a level, and at 1. Derived here.
    """
    reference, a, most = aligned_parameters(
        reference,
        threshold=Real(threshold, at_least=0, at_most=1),
        n_max=Real(n_max, at_least=1),
    )
    policy = _distort(BestOfNStopped, reference, a, most)
    _require_break(policy, "threshold", threshold, where="threshold")
    return policy


def kth_best_of_n(reference: Policy, n: Numbers, k: Numbers) -> Policy:
    r"""The law of the :math:`k`-th best of :math:`n` i.i.d. draws, ties broken uniformly.

    .. math:: H(u) = I_u(n-k+1, k), \qquad h(u) = \frac{u^{n-k} (1-u)^{k-1}}{B(n-k+1, k)}

    Args:
        reference: the law of one draw.
        n: number of candidates, real.
        k: place, real, from 1 for :func:`best_of_n` to ``n`` for :func:`worst_of_n`.

    Raises:
        ValueError: ``k < 1``, ``k > n``, one of them is not finite, or the nodes of a continuous
            reference are too far apart for a place among so many.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> round(float(bt.win_rate(bt.kth_best_of_n(uniform, n=9, k=2), uniform)), 12)
        0.8

    Standard (David and Nagaraja 2003, §2.1); with ties and at real :math:`n, k` derived here.
    """
    return _order_statistic(KthBestOfN, reference, n, k)


def top_k_of_n(reference: Policy, n: Numbers, k: Numbers) -> Policy:
    r"""The law of one, at random, of the :math:`k` best of :math:`n` i.i.d. draws.

    .. math:: h(u) = \frac nk I_u(n-k, k) \le \frac nk, \qquad
              \text{win rate } 1 - \frac{k+1}{2(n+1)} \text{ without ties}

    Between best-of-n and a top fraction: for many draws at fixed :math:`k/n` it is
    :func:`top_fraction`, and its density never exceeds :math:`n/k`.

    Args:
        reference: the law of one draw.
        n: number of candidates, real.
        k: how many of them are kept, real, from 1 for :func:`best_of_n` to ``n`` for the reference.

    Raises:
        ValueError: ``k < 1``, ``k > n``, one of them is not finite, or the nodes of a continuous
            reference are too far apart for a place among so many.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> round(float(bt.win_rate(bt.top_k_of_n(uniform, n=9, k=3), uniform)), 12)
        0.8

    The rule is that of Sriraman and Block 2026; its law, with ties and at real :math:`n, k`, is
    derived here.
    """
    return _order_statistic(TopKOfN, reference, n, k)


def _order_statistic(
    rule: Callable[..., KthBestOfN | TopKOfN], reference: Policy, n: Numbers, k: Numbers
) -> Policy:
    reference, count, place = aligned_parameters(
        reference, n=Real(n, at_least=1), k=Real(k, at_least=1)
    )
    require(
        lambda: np.all(np.asarray(place) <= np.asarray(count)),
        lambda: f"k must be at most n, got k={shown(k)} of n={shown(n)}: draw more, or lower k.",
        place,
        count,
    )
    policy = _places(rule, reference, count, place)
    _require_nodes(
        policy,
        lambda: (
            f"k={shown(k)} of n={shown(n)} is a place too sharp for the nodes of this "
            "continuous reference: raise num_nodes, or use Policy.from_samples."
        ),
    )
    return policy


def _require_break(policy: Policy, name: str, value: Numbers, *, where: str) -> None:
    """That the nodes of a continuous law see the jump of its density."""
    _require_nodes(
        policy,
        lambda: (
            f"{name}={shown(value)} cuts between quadrature nodes of this continuous "
            f"reference: build it with breaks=({where},), or use Policy.from_samples."
        ),
    )


def _require_nodes(policy: Policy, message: Callable[[], str]) -> None:
    """That the nodes of a continuous law carry all of its mass."""
    if policy.continuous:
        require(
            lambda: np.abs(np.asarray(policy.probs).sum(-1) - 1) < 1e-6,
            message,
            policy,
        )


@functools.partial(law_program, ranks=True, static_argnums=0)
def _distort(
    distort: Callable[..., Distortion], reference: Policy, *parameters: jax.Array
) -> Policy:
    """F_policy = H∘F, atom by atom."""
    distortion = distort(*parameters)
    log_ratio = distortion.log_ratio(reference.log_cdf_below, reference.log_cdf)
    log_cdf = distortion.log_cdf(reference.log_cdf)
    below = log_cdf if reference.continuous else distortion.log_cdf(reference.log_cdf_below)
    return reference.with_log_ratio(log_ratio, (below, log_cdf))


@functools.partial(law_program, ranks=True, static_argnums=0)
def _places(
    rule: Callable[..., KthBestOfN | TopKOfN], reference: Policy, n: jax.Array, k: jax.Array
) -> Policy:
    """As :func:`_distort`; the distribution function is summed up from the masses."""
    log_ratio = rule(n, k).log_ratio(reference.log_cdf_below, reference.log_cdf)
    return reference.without_ranks().with_log_ratio(log_ratio)
