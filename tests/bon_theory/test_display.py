"""What a policy shows of itself, and what completion offers."""

import jax
import jax.numpy as jnp
import numpy as np

import bon_theory as bt


def test_a_policy_shows_kind_outcomes_batch_and_range_of_the_reward() -> None:
    law = bt.Policy.from_samples(np.array([[0.25, 1.0, -3.0]] * 2))
    assert repr(law) == "Policy(discrete, 3 outcomes, batch (2,), rewards -3 to 1, float64)"
    uniform = bt.Policy.uniform_reward(num_nodes=321)
    assert repr(uniform) == "Policy(continuous, 321 nodes, rewards 1.805e-35 to 1, float64)"
    assert law._repr_html_() == f"<b>Policy</b> <span>{repr(law)[7:-1]}</span>"


def test_a_traced_policy_shows_what_is_static() -> None:
    seen = []
    jax.eval_shape(lambda p: seen.append(repr(p)), bt.Policy.from_samples(jnp.zeros((5, 3))))
    assert seen == ["Policy(discrete, 3 outcomes, batch (5,), float64)"]


def test_whatever_a_transformation_puts_into_a_policy_can_be_shown_and_is_escaped() -> None:
    odd = jax.tree.map(lambda _: "<b>" * 100, bt.Policy.from_samples([0.0, 1.0]))
    assert len(repr(odd)) < 100
    assert "<b>" not in odd._repr_html_().removeprefix("<b>Policy</b>")
    assert len(repr([jax.vmap(lambda p: p)(bt.Policy.from_samples(np.zeros((2, 10_000))))])) < 100


def test_completion_offers_public_names_alone() -> None:
    offered = set(dir(bt))
    assert offered >= {*bt.__all__, "alignment", "bounds", "sequence"}
    assert not {name for name in offered if name[0] == "_"} - {"__version__"}
    assert not offered & {"annotations", "divergences", "performance", "distortion", "race"}
