r"""A problem: the reference and the parameters that inequalities are about."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, reward_array, scalar
from bon_theory._laws import aligned, require_policy
from bon_theory.policy import Policy
from bon_theory.selection import (
    best_of_n,
    best_of_poisson,
    exponential_race,
    exponential_tilt,
    soft_best_of_n,
    win_rate_optimal,
)

__all__ = ["Problem", "Range"]


Range: TypeAlias = Callable[[Any], dict[str, Any]]
"""What a quantity admits of a parameter: keywords of ``scalar``, from the floating-point type."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    r"""A reference :math:`\pi` and parameters; a frozen pytree.

    Each law that a quantity asks for is computed at most once.

    Attributes:
        reference: the law of one draw; None is enough for a bound that holds for every law.
        parameters: of ``n``, ``temperature``, ``order``, ``mean_extra_draws``, ``strength`` and
            ``ratio`` those that are given, of the rank of the batch axes.
        true_reward: of the outcomes, where that of the reference is a learned one, of the rank of
            its arrays; None where no bound asks for it.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> bounds.Problem.of(coin, n=2).best_of_n.probs.tolist()
        [0.25, 0.75]

    Derived here (bookkeeping; no published counterpart).
    """

    reference: Policy | None
    parameters: Mapping[str, jax.Array]
    true_reward: jax.Array | None = None

    @classmethod
    def of(
        cls,
        reference: Policy | None = None,
        ranges: Iterable[Mapping[str, Range]] = (),
        /,
        true_reward: Numbers | None = None,
        **parameters: Numbers,
    ) -> Problem:
        """Check the parameters, and bring them and the reference to one rank.

        Args:
            reference: the law of one draw, or None.
            ranges: what the quantities in question admit, by parameter; all have to hold.
            true_reward: ``[..., K]``, or None.
            **parameters: numbers, broadcasting against the reference's batch axes.

        Raises:
            ValueError: a parameter is out of a range, while tracing it becomes NaN instead; or the
                true reward has not one value per outcome of a reference.

        Example:
            >>> from bon_theory import bounds
            >>> bounds.Problem.of(n=[2.0, 4.0])["n"].tolist()
            [2.0, 4.0]
        """
        if reference is not None:
            require_policy("reference", reference)
        dtype = reference.dtype if reference is not None else _float_type(parameters.values())
        checked = {
            name: scalar(name, value, dtype, finite=False) for name, value in parameters.items()
        }
        for name, admits in {
            (name, admits) for by_name in ranges for name, admits in by_name.items()
        }:
            if name in checked:
                checked[name] = scalar(name, checked[name], dtype, **admits(dtype))
        ndim = max((array.ndim for array in checked.values()), default=0)
        truth = None
        if true_reward is not None:
            shape, dtype = cls(reference, {}).law.log_probs.shape, cls(reference, {}).law.dtype
            truth = reward_array(true_reward, shape, dtype)
            ndim = max(ndim, truth.ndim - 1)
        if reference is not None:
            (reference,) = aligned(reference, ndim=ndim + 1)
            ndim = reference.log_probs.ndim - 1
        raised = {name: a.reshape((1,) * (ndim - a.ndim) + a.shape) for name, a in checked.items()}
        if truth is not None:
            truth = truth.reshape((1,) * (ndim + 1 - truth.ndim) + truth.shape)
        return cls(reference, raised, truth)

    def __getitem__(self, name: str) -> jax.Array:
        """The parameter of that name."""
        return self.parameters[name]

    @property
    def law(self) -> Policy:
        """The reference, where there has to be one."""
        if self.reference is None:
            raise ValueError("reference must be a Policy here, got None: give the law of one draw.")
        return self.reference

    @functools.cached_property
    def truth(self) -> Policy:
        """The reference with the true reward."""
        return self.by_truth(self.law)

    def by_truth(self, policy: Policy) -> Policy:
        """A law on the reference's outcomes with the true reward."""
        if self.true_reward is None:
            raise ValueError("true_reward must be given here, got None: one number per outcome.")
        shape = jnp.broadcast_shapes(policy.log_probs.shape, self.true_reward.shape)
        log_probs, rewards = (
            jnp.broadcast_to(array, shape) for array in (policy.log_probs, self.true_reward)
        )
        return Policy(log_probs, rewards)

    @functools.cached_property
    def best_of_n(self) -> Policy:
        return best_of_n(self.law, self["n"])

    @functools.cached_property
    def soft_best_of_n(self) -> Policy:
        return soft_best_of_n(self.law, self["n"], self["temperature"])

    @functools.cached_property
    def exponential_race(self) -> Policy:
        return exponential_race(self.law, self["n"], self["temperature"])

    @functools.cached_property
    def exponential_tilt(self) -> Policy:
        return exponential_tilt(self.law, self["temperature"])

    @functools.cached_property
    def best_of_poisson(self) -> Policy:
        return best_of_poisson(self.law, self["mean_extra_draws"])

    @functools.cached_property
    def win_rate_optimal(self) -> Policy:
        return win_rate_optimal(self.law, self["strength"])


def _float_type(values: Iterable[Numbers]) -> Any:
    """The floating-point type of the arrays among the values, or else JAX's default."""
    dtypes = [value.dtype for value in values if isinstance(value, jax.Array | np.ndarray)]
    floating = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    return functools.reduce(jnp.promote_types, floating) if floating else jnp.zeros(()).dtype
