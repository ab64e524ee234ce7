"""The enumerated law is the model's, and selection on it is what enumeration by hand gives."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bon_theory as bt
from simulations.language_model.enumerate import (
    EnumeratedLaw,
    at_ends,
    enumerate_sequences,
    expected_rewards,
    partial_rewards,
    path_sums,
    select_blocks,
    soft_values,
)
from simulations.language_model.generate import generate
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig
from simulations.selection.candidates import CandidateRule
from simulations.selection.candidates import best_of_n as best_of
from simulations.selection.candidates import exponential_race as race_of
from simulations.selection.candidates import first_above as above
from simulations.selection.candidates import soft_best_of_n as soft_best_of
from simulations.statistics.checks import check_histogram

LENGTH = 4
VOCABULARY = Vocabulary(4, eos_id=1, bos_id=4)  # EOS is not the last id
PROMPT = np.array([4, 0, 2])
Sequence = tuple[int, ...]


@pytest.fixture(scope="module")
def model() -> Transformer:
    """A model whose next token depends strongly on the tokens before."""
    config = TransformerConfig(vocabulary=VOCABULARY, width=8, num_layers=1, num_heads=2)
    return Transformer(config, rngs=nnx.Rngs(3))


@pytest.fixture(scope="module")
def law(model: Transformer) -> EnumeratedLaw:
    return enumerate_sequences(model, PROMPT, max_new_tokens=LENGTH, temperature=0.8, batch_size=10)


@pytest.fixture(scope="module")
def next_token(model: Transformer) -> dict[Sequence, np.ndarray]:
    """Oracle: the law of the next token after each prefix, a row of the model for each."""
    prefixes = [p for t in range(LENGTH) for p in product((0, 2, 3), repeat=t)]
    laws = {}
    for prefix in prefixes:
        padded = [VOCABULARY.pad_id] * (LENGTH - len(prefix))
        row = jnp.asarray([[*padded, *PROMPT.tolist(), *prefix]], jnp.int32)
        logits = np.float64(_logits(model, row)[0, -1]) / 0.8
        laws[prefix] = np.exp(logits) / np.exp(logits).sum()
    return laws


@nnx.jit
def _logits(model: Transformer, tokens: jax.Array) -> jax.Array:
    return model(tokens)


def continuations(
    laws: dict[Sequence, np.ndarray], prefix: Sequence, num_tokens: int
) -> dict[Sequence, float]:
    """Oracle: every continuation by ``num_tokens`` or up to an end, and its probability."""
    if num_tokens == 0 or len(prefix) == LENGTH or prefix[-1:] == (VOCABULARY.eos_id,):
        return {prefix: 1.0}
    found = {}
    for token, prob in enumerate(laws[prefix]):
        for longer, rest in continuations(laws, (*prefix, token), num_tokens - 1).items():
            found[longer] = prob * rest
    return found


def best_of_n(law: dict[Sequence, float], value: dict[Sequence, float], n: int) -> dict:
    """Oracle: P(y) = π(y) [F(y)^n − F⁻(y)^n] / [F(y) − F⁻(y)], tied ones in proportion."""
    found = {}
    for outcome, prob in law.items():
        below = sum(p for y, p in law.items() if value[y] < value[outcome])
        tied = sum(p for y, p in law.items() if value[y] == value[outcome])
        found[outcome] = prob * ((below + tied) ** n - below**n) / tied
    return found


def as_dict(law: EnumeratedLaw, values: np.ndarray) -> dict[Sequence, float]:
    rows = (tuple(t for t in row if t != VOCABULARY.pad_id) for row in law.tokens.tolist())
    return dict(zip(rows, values.tolist(), strict=True))


REWARD_OF_TOKEN = np.array([0.5, 0.25, -1.0, 2.0])


def reward(sequence: Sequence) -> float:
    return float(sum(REWARD_OF_TOKEN[token] for token in sequence))


def test_the_law_is_the_models(law: EnumeratedLaw, next_token: dict) -> None:
    expected = continuations(next_token, (), LENGTH)
    found = as_dict(law, np.exp(law.log_probs))
    assert len(found) == len(law.log_probs) == 1 + 3 + 9 + 27 * 4 == len(expected)
    assert found.keys() == expected.keys()
    # float32 logits, whose rounding the batch decides.
    np.testing.assert_allclose([found[y] for y in expected], list(expected.values()), rtol=2e-5)
    assert np.ptp(law.log_probs) > 3
    np.testing.assert_allclose(np.exp(law.log_probs).sum(), 1, rtol=1e-12)


def test_drawn_responses_follow_it(model: Transformer, law: EnumeratedLaw) -> None:
    """G-test at a false-alarm rate of 1e-6; the law at temperature 1 is rejected."""
    drawn = generate(
        jax.random.key(5),
        model,
        PROMPT[None],
        num_candidates=2**13,
        max_new_tokens=LENGTH,
        temperature=0.8,
        batch_size=2**13,
    )
    counts = np.bincount(law.index(drawn.tokens[0]), minlength=law.log_probs.size)
    assert check_histogram("responses", counts, np.exp(law.log_probs)).p_value > 1e-6
    other = enumerate_sequences(model, PROMPT, max_new_tokens=LENGTH, batch_size=10)
    assert check_histogram("planted", counts, np.exp(other.log_probs)).p_value < 1e-6


def test_index_finds_each_sequence(law: EnumeratedLaw) -> None:
    np.testing.assert_array_equal(law.index(law.tokens), np.arange(law.log_probs.size))
    np.testing.assert_array_equal(law.index(law.tokens.reshape(11, 11, 4)).shape, (11, 11))


def test_a_tree_is_looked_up_by_prefixes(law: EnumeratedLaw) -> None:
    tree = partial_rewards(law, REWARD_OF_TOKEN)
    np.testing.assert_allclose(law.look_up(tree, law.tokens), at_ends(tree), rtol=1e-15)
    pad = VOCABULARY.pad_id
    rows = np.array([[[2, 3], [0, 1]], [[1, pad], [3, pad]]])
    expected = [[reward((2, 3)), reward((0, 1))], [reward((1,)), reward((3,))]]
    np.testing.assert_allclose(law.look_up(tree, rows), expected, rtol=1e-15)


@pytest.mark.parametrize("block_length", [1, 2, 3, 4, 7])
def test_block_selection_is_the_product_of_its_conditional_laws(
    law: EnumeratedLaw, next_token: dict, block_length: int
) -> None:
    n = 3
    frontier, expected = {(): 1.0}, {}
    while frontier:  # block by block from each prefix, as one would on paper
        prefix, mass = frontier.popitem()
        block = continuations(next_token, prefix, block_length)
        if set(block) == {prefix}:
            expected[prefix] = mass
            continue
        for longer, prob in best_of_n(block, {y: reward(y) for y in block}, n).items():
            frontier[longer] = mass * prob
    selected = select_blocks(
        law,
        partial_rewards(law, REWARD_OF_TOKEN),
        lambda policy: bt.best_of_n(policy, n),
        block_length=block_length,
    )
    found = as_dict(selected, np.exp(selected.log_probs))
    np.testing.assert_allclose(
        [found[y] for y in expected], list(expected.values()), rtol=1e-4, atol=1e-12
    )
    assert sum(expected.values()) == pytest.approx(1, rel=1e-12)


def test_whole_sequences_are_outcomes_of_the_core(law: EnumeratedLaw) -> None:
    rewards = at_ends(partial_rewards(law, REWARD_OF_TOKEN))
    by_hand = [reward(y) for y in as_dict(law, rewards)]
    np.testing.assert_allclose(rewards, by_hand, rtol=1e-15)

    def rule(policy: bt.Policy) -> bt.Policy:
        return bt.soft_best_of_n(policy, 5, 0.7)

    whole = select_blocks(law, partial_rewards(law, REWARD_OF_TOKEN), rule, block_length=LENGTH)
    np.testing.assert_allclose(
        whole.log_probs, rule(law.policy(rewards)).log_probs, rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("block_length", [1, 3])
def test_the_tilt_with_its_look_ahead_is_the_same_block_by_block(
    law: EnumeratedLaw, block_length: int
) -> None:
    rewards = np.random.default_rng(0).normal(size=law.log_probs.size)
    tilted = select_blocks(
        law,
        soft_values(law, rewards, 0.3),
        lambda policy: bt.exponential_tilt(policy, 0.3),
        block_length=block_length,
    )
    expected = law.log_probs + rewards / 0.3
    expected -= np.log(np.sum(np.exp(expected)))
    np.testing.assert_allclose(tilted.log_probs, expected, atol=1e-11)


def test_expected_rewards_are_conditional_means(law: EnumeratedLaw) -> None:
    rewards = np.random.default_rng(1).normal(size=law.log_probs.size)
    mean = as_dict(law, np.exp(law.log_probs) * rewards)
    mass = as_dict(law, np.exp(law.log_probs))
    values = expected_rewards(law, rewards)
    # Columns are 0, 2, 3 and EOS (1); row 5 of prefixes of two tokens is (2, 3).
    for prefix, value in {(2, 3, 0): values[2][5, 0], (3,): values[0][0, 2]}.items():
        below = [y for y in mass if y[: len(prefix)] == prefix]
        expected = sum(mean[y] for y in below) / sum(mass[y] for y in below)
        assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(at_ends(values), rewards)


def test_a_rule_that_excludes_leaves_no_nan(law: EnumeratedLaw) -> None:
    """A hard maximum gives most prefixes no mass at all."""
    values = partial_rewards(law, REWARD_OF_TOKEN)
    selected = select_blocks(
        law, values, lambda policy: bt.top_fraction(policy, 1e-3), block_length=2
    )
    assert not any(np.isnan(level).any() for level in selected.conditionals)
    np.testing.assert_allclose(np.exp(selected.log_probs).sum(), 1, rtol=1e-12)
    assert (selected.log_probs == -np.inf).any()


@pytest.mark.parametrize("rule", [best_of(3), soft_best_of(3, 0.4), race_of(3, 0.4), above(3, 0.5)])
def test_ties_and_impossible_tokens_are_the_rules_own(rule: CandidateRule) -> None:
    """Prefix by prefix and outcome by outcome, where prefixes differ in how much of them ties."""
    rng = np.random.default_rng(2)
    tokens = rng.dirichlet(np.ones(4), size=13)
    tokens[:, :2] *= rng.random((13, 2)) < 0.6
    with np.errstate(divide="ignore"):
        first, *rest = np.log(tokens / tokens.sum(axis=1, keepdims=True))
    values = (np.zeros((1, 4)), np.zeros((3, 4)), rng.integers(-2, 3, (9, 4)) / 2)
    assert len({np.unique(row).size for row in values[2]}) > 1
    law = EnumeratedLaw((first[None], np.array(rest[:3]), np.array(rest[3:])), VOCABULARY)
    selected = select_blocks(law, values, rule.law, block_length=1)
    for found, row, value in zip(
        selected.conditionals[2], law.conditionals[2], values[2], strict=True
    ):
        alone = rule.law(bt.Policy.from_logits(row, value))
        np.testing.assert_allclose(np.exp(found), alone.probs, rtol=1e-12, atol=1e-15)


def test_path_sums() -> None:
    tree = (np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 1.0, 2.0], [5.0, 6.0, 7.0]]))
    first, second = path_sums(tree)
    np.testing.assert_array_equal(first, tree[0])
    np.testing.assert_array_equal(second, [[2, 2, 3], [7, 8, 9]])


def test_bad_input_is_named(model: Transformer, law: EnumeratedLaw) -> None:
    with pytest.raises(ValueError, match=r"max_new_tokens is 11 and the model has 4 tokens"):
        enumerate_sequences(model, PROMPT, max_new_tokens=11)
    with pytest.raises(ValueError, match=r"max_new_tokens is 0"):
        enumerate_sequences(model, PROMPT, max_new_tokens=0)
    with pytest.raises(ValueError, match=r"temperature is 0"):
        enumerate_sequences(model, PROMPT, max_new_tokens=2, temperature=0)
    with pytest.raises(ValueError, match=r"block_length is 0"):
        select_blocks(law, law.conditionals, lambda policy: policy, block_length=0)
    with pytest.raises(ValueError, match=r"responses has 2 tokens each"):
        law.index(np.zeros((1, 2), int))
    with pytest.raises(ValueError, match=r"tokens after an end, or none"):
        law.index(np.array([[1, 0, 0, 0]]))
    with pytest.raises(ValueError, match=r"tokens after an end, or none"):
        law.look_up(law.conditionals, np.array([[5, 5]]))
    with pytest.raises(ValueError, match=r"responses has 5 tokens each"):
        law.look_up(law.conditionals, np.array([[0, 0, 0, 0, 1]]))
    with pytest.raises(ValueError, match=r"PAD without an end"):
        law.index(np.array([[0, 5, 5, 5]]))
