r"""What selecting by a learned reward can cost: regret in win rate, from its pairwise error."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers, reward_array, scalar
from bon_theory._laws import require_policy, require_same_outcomes
from bon_theory._ragged import law_program
from bon_theory.divergences import hockey_stick_divergence
from bon_theory.performance import win_rate
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n, top_fraction

__all__ = ["pairwise_error", "regret_bound"]


def pairwise_error(reference: Policy, true_reward: Numbers) -> jax.Array:
    r"""How often the reward and the true reward disagree about two draws, a tie counting half.

    .. math:: \epsilon = E_{y, y' \sim \pi}\Bigl|\tfrac12\operatorname{sign}(r(y) - r(y'))
              - \tfrac12\operatorname{sign}(r^*(y) - r^*(y'))\Bigr|

    Args:
        reference: :math:`\pi` with the reward :math:`r` by which is selected; discrete.
        true_reward: :math:`r^*`, ``[..., K]``.

    Returns:
        ``[...]``, from 0, for the same order, to 1; half of it where one of them ties all.

    Raises:
        ValueError: the reference is continuous, or ``true_reward`` is not finite or of other shape.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bt.pairwise_error(reference, [0.0, 1.0, 0.5])), 12)  # 2 · 0.3 · 0.2
        0.12

    Sriraman and Block 2026 for the assumption; with ties derived here.
    """
    return _pairwise_error(reference, _true_law(reference, true_reward))


def regret_bound(
    comparator: Policy, reference: Policy, true_reward: Numbers, *, n: Numbers, ratio: Numbers
) -> jax.Array:
    r"""What best-of-n by a learned reward is short of a comparator's win rate by, at most.

    With :math:`R` the true win rate against :math:`\pi` and :math:`W` that by the reward,

    .. math:: R(\pi^*) - R(P_n) \le E_M(\pi^*\|\pi) + (M + n)\,\epsilon
              + W(\text{top } 1/M) - W(P_n)

    for every :math:`M \ge 1`. *Proof.* A law of density at most :math:`M` has
    :math:`|R - W| \le M\epsilon`, since win rates are means over pairs. So best-of-n loses at most
    :math:`n\epsilon` to its :math:`W`; of the comparator the part of density at most :math:`M`,
    all but :math:`E_M`, wins by at most :math:`M\epsilon` more than its :math:`W`; and no part
    of such a density has a higher :math:`W` than the top :math:`1/M`. Published with
    :math:`\tfrac12 e^{-n/M}` for the last difference, which is :math:`\frac1{n+1} - \frac1{2M}`
    without ties.

    Args:
        comparator: :math:`\pi^*`, any law on the reference's outcomes.
        reference: :math:`\pi` with the reward by which is selected; discrete.
        true_reward: :math:`r^*`, ``[..., K]``.
        n: number of candidates, real, at least 1.
        ratio: :math:`M \ge 1`.

    Raises:
        ValueError: as :func:`pairwise_error`; ``n < 1``, ``ratio < 1``, or the laws are not on the
            same outcomes.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> truth = [0.1, 0.6, 0.6]
        >>> best = bt.exponential_tilt(bt.Policy.from_probs(reference.probs, truth), 0.0)
        >>> bound = bt.regret_bound(best, reference, truth, n=4, ratio=2.0)
        >>> round(float(bound), 6)
        0.3374

    Sriraman and Block 2026 (arXiv 2603.05739); the difference in place of its bound is derived
    here.
    """
    require_same_outcomes(comparator, "reference", reference)
    most = scalar("ratio", ratio, reference.dtype, at_least=1)
    count = scalar("n", n, reference.dtype, at_least=1)
    error = pairwise_error(reference, true_reward)
    left = hockey_stick_divergence(comparator, reference, most)
    best = win_rate(best_of_n(reference, count), reference)
    missed = win_rate(top_fraction(reference, 1 / most), reference) - best
    return left + (most + count) * error + missed


def _true_law(reference: Policy, true_reward: Numbers) -> Policy:
    """The reference with the true reward in place of the learned one."""
    require_policy("reference", reference)
    if reference.continuous:
        raise ValueError(
            "reference must be discrete where two rewards are compared, got a continuous one: "
            "use Policy.from_samples with draws of both."
        )
    shape = reference.log_probs.shape
    return Policy(
        reference.log_probs,
        jnp.broadcast_to(reward_array(true_reward, shape, reference.dtype), shape),
    )


@law_program
def _pairwise_error(reference: Policy, truth: Policy) -> jax.Array:
    learned, true = (
        jnp.sign(law.rewards[..., :, None] - law.rewards[..., None, :])
        for law in (reference, truth)
    )
    probs = reference.probs
    weight = probs[..., :, None] * probs[..., None, :]
    return jnp.sum(weight * jnp.abs(learned - true), axis=(-2, -1)) / 2
