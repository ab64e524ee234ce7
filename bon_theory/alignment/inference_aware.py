r"""What to align to when the best, or the worst, of n answers is kept at inference.

The policy is judged not by its own answers but by the best of n of them, against the best of n of
the reference's. Without ties, in ranks, with :math:`p` the policy's density and :math:`P` its
distribution function, the optimum maximises

.. math:: W_n(P) - \beta \int p \log p, \qquad W_n = 1 - \int P^n\, n u^{n-1} du
          \;\text{ or, for the worst, }\; \int (1-P)^n\, n (1-u)^{n-1} du .

Its derivative in :math:`p(v)` is a reward that depends on the policy, and the optimum is a tilt by
its own,

.. math:: p \propto e^{R/\beta}, \qquad R(v) = -n^2 \int_v^1 (uP(u))^{n-1} du
          \;\text{ or }\; -n^2 \int_v^1 [(1-u)(1-P(u))]^{n-1} du .

For the best of n :math:`-W_n` is convex, so there is one solution. For the worst it is concave, and
what is found is a fixed point of ascent from the reference; at small :math:`\beta` there may be
others. Ascent: :math:`P^n` has curvature at most :math:`\ell = n(n-1)\max P^{n-1}(1-P)` relative to
the entropy, so the step :math:`h \leftarrow (1-\theta)h + \theta R/\beta` of
:math:`\theta = \beta/(\beta+\ell)` never lowers the objective (mirror ascent), and for the best of
n its error falls by :math:`1 - \theta` a step. The problem is that of Balashankar et al. 2024
(InfAlign, arXiv 2412.19792); the laws with ties and the rate are derived here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers, positive, scalar, shown
from bon_theory._laws import aligned, require_policy
from bon_theory._quadrature import running_sum
from bon_theory.alignment.pairs import per_law
from bon_theory.policy import Policy

__all__ = ["InferenceAware", "inference_aware"]

_MOST_STEPS = 100_000

Keeps = Literal["best", "worst"]


class InferenceAware(NamedTuple):
    r"""A policy and how well it solves its equation.

    Attributes:
        policy: the optimum.
        residual: root mean square, under the policy, of its log-ratio less the one that its own
            reward asks for, ``[...]``; 0 at the optimum. For the best of n the objective is short
            of its maximum by at most :math:`\tfrac\beta2 \text{residual}^2`, to leading order.
    """

    policy: Policy
    residual: jax.Array


def inference_aware(
    reference: Policy, *, n: Numbers, beta: Numbers, keeps: Keeps = "best"
) -> InferenceAware:
    r"""The policy whose best (or worst) of n wins most often, less a price on its KL divergence.

    .. math:: \max_\theta\; \Pr(\text{best of } n \text{ from } \pi_\theta \succ
              \text{best of } n \text{ from } \pi) - \beta\,\mathrm{KL}(\pi_\theta\|\pi),

    ties counting one half. At :math:`n = 1` it is the win-rate optimum of strength
    :math:`1/\beta`, up to ties.

    Args:
        reference: the law of one draw.
        n: how many answers there are at inference, real, at least 1.
        beta: price of a nat, positive.
        keeps: which of the n answers is used: ``"best"``, or ``"worst"`` as by an adversary who
            may try n times.

    Raises:
        ValueError: ``n < 1``, ``beta`` is not positive, or one of them is not finite; an unknown
            ``keeps``.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward(num_nodes=641)
        >>> policy, residual = bt.alignment.inference_aware(uniform, n=2, beta=0.2)
        >>> best, rival = (bt.best_of_n(law, 2) for law in (policy, uniform))
        >>> round(float(bt.win_rate(best, rival)), 6), float(residual) < 1e-12
        (0.835652, True)

    Forward derivatives alone pass through the iteration, whose number of steps grows like
    :math:`n/\beta`. Balashankar et al. 2024; with ties derived here.
    """
    require_policy("reference", reference)
    if keeps not in ("best", "worst"):
        raise ValueError(f'keeps must be "best" or "worst", got {shown(keeps)}.')
    count = scalar("n", n, reference.dtype, at_least=1)
    price = positive("beta", beta, reference.dtype)
    flip = keeps == "worst"

    def solve(law: Policy, n: jax.Array, beta: jax.Array) -> jax.Array:
        return _ascent(law, n, beta, flip)

    solved = per_law(solve, (reference,), {"n": count, "beta": price}, output="(j)")
    log_ratio, residual = solved[..., :-1], solved[..., -1]
    (reference,) = aligned(reference, ndim=log_ratio.ndim)
    policy = reference.without_ranks().with_log_ratio(log_ratio)
    return InferenceAware(policy.with_ranks(), residual)


def _ascent(law: Policy, n: jax.Array, beta: jax.Array, flip: bool) -> jax.Array:
    """The log-ratio of the optimum ``[K]``, and the residual, for one law."""
    reward = _reward_at_nodes if law.continuous else _reward_at_outcomes
    mass = law.log_probs
    # n(n-1) max P^{n-1}(1-P), at P = (n-1)/n.
    inner = jnp.maximum((n - 1) / n, jnp.finfo(n.dtype).tiny)
    steepest = (n - 1) * jnp.exp((n - 1) * jnp.log(inner))
    theta = beta / (beta + steepest)

    def normalised(h: jax.Array) -> jax.Array:
        return h - jax.nn.logsumexp(mass + h)

    def asked(h: jax.Array) -> jax.Array:
        return normalised(reward(law, h, n, flip) / beta)

    def size(h: jax.Array, change: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.exp(mass + h) * change**2))

    # Rewards lie within n of each other.
    tolerance = 16 * jnp.finfo(mass.dtype).eps * (1 + n / beta)

    def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, residual, count = state
        return (residual > tolerance) & (count < _MOST_STEPS)

    def step(
        state: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        h, _, count = state
        change = asked(h) - h
        return normalised(h + theta * change), size(h, change), count + 1

    start = jnp.zeros_like(mass), jnp.full_like(n, jnp.inf), jnp.zeros((), jnp.int32)
    h, _, _ = jax.lax.while_loop(unfinished, step, start)
    unknown = jnp.isnan(n) | jnp.isnan(beta)
    h = jnp.where(unknown, jnp.nan, h)
    return jnp.append(h, size(h, asked(h) - h))


def _reward_at_outcomes(law: Policy, h: jax.Array, n: jax.Array, flip: bool) -> jax.Array:
    r"""dW/dp at every outcome, up to a constant.

    With ties counting one half, :math:`W = \sum_j (P_j^n - P_{j-1}^n)(F_j^n + F_{j-1}^n)/2` over
    levels; by parts, the derivative in a mass of level i is
    :math:`-\frac n2\sum_{j \ge i} P_j^{n-1} (F_{j+1}^n - F_{j-1}^n)`.
    """
    # The worst is the best by the negative of the reward, and is to lose to its rival there.
    sign = -1 if flip else 1
    order = jnp.argsort(sign * law.rewards)
    rewards = (sign * law.rewards)[order]
    first = jnp.searchsorted(rewards, rewards, side="left")
    last = jnp.searchsorted(rewards, rewards, side="right") - 1
    policy, reference = (
        jnp.minimum(jnp.cumsum(probs[order])[last], 1)
        for probs in (jnp.exp(law.log_probs + h), law.probs)
    )
    zero = jnp.zeros_like(reference[:1])
    edges = jnp.concatenate([zero, reference, jnp.ones_like(zero)])
    weight = (edges[last + 2] ** n - edges[first] ** n) / 2
    is_last = jnp.arange(rewards.size, dtype=last.dtype) == last
    slope = jnp.where(is_last, n * _power(policy, n - 1) * weight, 0)
    above = jnp.cumsum(slope[::-1])[::-1]
    return jnp.zeros_like(above).at[order].set(-sign * above)


def _reward_at_nodes(law: Policy, h: jax.Array, n: jax.Array, flip: bool) -> jax.Array:
    """The same without ties, on the nodes of a continuous law."""
    mass, ranks = jnp.exp(law.log_probs + h), jnp.exp(law.log_cdf)
    policy = jnp.clip(running_sum(mass), 0, 1)
    if flip:
        policy, ranks = 1 - policy, -jnp.expm1(law.log_cdf)
    slope = n * n * _power(policy * ranks, n - 1) * law.probs
    return running_sum(slope)  # up to a constant: less what lies above


def _power(x: jax.Array, exponent: jax.Array) -> jax.Array:
    """x^e with 0^0 = 1."""
    positive = x > 0
    power = jnp.exp(exponent * jnp.log(jnp.where(positive, x, 1)))
    return jnp.where(positive, power, jnp.where(exponent == 0, 1, 0))
