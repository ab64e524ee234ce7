r"""What can be reached with a number of draws that is bounded on average alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers
from bon_theory._laws import aligned, require_same_outcomes
from bon_theory._numerics import safe_log
from bon_theory._ragged import law_program
from bon_theory.policy import Policy
from bon_theory.reachable.nearest import log_after, order_by_ratio
from bon_theory.selection.parameters import Real, aligned_parameters

__all__ = ["nearest_in_mean_draws"]


def nearest_in_mean_draws(target: Policy, reference: Policy, mean_draws: Numbers) -> Policy:
    r"""The law nearest to ``target`` among all rules that draw :math:`c` times on average.

    .. math:: \frac{P}{\pi} = \min(\kappa L, c), \qquad L = \frac{dP^*}{d\pi}, \qquad
              \kappa = \max_t \frac{1 - c\,\pi(L \ge t)}{P^*(L < t)} \ge 1

    A rule that stops after :math:`\tau` draws, :math:`E\tau \le c`, and returns one of them has
    :math:`P(A) \le E\sum_{i \le \tau} 1\{X_i \in A\} = \pi(A)\,E\tau` by Wald, so its density is at
    most :math:`c`; and rejection, which accepts :math:`y` with probability
    :math:`\min(\kappa L(y)/c, 1)`, has this law with :math:`c` draws on average. Among densities
    that are at most :math:`c` it is nearest to the target in every :math:`f`-divergence, from and
    to it; the total variation left is ``hockey_stick_divergence(target, reference, mean_draws)``.

    Of rewards, the highest mean and the highest win rate of :math:`c` draws on average are those of
    ``top_fraction(reference, 1 / c)``: without ties :math:`1 - 1/(2c)`, where best-of-c has
    :math:`1 - 1/(c+1)`.

    Args:
        target: :math:`P^*`, any law on the reference's outcomes. What it lacks is returned, in the
            reference's proportions, only as far as :math:`c` on the rest does not make a law.
        reference: :math:`\pi`, the law of one draw. Of continuous laws the nodes are the outcomes:
            where the density meets the cap the error is of second order in their spacing.
        mean_draws: :math:`c`, at least 1.

    Raises:
        ValueError: ``mean_draws < 1`` or not finite; the laws are not on the same outcomes.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> target = bt.exponential_tilt(reference, temperature=0.5)
        >>> near = bt.nearest_in_mean_draws(target, reference, mean_draws=2)
        >>> round(float(bt.total_variation(near, target)), 6)
        0.129056
        >>> round(float(bt.hockey_stick_divergence(target, reference, 2)), 6)
        0.129056

    Derived here (Neyman and Pearson's argument, with Wald's identity).
    """
    require_same_outcomes(target, "reference", reference)
    reference, mean = aligned_parameters(reference, mean_draws=Real(mean_draws, at_least=1))
    target, reference = aligned(target, reference)
    mean = mean.reshape((1,) * (target.log_probs.ndim - mean.ndim) + mean.shape)
    return _capped(target, reference, mean)


@law_program
def _capped(target: Policy, reference: Policy, mean: jax.Array) -> Policy:
    order, ratio, log_p, log_q = order_by_ratio(target, reference)
    # Before every outcome: 1 - c π(before), for the rest, over the mass of the target there.
    log_rest, log_kept = log_after(log_q)[..., :-1], log_after(log_p)[..., :-1]
    room = jnp.maximum(mean * jnp.exp(log_rest) - (mean - 1), 0)
    room = jnp.where(log_rest == 0, 1, room)
    lacks = log_p == -jnp.inf
    raised = safe_log(room) - jnp.where(lacks, 0, log_kept)
    log_kappa = jnp.max(jnp.where(lacks, -jnp.inf, raised), axis=-1, keepdims=True)
    log_cap = jnp.log(mean)

    # Where the target is nothing there is what c on all the rest leaves, if anything.
    beyond = lacks & (log_q > -jnp.inf)
    left = jnp.max(jnp.where(beyond, safe_log(room) - log_rest, -jnp.inf), axis=-1, keepdims=True)
    difference = log_p - jnp.where(log_q == -jnp.inf, 0, log_q)
    capped = jnp.minimum(jnp.where(lacks, 0, difference) + log_kappa, log_cap)
    capped = jnp.where(left > -jnp.inf, log_cap, capped)
    log_ratio = jnp.where(log_q == -jnp.inf, 0, jnp.where(lacks, left, capped))
    unknown = jnp.isnan(log_p) | jnp.isnan(log_q) | jnp.isnan(mean) | jnp.isnan(ratio)
    log_ratio = jnp.where(jnp.any(unknown, axis=-1, keepdims=True), jnp.nan, log_ratio)
    log_ratio, order = jnp.broadcast_arrays(log_ratio, order)
    back = jnp.put_along_axis(jnp.zeros_like(log_ratio), order, log_ratio, axis=-1, inplace=False)
    return reference.without_ranks().with_log_ratio(back)
