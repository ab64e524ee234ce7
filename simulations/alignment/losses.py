r"""Losses on pairs of responses: of given log-probabilities, and of nothing else.

Letters: P pairs, :math:`\pi_\theta` the policy that is trained, :math:`\pi` its reference,
:math:`h = \log \pi_\theta/\pi` of a whole response: sums over its tokens, EOS included, the prompt
left out. They are not divided by length: :math:`\beta^*_n` is meant for sums.

Every function gives a value for each pair, ``[P]``, and is differentiable in the policy's
log-probabilities; a training step takes their mean. Their minimisers in expectation, over all laws,
are in :mod:`bon_theory.alignment`, and so are the population's values (:func:`bon_theory.alignment.
bonbon_loss` and others): there the expectation is exact, here it is over the pairs that were drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from bon_theory.alignment import best_of_n_beta

__all__ = [
    "OnPolicy",
    "PairLogProbs",
    "bonbon",
    "dpo",
    "ipo",
    "ipo_best_of_n",
    "ipo_matched",
    "jeffreys",
    "log_atom_excess",
    "log_rank",
    "matched_target",
    "papers_beta",
    "reverse_kl",
    "reverse_kl_values",
    "sft",
]


class PairLogProbs(NamedTuple):
    """log-probabilities of the two responses of each pair, ``[P]`` each, in nats.

    Attributes:
        chosen: of the preferred response, or the best of n, under the policy.
        rejected: of the other, or the worst of n, under the policy.
        chosen_reference: of the preferred one under the reference; a constant of training.
        rejected_reference: of the other under the reference.
    """

    chosen: jax.Array
    rejected: jax.Array
    chosen_reference: jax.Array
    rejected_reference: jax.Array

    @property
    def margin(self) -> jax.Array:
        """h(chosen) − h(rejected), ``[P]``."""
        return self.chosen - self.chosen_reference - (self.rejected - self.rejected_reference)


def sft(pairs: PairLogProbs) -> jax.Array:
    r"""Supervised fine-tuning on the chosen response: :math:`-\log\pi_\theta(y_{(n)})`.

    On the best of n it is SFT-BoN, which best-of-n minimises. [G] (4.1).
    """
    return -pairs.chosen


def ipo(pairs: PairLogProbs, *, beta: float | jax.Array) -> jax.Array:
    r"""IPO: :math:`\bigl(h(y_w) - h(y_l) - 1/(2\beta)\bigr)^2`.

    Args:
        pairs: ordinary preference pairs, or the best and the worst of n.
        beta: :math:`\beta > 0`; not checked.

    Azar et al. 2023.
    """
    return jnp.square(pairs.margin - 0.5 / beta)


def ipo_best_of_n(pairs: PairLogProbs, *, n: int) -> jax.Array:
    r"""IPO-BoN: :func:`ipo` at :math:`\beta^*_n`, the mean margin of best-of-n being its target.

    Args:
        pairs: the best and the worst of n.
        n: candidates of a pair, at least 2.

    Raises:
        ValueError: ``n`` is less than 2.

    [G] (4.3). Its minimiser is not best-of-n: :func:`bon_theory.alignment.ipo`.
    """
    return ipo(pairs, beta=papers_beta(n))


def papers_beta(n: int) -> float:
    r""":math:`\beta^*_n` as a number, in a function that is being traced as well.

    Raises:
        ValueError: ``n`` is less than 2.
    """
    with jax.ensure_compile_time_eval():
        return float(best_of_n_beta(n))


def bonbon(
    pairs: PairLogProbs, *, n: int, sft_weight: float | jax.Array, beta: float | None = None
) -> jax.Array:
    r"""BoNBoN: :math:`\alpha` SFT-BoN :math:`+ (1-\alpha)` IPO-BoN.

    Args:
        pairs: the best and the worst of n.
        n: candidates of a pair, at least 2.
        sft_weight: :math:`\alpha \in [0, 1]`; the paper's is .005.
        beta: :math:`\beta^*_n` unless given.

    Raises:
        ValueError: ``n`` is less than 2.

    [G] (4.4).
    """
    contrast = ipo_best_of_n(pairs, n=n) if beta is None else ipo(pairs, beta=beta)
    return sft_weight * sft(pairs) + (1 - sft_weight) * contrast


def dpo(pairs: PairLogProbs, *, beta: float | jax.Array) -> jax.Array:
    r"""DPO: :math:`-\log\sigma\bigl(\beta [h(y_w) - h(y_l)]\bigr)`.

    Args:
        pairs: ordinary preference pairs, or the best and the worst of n.
        beta: :math:`\beta > 0`; not checked.

    Rafailov et al. 2023.
    """
    return -jax.nn.log_sigmoid(beta * pairs.margin)


def ipo_matched(pairs: PairLogProbs, *, target: ArrayLike) -> jax.Array:
    r"""IPO with the margin of best-of-n at each pair as its target; best-of-n minimises it.

    Args:
        pairs: the best and the worst of n.
        target: ``[P]``, of :func:`matched_target`. It may be noisy: a target with the right mean,
            given the pair, changes the loss by a constant.

    Derived here; the population's is :func:`bon_theory.alignment.ipo_matched`.
    """
    return jnp.square(pairs.margin - jnp.asarray(target, pairs.margin.dtype))


def matched_target(
    log_rank_chosen: ArrayLike, log_rank_rejected: ArrayLike, *, n: int
) -> NDArray[np.float64]:
    r""":math:`(n-1)[\log F(y_{(n)}) - \log F(y_{(1)})]`, the pair's margin at best-of-n.

    Args:
        log_rank_chosen: ``[P]``, :math:`\log F` of the chosen response's reward, or an estimate of
            it, see :func:`log_rank`.
        log_rank_rejected: ``[P]``, likewise of the rejected one.
        n: candidates of a pair.
    """
    difference = np.asarray(log_rank_chosen, np.float64) - np.asarray(log_rank_rejected, np.float64)
    return (n - 1) * difference


def log_rank(num_not_above: ArrayLike, num_draws: ArrayLike) -> NDArray[np.float64]:
    r""":math:`H_k - H_m`, an estimate of :math:`\log F` from m further draws, k of them not above.

    .. math:: E[H_K - H_m] = -\sum_{j=1}^m \frac{(1-F)^j}{j}, \qquad K \sim \mathrm{Bin}(m, F)

    which is :math:`\log F` but for the tail of the series, less than
    :math:`(1-F)^{m+1}/((m+1) F)`: :math:`\log(K/m)` has a bias of order :math:`1/(mF)` and is
    infinite at K = 0. It is the mean of :math:`-H_{N-1}` over the orders of the draws, N being the
    first that is not above, and :math:`E H_{N-1} = -\log F` for a geometric N (derived here).

    Args:
        num_not_above: k, draws whose reward is at most that of the response.
        num_draws: m, draws from the reference that were not used to choose the pair. (With the n
            candidates themselves, of which the best has k = n, ranks of a pool take their place.)

    Raises:
        ValueError: k is not between 0 and m.

    Example:
        >>> log_rank([0, 1, 2], 2)
        array([-1.5, -0.5,  0. ])
    """
    k, m = np.asarray(num_not_above, np.float64), np.asarray(num_draws, np.float64)
    if not np.all((k >= 0) & (k <= m)):
        raise ValueError(
            f"num_not_above must be between 0 and num_draws, got {k.min()} to {k.max()} of "
            f"{m.max()}: count draws with a reward at most the response's"
        )
    return scipy.special.digamma(k + 1) - scipy.special.digamma(m + 1)


def log_atom_excess(
    num_below: ArrayLike, num_not_above: ArrayLike, *, n: int
) -> NDArray[np.float64]:
    r"""What an atom of the reward takes off the log density of best-of-n, by counts of draws.

    .. math:: \log\frac{F^n - (F^-)^n}{F - F^-} = \log n + (n-1)\log F
              + \log\frac{1 - r^n}{n (1 - r)}, \qquad r = F^-/F

    and this is the last term, with r estimated by the share of the draws not above that are below:
    0 where no draw ties with the response, as without atoms.

    Args:
        num_below: draws with a lower reward than the response's.
        num_not_above: draws with a reward at most the response's.
        n: candidates of best-of-n.

    Example:
        >>> log_atom_excess([3, 0], [3, 4], n=2)
        array([ 0.        , -0.69314718])

    Derived here; :func:`log_rank` estimates the middle term.
    """
    below, not_above = np.asarray(num_below, np.float64), np.asarray(num_not_above, np.float64)
    share = np.where(not_above > 0, below / np.maximum(not_above, 1), 1.0)
    # (1 − rⁿ)/(1 − r) = 1 + r + … + r^(n−1): no quotient of differences that vanish.
    return np.log(np.sum(share[..., None] ** np.arange(n), axis=-1) / n)


class OnPolicy(NamedTuple):
    r"""Responses that the policy itself drew, G to each of P prompts: arrays ``[P, G]``.

    Attributes:
        log_probs: :math:`\log\pi_\theta(y)`, differentiable.
        reference_log_probs: :math:`\log\pi(y)`.
        log_ranks: :math:`\log F` of their rewards, or estimates (:func:`log_rank`).
    """

    log_probs: jax.Array
    reference_log_probs: jax.Array
    log_ranks: jax.Array


def reverse_kl(drawn: OnPolicy, *, n: float | jax.Array) -> jax.Array:
    r"""A surrogate whose gradient is that of :math:`\mathrm{KL}(\pi_\theta \| P_n)`, ``[P, G]``.

    .. math:: \bigl[h(y) - (n-1)\log F(y) - \log n - b\bigr]\;\log\pi_\theta(y)

    with the bracket held constant and b the mean of the others' brackets. Its mean is no
    divergence; :func:`reverse_kl_values` has that. It is variational best-of-n
    (Amini et al. 2024, :math:`n = 1/\beta + 1`) and the backward half of BOND's Jeffreys divergence
    (Sessa et al. 2024), of which :func:`sft` on the best of n is the forward half.

    Args:
        drawn: at least two responses to a prompt.
        n: candidates of best-of-n, real.

    Raises:
        ValueError: fewer than two responses to a prompt.
    """
    size = drawn.log_probs.shape[-1]
    if size < 2:
        raise ValueError(
            f"drawn has {size} response to a prompt: draw at least 2, each the others' baseline"
        )
    values = jax.lax.stop_gradient(reverse_kl_values(drawn, n=n))
    others = (jnp.sum(values, axis=-1, keepdims=True) - values) / (size - 1)
    return (values - others) * drawn.log_probs


def reverse_kl_values(drawn: OnPolicy, *, n: float | jax.Array) -> jax.Array:
    r""":math:`\log\pi_\theta/P_n` of each response, ``[P, G]``: its mean is the divergence.

    Without ties :math:`\log P_n/\pi = \log n + (n-1)\log F`.
    """
    target = drawn.reference_log_probs + jnp.log(n) + (n - 1) * drawn.log_ranks
    return drawn.log_probs - target


def jeffreys(pairs: PairLogProbs, drawn: OnPolicy, *, n: float, forward_weight: float) -> jax.Array:
    r"""BOND's surrogate: w forward KL from best-of-n, 1−w backward KL to it; a scalar.

    Args:
        pairs: whose chosen response is the best of n.
        drawn: from the policy.
        n: candidates.
        forward_weight: w in [0, 1].

    Sessa et al. 2024 (BOND).
    """
    forward, backward = jnp.mean(sft(pairs)), jnp.mean(reverse_kl(drawn, n=n))
    return forward_weight * forward + (1 - forward_weight) * backward
