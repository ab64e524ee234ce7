"""Windows of tokens to train on: documents packed whole where they fit, shuffled by epoch."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from simulations.language_model.text.tokenizers import Vocabulary


@dataclass(frozen=True)
class Windows:
    """Windows full of documents.

    Attributes:
        pieces: ``[P, 2]``, where each document, or part of a long one, begins and ends; parts
            overlap by one token, which is the last target of one and the first context of the next.
        first: ``[R + 1]``, the first of the pieces in each of R windows, and P.
        size: tokens in a window.
    """

    pieces: np.ndarray
    first: np.ndarray
    size: int

    @classmethod
    def pack(cls, documents: np.ndarray, end: int, size: int) -> Windows:
        """Of a stream with ``end`` tokens in which ``documents [D]`` begin, the first at 0."""
        ends = np.append(documents[1:], end)
        parts = np.maximum(1, -(-(ends - documents - 1) // (size - 1)))
        before = np.repeat(np.cumsum(parts) - parts, parts)
        starts = np.repeat(documents, parts) + (np.arange(parts.sum()) - before) * (size - 1)
        pieces = np.stack([starts, np.minimum(starts + size, np.repeat(ends, parts))], axis=1)
        window = _fitted(pieces[:, 1] - pieces[:, 0], size)
        order = np.argsort(window, kind="stable")
        return cls(pieces[order], np.searchsorted(window[order], np.arange(window.max() + 2)), size)

    def places(self, key: jax.Array, batch_size: int, step: int) -> np.ndarray:
        """Where in the stream the tokens of a step are, ``[B, size]``; −1 for none.

        Each epoch reads all windows once in an order of its own.
        """
        seed, number = tuple(jax.random.key_data(key).tolist()), self.first.size - 1
        places = np.full((batch_size, self.size), -1, np.int64)
        epochs, turns = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), number)
        for row, epoch, turn in zip(places, epochs.tolist(), turns.tolist(), strict=True):
            window = _shuffled(seed, epoch, number)[turn]
            parts = self.pieces[self.first[window] : self.first[window + 1]]
            filled = np.concatenate([np.arange(start, end) for start, end in parts])
            row[: filled.size] = filled
        return places


@functools.lru_cache(maxsize=2)
def _shuffled(seed: tuple[int, ...], epoch: int, number: int) -> np.ndarray:
    return np.random.default_rng([*seed, epoch]).permutation(number)


def _fitted(lengths: np.ndarray, size: int) -> np.ndarray:
    """The window of ``size`` that each of ``lengths [P]`` is put in: longest first, best fit."""
    window, left = np.empty(lengths.size, np.int64), [[] for _ in range(size + 1)]
    number = 0
    for piece in np.argsort(-lengths, kind="stable"):
        length = int(lengths[piece])
        room = next((room for room in range(length, size) if left[room]), size)
        if room == size:
            left[room].append(number)
            number += 1
        window[piece] = left[room].pop()
        left[room - length].append(int(window[piece]))
    return window


def document_starts(stream: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Where documents begin; what is before the first BOS is one as well.

    Where BOS is EOS too, as in GPT-2, it begins and ends documents by turns.
    """
    marks, seen = [], 0
    for chunk in chunks(stream):
        marks.append(np.flatnonzero(chunk == vocabulary.bos_id) + seen)
        seen += chunk.size
    starts = np.concatenate(marks)[:: 2 if vocabulary.bos_id == vocabulary.eos_id else 1]
    return np.unique(np.append(0, starts))


def chunks(stream: np.ndarray, *, size: int = 2**22, overlap: int = 0) -> Iterator[np.ndarray]:
    """Parts of a stream that may be larger than memory."""
    return (stream[start : start + size + overlap] for start in range(0, stream.size, size))
