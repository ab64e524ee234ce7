"""Bad input raises ValueError with the argument, what was got, and what to do about it.

Each case lists the words that the message must hold, in that order: argument, value, remedy.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from tests.strategies import law

REFERENCE = law([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
SHORTER = law([0.5, 0.5], rewards=[0.0, 1.0])
UNIFORM = bt.Policy.uniform_reward(num_nodes=321)
NAN, INF = math.nan, math.inf
Words = tuple[str, ...]


def from_probs(probs: Any, rewards: Any) -> Callable[[], Any]:
    return lambda: bt.Policy.from_probs(probs, rewards)


def from_logits(logits: Any, rewards: Any) -> Callable[[], Any]:
    return lambda: bt.Policy.from_logits(logits, rewards)


PROBABILITIES: dict[str, tuple[Callable[[], Any], Words]] = {
    "negative": (
        from_probs([-0.5, 1.5], [0.0, 1.0]),
        ("probs", "-0.5", "index (0,)", "from_logits"),
    ),
    "NaN": (from_probs([0.5, NAN], [0.0, 1.0]), ("probs", "nan", "index (1,)", "from_logits")),
    "negative in a batch": (
        from_probs([[0.5, 0.5], [1.25, -0.25]], [0.0, 1.0]),
        ("probs", "-0.25", "index (1, 1)"),
    ),
    "infinite": (from_probs([INF, 0.0], [0.0, 1.0]), ("probs", "sum to one", "inf", "divide")),
    "not summing to one": (
        from_probs([0.5, 0.6], [0.0, 1.0]),
        ("probs", "sum to one", "1.1", "divide by the sum"),
    ),
    "all zero": (from_probs([0.0, 0.0], [0.0, 1.0]), ("probs", "sum to one", "0.", "divide")),
    "half precision": (
        from_probs(np.array([0.5, 0.5], np.float16), [0.0, 1.0]),
        ("probs", "float32 or float64", "float16", "astype(jnp.float32)"),
    ),
    "brain floats": (
        lambda: bt.Policy.from_logits(jnp.zeros(2, jnp.bfloat16), [0.0, 1.0]),
        ("logits", "float32 or float64", "bfloat16", "astype(jnp.float32)"),
    ),
    "integers": (
        from_probs([1, 0], [0.0, 1.0]),
        ("probs", "floating point", "int64", "jnp.asarray(probs, float)"),
    ),
    "booleans": (from_probs([True, False], [0.0, 1.0]), ("probs", "floating point", "bool")),
    "complex": (from_probs([0.5 + 0j, 0.5], [0.0, 1.0]), ("probs", "floating point", "complex128")),
    "empty": (from_probs(np.zeros(0), np.zeros(0)), ("probs", "at least one number", "(0,)")),
    "a number": (from_probs(1.0, [0.0]), ("probs", "at least one number", "()")),
    "NaN logits": (from_logits([0.0, NAN], [0.0, 1.0]), ("logits", "nan", "index (1,)", "-inf")),
    "infinite logits": (
        from_logits([INF, 0.0], [0.0, 1.0]),
        ("logits", "inf", "index (0,)", "mask"),
    ),
    "integer logits": (
        from_logits([0, 1], [0.0, 1.0]),
        ("logits", "int64", "jnp.asarray(logits, float)"),
    ),
    "an empty support": (
        from_logits([-INF, -INF], [0.0, 1.0]),
        ("logits", "-inf", "empty", "at least one finite"),
    ),
    "an empty support in a batch": (
        from_logits([[0.0, 0.0], [-INF, -INF]], [0.0, 1.0]),
        ("logits", "-inf", "empty"),
    ),
    "complex samples": (lambda: bt.Policy.from_samples([1j]), ("rewards", "complex128")),
    "no samples": (lambda: bt.Policy.from_samples(np.zeros((3, 0))), ("rewards", "(3, 0)")),
    "NaN samples": (lambda: bt.Policy.from_samples([0.0, NAN]), ("rewards", "nan", "index (1,)")),
}

REWARDS: dict[str, tuple[Callable[[], Any], Words]] = {
    "NaN": (from_probs([0.5, 0.5], [0.0, NAN]), ("rewards", "nan", "index (1,)", "drop")),
    "infinite": (from_probs([0.5, 0.5], [0.0, -INF]), ("rewards", "-inf", "probability zero")),
    "too few": (from_probs([0.5, 0.5], [0.0]), ("rewards", "(1,)", "2 outcomes", "last axes")),
    "too many": (from_probs([0.5, 0.5], [0.0, 1.0, 2.0]), ("rewards", "(3,)", "2 outcomes")),
    "a number": (from_probs([0.5, 0.5], 1.0), ("rewards", "()", "2 outcomes")),
    "another batch": (
        from_probs(np.full((2, 2), 0.5), np.zeros((3, 2))),
        ("rewards", "(3, 2)", "(2, 2)", "batch axes lead"),
    ),
    "complex": (from_probs([0.5, 0.5], [0.0, 1j]), ("rewards", "complex128")),
    "a decreasing quantile": (
        lambda: bt.Policy.from_quantile(lambda u: -u),
        ("quantile", "increasing", "decreasing", "survival_quantile"),
    ),
    "an infinite quantile": (
        lambda: bt.Policy.from_quantile(lambda u: 1 / (u - u)),
        ("rewards", "inf"),
    ),
    "too few nodes": (
        lambda: bt.Policy.uniform_reward(num_nodes=2),
        ("num_nodes", "at least 321", "2", "1281"),
    ),
    "breaks outside": (
        lambda: bt.Policy.uniform_reward(breaks=(0.5, 1.0)),
        ("breaks", "(0.5, 1.0)"),
    ),
    "descending breaks": (
        lambda: bt.Policy.uniform_reward(breaks=(0.7, 0.3)),
        ("breaks", "(0.7, 0.3)"),
    ),
}


def at(name: str, *parameters: Any, reference: bt.Policy = REFERENCE) -> Callable[[], Any]:
    return lambda: getattr(bt, name)(reference, *parameters)


N = ("n", "finite number at least 1")
TEMPERATURE = ("temperature", "number at least 0")
PARAMETERS: dict[str, tuple[Callable[[], Any], Words]] = {
    "best of no candidate": (at("best_of_n", 0), (*N, "got 0", "choose n at least 1")),
    "best of half a candidate": (at("best_of_n", 0.5), (*N, "0.5", "choose")),
    "best of infinitely many": (at("best_of_n", INF), (*N, "inf", "choose")),
    "one bad number in an array": (at("best_of_n", np.array([2.0, 0.0])), (*N, "[2. 0.]")),
    "best of NaN": (at("best_of_n", NAN), (*N, "nan", "choose")),
    "worst of none": (at("worst_of_n", 0.0), (*N, "0", "choose")),
    "soft best of none": (
        at("soft_best_of_n", 0.0, 1.0),
        ("n", "finite number in [1, 1e+276]", "0", "choose"),
    ),
    "soft best of too many": (at("soft_best_of_n", 1e300, 1.0), ("n", "[1, 1e+276]", "1e+300")),
    "soft best of Poisson too many": (
        at("soft_best_of_poisson", 1e300, 1.0),
        ("mean_extra_draws", "[0, 1e+276]", "1e+300"),
    ),
    "not a policy": (
        lambda: bt.soft_best_of_n([0.5, 0.5], 2.0, 1.0),  # pyright: ignore[reportArgumentType, reportCallIssue]
        ("reference", "Policy", "list", "from_probs"),
    ),
    "a race of none": (at("exponential_race", -3.0, 1.0), (*N, "-3", "choose")),
    "a complex number": (at("best_of_n", 2 + 1j), ("n", "real", "(2+1j)")),
    **{
        f"{what} temperature of {name}": (at(name, *first, value), (*TEMPERATURE, got, "choose"))
        for name, first in {
            "soft_best_of_n": (2.0,),
            "soft_best_of_poisson": (2.0,),
            "exponential_race": (2.0,),
            "exponential_tilt": (),
        }.items()
        for what, value, got in (("negative", -0.5, "-0.5"), ("NaN", NAN, "nan"))
    },
    "negative draws": (at("best_of_poisson", -1.0), ("mean_extra_draws", "at least 0", "-1")),
    "infinite draws": (
        at("soft_best_of_poisson", INF, 1.0),
        ("mean_extra_draws", "finite", "inf"),
    ),
    "negative strength": (at("win_rate_optimal", -1.0), ("strength", "at least 0", "-1")),
    "zero strength": (at("chi_squared_tilt", 0.0), ("strength", "got 0", "choose")),
    "no fraction": (at("top_fraction", 0.0), ("fraction", "1]", "got 0", "choose")),
    "more than all": (at("top_fraction", 1.5), ("fraction", "1]", "1.5", "choose")),
    "a fraction between nodes": (
        at("top_fraction", 0.3, reference=UNIFORM),
        ("fraction=0.3", "breaks=(1 - fraction,)"),
    ),
    "a continuous race": (
        at("exponential_race", 2.0, 1.0, reference=UNIFORM),
        ("reference", "discrete", "continuous", "from_samples"),
    ),
    "a tail too heavy to tilt": (
        at("exponential_tilt", 0.5, reference=bt.Policy.exponential_reward()),
        ("temperature=0.5", "too small", "raise it"),
    ),
    "a negative order": (
        lambda: bt.renyi_divergence(REFERENCE, REFERENCE, -0.5),
        ("order", "at least 0", "-0.5", "choose"),
    ),
}

FUNCTIONALS: dict[str, tuple[Callable[[], Any], Words]] = {
    **{
        f"other outcomes in {name}": (
            lambda name=name: getattr(bt, name)(REFERENCE, SHORTER),
            ("policy", "3 outcomes", "2 outcomes", "selection"),
        )
        for name in (
            "log_ratio",
            "kl_divergence",
            "chi_squared_divergence",
            "total_variation",
            "squared_hellinger",
            "jensen_shannon",
        )
    },
    **{
        f"no policy in {name}, argument {place}": (
            lambda name=name, arguments=arguments: getattr(bt, name)(*arguments),
            (which, "Policy", "list", "from_probs"),
        )
        for name, which, place, arguments in (
            ("expected_reward", "policy", 1, ([0.5],)),
            ("expected_value", "policy", 1, ([0.5], [1.0])),
            ("win_rate", "policy", 1, ([0.5], REFERENCE)),
            ("win_rate", "opponent", 2, (REFERENCE, [0.5])),
            ("kl_divergence", "policy", 1, ([0.5], REFERENCE)),
            ("kl_divergence", "reference", 2, (REFERENCE, [0.5])),
            ("renyi_divergence", "reference", 2, (REFERENCE, [0.5], 2.0)),
        )
    },
    **{
        f"as many outcomes as nodes in {name}": (
            lambda name=name: getattr(bt, name)(bt.Policy.from_samples(UNIFORM.rewards), UNIFORM),
            ("policy", "321 outcomes", "321 continuous nodes", "selection"),
        )
        for name in ("kl_divergence", "win_rate")
    },
    "other outcomes in renyi": (
        lambda: bt.renyi_divergence(REFERENCE, SHORTER, 2.0),
        ("policy", "3 outcomes", "2 outcomes"),
    ),
    "other outcomes in f": (
        lambda: bt.f_divergence(REFERENCE, SHORTER, jnp.square),
        ("policy", "3 outcomes", "2 outcomes"),
    ),
    "another opponent": (
        lambda: bt.win_rate(REFERENCE, SHORTER),
        ("opponent", "3", "2", "selection"),
    ),
    "a discrete and a continuous law": (
        lambda: bt.kl_divergence(law([1.0], rewards=[0.0]), bt.Policy.uniform_reward()),
        ("policy", "1 outcomes", "1281 continuous nodes"),
    ),
    "an unknown convention": (
        lambda: bt.win_rate(REFERENCE, REFERENCE, ties="draw"),  # pyright: ignore[reportArgumentType]
        ("ties", "'half', 'win' or 'loss'", "'draw'", "choose"),
    ),
    "values of other outcomes": (
        lambda: bt.expected_value(REFERENCE, [0.0, 1.0]),
        ("values", "(2,)", "3 outcomes", "last axis"),
    ),
    "NaN values": (lambda: bt.expected_value(REFERENCE, [0.0, NAN, 1.0]), ("values", "NaN")),
    "complex values": (lambda: bt.expected_value(REFERENCE, [0, 1, 2j]), ("values", "complex128")),
}

TWO = bt.Policy.from_probs(np.full((2, 4), 0.25), np.arange(4.0))
THREE = bt.Policy.from_probs(np.full((3, 4), 0.25), np.arange(4.0))
BATCHES = ("(3,)", "(2,)", "batch axes")

SHAPES: dict[str, tuple[Callable[[], Any], Words]] = {
    "numbers": (at("best_of_n", np.ones(3), reference=TWO), ("n", *BATCHES)),
    "soft numbers": (at("soft_best_of_n", np.ones(3), 1.0, reference=TWO), ("n", *BATCHES)),
    "temperatures": (
        at("soft_best_of_n", np.ones(2), np.ones(3), reference=TWO),
        ("temperature", *BATCHES),
    ),
    "orders": (lambda: bt.renyi_divergence(TWO, TWO, np.full(3, 2.0)), ("order", *BATCHES)),
    "laws": (lambda: bt.kl_divergence(THREE, TWO), ("policy", *BATCHES)),
    "laws of an order": (lambda: bt.renyi_divergence(THREE, TWO, 2.0), ("policy", *BATCHES)),
    "opponents": (lambda: bt.win_rate(THREE, TWO), ("policy", *BATCHES)),
    "values": (lambda: bt.expected_value(TWO, np.zeros((3, 4))), ("values", *BATCHES)),
}

CASES = {
    f"{group}: {what}": case
    for group, cases in (
        ("probabilities", PROBABILITIES),
        ("rewards", REWARDS),
        ("parameters", PARAMETERS),
        ("functionals", FUNCTIONALS),
        ("shapes", SHAPES),
    )
    for what, case in cases.items()
}


@pytest.mark.parametrize("what", CASES)
def test_bad_input_is_named_shown_and_remedied(what: str) -> None:
    call, words = CASES[what]
    with pytest.raises(ValueError) as caught:
        call()
    message, start = str(caught.value), 0
    for word in words:
        assert word in message[start:], f"{word!r} is missing, or out of order, in {message!r}"
        start = message.index(word, start) + len(word)


# --- accepted on purpose ----------------------------------------------------------------


def test_probabilities_may_miss_one_by_rounding() -> None:
    third = np.float32(1) / np.float32(3)
    policy = bt.Policy.from_probs(np.full(3, third), np.arange(3, dtype=np.float32))
    assert float(jnp.sum(policy.probs)) == pytest.approx(1, abs=1e-7)


def test_integer_rewards_are_grades() -> None:
    graded = bt.Policy.from_probs(jnp.asarray([0.5, 0.5]), jnp.asarray([1, 5]))
    assert float(bt.expected_reward(graded)) == 3


def test_an_integer_number_of_candidates_is_a_number() -> None:
    whole, real = bt.best_of_n(REFERENCE, 3), bt.best_of_n(REFERENCE, 3.0)
    np.testing.assert_array_equal(np.asarray(whole.probs), np.asarray(real.probs))


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        REFERENCE.rewards = jnp.zeros(3)  # pyright: ignore[reportAttributeAccessIssue]


# --- refused, beyond the table ------------------------------------------------------------


def test_a_number_too_large_for_the_precision_is_refused() -> None:
    law = bt.Policy.from_probs(np.array([0.5, 0.5], np.float32), [0.0, 1.0])
    with pytest.raises(ValueError, match=r"n must be representable in float32, got 1e\+39"):
        bt.best_of_n(law, 1e39)


@pytest.mark.parametrize(
    "use", [lambda law: bt.soft_best_of_n(law, 2.0, 0.5), lambda law: bt.kl_divergence(law, law)]
)
def test_a_law_in_a_precision_since_switched_off_is_refused(use: Callable[[Any], Any]) -> None:
    with (
        jax.enable_x64(False),
        pytest.raises(
            ValueError, match=r"must be in a precision .*float64.* jax_enable_x64 is off"
        ),
    ):
        use(REFERENCE)


def test_opponents_with_other_rewards_are_refused() -> None:
    one = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
    other = bt.Policy.from_probs([0.5, 0.5], rewards=[1.0, 0.0])
    with pytest.raises(ValueError, match="policy and opponent must carry the same rewards"):
        bt.win_rate(one, other)


def test_a_reward_range_that_overflows_is_refused() -> None:
    with pytest.raises(ValueError, match="rewards must have a finite range"):
        bt.Policy.from_probs([0.5, 0.5], rewards=[-1e308, 1e308])


@pytest.mark.parametrize("nothing", [None, [0.5, 0.5]])
@pytest.mark.parametrize(
    "select",
    [
        lambda law: bt.best_of_n(law, 2),
        lambda law: bt.worst_of_n(law, 2),
        lambda law: bt.best_of_poisson(law, 2.0),
        lambda law: bt.win_rate_optimal(law, 2.0),
        lambda law: bt.top_fraction(law, 0.5),
        lambda law: bt.soft_best_of_n(law, 2, 1.0),
        lambda law: bt.soft_best_of_poisson(law, 2.0, 1.0),
        lambda law: bt.exponential_race(law, 2, 1.0),
        lambda law: bt.exponential_tilt(law, 1.0),
        lambda law: bt.chi_squared_tilt(law, 1.0),
    ],
)
def test_every_selection_asks_for_a_policy(select: Any, nothing: Any) -> None:
    with pytest.raises(ValueError, match="reference must be a Policy, got"):
        select(nothing)
