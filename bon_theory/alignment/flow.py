r"""How a loss gets to what it aims at: gradient flow from the reference.

A table of logits :math:`\theta` starts at :math:`\theta = \log\pi`, so :math:`h = \theta - \log\pi`
up to a constant, and follows

.. math:: \frac{dh(y)}{dt} = -\frac{1}{\pi(y)}\,\frac{\partial L}{\partial h(y)},

the gradient in the inner product :math:`E_\pi[gh]`, which does not depend on how finely outcomes
are divided. For :math:`K` equally likely outcomes it is gradient descent on the logits, with
:math:`t` the sum of the learning rates over :math:`K`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.ode import odeint

from bon_theory._arguments import Numbers, float_array, require
from bon_theory.alignment.pairs import require_discrete
from bon_theory.policy import Policy

__all__ = ["gradient_flow"]


def gradient_flow(loss: Callable[[Policy], jax.Array], reference: Policy, times: Numbers) -> Policy:
    r"""The policies through which gradient flow of ``loss`` from the reference passes.

    Args:
        loss: a differentiable function of one policy on the reference's outcomes, such as
            ``lambda policy: bt.alignment.ipo_loss(policy, reference, beta=0.1)``.
        reference: where the flow starts; a single discrete law.
        times: positive, finite and ascending, shape ``[T]``. Rates of IPO on best-and-worst
            pairs range from about :math:`n 2^{3-n}`, for median outcomes that are
            rarely an end of a pair, to :math:`2n`.

    Returns:
        One policy with batch axis ``[T]``. By Dormand and Prince's method of order 5 with relative
        and absolute tolerance 1e-9 in float64 (1e-5 in float32) for :math:`h` per step.

    Raises:
        ValueError: the reference is continuous or batched, or ``times`` are not positive, not
            finite or do not ascend.

    Example:
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> def loss(policy):
        ...     return bt.alignment.ipo_loss(policy, coin, beta=1.0)
        >>> policies = bt.alignment.gradient_flow(loss, coin, jnp.array([0.5, 50.0]))
        >>> [round(float(p), 4) for p in policies.probs[:, 1]]  # the last is IPO's minimiser
        [0.6064, 0.6225]

    Standard; that the division by :math:`\pi` removes the grid is derived here.
    """
    require_discrete(reference, "gradient flow")
    if reference.batch_shape:
        raise ValueError(
            f"reference must be a single law, got batch axes {reference.batch_shape}: use vmap."
        )
    times = float_array("times", times).astype(reference.dtype)
    require(
        lambda: (
            times.ndim == 1
            and np.all(np.isfinite(times))
            and np.all(np.diff(np.asarray(times), prepend=0.0) > 0)
        ),
        lambda: (
            "times must be a vector of ascending, positive and finite numbers, got "
            f"{times}: sort it, and take a late time for the end."
        ),
        times,
    )
    possible = reference.log_probs > -jnp.inf
    probs = jnp.where(possible, reference.probs, 1)

    def velocity(h: jax.Array, _: jax.Array) -> jax.Array:
        slope = jax.grad(lambda h: loss(_policy(reference, h)))(h)
        return jnp.where(possible, -slope / probs, 0)

    start = jnp.zeros_like(reference.log_probs)
    tolerance = 1e-9 if reference.dtype == jnp.float64 else 1e-5
    from_zero = jnp.concatenate([jnp.zeros_like(times[:1]), times])
    path = odeint(velocity, start, from_zero, rtol=tolerance, atol=tolerance)
    return _policy(jax.tree.map(lambda leaf: leaf[None, :], reference), path[1:])


def _policy(reference: Policy, h: jax.Array) -> Policy:
    r"""The law :math:`\pi e^h / Z`."""
    log_normaliser = jax.nn.logsumexp(reference.log_probs + h, axis=-1, keepdims=True)
    return reference.with_log_ratio(h - log_normaliser)
