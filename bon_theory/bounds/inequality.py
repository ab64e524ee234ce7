r"""An inequality: a formula that bounds a quantity without computing it, and its source."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, ParamSpec, TypeAlias

import jax

from bon_theory.bounds.problem import Problem, Range
from bon_theory.bounds.quantities import Quantity

__all__ = ["REGISTRY", "Bound", "Inequality", "Parameter", "inequality"]

P = ParamSpec("P")
Side: TypeAlias = Literal["upper", "lower"]
Status: TypeAlias = Literal["theorem", "conjecture"]

Parameter: TypeAlias = Any
"""A parameter: numbers where a bound is called, an array of the batch's rank in its formula."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bound:
    r"""A number that a quantity does not exceed, or does not fall below; a frozen pytree.

    Attributes:
        value: the bound, one number per batch element; the only leaf, the rest is static.
        side: "upper" where :math:`\text{quantity} \le \text{value}`, "lower" where it is
            :math:`\ge`.
        quantity: what is bounded.
        conditions: under which it holds.
        source: who published it, or that it is derived here.
        status: "theorem" or "conjecture".

    Example:
        >>> from bon_theory import bounds
        >>> bound = bounds.best_of_n_kl(n=8)
        >>> round(float(bound.value), 6), bound.side, bound.quantity
        (1.204442, 'upper', 'KL(best-of-n ‖ reference)')

    Derived here (bookkeeping; no published counterpart).
    """

    value: jax.Array
    side: Side = dataclasses.field(metadata={"static": True})
    quantity: str = dataclasses.field(metadata={"static": True})
    conditions: str = dataclasses.field(metadata={"static": True})
    source: str = dataclasses.field(metadata={"static": True})
    status: Status = dataclasses.field(default="theorem", metadata={"static": True})

    def slack(self, exact: jax.Array) -> jax.Array:
        r"""How far ``exact`` is on the right side of the bound: negative would be a violation.

        Example:
            >>> import jax.numpy as jnp
            >>> from bon_theory import bounds
            >>> round(float(bounds.best_of_n_win_rate(n=3).slack(jnp.asarray(0.7220))), 6)
            0.028
        """
        return self.value - exact if self.side == "upper" else exact - self.value


@dataclasses.dataclass(frozen=True)
class Inequality:
    """An entry of :data:`REGISTRY`.

    Attributes:
        name: of the function.
        quantity: what it bounds; ``quantity.exact(problem)`` is the truth.
        side: "upper" or "lower".
        conditions: under which it holds, besides the parameters' ranges.
        source: who published it, or that it is derived here.
        status: "theorem" or "conjecture".
        formula: the value, from the parameters that it names and, where it needs it, the reference.
        also: what the bound admits of parameters that its quantity does not have.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> problem = bounds.Problem.of(coin, n=2)
        >>> inequality = bounds.REGISTRY["best_of_n_kl"]
        >>> round(float(inequality.bound(problem).value), 4)
        0.1931
        >>> round(float(inequality.quantity.exact(problem)), 4)
        0.1308

    Derived here (bookkeeping; no published counterpart).
    """

    name: str
    quantity: Quantity
    side: Side
    conditions: str
    source: str
    status: Status
    formula: Callable[..., jax.Array]
    also: Mapping[str, Range] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def ranges(self) -> Mapping[str, Range]:
        """What the bound and its quantity admit, by parameter."""
        return {**self.quantity.ranges, **self.also}

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that the bound or its quantity depends on."""
        own = inspect.signature(self.formula).parameters
        names = dict.fromkeys([*own, *self.quantity.parameters])
        return tuple(name for name in names if name not in ("reference", "true_reward"))

    def applies_to(self, problem: Problem) -> bool:
        """Whether the problem gives all that the bound and its quantity ask for.

        Example:
            >>> import bon_theory as bt
            >>> from bon_theory import bounds
            >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
            >>> bounds.REGISTRY["best_of_n_renyi"].applies_to(bounds.Problem.of(coin, n=2))
            False
        """
        given = all(name in problem.parameters for name in self.parameters)
        return given and self.quantity.is_defined(problem)

    def bound(self, problem: Problem) -> Bound:
        """Evaluate the formula on a problem that it applies to.

        Example:
            >>> from bon_theory import bounds
            >>> problem = bounds.Problem.of(n=[2.0, 3.0])
            >>> bounds.REGISTRY["best_of_n_chi_squared"].bound(problem).value.tolist()
            [0.3333333333333333, 0.8]
        """
        names = inspect.signature(self.formula).parameters
        rewards = {"reference": lambda: problem.law, "true_reward": lambda: problem.truth.rewards}
        value = self.formula(
            **{name: rewards[name]() if name in rewards else problem[name] for name in names}
        )
        return Bound(
            value, self.side, self.quantity.name, self.conditions, self.source, self.status
        )


_registry: dict[str, Inequality] = {}

REGISTRY: Mapping[str, Inequality] = MappingProxyType(_registry)
"""Every inequality by the name of its function, in the order of the theory."""


def inequality(
    side: Side,
    quantity: Quantity,
    *,
    source: str,
    conditions: str = "none",
    status: Status = "theorem",
    also: Mapping[str, Range] = MappingProxyType({}),
) -> Callable[[Callable[P, jax.Array]], Callable[P, Bound]]:
    """Register a formula as a bound, and make it a function that returns a :class:`Bound`.

    The arguments reach the formula checked, as arrays of one rank, a reference aligned with them;
    conditions and source are put at the end of its docstring.
    """

    def register(formula: Callable[P, jax.Array]) -> Callable[P, Bound]:
        name, signature = formula.__name__, inspect.signature(formula)
        entry = Inequality(name, quantity, side, conditions, source, status, formula, also)
        _registry[name] = entry

        @functools.wraps(formula)
        def bound(*args: P.args, **kwargs: P.kwargs) -> Bound:
            given = dict(signature.bind(*args, **kwargs).arguments)
            reference = given.pop("reference", None)
            return entry.bound(Problem.of(reference, [entry.ranges], **given))

        documented = signature.replace(return_annotation=Bound)
        bound.__signature__ = documented  # type: ignore[attr-defined]
        description = inspect.cleandoc(formula.__doc__ or "")
        bound.__doc__ = f"{description}\n\nConditions: {conditions}.\n\n{source}."
        return bound

    return register
