r"""Best-and-worst pairs: their joint law, and what a loss on them needs to know of it.

Draw :math:`n` candidates, rank them by reward with ties broken by lot, keep the first and the last.
Ordinary preference pairs, two draws of which the better is preferred, are the case :math:`n = 2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, is_concrete, require, require_batches, scalar
from bon_theory._laws import aligned, require_policy
from bon_theory._numerics import NOTHING, one_program, safe_log
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n, worst_of_n

__all__ = [
    "PairLaw",
    "best_and_worst_probs",
    "discrete_pair_law",
    "number_of_candidates",
    "per_law",
    "require_discrete",
]


class PairLaw(NamedTuple):
    r"""The pairs as seen from one end, for an unbatched reference on ``K`` outcomes.

    Attributes:
        log_mass: :math:`\log \pi(y)`, or the logarithms of quadrature weights, ``[K]``.
        log_best: :math:`\log f_n`, the density ratio of the best to the reference, ``[K]``.
        log_worst: :math:`\log f_1`, that of the worst, ``[K]``.
        partner: a stochastic matrix ``[K, K]``; row :math:`y` is the law of the other end of a pair
            given that :math:`y` is one end.
    """

    log_mass: jax.Array
    log_best: jax.Array
    log_worst: jax.Array
    partner: jax.Array

    @property
    def log_ends(self) -> jax.Array:
        r""":math:`\log d = \log(f_n + f_1)`: how often an outcome is either end of a pair."""
        return jnp.logaddexp(self.log_best, self.log_worst)

    @property
    def best_share(self) -> jax.Array:
        r""":math:`\rho = f_n/(f_n + f_1)`, the probability that an end of a pair is its best."""
        return jax.nn.sigmoid(self.log_best - self.log_worst)

    @property
    def lean(self) -> jax.Array:
        r""":math:`2\rho - 1`, from -1 (always the worst) to 1 (always the best)."""
        return jnp.tanh((self.log_best - self.log_worst) / 2)


def number_of_candidates(n: Numbers, dtype: Any) -> jax.Array:
    """``n`` as an array: an integer of at least 2, or there is no pair; NaN if traced and not."""
    count = scalar("n", n, dtype, at_least=2)
    if is_concrete(count):
        require(
            lambda: np.asarray(count) == np.round(np.asarray(count)),
            lambda: f"n must be an integer where pairs are drawn, got {n}: round it.",
        )
        return count
    return jnp.where(count == jnp.round(count), count, jnp.nan)


def best_and_worst_probs(reference: Policy, *, n: Numbers) -> jax.Array:
    r"""The joint law of the best and the worst of :math:`n` draws, shape ``[..., K, K]``.

    Without ties the ranks :math:`u > v` of best and worst have density
    :math:`n(n-1)(u-v)^{n-2}`, whose integral over two levels :math:`[a, b]` above
    :math:`[a', b']` is a second difference,

    .. math:: P(\text{best} = y, \text{worst} = y') = \frac{\pi(y)\pi(y')}{(b-a)(b'-a')}
              \bigl[(b-a')^n - (b-b')^n - (a-a')^n + (a-b')^n\bigr],

    and :math:`\pi(y)\pi(y')(b-a)^{n-2}` within a level: all :math:`n` draws are tied, and any two
    different ones of them make the pair.

    Args:
        reference: the law of one draw, discrete.
        n: number of candidates, an integer of at least 2.

    Returns:
        Probabilities; axis -2 is the best, axis -1 the worst. Each entry is accurate relative to
        itself as far as the distance of the levels is.

    Raises:
        ValueError: the reference is continuous, or ``n`` is less than 2 or no integer.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> bt.alignment.best_and_worst_probs(coin, n=3).tolist()
        [[0.125, 0.0], [0.75, 0.125]]

    Derived here; the pairs are those of [G] §4.
    """
    require_discrete(reference, "the joint law of pairs")
    count = number_of_candidates(n, reference.dtype)
    log_probs = per_law(_log_pair_probs, (reference,), {"n": count}, output="(k,k)")
    return jnp.exp(log_probs)


def per_law(
    function: Callable[..., jax.Array],
    policies: tuple[Policy, ...],
    parameters: Mapping[str, jax.Array],
    output: str,
) -> jax.Array:
    """``function(*policies, *parameters)``, written for single laws, over all batch axes.

    ``output`` is the shape of one result as in a NumPy signature, where ``k`` counts outcomes.
    """
    batches = np.broadcast_shapes(*(policy.batch_shape for policy in policies))
    for name, array in parameters.items():
        require_batches(name, array.shape, batches)
        batches = np.broadcast_shapes(array.shape, batches)
    ndim = len(batches)
    leaves, structure = jax.tree.flatten(aligned(*policies, ndim=ndim + 1))
    arrays = [a.reshape((1,) * (ndim - a.ndim) + a.shape) for a in parameters.values()]

    def single(*unbatched: jax.Array) -> jax.Array:
        laws = jax.tree.unflatten(structure, unbatched[: len(leaves)])
        return function(*laws, *unbatched[len(leaves) :])

    inputs = ["(k)"] * len(leaves) + ["()"] * len(parameters)
    signature = f"{','.join(inputs)}->{output}"
    return jnp.vectorize(single, signature=signature)(*leaves, *arrays)


def require_discrete(reference: Policy, what: str) -> None:
    """Raise ``ValueError`` unless the reference is a discrete law."""
    require_policy("reference", reference)
    if reference.continuous:
        raise ValueError(
            f"reference must be discrete for {what}, got a continuous one: discretise it, "
            "for instance Policy.from_samples(quantiles of the reward)."
        )


def discrete_pair_law(reference: Policy, n: jax.Array) -> PairLaw:
    """The pair law of an unbatched discrete reference; rows of impossible outcomes are zero."""
    # In log space: an outcome may be an end of a pair with a probability that underflows.
    log_joint = _log_pair_probs(reference, n)
    partner = jax.nn.softmax(jnp.logaddexp(log_joint, log_joint.T), axis=-1)
    best, worst = best_of_n(reference, n), worst_of_n(reference, n)
    possible = reference.log_probs > -jnp.inf

    def density(policy: Policy) -> jax.Array:
        difference = policy.log_probs - jnp.where(possible, reference.log_probs, 0)
        return jnp.where(possible, difference, 0)

    partner = jnp.where(possible[:, None], partner, 0)
    return PairLaw(reference.log_probs, density(best), density(worst), partner)


@one_program
def _log_pair_probs(reference: Policy, n: jax.Array) -> jax.Array:
    """The logarithm of the joint law ``[K, K]`` of an unbatched reference."""
    probs, rewards = reference.probs, reference.rewards
    tied = rewards[:, None] == rewards[None, :]
    level = jnp.sum(jnp.where(tied, probs[None, :], 0), axis=-1)
    level = jnp.where(level > 0, level, 1)
    # From the bottom of the lower level to the top of the upper one, never less than both.
    span = jnp.exp(reference.log_cdf)[:, None] - jnp.exp(reference.log_cdf_below)[None, :]
    span = jnp.maximum(span, level[:, None] + level[None, :])
    upper, lower = level[:, None] / span, level[None, :] / span
    difference = safe_log(jnp.maximum(_second_difference(upper, lower, n), 0))
    log_level = jnp.log(level)
    apart = n * jnp.log(span) + difference - log_level[:, None] - log_level[None, :]
    within = (n - 2) * log_level[:, None]
    log_share = jnp.where(probs > 0, reference.log_probs, NOTHING)
    log_density = jnp.where(tied, within, apart)
    drawn = tied | (rewards[:, None] > rewards[None, :])
    log_density = jnp.where(drawn, jnp.maximum(log_density, NOTHING), NOTHING)
    return log_share[:, None] + log_share[None, :] + log_density


def _second_difference(x: jax.Array, y: jax.Array, n: jax.Array) -> jax.Array:
    r""":math:`1 - (1-x)^n - (1-y)^n + (1-x-y)^n` for :math:`x, y \ge 0`, :math:`x + y \le 1`.

    As :math:`[1-(1-x)^n][1-(1-y)^n] - [(1-x)^n(1-y)^n - (1-x-y)^n]`, where both terms are positive
    and the difference is no smaller than the first over :math:`n/(n-1)` if the levels are narrow.
    """
    log_x, log_y = _log_complement(x, y), _log_complement(y, x)
    product = jnp.exp(log_x + log_y)  # (1 - x)(1 - y), which exceeds 1 - x - y by xy
    overlap = jnp.minimum(x * y / product, 1)
    touching = overlap == 1  # x + y = 1: nothing lies between the two levels
    ratio = n * jnp.log1p(-jnp.where(touching, 0, overlap))
    both = jnp.expm1(n * log_x) * jnp.expm1(n * log_y)
    neither = jnp.exp(n * (log_x + log_y)) * jnp.where(touching, 1, -jnp.expm1(ratio))
    return both - neither


def _log_complement(x: jax.Array, y: jax.Array) -> jax.Array:
    """log(1 - x) where 1 - x is known to be at least y > 0."""
    small = x < 0.5
    from_below = jnp.log1p(-jnp.where(small, x, 0))
    return jnp.where(small, from_below, jnp.log(jnp.maximum(1 - x, y)))
