"""The commands of ``bon-theory`` that take a law instead of a file."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import typer

from bon_theory import bounds as inequalities
from bon_theory.cli.options import Form, Output, floats, guarded
from bon_theory.cli.output import Result, emit
from bon_theory.divergences import kl_divergence
from bon_theory.performance import expected_reward, win_rate
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n, soft_best_of_n

Probs = Annotated[
    str | None, typer.Option("--probs", help="Of outcomes, as 0.5,0.3,0.2; by default equal.")
]
Rewards = Annotated[str, typer.Option("--rewards", help="Of the same outcomes, as 0,0.5,1.")]
N = Annotated[float, typer.Option("--n", min=1.0, help="Candidates; real numbers are allowed.")]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0.0, help="Of soft best-of-n; 0 is best-of-n.")
]


@guarded
def law(
    rewards: Rewards,
    probs: Probs = None,
    n: N = 4.0,
    temperature: Temperature = 0.0,
    form: Form = "table",
    output: Output = None,
) -> None:
    """The exact law of what is selected, its divergence and its win rate.

    Example: bon-theory law --probs 0.5,0.3,0.2 --rewards 0,0.5,1 --n 64 --temperature 0.1
    """
    with jax.enable_x64(True):
        reference = _reference(rewards, probs)
        selected = (
            soft_best_of_n(reference, n, temperature) if temperature else best_of_n(reference, n)
        )
        rows = [
            (float(r), float(p), float(q))
            for r, p, q in zip(reference.rewards, reference.probs, selected.probs, strict=True)
        ]
        quantities = (
            f"expected reward {float(expected_reward(selected)):.10g}, "
            f"KL {float(kl_divergence(selected, reference)):.10g} nats, "
            f"win rate {float(win_rate(selected, reference, ties='half')):.10g}"
        )
    result = Result("law", ("reward", "reference", "selected"), rows, (), quantities)
    emit(result, form, output)


@guarded
def bounds(
    rewards: Rewards,
    probs: Probs = None,
    n: N = 4.0,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Above 0; without, best-of-n alone.")
    ] = None,
    form: Form = "table",
    output: Output = None,
) -> None:
    """Every published inequality that applies, beside the truth.

    Example: bon-theory bounds --rewards 0,0.5,1 --n 4 --temperature 0.5
    """
    with jax.enable_x64(True):
        parameters: dict[str, Any] = {"n": n}
        if temperature is not None:
            parameters["temperature"] = temperature
        table = inequalities.table(_reference(rewards, probs), **parameters)
        rows = [
            (
                row.name,
                row.bound.quantity,
                row.bound.side,
                float(row.bound.value),
                float(row.exact),
                row.bound.source,
            )
            for row in table.rows
        ]
    columns = ("bound", "quantity", "side", "value", "exact", "source")
    emit(Result("bounds", columns, rows), form, output)


def _reference(rewards: str, probs: str | None) -> Policy:
    values = floats("--rewards", rewards)
    masses = [1 / len(values)] * len(values) if probs is None else floats("--probs", probs)
    return Policy.from_probs(masses, values)
