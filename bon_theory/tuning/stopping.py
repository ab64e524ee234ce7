r"""When to stop drawing: thresholds for a budget of draws, and for a price per draw."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, require, require_batches, scalar, shown
from bon_theory._numerics import log1mexp, log_mean_power, safe_log
from bon_theory._ragged import law_program
from bon_theory.performance import reward_extremes
from bon_theory.policy import Policy
from bon_theory.selection.parameters import Real, aligned_parameters, float_limits
from bon_theory.selection.tilts import level_below_top
from bon_theory.tuning.root import increasing_root

__all__ = ["mean_draws_stopped", "pandora_threshold", "threshold_for_mean_draws"]


def mean_draws_stopped(threshold: Numbers, n_max: Numbers) -> jax.Array:
    r"""The mean number of draws of :func:`bon_theory.best_of_n_stopped`.

    .. math:: 1 + a + \dots + a^{N-1} = \frac{1 - a^N}{1 - a}

    Args:
        threshold: :math:`a \in [0, 1]`, the rank from which on a draw is kept.
        n_max: :math:`N \ge 1`, the largest number of draws; the formula is that at real :math:`N`.

    Raises:
        ValueError: ``threshold`` is outside [0, 1], ``n_max < 1`` or not finite; the shapes do not
            broadcast.

    Example:
        >>> import bon_theory as bt
        >>> round(float(bt.mean_draws_stopped(threshold=0.7, n_max=5)), 4)
        2.7731

    Derived here.
    """
    dtype = jnp.result_type(float)
    a = scalar("threshold", threshold, dtype, at_least=0, at_most=1)
    most = scalar("n_max", n_max, dtype, at_least=1)
    require_batches("threshold", a.shape, most.shape)
    a, most = jnp.broadcast_arrays(a, most)
    return jnp.exp(_log_mean_draws(safe_log(a), most))


def threshold_for_mean_draws(n_max: Numbers, mean_draws: Numbers) -> jax.Array:
    r"""The rank at which to stop for a mean number of draws: :math:`\frac{1-a^N}{1-a} = c`.

    Args:
        n_max: :math:`N \ge 1`, the largest number of draws, real.
        mean_draws: :math:`c`, from 1 (where :math:`a = 0`) to ``n_max`` (where :math:`a = 1`).

    Returns:
        :math:`a \in [0, 1]`; differentiable in both.

    Raises:
        ValueError: ``mean_draws`` is below 1 or above ``n_max``, or one of them is not finite.

    Example:
        >>> import bon_theory as bt
        >>> a = bt.threshold_for_mean_draws(n_max=2, mean_draws=1.5)
        >>> round(float(a), 12)
        0.5

    Derived here.
    """
    dtype = jnp.result_type(float)
    most = scalar("n_max", n_max, dtype, at_least=1)
    mean = scalar("mean_draws", mean_draws, dtype, at_least=1)
    require_batches("n_max", most.shape, mean.shape)
    most, mean = jnp.broadcast_arrays(most, mean)
    require(
        lambda: np.all(np.asarray(mean) <= np.asarray(most)),
        lambda: (
            f"mean_draws must be at most n_max, got {shown(mean_draws)} of {shown(n_max)}: "
            "allow more draws."
        ),
        mean,
        most,
    )
    return _threshold(most, jnp.where(mean <= most, mean, jnp.nan))


@jax.jit
def _threshold(most: jax.Array, mean: jax.Array) -> jax.Array:
    # In x = -log(1 - a): the geometric number of draws, N = ∞, has the mean e^x.
    target = jnp.log(mean)

    def excess(x: jax.Array) -> jax.Array:
        return _log_mean_draws(log1mexp(-x), most) - target

    high = jnp.full_like(target, 60.0)  # where a is 1 in floating point
    x = increasing_root(excess, jnp.zeros_like(target), high, -target, jnp.log(most) - target)
    return jnp.where(jnp.isnan(target), jnp.nan, -jnp.expm1(-x))


def _log_mean_draws(log_a: jax.Array, most: jax.Array) -> jax.Array:
    return log_mean_power(most, log_a, jnp.zeros_like(log_a))


def pandora_threshold(reference: Policy, cost: Numbers) -> jax.Array:
    r"""The reward at which to stop when every draw costs: :math:`E_\pi(r - \tau)_+ = \text{cost}`.

    Drawing once more from :math:`\tau` gains its cost on average, so a draw of at least
    :math:`\tau` is kept and a lower one is not; no rule has a higher mean reward less cost, which
    is :math:`\tau` itself. The rule is :func:`bon_theory.best_of_n_stopped` at the rank
    :math:`P(r < \tau)`; where the number of draws is limited, the threshold is the same, and the
    best of all draws is kept at the end.

    Args:
        reference: the law of one draw; of a continuous one, the sum over nodes has a kink.
        cost: of one draw, positive, in units of the reward.

    Returns:
        :math:`\tau`, ``[...]``; below the lowest reward by what a draw costs too much.

    Raises:
        ValueError: ``cost`` is not positive or not finite.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bt.pandora_threshold(reference, cost=0.1)), 12)  # 0.2 (1 - τ) = 0.1
        0.5

    Weitzman 1979, the reservation value; for selection Kalayci et al. 2025 (arXiv 2510.01394).
    """
    least = float(float_limits(reference).tiny)
    reference, price = aligned_parameters(reference, cost=Real(cost, at_least=least))
    _, highest = reward_extremes(reference)
    return highest + _level(reference, price)


@law_program
def _level(reference: Policy, price: jax.Array) -> jax.Array:
    return level_below_top(reference, price)[..., 0]
