r"""What each loss aims at: the policy that minimises it over all policies, on infinite data.

``n`` is an integer of at least 2, the number of candidates of which the best and the worst make a
pair; two make an ordinary preference pair. Parameters may be arrays that broadcast against the
reference's batch axes; traced inadmissible values give NaN.

The result depends on the rewards through their order alone. On a continuous reference it is
computed on a grid of ranks of its own, to 1e-12 up to n = 64 (1e-7 for SFT weights within 0.01 of
1) and 1e-5 up to n = 200, and carried to the reference's nodes. What is then computed from those
nodes is as good as they resolve the result, which turns within 1/n of the median: at n = 8 win
rates are right to 1e-7 on default nodes and to 1e-14 on nodes with ``breaks=(0.5,)``, which large n
needs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, positive, require, scalar
from bon_theory._laws import aligned, require_policy
from bon_theory.alignment.margins import best_of_n_beta
from bon_theory.alignment.pairs import (
    PairLaw,
    discrete_pair_law,
    number_of_candidates,
    per_law,
)
from bon_theory.alignment.rank_grid import grid_pair_law, interpolate, log_densities
from bon_theory.alignment.stationarity import log_ratio_between, minimising_log_ratio
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n, exponential_tilt

__all__ = ["bonbon", "dpo", "ipo", "ipo_best_of_n", "ipo_matched", "sft_best_of_n"]


def sft_best_of_n(reference: Policy, *, n: Numbers) -> Policy:
    r"""Minimiser of SFT on the best of n, :math:`-E \log \pi_\theta(y_{(n)})`: best-of-n itself.

    The loss is the entropy of the law :math:`P` of best-of-n plus
    :math:`\mathrm{KL}(P\|\pi_\theta) \ge 0`.

    Args:
        reference: the law of one draw.
        n: number of candidates, real, at least 1: no pair is needed.

    Raises:
        ValueError: as :func:`bon_theory.best_of_n`.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> policy = bt.alignment.sft_best_of_n(uniform, n=8)
        >>> round(float(bt.win_rate(policy, uniform)), 6)
        0.888889

    [G] §4, SFT-BoN; the minimiser is Gibbs' inequality. Standard.
    """
    return best_of_n(reference, n)


def ipo(reference: Policy, *, n: Numbers = 2, beta: Numbers) -> Policy:
    r"""Minimiser of IPO on the best and the worst of n draws from the reference.

    .. math:: E\Bigl(\log\frac{\pi_\theta(y_{(n)})}{\pi_\theta(y_{(1)})}
              - \log\frac{\pi(y_{(n)})}{\pi(y_{(1)})} - \frac{1}{2\beta}\Bigr)^2

    With :math:`m = 1/(2\beta)`, :math:`h = \log \pi_\theta/\pi` solves

    .. math:: (f_n + f_1)\,h - n(n-1)\int_0^1 |u-v|^{n-2}\,h(v)\,dv = m\,(f_n - f_1),
              \quad f_n = n u^{n-1},\; f_1 = n(1-u)^{n-1}.

    On ordinary pairs (n = 2) the solution is :math:`h = u/\beta`, the highest win rate at its KL
    divergence: :func:`bon_theory.win_rate_optimal` of strength :math:`1/\beta`. With atoms
    :math:`u` is the mid-rank. For large n it is a step: a multiple of :math:`m` at the median.

    Args:
        reference: the law of one draw.
        n: number of candidates, an integer of at least 2; 2 is an ordinary preference pair.
        beta: :math:`\beta > 0`.

    Raises:
        ValueError: ``beta`` is not positive and finite, ``n`` less than 2 or no integer, batch axes
            do not match, or a continuous reference does not resolve the result.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> policy = bt.alignment.ipo(uniform, beta=0.2)
        >>> optimum = bt.win_rate_optimal(uniform, 5.0)
        >>> float(bt.kl_divergence(policy, optimum)) < 1e-9
        True

    The loss is that of Azar et al. 2023, with [G]'s pairs; the equation is derived here
    (:mod:`bon_theory.alignment.stationarity`).
    """
    return _minimiser(reference, n, beta, 0.0)


def ipo_best_of_n(reference: Policy, *, n: Numbers) -> Policy:
    r"""Minimiser of IPO-BoN: :func:`ipo` on best-and-worst pairs at :math:`\beta^*_n`.

    .. math:: \frac{1}{2\beta^*_n} = (n-1)\sum_{k=1}^{n-1}\frac1k

    is the mean of the margin at best-of-n (:func:`best_of_n_beta`). The margin is not constant
    there, so best-of-n does not minimise the loss. What does is at n = 2 the win-rate optimum of
    strength 2; it wins most often at n = 5 (.837); and as n grows it tends to the better half of
    the reference, with win rate 3/4 and KL divergence :math:`\log 2`.

    Args:
        reference: the law of one draw.
        n: number of candidates, an integer of at least 2.

    Raises:
        ValueError: as :func:`ipo`.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> policy = bt.alignment.ipo_best_of_n(uniform, n=8)
        >>> round(float(bt.win_rate(policy, uniform)), 5)  # best-of-8 wins 0.88889
        0.81368

    [G] §4, IPO-BoN; the minimiser is derived here.
    """
    return ipo(reference, n=n, beta=best_of_n_beta(n))


def bonbon(
    reference: Policy, *, n: Numbers, beta: Numbers | None = None, sft_weight: Numbers
) -> Policy:
    r"""Minimiser of BoNBoN: :math:`\alpha` SFT-BoN :math:`+ (1-\alpha)` IPO-BoN.

    Args:
        reference: the law of one draw.
        n: number of candidates, an integer of at least 2.
        beta: of IPO-BoN; :math:`\beta^*_n` unless given.
        sft_weight: :math:`\alpha \in [0, 1]`; 0 is :func:`ipo_best_of_n`, 1 is best-of-n. The paper
            takes 0.005.

    Raises:
        ValueError: ``sft_weight`` is outside [0, 1], or as :func:`ipo`.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> policy = bt.alignment.bonbon(uniform, n=8, sft_weight=0.005)
        >>> round(float(bt.win_rate(policy, uniform)), 4)
        0.8141

    [G] §4, BoNBoN alignment; the minimiser is derived here
    (:mod:`bon_theory.alignment.stationarity`).
    """
    return _minimiser(reference, n, best_of_n_beta(n) if beta is None else beta, sft_weight)


def ipo_matched(reference: Policy, *, n: Numbers) -> Policy:
    r"""Minimiser of IPO with each pair's own margin as its target: best-of-n itself.

    .. math:: E\Bigl(\log\frac{\pi_\theta(y_{(n)})}{\pi_\theta(y_{(1)})}
              - \log\frac{\pi(y_{(n)})}{\pi(y_{(1)})}
              - (n-1)\log\frac{F(r(y_{(n)}))}{F(r(y_{(1)}))}\Bigr)^2

    replaces the mean margin of IPO-BoN by the margin itself. With
    :math:`\ell = \log P/\pi` of best-of-n, which is :math:`\log n + (n-1)\log F` without ties, the
    target is :math:`\ell(y_{(n)}) - \ell(y_{(1)})`: the loss is
    :math:`E[(h-\ell)(y_{(n)}) - (h-\ell)(y_{(1)})]^2 \ge 0`, zero at :math:`h = \ell`, and only
    there up to a constant, because every two possible outcomes are ends of a pair. It stays the
    minimiser at any SFT weight, and on any law of pairs with that support. At the minimiser every
    single pair has residual zero: stochastic gradients have no noise there.

    Args:
        reference: the law of one draw.
        n: number of candidates, an integer of at least 2.

    Raises:
        ValueError: ``n`` is less than 2 or no integer, or batch axes do not match.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> best = bt.alignment.ipo_matched(reference, n=3)
        >>> float(bt.alignment.ipo_matched_loss(best, reference, n=3)) < 1e-12
        True

    Derived here.
    """
    require_policy("reference", reference)
    return best_of_n(reference, number_of_candidates(n, reference.dtype))


def dpo(reference: Policy, *, beta: Numbers, label_temperature: Numbers) -> Policy:
    r"""Minimiser of DPO where labels follow Bradley and Terry: the tilt at :math:`\beta\tau`.

    .. math:: -E\log\sigma\bigl(\beta\,[h(\text{preferred}) - h(\text{other})]\bigr), \quad
              P(y \text{ preferred to } y') = \sigma\Bigl(\frac{r(y) - r(y')}{\tau}\Bigr)

    is pair by pair least at :math:`h(y) - h(y') = (r(y) - r(y'))/(\beta\tau)`, so on any law of
    pairs whose support is connected, best-and-worst pairs included, the minimiser is
    :math:`\pi e^{r/(\beta\tau)}/Z`.

    **With a deterministic ranker** (:math:`\tau = 0`) **there is no minimiser**: the derivative of
    the loss along the ranking, :math:`h = c F`, is negative at every :math:`c`, and the infimum
    (zero, but for tied pairs) is approached only as the policy leaves every reference that has
    two rewards: towards its highest reward. Where a run stops is decided by when it stops; see
    :func:`gradient_flow`.

    Args:
        reference: the law of one draw.
        beta: :math:`\beta > 0`.
        label_temperature: :math:`\tau > 0`, in units of the reward.

    Raises:
        ValueError: ``beta`` or ``label_temperature`` is not positive and finite, or the tilt does
            not exist.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> policy = bt.alignment.dpo(reference, beta=0.5, label_temperature=2.0)
        >>> round(float(policy.probs[1]), 6)  # a tilt at temperature 1
        0.731059

    Rafailov et al. 2023 for the loss and the minimiser; what happens without noise is derived here
    (Azar et al. 2023 observe it for a pair).
    """
    require_policy("reference", reference)
    tau = scalar("label_temperature", label_temperature, reference.dtype, at_least=0)
    require(
        lambda: np.asarray(tau) > 0,
        lambda: (
            f"label_temperature must be positive, got {label_temperature}: with a deterministic "
            "ranker DPO has no finite minimiser; follow gradient_flow of dpo_loss instead."
        ),
        tau,
    )
    strength = positive("beta", beta, reference.dtype) * jnp.where(tau > 0, tau, jnp.nan)
    return exponential_tilt(reference, strength)


def _minimiser(reference: Policy, n: Numbers, beta: Numbers, sft_weight: Numbers) -> Policy:
    """The policy, with every argument checked; one solve per batch element."""
    require_policy("reference", reference)
    count = number_of_candidates(n, reference.dtype)
    margin = 0.5 / positive("beta", beta, reference.dtype)
    weight = scalar("sft_weight", sft_weight, reference.dtype, at_least=0, at_most=1)
    solve = _continuous if reference.continuous else _discrete
    parameters = {"n": count, "beta": margin, "sft_weight": weight}
    log_ratio = per_law(solve, (reference,), parameters, output="(k)")
    (reference,) = aligned(reference, ndim=log_ratio.ndim)
    policy = reference.with_log_ratio(log_ratio)
    require(
        lambda: np.abs(np.asarray(policy.probs).sum(-1) - 1) < 1e-4,
        lambda: _unresolved(reference, n, beta),
        policy,
    )
    return policy


def _unresolved(reference: Policy, n: Numbers, beta: Numbers) -> str:
    if reference.continuous:
        return (
            f"reference does not resolve the minimiser at n={n}: build it with breaks=(0.5,), near "
            "which the minimiser turns within 1/n; beyond n = 200 take a discrete reference."
        )
    return (
        f"n={n} and beta={beta} ask for log ratios of the order 1/(2 beta), beyond what "
        f"{reference.dtype} resolves: choose a smaller n or a larger beta."
    )


# Compiled once per shape: a loop would otherwise be compiled anew at every call.
@jax.jit
def _discrete(reference: Policy, n: jax.Array, margin: jax.Array, weight: jax.Array) -> jax.Array:
    return minimising_log_ratio(discrete_pair_law(reference, n), margin, weight)


@jax.jit
def _continuous(reference: Policy, n: jax.Array, margin: jax.Array, weight: jax.Array) -> jax.Array:
    grid = grid_pair_law(n)
    h = minimising_log_ratio(grid, margin, weight)
    partner_mean = interpolate(grid.partner @ h, jnp.exp(reference.log_cdf))
    densities = log_densities(reference.log_cdf, n)
    nodes = PairLaw(reference.log_probs, *densities, jnp.zeros((0, 0), n.dtype))
    return log_ratio_between(nodes, partner_mean, margin, weight)
