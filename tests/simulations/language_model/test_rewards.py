"""Rewards: counted by hand, normalised, and blind to everything but the text."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.language_model.rewards import KnownWords, TrigramLikelihood
from simulations.language_model.text.corpus import load_corpus

DOCUMENTS = ("abab", "abca", "b")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("the item", 2),
        ("The THE the", 1),
        ("thee items it", 0),
        ("the-item_the.", 2),
        ("it is", 0),
    ],
)
def test_known_words_counts_distinct_whole_words(text: str, count: int) -> None:
    assert KnownWords(frozenset({"the", "item", "it"}))([text]).tolist() == [count]


def test_known_words_are_those_seen_often_enough() -> None:
    reward = KnownWords.fit(["One fish two fish", "one dish, is is"], min_count=2)
    assert reward.words == {"one", "fish"}


def witten_bell(documents: tuple[str, ...], history: str, symbol: str, size: int) -> float:
    """p(symbol | history) from dictionaries; ``$`` is the end of text."""
    if history == "none":
        return 1 / size
    grams = Counter()
    for text in documents:
        ended = text + "$"
        width = len(history) + 1
        grams.update(ended[i : i + width] for i in range(len(ended) - width + 1))
    following = {gram[-1]: count for gram, count in grams.items() if gram[:-1] == history}
    shorter = witten_bell(documents, history[1:] if history else "none", symbol, size)
    if not following:
        return shorter
    kinds = len(following)
    return (following.get(symbol, 0) + kinds * shorter) / (sum(following.values()) + kinds)


@pytest.mark.parametrize("text", ["", "a", "ab", "abcab", "ccc", "ba?b"])
def test_trigram_likelihood_is_witten_and_bells(text: str) -> None:
    """Against a recursion over dictionaries; ``?`` is any character not in the documents."""
    size = len("abc") + 2
    ended = text + "$"
    expected = np.mean(
        [
            math.log(witten_bell(DOCUMENTS, ended[max(0, i - 2) : i], symbol, size))
            for i, symbol in enumerate(ended)
        ]
    )
    reward = TrigramLikelihood.fit(DOCUMENTS)
    np.testing.assert_allclose(reward([text]), [expected], rtol=1e-12)


def test_trigram_probabilities_sum_to_one_in_every_context() -> None:
    reward = TrigramLikelihood.fit(load_corpus().scoring)
    for log_probs in (reward.log_unigram, reward.log_bigram, reward.log_trigram):
        np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1, atol=1e-12)


@given(st.text(max_size=12))
def test_rewards_are_finite_and_depend_on_the_text_alone(text: str) -> None:
    for reward in (KnownWords.fit(DOCUMENTS), TrigramLikelihood.fit(DOCUMENTS)):
        alone, among = reward([text]), reward(["abc", text, text])
        assert np.isfinite(alone).all()
        assert alone[0] == among[1] == among[2]
        assert alone.dtype == np.float64


def test_both_rewards_prefer_english_to_its_letters_shuffled() -> None:
    """Held-out sentences: neither reward was fitted to them."""
    corpus = load_corpus()
    rng = np.random.default_rng(0)
    shuffled = ["".join(rng.permutation(list(text))) for text in corpus.validation]
    for reward in (KnownWords.fit(corpus.train), TrigramLikelihood.fit(corpus.scoring)):
        gain = reward(corpus.validation) - reward(shuffled)
        assert (gain > 0).mean() > 0.95


def test_one_reward_ties_often_and_the_other_hardly_ever() -> None:
    corpus = load_corpus()
    words = KnownWords.fit(corpus.train)(corpus.train)
    trigrams = TrigramLikelihood.fit(corpus.scoring)(corpus.train)
    assert np.unique(words).size < 0.05 * words.size
    assert np.unique(trigrams).size > 0.99 * trigrams.size
