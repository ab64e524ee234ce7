"""Rewards of a response's text: pure functions that are cheap to compute."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

Reward = Callable[[Sequence[str]], ArrayLike]
"""Texts to rewards, one for each."""

_WORD = re.compile(r"[A-Za-z]{3,}")


def score(reward: Reward, texts: Sequence[str]) -> NDArray[np.float64]:
    """Rewards ``[len(texts)]`` of any function from texts to numbers, checked.

    Raises:
        ValueError: the function raises, which text it was being named; it returns another number of
            scores than it was given texts, or one that is not finite.

    Example:
        >>> score(lambda texts: [len(text) or float("nan") for text in texts], ["ab", ""])
        Traceback (most recent call last):
        ...
        ValueError: reward is nan for text 1, '': return finite numbers
    """
    try:
        scores = np.asarray(reward(texts), np.float64)
    except Exception as error:
        index = _culprit(reward, texts)
        where = "on all texts together" if index is None else f"on text {_shown(index, texts)}"
        raise ValueError(
            f"reward raised {str(repr(error))[:80]} {where}: mend it, or leave such texts out"
        ) from error
    if scores.shape != (len(texts),):
        raise ValueError(
            f"reward returned scores of shape {scores.shape} for {len(texts)} texts: return one "
            "number for each text"
        )
    if not np.isfinite(scores).all():
        index = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(
            f"reward is {scores[index]} for text {_shown(index, texts)}: return finite numbers"
        )
    return scores


def _culprit(reward: Reward, texts: Sequence[str]) -> int | None:
    """The first text on which ``reward`` raises by itself."""
    for index, text in enumerate(texts):
        try:
            reward([text])
        except Exception:  # whatever the caller's function may raise
            return index
    return None


def _shown(index: int, texts: Sequence[str]) -> str:
    return f"{index}, {texts[index][:80]!r}"


@dataclass(frozen=True)
class Sentiment:
    """VADER's compound score in [−1, 1]: valences of words, then rules for negation and emphasis.

    Nearly a sum over words, and squashed: many texts without an emotional word tie at 0 (Hutto and
    Gilbert 2014).

    Example:
        >>> Sentiment()(["a wonderful day", "not a wonderful day", "a day"]).round(2).tolist()
        [0.57, -0.46, 0.0]
    """

    analyzer: Any = field(default_factory=SentimentIntensityAnalyzer, init=False, repr=False)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Rewards ``[len(texts)]``."""
        scores = (self.analyzer.polarity_scores(text)["compound"] for text in texts)
        return np.fromiter(scores, np.float64, len(texts))


@dataclass(frozen=True)
class Length:
    """The number of words, or what is closest to a target: −|words − target|.

    Attributes:
        target: words wanted; none for as many as possible.

    Example:
        >>> Length()(["one two", ""]).tolist(), Length(target=3)(["one two", ""]).tolist()
        ([2.0, 0.0], [-1.0, -3.0])
    """

    target: int | None = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Rewards ``[len(texts)]``."""
        words = np.fromiter((len(text.split()) for text in texts), np.float64, len(texts))
        return words if self.target is None else -np.abs(words - self.target)


@dataclass(frozen=True)
class KnownWords:
    """The number of distinct words of a response that are in a word list: integers, many ties.

    A word is a run of three letters or more, compared in lower case. One that the length limit
    cut short counts if what is left of it happens to be in the list, and one whose head is in the
    prompt likewise: the reward sees the response alone.

    Attributes:
        words: the list, in lower case.

    Example:
        >>> KnownWords(frozenset({"the", "item"}))(["The item, the item", "tem"]).tolist()
        [2.0, 0.0]
    """

    words: frozenset[str]

    @classmethod
    def fit(cls, documents: Sequence[str], *, min_count: int = 2) -> KnownWords:
        """The words that occur in ``documents`` at least ``min_count`` times, in all of them."""
        counts = Counter(word.lower() for text in documents for word in _WORD.findall(text))
        return cls(frozenset(word for word, count in counts.items() if count >= min_count))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Rewards ``[len(texts)]``."""
        found = ({word.lower() for word in _WORD.findall(text)} & self.words for text in texts)
        return np.fromiter(map(len, found), np.float64, len(texts))


@dataclass(frozen=True)
class TrigramLikelihood:
    """Mean log-likelihood per symbol, in nats, of a response and its end under a trigram model.

    r(y) = (1/(T+1)) Σ_{t ≤ T+1} log p(y_t | y_{t−2}, y_{t−1}) over the T characters of the text and
    the end of text, the first two under shorter contexts. Two different texts tie only if they have
    the same trigrams, so ties are all but identical responses.

    The end is scored for every text, also for one that the length limit cut short: a finished
    sentence is likelier than a torn one, and an empty text needs no rule of its own.

    Attributes:
        alphabet: A characters; symbol A is any other character, symbol A+1 the end of text.
        log_unigram: log p(c), ``[A+2]``.
        log_bigram: log p(c | b), ``[A+2, A+2]``, c last.
        log_trigram: log p(c | a, b), ``[A+2, A+2, A+2]``, c last.
    """

    alphabet: str
    log_unigram: np.ndarray
    log_bigram: np.ndarray
    log_trigram: np.ndarray

    @classmethod
    def fit(cls, documents: Sequence[str]) -> TrigramLikelihood:
        """Witten and Bell's interpolation of trigram, bigram, unigram and uniform laws.

        p(c | h) = (count(h c) + kinds(h) p(c | h′)) / (count(h) + kinds(h)), where kinds(h) is the
        number of different symbols seen after the context h and h′ is h without its first symbol
        (Witten and Bell 1991, method C). All characters not in ``documents`` are one symbol.
        """
        alphabet = "".join(sorted(set().union(*documents)))
        size = len(alphabet) + 2
        counts = np.zeros((size, size, size))
        bigram_counts = np.zeros((size, size))
        unigram_counts = np.zeros(size)
        for text in documents:
            symbols = _symbols(text, alphabet)
            np.add.at(unigram_counts, symbols, 1)
            np.add.at(bigram_counts, (symbols[:-1], symbols[1:]), 1)
            np.add.at(counts, (symbols[:-2], symbols[1:-1], symbols[2:]), 1)
        unigram = _interpolated(unigram_counts, np.full(size, 1 / size))
        bigram = _interpolated(bigram_counts, unigram)
        trigram = _interpolated(counts, bigram)
        return cls(alphabet, np.log(unigram), np.log(bigram), np.log(trigram))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Rewards ``[len(texts)]``."""
        return np.fromiter(map(self._mean_log_likelihood, texts), np.float64, len(texts))

    def _mean_log_likelihood(self, text: str) -> float:
        symbols = _symbols(text, self.alphabet)
        total = self.log_unigram[symbols[0]]
        total += self.log_bigram[symbols[:1], symbols[1:2]].sum()
        total += self.log_trigram[symbols[:-2], symbols[1:-1], symbols[2:]].sum()
        return total / symbols.size


def _symbols(text: str, alphabet: str) -> np.ndarray:
    """Indices into ``alphabet`` of the characters of ``text``, then that of the end of text.

    After the alphabet's own come two symbols: an unknown character, and the end.
    """
    index = _places(alphabet)
    return np.array([index.get(c, len(alphabet)) for c in text] + [len(alphabet) + 1], np.intp)


@cache
def _places(alphabet: str) -> dict[str, int]:
    return {character: i for i, character in enumerate(alphabet)}


def _interpolated(counts: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """p(c | h) from ``counts [..., c]`` and p(c | h′) ``shorter``; p(c | h′) for an unseen h."""
    kinds = np.sum(counts > 0, axis=-1, keepdims=True)
    total = counts.sum(axis=-1, keepdims=True) + kinds
    return np.where(total > 0, (counts + kinds * shorter) / np.maximum(total, 1), shorter)
