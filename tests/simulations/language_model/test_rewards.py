"""Rewards: counted by hand, normalised, and blind to everything but the text."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from simulations.language_model.generate import response_log_probs
from simulations.language_model.rewards import tokens
from simulations.language_model.rewards.text import (
    KnownWords,
    Length,
    Sentiment,
    TrigramLikelihood,
    score,
)
from simulations.language_model.text.corpus import load_corpus
from simulations.language_model.text.tokenizers import (
    ByteTokenizer,
    SubwordTokenizer,
    Vocabulary,
)
from simulations.language_model.transformer import Transformer, TransformerConfig

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


def test_sentiment_is_vaders() -> None:
    """Golden values of the package's own documentation."""
    texts = ["VADER is smart, handsome, and funny.", "VADER is not smart, handsome, nor funny.", ""]
    assert Sentiment()(texts).tolist() == [0.8316, -0.7424, 0.0]


def test_length_counts_words() -> None:
    assert Length()([" a  b\nc ", ""]).tolist() == [3, 0]
    assert Length(target=2)(["a b c", "a b", ""]).tolist() == [-1, 0, -2]


def test_scores_of_any_function_are_checked() -> None:
    assert score(lambda texts: [len(text) for text in texts], ["ab", ""]).tolist() == [2, 0]
    texts = ["fine", "nan", "x" * 1000]
    with pytest.raises(ValueError, match=r"scores of shape \(2,\) for 3 texts"):
        score(lambda texts: np.zeros(2), texts)
    with pytest.raises(ValueError, match=r"reward is nan for text 1, 'nan'"):
        score(lambda texts: [np.nan if text == "nan" else 0 for text in texts], texts)

    def long_ones(texts: Sequence[str]) -> np.ndarray:
        if any(len(text) > 9 for text in texts):
            raise KeyError("too long")
        return np.zeros(len(texts))

    with pytest.raises(ValueError, match=r"KeyError\('too long'\) on text 2, 'x{80}'") as caught:
        score(long_ones, texts)
    assert isinstance(caught.value.__cause__, KeyError)

    def only_pairs(texts: Sequence[str]) -> np.ndarray:
        if len(texts) > 2:
            raise RuntimeError("too many")
        return np.zeros(len(texts))

    with pytest.raises(ValueError, match=r"on all texts together"):
        score(only_pairs, texts)


@pytest.fixture(scope="module")
def tokenizer() -> SubwordTokenizer:
    return SubwordTokenizer.train(["a good day, Good morning, a bad goodbye"] * 9, num_tokens=300)


def test_the_lexicon_counts_whole_words_and_is_a_sum_over_tokens(
    tokenizer: SubwordTokenizer,
) -> None:
    rewards = tokens.lexicon(tokenizer, {"good": 2.0, "bad": -3.0, "goo": 7.0})
    for text, expected in {" good day": 2, " a bad Good": -1, "good": 0, " goodbye": 0}.items():
        ids = tokenizer.encode(text)
        assert tokens.of_tokens(rewards, ids).sum() == expected, text
    assert tokens.lexicon(ByteTokenizer()).tolist() == [0] * 257


def test_rewards_of_padding_are_zero(tokenizer: SubwordTokenizer) -> None:
    rewards = np.arange(1.0, tokenizer.vocabulary.num_tokens + 1)
    ids = np.array([[3, tokenizer.vocabulary.eos_id, tokenizer.vocabulary.pad_id]])
    assert tokens.of_tokens(rewards, ids).tolist() == [[4, rewards[-1], 0]]


def test_the_log_ratio_is_the_difference_of_two_log_probabilities() -> None:
    vocabulary = Vocabulary.plain(5)
    config = TransformerConfig(vocabulary=vocabulary, width=8, num_layers=1)
    model, other = (Transformer(config, rngs=nnx.Rngs(seed)) for seed in (0, 1))
    prompts, shorter = np.array([[6, 5, 0], [5, 1, 2]]), np.array([[5, 3], [5, 3]])
    responses = np.array([[1, 4, 6, 6], [2, 2, 3, 0]])
    found = tokens.log_ratio(model, prompts, other, shorter, responses)
    expected = response_log_probs(model, prompts, responses) - response_log_probs(
        other, shorter, responses
    )
    np.testing.assert_allclose(found.sum(axis=1), expected, atol=1e-5)
    assert found.shape == (2, 4)
    assert np.all(found[0, 2:] == 0)
    assert np.all(found[1] != 0)
    smaller = Transformer(TransformerConfig(Vocabulary.plain(4), width=8), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"model has Vocabulary\(num_tokens=5"):
        tokens.log_ratio(model, prompts, smaller, shorter, responses)
