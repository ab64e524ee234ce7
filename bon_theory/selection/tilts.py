"""The limits of selection with unlimited draws: optima of reward under a penalty on divergence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, require
from bon_theory._numerics import safe_log
from bon_theory._ragged import law_program
from bon_theory.policy import Policy
from bon_theory.selection.parameters import (
    Real,
    aligned_parameters,
    counts_as_zero,
    float_limits,
    rewards_below_top,
)

__all__ = ["chi_squared_tilt", "exponential_tilt", "level_below_top"]


def exponential_tilt(reference: Policy, temperature: Numbers) -> Policy:
    r"""The Gibbs law :math:`P^*(y) = \pi(y) e^{r(y)/\lambda} / E_\pi e^{r/\lambda}`.

    The optimum of :math:`E\,r - \lambda\,\mathrm{KL}(\cdot\|\pi)`, and the limit of soft best-of-n.

    Args:
        reference: the law of one draw.
        temperature: :math:`\lambda \in [0, \infty]`; 0 conditions on the highest reward.

    Raises:
        ValueError: ``temperature`` is negative or NaN, or the reference is continuous with a tail
            too heavy for the tilt to exist (or to be resolved by its nodes).

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> [round(float(p), 6) for p in bt.exponential_tilt(reference, 0.5).probs]
        [0.179, 0.291944, 0.529056]

    [V] Eq. (2); [G] §3.
    """
    reference, lam = aligned_parameters(
        reference, temperature=Real(temperature, at_least=0, finite=False)
    )
    policy = _gibbs(reference, lam)
    if reference.continuous:
        require(
            lambda: np.asarray(policy.probs)[..., -1] < 1e-9,
            lambda: (
                f"temperature={np.asarray(temperature)} is too small for this continuous reward: "
                "E exp(reward / temperature) diverges or lies beyond the nodes; raise it."
            ),
            policy,
        )
    return policy


def chi_squared_tilt(reference: Policy, strength: Numbers) -> Policy:
    r"""The optimum of :math:`E\,r - \tfrac{\beta}{2}\,\chi^2(\cdot\|\pi)`: a clipped linear tilt.

    .. math:: P(y) = \pi(y)\,\frac{(r(y) - \nu)_+}{\beta}, \qquad E_\pi (r - \nu)_+ = \beta

    The level is found exactly: :math:`\nu = \max_k (S_k - \beta)/A_k` over the :math:`k` highest
    rewards, with :math:`A_k` their probability and :math:`S_k` their sum of :math:`\pi r`.

    Args:
        reference: the law of one draw. If continuous, give it a break at the rank of :math:`\nu`
            for full accuracy: the density has a kink there.
        strength: :math:`\beta > 0`, in units of the reward.

    Raises:
        ValueError: ``strength`` is not positive or not finite.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> [round(float(p), 4) for p in bt.chi_squared_tilt(reference, 1.0).probs]
        [0.25, 0.75]

    [H], the target of InferenceTimePessimism; the formula for the level is derived here.
    """
    least = float(float_limits(reference).tiny)
    reference, beta = aligned_parameters(reference, strength=Real(strength, at_least=least))
    return _clipped_linear(reference, beta)


@law_program
def _gibbs(reference: Policy, lam: jax.Array) -> Policy:
    below_top, is_hard = rewards_below_top(reference), counts_as_zero(reference, lam)
    at_top = jnp.where(below_top == 0, 0, -jnp.inf)
    exponent = jnp.where(is_hard, at_top, below_top / jnp.where(is_hard, 1, lam))
    log_normaliser = jax.nn.logsumexp(reference.log_probs + exponent, axis=-1, keepdims=True)
    return reference.with_log_ratio(jnp.broadcast_to(exponent - log_normaliser, exponent.shape))


@law_program
def _clipped_linear(reference: Policy, beta: jax.Array) -> Policy:
    excess = rewards_below_top(reference) - level_below_top(reference, beta)
    log_ratio = safe_log(jnp.maximum(excess, 0)) - jnp.log(beta)
    return reference.with_log_ratio(log_ratio)


def level_below_top(reference: Policy, beta: jax.Array) -> jax.Array:
    r""":math:`\nu - r_{max}` with :math:`E_\pi (r - \nu)_+ = \beta`, ``[..., 1]``."""
    shape = jnp.broadcast_shapes(beta.shape, reference.rewards.shape)
    rewards = jnp.broadcast_to(rewards_below_top(reference), shape)
    probs = jnp.broadcast_to(reference.probs, shape)
    order = jnp.argsort(-rewards, axis=-1)
    mass = jnp.cumsum(jnp.take_along_axis(probs, order, axis=-1), axis=-1)
    total = jnp.cumsum(jnp.take_along_axis(probs * rewards, order, axis=-1), axis=-1)
    positive = mass > 0
    levels = jnp.where(positive, (total - beta) / jnp.where(positive, mass, 1), -jnp.inf)
    return jnp.max(levels, axis=-1, keepdims=True)
