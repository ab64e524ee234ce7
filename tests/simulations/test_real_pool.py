"""A pool holds what was drawn; what is measured on half of it was predicted from the other half."""

from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from simulations.experiments import real_pool, response_pool
from simulations.experiments.real_pool import RealPoolConfig, RewardColumn, load_pool
from simulations.experiments.response_pool import ResponsePoolConfig
from simulations.language_model import real_model
from simulations.language_model.generate import response_token_log_probs
from simulations.language_model.rewards.text import Sentiment, score
from simulations.language_model.text.chat import CheckpointTokenizer, chat_prompts
from simulations.language_model.transformer import Transformer

INSTRUCTIONS = ("Say good.", "Name a bad day.")


@pytest.fixture(scope="module")
def drawn(model: Transformer, tokenizer: CheckpointTokenizer) -> pl.DataFrame:
    config = ResponsePoolConfig(num_candidates=3, max_new_tokens=5, batch_size=3)
    return response_pool.run(config, jax.random.key(0), model, tokenizer, INSTRUCTIONS)


def test_a_pool_holds_what_was_drawn(
    model: Transformer, tokenizer: CheckpointTokenizer, drawn: pl.DataFrame
) -> None:
    assert drawn["prompt_id"].to_list() == [0, 0, 0, 1, 1, 1]
    assert drawn["candidate"].to_list() == [0, 1, 2, 0, 1, 2]
    prompts = chat_prompts(
        [[{"role": "user", "content": text}] for text in INSTRUCTIONS], tokenizer
    )
    for row in drawn.iter_rows(named=True):
        tokens = np.array([row["token_ids"]])
        prompt = prompts[row["prompt_id"]][None]
        expected = np.asarray(response_token_log_probs(model, prompt, tokens))[0]
        np.testing.assert_allclose(row["token_log_probs"], expected, atol=1e-5)
        assert row["log_prob"] == pytest.approx(expected.sum(), abs=1e-5)
        assert row["num_tokens"] == tokens.size
        assert row["finished"] == (tokens[0, -1] == tokenizer.vocabulary.eos_id)
        assert row["text"] == tokenizer.decode(tokens[0])
        assert row["prompt"] == INSTRUCTIONS[row["prompt_id"]]


def test_instructions_ask_for_one_sentence() -> None:
    instructions = response_pool.instructions()
    assert len(set(instructions)) == len(instructions) == 64
    assert all("sentence" in instruction for instruction in instructions)


def pool(num_answers: int) -> pl.DataFrame:
    """Two instructions; the second one's rewards are higher by 10, and half of them tie."""
    index = np.arange(2 * num_answers)
    rewards = np.random.default_rng(0).normal(size=index.size)
    rewards = np.where(index % 2 == 0, 0.0, rewards) + 10.0 * (index >= num_answers)
    return pl.DataFrame(
        {
            "prompt_id": index // num_answers,
            "candidate": index % num_answers,
            "prompt": [INSTRUCTIONS[i] for i in index // num_answers],
            "text": [f"answer {i}" for i in index],
            "num_tokens": np.full(index.size, 7),
            "finished": index % 4 > 0,
            "reward": rewards,
        }
    )


def test_selection_is_predicted_and_measured_on_different_halves() -> None:
    config = RealPoolConfig(
        rewards=(RewardColumn("reward", (0.0,)),),
        numbers=(1, 4),
        num_redrawn=40,
        num_samples=2,
        shown=4,
        shown_soft=16,
    )
    answers = pool(40)
    results = real_pool.run(config, jax.random.key(0), answers)
    rewards = answers["reward"].to_numpy().reshape(2, 40)
    found = results.comparisons["reward"].expected_reward
    np.testing.assert_allclose(found.predicted[0, 0], rewards[:, :20].mean(axis=1), rtol=1e-12)
    pairs = rewards[:, 20:].reshape(2, 10, 2)[..., 1]  # the first of each pair is the opponent
    np.testing.assert_allclose(found.measured[0, 0], pairs.mean(axis=1), rtol=1e-12)
    assert results.finished == 0.75
    assert results.mean_length == 7
    assert results.tie_probability["reward"] == pytest.approx(20 * 19 / (40 * 39))
    first, second = results.samples
    assert first.reference == "answer 0"
    assert first.best_of_n == f"answer {1 + rewards[0, 1:5].argmax()}"
    assert second.best_of_n == f"answer {41 + rewards[1, 1:5].argmax()}"
    assert all(5 <= int(texts.soft.split()[1]) % 40 < 21 for texts in results.samples)


def test_bad_pools_are_named(tmp_path: Path) -> None:
    path = tmp_path / "pool.parquet"
    with pytest.raises(ValueError, match=r"pool\.parquet is no Parquet file"):
        load_pool(path)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"pool\.parquet is no Parquet file"):
        load_pool(path)
    pool(4).drop("text").write_parquet(path)
    with pytest.raises(ValueError, match=r"has no column text"):
        load_pool(path)
    pool(4)[:-1].write_parquet(path)
    with pytest.raises(ValueError, match=r"has 3 to 4 answers"):
        load_pool(path)
    pool(4).sample(fraction=1, shuffle=True, seed=1).write_parquet(path)
    assert load_pool(path).equals(pool(4))


@pytest.fixture(scope="module")
def kept() -> pl.DataFrame:
    return load_pool()


def test_the_repositorys_pool_is_what_its_instructions_ask_for(kept: pl.DataFrame) -> None:
    assert real_pool.POOL.stat().st_size < 6e6
    assert kept.height == 64 * 256
    assert kept["prompt"].unique(maintain_order=True).to_list() == response_pool.instructions()
    assert kept["num_tokens"].max() == 64
    assert (kept["num_tokens"] == kept["token_ids"].list.len()).all()
    assert (kept["token_ids"].list.len() == kept["token_log_probs"].list.len()).all()
    # SmolLM2's end, the token 2, is the last of an answer that has it.
    ended = kept["token_ids"].list.last() == 2
    assert (ended == kept["finished"]).all()
    assert np.mean(ended.to_numpy()) > 0.85
    totals = kept["token_log_probs"].list.sum()
    np.testing.assert_allclose(kept["log_prob"], totals, rtol=1e-5)
    assert np.isfinite(kept.select("log_prob", "lexicon", "sentiment", "likelihood")).all()


def test_sentiments_of_the_repositorys_pool_are_those_of_its_texts(kept: pl.DataFrame) -> None:
    few = kept.gather_every(199)
    np.testing.assert_allclose(
        few["sentiment"], score(Sentiment(), few["text"].to_list()), rtol=1e-6
    )


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.skipif(not real_model.is_installed(), reason=real_model.INSTALL)
def test_the_repositorys_pool_is_the_models(kept: pl.DataFrame) -> None:
    """Its log-probabilities, by one pass over each answer; its valences, word by word."""
    model, tokenizer = real_model.smollm2()
    valences = SentimentIntensityAnalyzer().lexicon
    for row in kept.gather_every(4001).iter_rows(named=True):
        ids = np.array([row["token_ids"]])
        prompt = chat_prompts([[{"role": "user", "content": row["prompt"]}]], tokenizer)
        found = np.asarray(response_token_log_probs(model, prompt, ids))[0]
        np.testing.assert_allclose(row["token_log_probs"], found, atol=2e-4)
        assert row["text"] == tokenizer.decode(ids[0])
        words = [tokenizer.decode(ids[0, i : i + 1]) for i in range(ids.size)]
        earned = sum(valences.get(word[1:].lower(), 0) for word in words if word.startswith(" "))
        assert row["lexicon"] == pytest.approx(earned, abs=1e-5)
