"""Two rewards of a response's text: one with many ties, one with almost none.

Neither stands for what a person would prefer. They are pure functions of the generated text that
cost nothing to compute, and between them they cover the two cases that the theory tells apart:
a discrete reward law with large atoms, and one that is continuous for practical purposes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Reward = Callable[[Sequence[str]], np.ndarray]
"""Texts to float64 rewards, one for each."""

_WORD = re.compile(r"[A-Za-z]{3,}")


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
    index = {character: i for i, character in enumerate(alphabet)}
    return np.array([index.get(c, len(alphabet)) for c in text] + [len(alphabet) + 1], np.intp)


def _interpolated(counts: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """p(c | h) from ``counts [..., c]`` and p(c | h′) ``shorter``; p(c | h′) for an unseen h."""
    kinds = np.sum(counts > 0, axis=-1, keepdims=True)
    total = counts.sum(axis=-1, keepdims=True) + kinds
    return np.where(total > 0, (counts + kinds * shorter) / np.maximum(total, 1), shorter)
