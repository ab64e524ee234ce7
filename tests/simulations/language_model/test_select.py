"""Selection on real sequences against a law written down by enumerating candidates and blocks."""

import dataclasses
import itertools
import math
from collections import defaultdict
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from scipy import special, stats

from simulations.language_model import decode
from simulations.language_model.enumerate import (
    enumerate_sequences,
    partial_rewards,
    select_blocks,
)
from simulations.language_model.generate import generate
from simulations.language_model.select import (
    additive,
    kl_from_candidates,
    kl_from_laws,
    select_from_pool,
    select_online,
)
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig
from simulations.selection.candidates import (
    CandidateRule,
    best_of_n,
    exponential_race,
    first_above,
    soft_best_of_n,
)
from simulations.statistics.checks import check_histogram

VOCABULARY = Vocabulary.plain(3)
EOS, PAD = VOCABULARY.eos_id, VOCABULARY.pad_id
PROMPTS = np.array([[VOCABULARY.bos_id, 0]], np.int32)
LENGTH = 3
TOKEN_REWARDS = np.array([0.0, 1.0, 0.4])
NUM_SEQUENCES = 2**12


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Transformer(TransformerConfig(VOCABULARY, width=8, num_layers=1), rngs=nnx.Rngs(1))


@pytest.fixture(scope="module")
def next_probs(model: Transformer) -> dict[tuple[int, ...], np.ndarray]:
    """The law of the next token after each prefix, by the model's forward pass."""
    tails = np.array(list(itertools.product(range(2), repeat=LENGTH - 1)), np.int32)
    tokens = np.concatenate([np.repeat(PROMPTS, len(tails), axis=0), tails], axis=1)
    logits = np.asarray(nnx.jit(lambda model, tokens: model(tokens))(model, tokens), np.float64)
    laws = special.softmax(logits[:, PROMPTS.shape[1] - 1 :], axis=-1)
    return {tuple(t[:k].tolist()): row[k] for t, row in zip(tails, laws, strict=True)
            for k in range(LENGTH)}  # fmt: skip


def draw(model: Transformer, seed: int, rule, block_length: int, **options):
    settings: dict[str, Any] = {"num_sequences": NUM_SEQUENCES, "batch_size": 2**15} | options
    return select_online(
        jax.random.key(seed),
        model,
        PROMPTS,
        rule,
        value=additive(TOKEN_REWARDS),
        max_new_tokens=LENGTH,
        block_length=block_length,
        **settings,
    )


def soft(rewards: tuple[float, float], temperature: float = 0.5) -> np.ndarray:
    return special.softmax(np.array(rewards) / temperature)


def hard(rewards: tuple[float, float]) -> np.ndarray:
    return np.array(rewards) == max(rewards) if rewards[0] != rewards[1] else np.array([0.5, 0.5])


def above(rewards: tuple[float, float], threshold: float = 1.2) -> np.ndarray:
    """The first that reaches the threshold; else the better."""
    if rewards[0] >= threshold:
        return np.array([1.0, 0.0])
    return np.array([0.0, 1.0]) if rewards[1] >= threshold else hard(rewards)


def race(rewards: tuple[float, float], temperature: float = 0.5) -> np.ndarray:
    """Pr(x + E > y + E′) of two candidates with exponential noise."""
    gap = (rewards[0] - rewards[1]) / temperature
    first = 1 - np.exp(-gap) / 2 if gap >= 0 else np.exp(gap) / 2
    return np.array([first, 1 - first])


RULES = {
    "best": (best_of_n(2), hard),
    "soft": (soft_best_of_n(2, 0.5), soft),
    "exponential": (exponential_race(2, 0.5), race),
    "threshold": (first_above(2, 1.2), above),
}


def blockwise_law(next_probs: dict, kept, block_length: int) -> dict[tuple[int, ...], float]:
    """By all pairs of candidates for each block after each prefix."""

    def blocks(prefix: tuple[int, ...], size: int) -> dict[tuple[int, ...], float]:
        if size == 0 or EOS in prefix:
            return {prefix: 1.0}
        law: dict[tuple[int, ...], float] = {}
        for token, prob in enumerate(next_probs[prefix]):
            rest = blocks((*prefix, token), size - 1)
            law |= {sequence: prob * p for sequence, p in rest.items()}
        return law

    law = {(): 1.0}
    for first in range(0, LENGTH, block_length):
        grown: defaultdict = defaultdict(float)
        for prefix, mass in law.items():
            after = blocks(prefix, min(block_length, LENGTH - first))
            for (x, p), (y, q) in itertools.product(after.items(), repeat=2):
                chances = kept((TOKEN_REWARDS[list(x)].sum(), TOKEN_REWARDS[list(y)].sum()))
                grown[x] += mass * p * q * chances[0]
                grown[y] += mass * p * q * chances[1]
        law = grown
    assert np.isclose(sum(law.values()), 1)
    return law


def counted(tokens: np.ndarray, law: dict) -> tuple[np.ndarray, np.ndarray]:
    place = {tuple(np.pad(s, (0, LENGTH - len(s)), constant_values=PAD).tolist()): i
             for i, s in enumerate(law)}  # fmt: skip
    counts = np.bincount([place[tuple(t)] for t in tokens.tolist()], minlength=len(law))
    probs = np.array(list(law.values()))
    return counts, probs / probs.sum()


@pytest.mark.parametrize("block_length", [1, 2, 3])
@pytest.mark.parametrize("name", RULES)
def test_selected_sequences_follow_the_law(model, next_probs, name: str, block_length: int) -> None:
    """G-test at a false-alarm rate of 1e-7; the reference is rejected, and other blocks are."""
    rule, kept = RULES[name]
    selected = draw(model, 2, rule, block_length)
    law = blockwise_law(next_probs, kept, block_length)
    assert check_histogram(name, *counted(selected.tokens[0], law)).p_value > 1e-7
    reference = blockwise_law(next_probs, lambda rewards: (1.0, 0.0), 1)
    assert check_histogram("planted", *counted(selected.tokens[0], reference)).p_value < 1e-7
    if block_length == 1 and name != "threshold":
        whole = blockwise_law(next_probs, kept, LENGTH)
        assert check_histogram("planted", *counted(selected.tokens[0], whole)).p_value < 1e-7


@pytest.mark.parametrize("name", RULES)
def test_the_exact_law_of_a_rule_is_that_by_all_pairs(model, next_probs, name: str) -> None:
    rule, kept = RULES[name]
    law = enumerate_sequences(model, PROMPTS[0], max_new_tokens=LENGTH)
    values = partial_rewards(law, TOKEN_REWARDS)
    selected = select_blocks(law, values, rule.law, block_length=2)
    expected = blockwise_law(next_probs, kept, 2)
    for tokens, log_prob in zip(selected.tokens, selected.log_probs, strict=True):
        assert np.isclose(np.exp(log_prob), expected[tuple(tokens[tokens != PAD])], atol=1e-6)


def test_online_in_one_block_is_from_a_pool(model) -> None:
    """The same key draws the same candidates and keeps the same ones."""
    key, rule = jax.random.key(3), soft_best_of_n(4, 0.5)
    pool = generate(key, model, PROMPTS, num_candidates=42, max_new_tokens=LENGTH)
    rewards = additive(TOKEN_REWARDS)(PROMPTS, pool.tokens)
    chosen = select_from_pool(jax.random.key(3), rule, rewards)
    online = draw(model, 3, rule, LENGTH, num_sequences=10)
    np.testing.assert_array_equal(online.tokens[0], pool.tokens[0][chosen[0]])
    np.testing.assert_array_equal(online.values[0], rewards[0][chosen[0]])
    np.testing.assert_allclose(
        online.token_log_probs[0], pool.token_log_probs[0][chosen[0]], atol=1e-6
    )


def test_blocks_of_one_candidate_change_nothing(model) -> None:
    """What is read and what is random is that of a response drawn at once."""
    options: dict[str, Any] = {"max_new_tokens": 6}
    whole = generate(jax.random.key(8), model, PROMPTS, num_candidates=64, **options)
    value = additive(TOKEN_REWARDS)
    pieces = select_online(
        jax.random.key(8),
        model,
        PROMPTS,
        best_of_n(1),
        value=value,
        block_length=2,
        num_sequences=64,
        **options,
    )
    np.testing.assert_array_equal(pieces.tokens, whole.tokens)
    np.testing.assert_allclose(pieces.token_log_probs, whole.token_log_probs, atol=1e-5)


def test_room_for_longer_blocks_changes_nothing(model, monkeypatch) -> None:
    roomy = draw(model, 9, best_of_n(2), 2, num_sequences=64)
    monkeypatch.setattr(decode, "is_worth_compiling", lambda *_: True)
    tight = draw(model, 9, best_of_n(2), 2, num_sequences=64)
    np.testing.assert_array_equal(roomy.tokens, tight.tokens)
    np.testing.assert_allclose(roomy.token_log_probs, tight.token_log_probs, atol=1e-5)


def test_every_block_of_every_sequence_is_selected_by_words_of_its_own(model) -> None:
    @dataclasses.dataclass(frozen=True)
    class Spy(CandidateRule):
        def pick(self, words, rewards) -> np.ndarray:
            seen.append(np.array(words))
            return super().pick(words, rewards)

    seen: list[np.ndarray] = []
    draw(model, 9, Spy(2), 1, num_sequences=16)
    assert len(np.unique(np.concatenate(seen))) == LENGTH * 16 * 2


def test_sequences_do_not_depend_on_how_they_are_batched(model) -> None:
    whole = draw(model, 4, best_of_n(2), 2, num_sequences=7)
    pieces = draw(model, 4, best_of_n(2), 2, num_sequences=5, batch_size=4)
    np.testing.assert_array_equal(pieces.tokens, whole.tokens[:, :5])


def test_a_selected_sequence_has_the_models_log_probs_and_its_value(model, next_probs) -> None:
    selected = draw(model, 5, best_of_n(2), 1, num_sequences=64)
    for tokens, log_probs, value in zip(
        selected.tokens[0], selected.token_log_probs[0], selected.values[0], strict=True
    ):
        real = tokens[tokens != PAD].tolist()
        expected = [np.log(next_probs[tuple(real[:t])][token]) for t, token in enumerate(real)]
        np.testing.assert_allclose(log_probs[: len(real)], expected, atol=1e-5)
        assert value == TOKEN_REWARDS[real].sum()
    assert (selected.lengths < LENGTH).any()


def test_a_value_function_sees_prompts_and_responses_so_far(model) -> None:
    seen = []

    def value(prompts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        seen.append((prompts.shape, tokens.shape))
        return np.where(tokens[..., -1] == 0, 1.0, 0.0)

    selected = select_online(
        jax.random.key(6),
        model,
        PROMPTS,
        best_of_n(32),
        value=value,
        max_new_tokens=LENGTH,
        block_length=2,
    )
    assert seen == [((1, 2), (1, 32, 2)), ((1, 2), (1, 32, 3))]
    np.testing.assert_array_equal(selected.tokens[0, 0, 1:], [0, 0])


@pytest.mark.parametrize("block_length", [1, 3])
def test_both_kl_estimates_hold_the_exact_divergence(model, block_length: int) -> None:
    """Within four standard errors; that of one draw more is not."""
    rule = soft_best_of_n(2, 0.3)
    law = enumerate_sequences(model, PROMPTS[0], max_new_tokens=LENGTH)
    values = partial_rewards(law, TOKEN_REWARDS)
    kept, planted = (
        select_blocks(law, values, soft_best_of_n(n, 0.3).law, block_length=block_length)
        for n in (2, 3)
    )
    index = law.index(draw(model, 7, rule, block_length).tokens[0])
    spared = draw(model, 7, rule, block_length, num_spare=14, num_sequences=2**9)
    for found in (
        kl_from_laws(kept.log_probs[index], law.log_probs[index]),
        kl_from_candidates(rule, spared),
    ):
        low, high = found.interval(1 - 6e-5)
        for selected, held in ((kept, True), (planted, False)):
            kl = np.sum(np.exp(selected.log_probs) * (selected.log_probs - law.log_probs))
            assert (low < kl < high) == held, found


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_of_a_divergence_is_the_normal_one(level: float) -> None:
    gains = np.random.default_rng(0).normal(0.3, 0.1, size=50)
    found = kl_from_laws(gains, np.zeros(50)).interval(level)
    exact = stats.norm.interval(level, gains.mean(), gains.std(ddof=1) / math.sqrt(50))
    np.testing.assert_allclose(found, exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda m: select_from_pool(jax.random.key(0), best_of_n(4), np.zeros((2, 3))),
         "n is 4, but the pool has 3 responses"),
        (lambda m: select_from_pool(jax.random.key(0), best_of_n(4), np.zeros(3)),
         "shape \\(3,\\)"),
        (lambda m: draw(m, 0, best_of_n(2), 0), "block_length must be .* got 0"),
        (lambda m: draw(m, 0, best_of_n(2), 1, num_sequences=0), "num_sequences must be .* got 0"),
        (lambda m: draw(m, 0, best_of_n(2), 1, num_spare=-1), "num_spare must be .* got -1"),
        (lambda m: draw(m, 0, best_of_n(2), 1, top_p=2.0), "top_p is 2.0"),
        (lambda m: select_online(
            jax.random.key(0), m, PROMPTS, best_of_n(2), value=lambda p, t: np.zeros(3),
            max_new_tokens=1), "value returned an array of shape \\(3,\\)"),
        (lambda m: kl_from_candidates(best_of_n(2), draw(m, 0, best_of_n(2), 1, num_sequences=2)),
         "selected has 2 candidates of a block"),
        (lambda m: select_online(
            jax.random.key(0), m, PROMPTS, best_of_n(2), value=additive(np.zeros(4)),
            max_new_tokens=1), "token rewards of shape \\(4,\\), but the model has 3 tokens"),
        (lambda m: kl_from_laws([0.0], [0.0, 0.0]), "shape \\(1,\\)"),
        (lambda m: kl_from_laws([0.0], [-np.inf]), "must be finite"),
        (lambda m: best_of_n(2).pick([0, 0], [np.nan, 0.0]), "NaN at \\(0,\\)"),
        (lambda m: best_of_n(2).pick([0], [0.0]), "looks at 2 candidates"),
        (lambda m: best_of_n(0), "n must be"),
        (lambda m: soft_best_of_n(2, 0.0), "temperature must be positive"),
        (lambda m: first_above(2, np.nan), "threshold is nan"),
    ],
)  # fmt: skip
def test_bad_input_is_named(model, act, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act(model)


@pytest.mark.parametrize("name", ["soft", "exponential"])
def test_a_race_keeps_each_of_two_as_often_as_it_should(name: str) -> None:
    """G-test at a false-alarm rate of 1e-7; the other noise is rejected."""
    rewards = (0.3, 0.9)
    words = np.random.default_rng(0).integers(0, 2**32, (2**15, 2), np.uint32)
    counts = np.bincount(RULES[name][0].pick(words, np.tile(rewards, (2**15, 1))))
    for other in ("soft", "exponential"):
        check = check_histogram(other, counts, RULES[other][1](rewards))
        assert (check.p_value > 1e-7) == (other == name)
