r"""How far off a number is: the mass that a law lost, and what the nodes of a continuous law miss.

The trapezoidal rule of step :math:`h` errs by the Fourier transform of its integrand at the
frequency :math:`1/h`. On every :math:`m`-th node the error is that at :math:`1/mh`; it can be seen
for :math:`m = 2, 4, 8`, since the rule on all nodes is better by far, and how it falls with
:math:`m` says where it goes (derived here):

.. math:: e_m = \max_{j < m} |I_{mh,j} - I_h|, \qquad e_1 \approx e_2 \cdot \frac{e_2}{e_4},

:math:`j` over the positions of a sublattice. At a jump errors are of order :math:`h` and fall by
one half per level; of a smooth integrand they fall ever faster, and the true one is less than this.
Two things are watched. A single :math:`e_2` may vanish by the position of nodes: it counts as at
least :math:`e_4 (e_4/e_8)^2`, as an exponential fall would have it. Where it is more than three
times that, the fall is slowing down at a kink or the like, and :math:`e_2` itself is the estimate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, real_array
from bon_theory._laws import require_policy, require_same_outcomes
from bon_theory.policy import Policy

__all__ = ["certificate", "quadrature_error"]

_LEVELS = (2, 4, 8)
_LEVEL_ENDS = (2, 6)  # of their sublattices, one after the other
_SLOWER = 3.0
_OUTSKIRTS = -70.0  # of the nodes' 80 units of log-mass: what lies beyond tests the tails


def certificate(policy: Policy) -> jax.Array:
    r""":math:`|\sum_y P(y) - 1|`, the mass that a computation lost or made, per batch element.

    Selections do not normalise their laws, so this is evidence that comes with every one of them:
    for soft best-of-n the error of its integral over time. It says nothing about the nodes of a
    continuous law, on which the sum is one however coarse they are: ask :func:`quadrature_error`.

    Raises:
        ValueError: ``policy`` is not a :class:`Policy`.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> policy = bt.soft_best_of_n(reference, n=1e6, temperature=0.01)
        >>> float(bt.certificate(policy)) < 1e-6  # 1e-12 in float64
        True

    Derived here.
    """
    require_policy("policy", policy)
    return jnp.abs(jnp.sum(policy.probs, axis=-1) - 1)


def quadrature_error(function: Callable[..., Any], *laws: Policy | Numbers) -> Any:
    r"""The error that the nodes of continuous laws leave in ``function(*laws)``, estimated.

    .. math:: |I_h - I| \approx e_2\,\frac{e_2}{e_4} + |I_h - I_h'|,
              \qquad e_m = \max_{j < m} |I_{mh,j} - I_h|

    The function is evaluated anew on every second, fourth and eighth node, :math:`I_{mh,j}`, and
    once, :math:`I_h'`, without the outermost nodes and with rewards moved by their rounding. An
    estimate, not a bound: above a tenth of the error for jumps, kinks, poles beside the real axis
    and heavy tails; of what is smooth it is an overestimate. What a selection draws from beyond the
    last node, as best-of-n does where :math:`n` nears :math:`e^{80} \approx 10^{34}`, it does not
    see: that is mass lost, and :func:`certificate` says so.

    Args:
        function: of the ``laws``, to an array or a pytree of arrays, by ``vmap``-able code. Let it
            *begin* with the reference, so that the selection is judged as well:
            ``lambda reference: kl_divergence(soft_best_of_n(reference, 16, 0.1), reference)``.
            Of a functional alone, ``quadrature_error(expected_reward, policy)``, the policy counts
            as exact at its nodes.
        laws: continuous policies on the same nodes, or arrays ``[..., K]`` of values at them. For
            discrete policies the answer is 0.

    Returns:
        The absolute error, of the structure of ``function(*laws)``; infinite where a coarser
        evaluation fails.

    Raises:
        ValueError: the laws are not on the same nodes, or there is no policy among them.

    Example:
        >>> import bon_theory as bt
        >>> def best(reference, n=16):
        ...     return bt.expected_reward(bt.best_of_n(reference, n))
        >>> float(bt.quadrature_error(best, bt.Policy.gaussian_reward())) < 1e-5
        True

    Derived here; the error of the rule itself is Trefethen & Weideman 2014, Thm 5.1.
    """
    policies = [law for law in laws if isinstance(law, Policy)]
    first: Any = policies[0] if policies else laws
    require_policy("laws", first)
    for other in policies:
        require_same_outcomes(first, "laws", other)
    laws = tuple(law if isinstance(law, Policy) else real_array("laws", law) for law in laws)
    if not first.continuous:
        return jax.tree.map(jnp.zeros_like, function(*laws))

    def stacked(all_nodes: jax.Array, disturbed: jax.Array, coarse: jax.Array) -> jax.Array:
        return jnp.concatenate([all_nodes[None], disturbed[None], coarse])

    # Of one shape, for the function, which may be a race, to be compiled once.
    coarse = tuple(_sublattices(law, first.num_outcomes) for law in laws)
    rules = jax.tree.map(stacked, laws, _disturbed(laws), coarse)

    def estimate(found: jax.Array) -> jax.Array:
        return _extrapolated(found[0], found[2:], _distance(found[1], found[0]))

    return jax.tree.map(estimate, jax.vmap(function)(*rules))


def error_of_known(value: jax.Array, function: Callable[..., Any], law: Policy) -> jax.Array:
    """:func:`quadrature_error` where ``value = function(law)`` is known: half the nodes will do.

    What the tails and the rewards' rounding do is seen on every second node.
    """
    size = -(-law.num_outcomes // 2)
    (disturbed,) = _disturbed((law,))
    rules = jax.tree.map(
        lambda other, coarse: jnp.concatenate([other[:1], coarse]),
        _sublattices(disturbed, size),
        _sublattices(law, size),
    )
    found = jax.vmap(function)(rules)
    return _extrapolated(value, found[1:], _distance(found[0], found[1]))


def _extrapolated(value: jax.Array, coarse: jax.Array, disturbance: jax.Array) -> jax.Array:
    """e₁ from the sublattices, what the tails and the rewards' rounding do, and summation's."""
    differences = _distance(coarse, value[None])
    e2, e4, e8 = (jnp.max(each, axis=0) for each in jnp.split(differences, _LEVEL_ENDS))
    fall = jnp.minimum(e4 / jnp.where(e8 > 0, e8, 1), 1)
    exponential = e4 * fall**2
    e2 = jnp.maximum(e2, exponential)
    ratio = jnp.minimum(e2 / jnp.where(e4 > 0, e4, 1), 1)
    e1 = e2 * jnp.where(e2 <= _SLOWER * exponential, ratio, 1)
    rounding = jnp.where(jnp.isinf(value), 0, 4 * jnp.finfo(value.dtype).eps * jnp.abs(value))
    error = e1 + disturbance + rounding
    return jnp.where(jnp.isnan(error), jnp.inf, error)


def _distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a - b|, and 0 between equal infinities."""
    same = a == b
    return jnp.where(same, 0, jnp.abs(jnp.where(same, 0, a) - jnp.where(same, 0, b)))


def _sublattices(law: Policy | jax.Array, size: int) -> Any:
    """The rules on nodes ``j, j + m, …`` for all ``j < m`` and ``m``, along a new leading axis.

    Each is followed by copies of the last node without mass, up to the ``size`` of all.
    """
    count = law.num_outcomes if isinstance(law, Policy) else law.shape[-1]
    starts = np.concatenate([np.arange(m) for m in _LEVELS])[:, None]
    strides = np.repeat(_LEVELS, _LEVELS)[:, None]
    nodes = starts + strides * np.arange(size)

    def taken(array: jax.Array) -> jax.Array:
        return jnp.moveaxis(array[..., np.minimum(nodes, count - 1)], -2, 0)

    thinned = jax.tree.map(taken, law)
    if not isinstance(law, Policy):
        return thinned
    strides = strides.reshape(-1, *[1] * law.log_probs.ndim)
    past = (nodes >= count).reshape(len(nodes), *[1] * (law.log_probs.ndim - 1), size)
    log_weights = thinned.log_probs + jnp.log(jnp.asarray(strides, law.dtype))
    return dataclasses.replace(thinned, log_probs=jnp.where(past, -jnp.inf, log_weights))


def _disturbed(laws: tuple[Any, ...]) -> tuple[Any, ...]:
    """The laws without nodes that have next to no mass in any of them, rewards rounded anew."""
    masses = [law.log_probs for law in laws if isinstance(law, Policy)]
    ndim = max(mass.ndim for mass in masses)
    masses = [mass.reshape((1,) * (ndim - mass.ndim) + mass.shape) for mass in masses]
    remote = jnp.max(jnp.stack(jnp.broadcast_arrays(*masses)), axis=0) < _OUTSKIRTS
    remote = jnp.all(remote, axis=tuple(range(ndim - 1)))  # the same nodes of a whole batch
    patternless = np.sign(np.sin(np.arange(1, remote.shape[-1] + 1) ** 2))

    def disturbed(law: Any) -> Any:
        if not isinstance(law, Policy):
            return law
        shape = (1,) * (law.log_probs.ndim - 1) + remote.shape
        factor = 1 + jnp.asarray(patternless, law.dtype).reshape(shape) * jnp.finfo(law.dtype).eps
        log_probs = jnp.where(remote.reshape(shape), -jnp.inf, law.log_probs)
        return dataclasses.replace(law, log_probs=log_probs, rewards=law.rewards * factor)

    return tuple(map(disturbed, laws))
