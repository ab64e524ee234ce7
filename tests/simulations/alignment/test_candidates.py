"""Candidates are drawn once, kept whole, and make the pairs that the theory speaks of."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import bon_theory as bt
from bon_theory import alignment
from simulations.alignment import losses
from simulations.alignment.candidates import CandidateTable, TextScore, draw_candidates, scored
from simulations.language_model import generate as generating
from simulations.language_model.generate import response_log_probs
from simulations.language_model.text.tokenizers import ByteTokenizer
from simulations.language_model.transformer import Transformer
from tests.simulations.alignment.tiny import (
    CONFIG,
    LENGTH,
    PROMPTS,
    VOCABULARY,
    key,
    reward,
    tiny_model,
)


def drawn(folder: Path | None = None, *, num_candidates: int = 4, score=reward) -> CandidateTable:
    return draw_candidates(
        key(),
        tiny_model(),
        PROMPTS,
        score,
        num_candidates=num_candidates,
        max_new_tokens=LENGTH,
        batch_size=4,
        folder=folder,
    )


def levels(rewards: list[list[float]]) -> CandidateTable:
    """A table whose candidate j of any prompt is the one token j."""
    scores = np.asarray(rewards)
    tokens = np.broadcast_to(np.arange(scores.shape[1])[:, None], (*scores.shape, 1))
    prompts = np.zeros((len(scores), 1), np.int32)
    return CandidateTable(prompts, tokens.astype(np.int32), scores, -scores, pad_id=99)


def same(one: CandidateTable, other: CandidateTable) -> bool:
    arrays = ("prompts", "tokens", "rewards", "log_probs")
    return all(np.array_equal(getattr(one, a), getattr(other, a)) for a in arrays)


def test_reference_log_probabilities_are_those_of_a_pass_over_the_responses():
    table = drawn()
    rows = np.repeat(PROMPTS, 4, axis=0), table.tokens.reshape(8, LENGTH)
    found = response_log_probs(tiny_model(), *rows).reshape(2, 4)
    np.testing.assert_allclose(table.log_probs, found, atol=1e-5)


@pytest.mark.parametrize("batch_size", [3, 8, 99])
def test_another_model_gives_the_same_candidates_its_own_log_probabilities(batch_size: int):
    """Batches that divide the rows, that do not, and one that is larger than all of them."""
    table = drawn()
    other = Transformer(CONFIG, rngs=nnx.Rngs(1))
    moved = table.under(other, batch_size=batch_size)
    rows = np.repeat(PROMPTS, 4, axis=0), table.tokens.reshape(8, LENGTH)
    found = response_log_probs(other, *rows).reshape(2, 4)
    np.testing.assert_allclose(moved.log_probs, found, atol=1e-5)
    assert np.abs(moved.log_probs - table.log_probs).max() > 0.01
    np.testing.assert_array_equal(moved.tokens, table.tokens)
    assert moved.identity != table.identity
    with pytest.raises(ValueError, match=r"batch_size must be .*got -1: candidates are counted"):
        table.under(other, batch_size=-1)


@pytest.mark.parametrize("padding", [0, 3])
def test_what_is_written_is_what_is_read(padding: int, tmp_path: Path):
    """Padding that all prompts share is kept: a model's numbers depend on it, to rounding."""
    table = drawn()
    prompts = np.pad(table.prompts, ((0, 0), (padding, 0)), constant_values=table.pad_id)
    table = replace(table, prompts=prompts)
    table.to_parquet(tmp_path / "candidates.parquet")
    found = CandidateTable.from_parquet(tmp_path / "candidates.parquet")
    assert same(found, table)
    assert (found.identity, found.pad_id) == (table.identity, VOCABULARY.pad_id)


def test_candidates_are_drawn_and_scored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = drawn(tmp_path)

    def refuse(*args, **kwargs):
        raise AssertionError("drawn or scored again")

    monkeypatch.setattr("simulations.alignment.candidates.generate", refuse)
    monkeypatch.setattr("simulations.alignment.candidates.scored", refuse)
    assert same(drawn(tmp_path), first)


def test_a_reward_that_fails_loses_no_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(prompts, responses):
        return np.full(len(responses), np.nan)

    with pytest.raises(ValueError, match=r"reward is nan for candidate 0 of prompt 0: return"):
        drawn(tmp_path, score=broken)
    monkeypatch.setattr(generating._Sampler, "__call__", lambda self, batch: pytest.fail("drawn"))
    assert same(drawn(tmp_path), drawn(tmp_path))


def test_another_runs_candidates_are_refused(tmp_path: Path):
    drawn(tmp_path)
    with pytest.raises(ValueError, match="candidates of another reference, key, size"):
        drawn(tmp_path, num_candidates=5)


def test_a_damaged_file_is_named(tmp_path: Path):
    drawn(tmp_path)
    path = tmp_path / "candidates.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"candidates\.parquet must be candidates as they were"):
        drawn(tmp_path)


def test_prompts_without_candidates_are_refused(tmp_path: Path):
    import json

    import polars

    path = tmp_path / "candidates.parquet"
    drawn().to_parquet(path)
    about = polars.read_parquet_metadata(path)["simulations.alignment"]
    frame = polars.read_parquet(path).filter(polars.col("prompt_id") == 1)
    frame.write_parquet(path, metadata={"simulations.alignment": json.dumps(json.loads(about))})
    with pytest.raises(ValueError, match="has prompts with 0 to 4 candidates"):
        CandidateTable.from_parquet(path)


def test_one_candidate_makes_no_pair():
    with pytest.raises(ValueError, match=r"num_candidates must be .*got 1: a pair is the best and"):
        drawn(num_candidates=1)
    with pytest.raises(ValueError, match=r"n must be .*got 1: a pair is the best and the worst"):
        levels([[0.0, 1.0]]).pairs(key(), n=1)


def test_a_wrong_number_of_scores_is_refused():
    with pytest.raises(ValueError, match=r"scores of shape \(3,\) for 8 responses"):
        scored(lambda prompts, responses: np.zeros(3), PROMPTS, np.zeros((2, 4, 1), np.int32))


def test_an_exception_in_a_reward_of_texts_names_the_text():
    def raising(texts):
        if any(text == "b" for text in texts):
            raise KeyError("model")
        return [0.0] * len(texts)

    responses = np.array([[97], [98]], np.int32)
    with pytest.raises(ValueError, match=r"reward raised KeyError\('model'\) on text 1, 'b'"):
        TextScore(raising, ByteTokenizer())(responses, responses)


def test_best_and_worst_are_those_of_each_group_of_n():
    table = levels([[3, 0, 1, 2, 9], [0, 5, 2, 2.5, 9]])
    pairs = table.pairs(key(), n=2)
    np.testing.assert_array_equal(pairs.chosen[:, 0], [0, 3, 1, 3])
    np.testing.assert_array_equal(pairs.rejected[:, 0], [1, 2, 0, 2])
    np.testing.assert_array_equal(pairs.chosen_reference, [-3, -2, -5, -2.5])
    assert np.isnan(pairs.target).all()


def test_ties_are_broken_as_in_the_exact_theory():
    """The law of pairs from a law with ties; 24,000 pairs, p-value at least 1e-4."""
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 1.0, 1.0])
    outcomes = np.random.default_rng(0).choice(3, p=reference.probs, size=(1, 96_000))
    table = CandidateTable(
        np.zeros((1, 1), np.int32),
        outcomes[..., None].astype(np.int32),
        np.asarray(reference.rewards)[outcomes],
        np.zeros(outcomes.shape),
        pad_id=9,
    )
    pairs = table.pairs(key(), n=4)
    counts = np.zeros((3, 3))
    np.add.at(counts, (pairs.chosen[:, 0], pairs.rejected[:, 0]), 1)
    expected = np.asarray(alignment.best_and_worst_probs(reference, n=4)) * counts.sum()
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert stats.chisquare(counts[possible], expected[possible]).pvalue > 1e-4


def test_prompts_whose_candidates_all_tie_are_told():
    assert levels([[1, 1, 1], [1, 1, 2]]).all_tied.tolist() == [True, False]


def test_targets_from_further_draws_leave_out_the_pairs_own():
    """By the definition: count among the others, H_k − H_m, and the atom's share."""
    table = levels([[3, 0, 1, 2, 2, 7]])
    pairs = table.pairs(key(), n=3, ranks="further draws")
    rewards = table.rewards[0]
    for group, pair in enumerate((slice(0, 3), slice(3, 6))):
        own, others = rewards[pair], np.delete(rewards, np.r_[pair])

        def log_density(r: float, others=others) -> float:
            k, below = int(np.sum(others <= r)), int(np.sum(others < r))
            ratio = below / k if k else 1.0
            harmonic = sum(1 / j for j in range(1, k + 1)) - sum(1 / j for j in range(1, 4))
            return 2 * harmonic + np.log((1 + ratio + ratio**2) / 3)

        expected = log_density(own.max()) - log_density(own.min())
        assert pairs.target[group] == pytest.approx(expected, rel=1e-6)


def test_targets_from_a_large_pool_are_the_exact_margins():
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 1.0, 2.0])
    outcomes = np.repeat([0, 1, 2], [5000, 3000, 2000])
    outcomes = np.random.default_rng(1).permutation(outcomes)[None]
    rewards = outcomes.astype(np.float64)
    tokens = outcomes[..., None].astype(np.int32)
    table = CandidateTable(np.zeros((1, 1), np.int32), tokens, rewards, rewards, pad_id=9)
    pairs = table.pairs(key(), n=4, ranks="pool")
    margins = np.asarray(bt.log_ratio(bt.best_of_n(reference, 4), reference))
    expected = margins[pairs.chosen[:, 0]] - margins[pairs.rejected[:, 0]]
    np.testing.assert_allclose(pairs.target, expected, atol=2e-3)


def test_there_must_be_further_draws_to_rank_by():
    with pytest.raises(ValueError, match="all 3 candidates are a pair's own"):
        levels([[0, 1, 2]]).pairs(key(), n=3, ranks="further draws")


@pytest.mark.parametrize("n", [2, 5])
def test_an_atom_takes_off_what_the_formula_says(n: int):
    below, upto = 300.0, 700.0
    f, f_below = 0.7, 0.3
    density = (f**n - f_below**n) / (f - f_below)
    expected = np.log(density) - np.log(n) - (n - 1) * np.log(f)
    assert losses.log_atom_excess(below, upto, n=n) == pytest.approx(expected, rel=1e-12)


def test_pairs_of_one_key_are_the_same(tmp_path: Path):
    table = levels([[1, 1, 1, 1]] * 40)
    one, other, else_ = (table.pairs(jax.random.key(s), n=4) for s in (0, 0, 1))
    assert np.array_equal(one.chosen, other.chosen)
    assert not np.array_equal(one.chosen, else_.chosen)
