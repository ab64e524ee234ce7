r"""Every bound that applies to a problem, beside the exact value."""

from __future__ import annotations

import dataclasses
import difflib
import html

import jax
import numpy as np

from bon_theory._arguments import Numbers, is_concrete, reward_array
from bon_theory._laws import require_policy
from bon_theory._ragged import completed
from bon_theory.bounds.inequality import REGISTRY, Bound
from bon_theory.bounds.problem import Problem
from bon_theory.policy import Policy

__all__ = ["Row", "Table", "table"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Row:
    """One bound beside the truth; a frozen pytree.

    Attributes:
        name: of the function that gives the bound (static).
        bound: what it returned.
        exact: the quantity itself, one number per batch element.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> row = bounds.table(coin, n=2)["best_of_n_win_rate"]
        >>> round(float(row.exact), 4), round(float(row.slack), 4)
        (0.625, 0.0417)

    Derived here (bookkeeping; no published counterpart).
    """

    name: str = dataclasses.field(metadata={"static": True})
    bound: Bound
    exact: jax.Array

    @property
    def slack(self) -> jax.Array:
        """How far the truth is on the right side of the bound."""
        return self.bound.slack(self.exact)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Table:
    """What :func:`table` returns: rows, in the order of the theory; ``str`` sets them as text.

    Attributes:
        rows: one per bound.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> [row.name for row in bounds.table(coin, mean_extra_draws=2.0).rows]
        ['best_of_poisson_kl', 'best_of_poisson_win_rate']

    Derived here (bookkeeping; no published counterpart).
    """

    rows: tuple[Row, ...]

    def __getitem__(self, name: str) -> Row:
        """The row of that bound.

        Raises:
            KeyError: there is none; says which parameters were not given, or what is named alike.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(_absence(name, self.rows))

    def __str__(self) -> str:
        """Aligned columns; of a batch, each row shows the element with the least slack."""
        lines = [_HEAD, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if column in _NUMERIC else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        """The same columns as a table for notebooks."""

        def row(cells: tuple[str, ...], tag: str) -> str:
            return "".join(
                f'<{tag} style="text-align: {"right" if column in _NUMERIC else "left"}">'
                f"{html.escape(cell)}</{tag}>"
                for column, cell in enumerate(cells)
            )

        body = "".join(f"<tr>{row(_cells(one), 'td')}</tr>" for one in self.rows)
        return f"<table><thead><tr>{row(_HEAD, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def table(
    reference: Policy,
    *,
    n: Numbers | None = None,
    temperature: Numbers | None = None,
    order: Numbers | None = None,
    mean_extra_draws: Numbers | None = None,
    strength: Numbers | None = None,
    ratio: Numbers | None = None,
    true_reward: Numbers | None = None,
) -> Table:
    r"""Every bound that the given parameters decide, beside the exact value.

    .. math:: \text{slack} = \text{bound} - \text{exact} \ge 0 \text{ for an upper bound,} \quad
              \text{exact} - \text{bound} \ge 0 \text{ for a lower one.}

    Args:
        reference: the law of one draw.
        n: number of candidates, for best-of-n and, with a temperature, for soft best-of-n.
        temperature: :math:`\lambda > 0`, finite.
        order: :math:`\alpha \ge 0` of a Rényi divergence of best-of-n.
        mean_extra_draws: :math:`\mu \ge 0` of best-of-Poisson.
        strength: :math:`c > 0` of the win-rate optimum.
        ratio: :math:`M \ge 1`, the largest density of what best-of-n by a learned reward is
            compared with.
        true_reward: ``[..., K]``, where the reference's reward is a learned one.

    The parameters broadcast against the reference's batch axes.

    Returns:
        A :class:`Table`, whose numbers are arrays and whose ``str`` is for reading.

    Raises:
        ValueError: a parameter is out of its range, or none is given.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> print(bounds.table(reference, strength=5.0))
        quantity                             exact        bound      slack  function ...
        KL(win-rate optimum ‖ reference)  0.581596  ≤  0.650117  0.0685205  win_rate_optimal_kl ...
        win rate of the win-rate optimum  0.778759  ≤  0.806784  0.0280248  win_rate_optimal_win_...

    Derived here (a table of the other functions).
    """
    given = {
        "n": n,
        "temperature": temperature,
        "order": order,
        "mean_extra_draws": mean_extra_draws,
        "strength": strength,
        "ratio": ratio,
    }
    parameters = {name: value for name, value in given.items() if value is not None}
    if not parameters:
        raise ValueError("no parameter is given, got only a reference: give n=, temperature=, …")
    entries = REGISTRY.values()
    decided = [entry for entry in entries if parameters.keys() >= {*entry.parameters}]
    ranges = [entry.ranges for entry in decided or entries]
    require_policy("reference", reference)
    truth = None
    if true_reward is not None:
        truth = reward_array(true_reward, reference.log_probs.shape, reference.dtype)
    laws = (reference,) if truth is None else (reference, truth)
    reference, *rest = completed(*laws, beside=parameters)
    problem = Problem.of(reference, ranges, true_reward=next(iter(rest), None), **parameters)
    return _quickly_compiled(problem) if is_concrete(problem) else _table(problem)


def _table(problem: Problem) -> Table:
    return Table(
        tuple(
            Row(name, inequality.bound(problem), inequality.quantity.exact(problem))
            for name, inequality in REGISTRY.items()
            if inequality.applies_to(problem)
        )
    )


# A table is asked for about once: what is waited for is its compilation, so the compiler is told
# not to optimise, which it accepts of an outermost program only. The fusion emitters, which cost
# as much again, can be switched off before jaxlib 0.11.
_HASTE: dict[str, bool | int] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):
    _HASTE["xla_cpu_use_fusion_emitters"] = False
_quickly_compiled = jax.jit(_table, compiler_options=_HASTE)


_HEAD = ("quantity", "exact", "", "bound", "slack", "function", "source")
_NUMERIC = {1, 3, 4}  # columns


def _absence(name: str, rows: tuple[Row, ...]) -> str:
    """Why there is no row of that name, and what to do."""
    if name not in REGISTRY:
        alike = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.5)
        found = f"did you mean {' or '.join(alike)}?" if alike else "see bounds.REGISTRY."
        return f"name must be that of a bound, got {name[:80]!r}: {found}"
    entries = [REGISTRY[row.name] for row in rows]
    given = {parameter for entry in entries for parameter in entry.parameters}
    missing = [parameter for parameter in REGISTRY[name].parameters if parameter not in given]
    if REGISTRY[name].quantity.compares and not any(entry.quantity.compares for entry in entries):
        missing.append("true_reward")
    if not missing:
        return f"{name} needs a discrete reference, got a continuous one: discretise it first."
    wanted = ", ".join(f"{parameter}=" for parameter in missing)
    return f"{name} needs parameters that were not given: pass {wanted} to bounds.table as well."


def _cells(row: Row) -> tuple[str, ...]:
    slack, value, exact = np.broadcast_arrays(row.slack, row.bound.value, row.exact)
    tightest = np.unravel_index(np.argmin(slack), slack.shape)
    sign = "≤" if row.bound.side == "upper" else "≥"
    source = row.bound.source if row.bound.status == "theorem" else f"{row.bound.source} (?)"
    numbers = (f"{float(array[tightest]):.6g}" for array in (exact, value, slack))
    exact_text, value_text, slack_text = numbers
    return (row.bound.quantity, exact_text, sign, value_text, slack_text, row.name, source)
