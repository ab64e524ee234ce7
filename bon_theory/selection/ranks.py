"""The selections that look only at ranks: each is a distortion of the reward CDF."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import numpy as np

from bon_theory._arguments import Numbers, require
from bon_theory._ragged import law_program
from bon_theory.distortion import (
    BestOfN,
    BestOfPoisson,
    Distortion,
    TopFraction,
    WinRateOptimal,
    WorstOfN,
)
from bon_theory.policy import Policy
from bon_theory.selection.parameters import Real, aligned_parameters, float_limits

__all__ = ["best_of_n", "best_of_poisson", "top_fraction", "win_rate_optimal", "worst_of_n"]


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


@functools.partial(law_program, ranks=True, static_argnums=0)
def _distort(
    distort: Callable[[jax.Array], Distortion], reference: Policy, parameter: jax.Array
) -> Policy:
    """F_policy = H∘F, atom by atom."""
    distortion = distort(parameter)
    log_ratio = distortion.log_ratio(reference.log_cdf_below, reference.log_cdf)
    log_cdf = distortion.log_cdf(reference.log_cdf)
    below = log_cdf if reference.continuous else distortion.log_cdf(reference.log_cdf_below)
    return reference.with_log_ratio(log_ratio, (below, log_cdf))
