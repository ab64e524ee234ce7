"""Bounds as functions: the registry, the table, arguments, batches, derivatives, precision."""

import dataclasses
import inspect
import math
from typing import Any
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import bounds
from tests.bound_examples import (
    EXAMPLE,
    FUNCTIONS,
    PARAMETERS,
    TIE_FREE,
    TIED,
    arguments,
    inequalities,
    value,
)

# --- the registry, the table, and their arguments ---------------------------------------


def test_the_registry_lists_every_function_of_the_package() -> None:
    offered = {name for name in bounds.__all__ if inspect.isfunction(getattr(bounds, name))}
    assert offered - {"table"} == set(bounds.REGISTRY)


@inequalities
def test_a_function_says_what_its_entry_says(name: str) -> None:
    bound, entry = FUNCTIONS[name](**arguments(name, EXAMPLE, PARAMETERS)), bounds.REGISTRY[name]
    assert (bound.side, bound.quantity, bound.source) == (
        entry.side,
        entry.quantity.name,
        entry.source,
    )
    assert inspect.signature(FUNCTIONS[name]).return_annotation is bounds.Bound
    assert (inspect.getdoc(FUNCTIONS[name]) or "").endswith(f"\n\n{entry.source}.")


def test_a_conjecture_is_marked_as_such() -> None:
    """None is left: what [B] conjectured, and that KL decreases in the temperature, is proved."""
    assert {entry.status for entry in bounds.REGISTRY.values()} == {"theorem"}
    table = bounds.table(EXAMPLE, n=4.0, order=2.0)
    [row, *_] = table.rows
    open_question = dataclasses.replace(row.bound, status="conjecture")
    text = str(bounds.Table((dataclasses.replace(row, bound=open_question), *table.rows)))
    assert [line.endswith("(?)") for line in text.splitlines()[:3]] == [False, True, False]


def test_a_problem_is_bounded_where_its_parameters_decide() -> None:
    def selections(reference: bt.Policy, **parameters: float) -> set[str]:
        problem = bounds.Problem.of(reference, **parameters)
        entries = bounds.REGISTRY.values()
        return {entry.quantity.selection for entry in entries if entry.applies_to(problem)}

    assert selections(EXAMPLE, n=4.0) == {"best_of_n"}
    assert selections(EXAMPLE, temperature=0.5) == {"exponential_tilt"}
    soft = {"best_of_n", "exponential_tilt", "soft_best_of_n"}
    assert selections(EXAMPLE, n=4.0, temperature=0.5) == {*soft, "exponential_race"}
    assert selections(bt.Policy.uniform_reward(), n=4.0, temperature=0.5) == soft
    names = {row.name for row in bounds.table(EXAMPLE, n=4.0, order=2.0).rows}
    assert names == {
        name
        for name, entry in bounds.REGISTRY.items()
        if entry.quantity.selection == "best_of_n" and set(entry.parameters) <= {"n", "order"}
    }


def test_a_table_is_set_in_columns() -> None:
    lines = str(bounds.table(EXAMPLE, n=4.0, order=2.0)).splitlines()
    start = lines[0].index("function")
    assert all(line[start - 1] == " " and line[start:].startswith("best") for line in lines[1:])
    assert "≥" in lines[6]


def test_a_table_for_notebooks_has_the_cells_of_the_text_escaped() -> None:
    table = bounds.table(EXAMPLE, n=4.0, order=2.0)
    [row, *_] = table.rows
    odd = dataclasses.replace(row, bound=dataclasses.replace(row.bound, source="<b>&"))
    page = bounds.Table((odd, *table.rows))._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page
    root = ElementTree.fromstring(page)
    cells = [[cell.text or "" for cell in line] for line in root.iter("tr")]
    assert len(cells) == 2 + len(table.rows)
    for line, text in zip(cells[2:], str(table).splitlines()[1:], strict=True):
        assert " ".join(line).split() == text.split()


def test_a_row_that_is_not_there_says_why() -> None:
    table = bounds.table(EXAMPLE, n=4.0)
    with pytest.raises(KeyError, match="needs parameters that were not given: pass order= to"):
        table["best_of_n_renyi"]
    with pytest.raises(KeyError, match=r"pass temperature= to bounds\.table"):
        table["soft_best_of_n_kl_to_tilt"]
    with pytest.raises(KeyError, match=r"name must .* got 'best_of_kl': did you mean best_of_n_kl"):
        table["best_of_kl"]
    with pytest.raises(KeyError, match=r"got 'unknown': see bounds\.REGISTRY"):
        table["unknown"]
    with pytest.raises(KeyError, match="pass true_reward= to"):
        table["best_of_n_true_win_rate_above_learned"]
    continuous = bounds.table(bt.Policy.uniform_reward(), n=4.0, temperature=0.5)
    with pytest.raises(KeyError, match="needs a discrete reference, got a continuous one"):
        continuous["exponential_race_total_variation"]


def test_a_range_belongs_to_the_quantity_and_not_to_the_name_of_a_parameter() -> None:
    def between_two_and_three(_: Any) -> dict[str, Any]:
        return {"at_least": 2, "at_most": 3}

    entry = bounds.REGISTRY["best_of_n_kl"]
    quantity = dataclasses.replace(entry.quantity, ranges={"n": between_two_and_three})
    narrow = dataclasses.replace(entry, quantity=quantity)
    with pytest.raises(ValueError, match=r"n must be a finite number in \[2, 3\], got 4"):
        bounds.Problem.of(EXAMPLE, [narrow.ranges], n=4.0)
    assert float(bounds.Problem.of(EXAMPLE, [entry.ranges], n=4.0)["n"]) == 4
    assert bounds.REGISTRY["best_of_n_reward"].ranges.keys() == {"n", "temperature"}


def test_a_batch_shows_its_tightest_element() -> None:
    [line] = [x for x in str(bounds.table(EXAMPLE, n=[4.0, 1.0])).splitlines() if "reverse" in x]
    assert line.split()[3:7] == ["0", "≤", "0", "0"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("best_of_n_kl", {"n": 0.5}),
        ("best_of_n_kl", {"n": math.inf}),
        ("best_of_n_renyi", {"order": -1.0}),
        ("best_of_poisson_kl", {"mean_extra_draws": -0.1}),
        ("win_rate_optimal_kl", {"strength": 0.0}),
        ("soft_best_of_n_kl_to_tilt", {"temperature": 0.0}),
        ("soft_best_of_n_kl_to_tilt", {"temperature": math.inf}),
        ("soft_best_of_n_kl_to_tilt", {"temperature": math.nan}),
    ],
)
def test_a_parameter_out_of_range_is_named(name: str, parameters: dict[str, float]) -> None:
    [argument] = parameters
    with pytest.raises(ValueError, match=f"^{argument} must be a .*, got"):
        value(name, **parameters)
    with pytest.raises(ValueError, match=f"^{argument} must be a .*, got"):
        bounds.table(EXAMPLE, **parameters)
    assert jnp.isnan(jax.jit(lambda x: value(name, EXAMPLE, **{argument: x}))(parameters[argument]))


def test_a_table_without_parameters_and_a_quantity_without_reference_say_what_is_missing() -> None:
    with pytest.raises(ValueError, match="no parameter is given"):
        bounds.table(EXAMPLE)
    with pytest.raises(ValueError, match="reference must be a Policy"):
        bounds.REGISTRY["best_of_n_kl"].quantity.exact(bounds.Problem.of(n=2.0))


# --- transformations --------------------------------------------------------------------


def test_the_value_is_the_only_leaf() -> None:
    bound = bounds.best_of_n_kl(n=8.0)
    assert jax.tree.leaves(bound) == [bound.value]
    assert dataclasses.replace(bound, value=jnp.zeros(())) == jax.tree.map(jnp.zeros_like, bound)


# Those that ask for a race among candidates differentiate it, which is the core's business.
RACES = {
    "soft_best_of_n_kl_from_tilt",
    "soft_best_of_n_kl_below_cooler",
    "exponential_race_kl_to_tilt",
    "exponential_race_kl_from_tilt",
}
POINT = dict[str, Any]


@jax.jit
def all_values(point: POINT) -> dict[str, jax.Array]:
    """Every bound but those of ``RACES``, from logits, rewards and parameters."""
    reference = bt.Policy.from_logits(point["logits"], point["rewards"])
    problem = bounds.Problem.of(reference, **{name: point[name] for name in PARAMETERS})
    entries = {name: entry for name, entry in bounds.REGISTRY.items() if name not in RACES}
    return {name: entry.bound(problem).value for name, entry in entries.items()}


def point_of(reference: bt.Policy, **parameters: Any) -> POINT:
    point = {"logits": reference.log_probs, "rewards": reference.rewards, **PARAMETERS}
    return jax.tree.map(jnp.asarray, {**point, **parameters})


def test_references_and_parameters_broadcast() -> None:
    """References [2, 1] against parameters [3]."""
    batch = {
        name: jnp.broadcast_to(leaf, (2, 1, 5)) if leaf.ndim else jnp.full(3, leaf)
        for name, leaf in point_of(EXAMPLE).items()
    }
    for name, bound in jax.eval_shape(all_values, batch).items():
        names = inspect.signature(FUNCTIONS[name]).parameters
        shape = (2 if "reference" in names else 1, 3 if set(names) - {"reference"} else 1)
        assert bound.shape == shape, name


@pytest.mark.parametrize("name", ["soft_best_of_n_reward_floor", "best_of_n_kl_from_top_atom"])
def test_a_batch_is_the_same_as_one_at_a_time(name: str) -> None:
    n, function = jnp.asarray([1.0, 2.5, 16.0]), jax.jit(lambda *a: value(name, a[0], n=a[1]))
    both = jax.tree.map(lambda a, b: jnp.stack([a, b])[:, None], EXAMPLE, TIED)
    one_at_a_time = [[function(reference, number) for number in n] for reference in (EXAMPLE, TIED)]
    np.testing.assert_allclose(function(both, n), np.array(one_at_a_time), rtol=1e-13)
    mapped = jax.vmap(function, (None, 0))(EXAMPLE, n)
    np.testing.assert_allclose(mapped, np.array(one_at_a_time[0]), rtol=1e-13)


slopes: Any = jax.jit(lambda point, direction: jax.jvp(all_values, (point,), (direction,))[1])
total_gradient: Any = jax.jit(jax.grad(lambda point: sum(all_values(point).values())))


@pytest.mark.slow
@pytest.mark.parametrize("reference", [EXAMPLE, TIED], ids=["example", "tied"])
def test_gradients_are_right_at_ties_and_impossible_outcomes(reference: bt.Policy) -> None:
    """Forward mode against central differences, and reverse against forward; ties are kept."""
    point = point_of(reference)
    levels = np.unique(np.asarray(reference.rewards), return_inverse=True)[1]
    direction = {name: jnp.asarray(0.1 + 0.05 * i) for i, name in enumerate(PARAMETERS)}
    direction |= {"logits": jnp.asarray([0.3, -0.2, 0.0, 0.5, 0.1])}
    direction |= {"true_reward": jnp.full(5, 0.1)}
    direction |= {"rewards": jnp.asarray([0.2, -0.1, 0.4, 0.3])[levels]}
    ahead, behind = (
        all_values(jax.tree.map(lambda x, d, s=sign: x + s * 1e-5 * d, point, direction))
        for sign in (1, -1)
    )
    forward = slopes(point, direction)
    for name, slope in forward.items():
        difference = float(ahead[name] - behind[name]) / 2e-5
        assert float(slope) == pytest.approx(difference, rel=1e-6, abs=1e-8), name
    reverse = total_gradient(point)
    total = sum(float(jnp.sum(reverse[name] * direction[name])) for name in point)
    assert total == pytest.approx(float(sum(forward.values())), rel=1e-12)
    assert all(np.all(np.isfinite(leaf)) for leaf in reverse.values())


@pytest.mark.parametrize(("name", "slope"), [("kl", 0.0), ("total_variation", math.exp(-1))])
def test_one_candidate_has_a_slope(name: str, slope: float) -> None:
    # TV = (1 - 1/n) n^{-1/(n-1)} leaves n = 1 with slope 1/e.
    function = FUNCTIONS[f"best_of_n_{name}"]
    assert float(jax.grad(lambda n: function(n).value)(1.0)) == pytest.approx(slope)


def test_single_precision_stays_single() -> None:
    narrow = jax.tree.map(lambda x: x.astype(jnp.float32), point_of(EXAMPLE))
    for name, bound in jax.eval_shape(all_values, narrow).items():
        assert bound.dtype == jnp.float32, name


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in TIE_FREE
        if name.endswith(("poisson_kl", "poisson_win_rate", "optimal_kl", "optimal_win_rate"))
    ],
)
@pytest.mark.parametrize("parameter", [1e-3, 0.3, 5.0, 200.0])
def test_single_precision_is_accurate(name: str, parameter: float) -> None:
    function = jax.jit(FUNCTIONS[name])
    narrow, wide = (function(jnp.asarray(parameter, t)).value for t in ("float32", "float64"))
    assert narrow.dtype == jnp.float32
    assert float(narrow) == pytest.approx(float(wide), rel=3e-5)
