"""What counting can do: interpolated Kneser–Ney n-grams, yardstick and tutor of a trained model.

Modified interpolated smoothing of Chen and Goodman (1999, §5.3), with contexts that do not reach
beyond the BOS of their document, as in the KenLM toolkit. All in NumPy, an order at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.windows import document_starts

_Ids = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    """All k-grams met in training, by the rank of their first k−1 tokens among the (k−1)-grams.

    Attributes:
        keys: ``[G]``, context · num_inputs + last token, sorted: a k-gram's rank is its place.
        discounted: ``[G]``, (c(h w) − D) / Σ_w c(h w).
        left_over: of each context ``[G of the order below]``, γ(h) = Σ_w D / Σ_w c(h w); 1 for a
            context that nothing followed.
        starts: of each context, the rank of the first k-gram that begins with it; and the end.
    """

    keys: _Ids
    discounted: _Floats
    left_over: _Floats
    starts: _Ids


@dataclass(frozen=True)
class KneserNey:
    """An n-gram law of the next token, fitted by ``fit``.

    With h the last k−1 tokens and h' all but the first of them,

        p_k(w | h) = (c_k(h w) − D_k(c_k(h w)))₊ / Σ_v c_k(h v) + γ_k(h) p_{k−1}(w | h'),

    and p_0 = 1/V. Counts c_k are those of training for k = n and for what begins with BOS, and else
    the number of distinct tokens to the left. The discounts of counts 1, 2 and ≥ 3 are, with the
    number n_j of k-grams that count j, D(j) = j − (j+1) n_{j+1}/n_j · n₁/(n₁ + 2 n₂); where a text
    is too short for these to be positive they are 0.5, 1 and 1.5. In every context the law is
    positive on the V outputs and sums to one.

    Attributes:
        vocabulary: of the tokens.
        orders: of k = 1 … n.

    Example:
        >>> stream = np.array([3, 0, 1, 0, 2, 3, 0, 2], np.int32)  # "a b a." and "a.", 3 is BOS
        >>> model = KneserNey.fit(stream, Vocabulary.plain(3), order=2)
        >>> [round(float(p), 3) for p in np.exp(model.log_probs(np.array([3, 0, 2])))]
        [nan, 0.708, 0.479]
    """

    vocabulary: Vocabulary
    orders: tuple[_Order, ...]

    @classmethod
    def fit(cls, stream: np.ndarray, vocabulary: Vocabulary, *, order: int) -> KneserNey:
        """Counts of ``stream [T]``, documents each from BOS on, as ``token_stream`` makes it.

        Args:
            stream: token ids.
            vocabulary: of the tokens.
            order: n ≥ 1, the longest n-gram.

        Raises:
            ValueError: ``order`` below 1, a stream that does not start with BOS, or nothing in it.
        """
        if order < 1:
            raise ValueError(f"order is {order}: an n-gram has 1 token or more")
        stream, offsets = _checked(stream, vocabulary)
        size = vocabulary.num_inputs
        predicted = offsets > 0  # BOS is given, not predicted
        if not predicted.any():
            raise ValueError("stream has no token besides BOS: pass a text to count")

        # The ranks of the contexts that end before each token, and the k-grams that end with it.
        context = np.zeros(stream.size, np.int64)
        grams: list[tuple[_Ids, _Ids]] = []  # sorted keys, and the rank of each position's k-gram
        for k in range(1, order + 1):
            whole = offsets >= k - 1  # a k-gram that would begin before BOS is none
            keys, ranks = np.unique(context[whole] * size + stream[whole], return_inverse=True)
            placed = np.full(stream.size, -1, np.int64)
            placed[whole] = ranks
            grams.append((keys, placed))
            context = np.append(0, placed[:-1])

        orders = []
        for k, (keys, placed) in enumerate(grams, start=1):
            ends = placed >= 0 if k > 1 else predicted
            begins_with_bos = offsets == k - 1
            counts = np.bincount(
                placed[ends & (begins_with_bos | (k == order))], minlength=keys.size
            )
            if k < order:
                # One (k+1)-gram, one token to the left: each counts once for the k-gram it ends in.
                _, first = np.unique(grams[k][1], return_index=True)
                first = first[grams[k][1][first] >= 0]
                counts += np.bincount(placed[first], minlength=keys.size)
            below = 1 if k == 1 else grams[k - 2][0].size
            orders.append(_discount(keys, counts, keys // size, below))
        return cls(vocabulary, tuple(orders))

    def log_probs(self, stream: np.ndarray) -> NDArray[np.float64]:
        """log p(token | tokens before it in its document), ``[T]`` for ``stream [T]``; NaN at BOS.

        Raises:
            ValueError: a stream that does not start with BOS.
        """
        stream, offsets = _checked(stream, self.vocabulary)
        probs = np.full(stream.size, 1 / self.vocabulary.num_tokens)
        for order, (context, rank) in zip(self.orders, self._ranks(stream, offsets), strict=True):
            known, found = context >= 0, rank >= 0
            probs[known] *= order.left_over[context[known]]
            probs[found] += order.discounted[rank[found]]
        with np.errstate(divide="ignore"):
            return np.where(offsets > 0, np.log(probs), np.nan)

    def contexts(self, stream: np.ndarray) -> _Ids:
        """On what the law of each token of ``stream [T]`` depends, ``[n, T]``.

        For k = 1 … n the rank of the k−1 tokens before it among the (k−1)-grams of training; −1 if
        they were not met, or would begin before BOS.

        Raises:
            ValueError: a stream that does not start with BOS.
        """
        return np.stack([context for context, _ in self._ranks(*_checked(stream, self.vocabulary))])

    def laws(self, contexts: np.ndarray) -> NDArray[np.float32]:
        """The whole law of the next token, ``[R, V]``, in ``contexts [n, R]``.

        Example:
            >>> stream = np.array([3, 0, 1, 0, 2, 3, 0, 2], np.int32)
            >>> model = KneserNey.fit(stream, Vocabulary.plain(3), order=2)
            >>> model.laws(model.contexts(np.array([3, 0, 2])))[1:].round(3)
            array([[0.708, 0.146, 0.146],
                   [0.208, 0.312, 0.479]], dtype=float32)
        """
        share, longer = np.ones(contexts.shape[1]), []
        for order, context in zip(self.orders[:1:-1], contexts[:1:-1], strict=True):
            rows = np.flatnonzero(context >= 0)
            context = context[rows]
            number = order.starts[context + 1] - order.starts[context]
            grams = np.arange(number.sum()) + np.repeat(
                order.starts[context] - np.cumsum(number) + number, number
            )
            tokens = order.keys[grams] % self.vocabulary.num_inputs
            probs = np.repeat(share[rows], number) * order.discounted[grams]
            longer.append((np.repeat(rows, number), tokens, probs.astype(np.float32)))
            share[rows] *= order.left_over[context]
        last = contexts[1] if len(self.orders) > 1 else -1
        laws = self._after_one_token[last] * share.astype(np.float32)[:, None]
        for rows, tokens, probs in longer:
            laws[rows, tokens] += probs
        return laws

    @cached_property
    def _after_one_token(self) -> NDArray[np.float32]:
        """The law ``[V]`` given the last token alone, by the rank of that; given none, the last."""
        vocabulary = self.vocabulary
        single = self.orders[0]
        law = np.full(vocabulary.num_inputs, single.left_over[0] / vocabulary.num_tokens)
        law[single.keys] += single.discounted
        laws = np.tile(law, (single.keys.size + 1, 1))
        for order in self.orders[1:2]:
            laws[:-1] *= order.left_over[:, None]
            laws[np.divmod(order.keys, vocabulary.num_inputs)] += order.discounted
        return laws[:, : vocabulary.num_tokens].astype(np.float32)

    def _ranks(self, stream: _Ids, offsets: _Ids) -> Iterator[tuple[_Ids, _Ids]]:
        """For k = 1 … n the ranks of the k−1 tokens before each, and of the k that end with it."""
        context = np.zeros(stream.size, np.int64)
        for k, order in enumerate(self.orders, start=1):
            context[offsets < k - 1] = -1
            known = context >= 0
            keys = context[known] * self.vocabulary.num_inputs + stream[known]
            places = np.minimum(np.searchsorted(order.keys, keys), order.keys.size - 1)
            rank = np.full(stream.size, -1, np.int64)
            rank[known] = np.where(order.keys[places] == keys, places, -1)
            yield context, rank
            context = np.append(0, rank[:-1])


class CountedElsewhere:
    """The law of each token of a stream, counted on the other documents of the stream.

    Documents are dealt out to ``num_parts`` parts in turn. The law of a token is that of the
    :class:`KneserNey` n-grams of all parts but its own, so that it is as good as for text that was
    never seen, which counts that hold the token itself would not be.

    Args:
        stream: documents, each from BOS on.
        vocabulary: of the tokens.
        order: n ≥ 1.
        num_parts: at least 2, and at most one for each document.

    Raises:
        ValueError: a stream that does not start with BOS, or parts without documents.

    Example:
        >>> stream = np.array([3, 0, 1, 2, 3, 0, 2, 3, 1, 2], np.int32)  # "ab.", "a." and "b."
        >>> counted = CountedElsewhere(stream, Vocabulary.plain(3), order=2, num_parts=3)
        >>> counted(np.array([[1, 2], [8, 9]])).shape
        (2, 2, 3)
    """

    def __init__(
        self, stream: np.ndarray, vocabulary: Vocabulary, *, order: int, num_parts: int = 4
    ) -> None:
        """Count each part's complement."""
        document = np.cumsum(_checked(stream, vocabulary)[1] == 0) - 1
        if not 2 <= num_parts <= document[-1] + 1:
            raise ValueError(
                f"num_parts is {num_parts} and the stream has {document[-1] + 1} documents: pass "
                "2 or more parts, and no more than documents"
            )
        self.part = (document % num_parts).astype(np.int16)
        self.contexts = np.empty((order, document.size), np.int32)
        self.models = []
        for part in range(num_parts):
            own = self.part == part
            model = KneserNey.fit(stream[~own], vocabulary, order=order)
            self.contexts[:, own] = model.contexts(stream[own])
            self.models.append(model)

    def __call__(self, places: np.ndarray) -> NDArray[np.float32]:
        """The laws ``[..., V]`` of the tokens at ``places [...]`` of the stream."""
        flat = places.reshape(-1)
        laws = np.empty((flat.size, self.models[0].vocabulary.num_tokens), np.float32)
        for part, model in enumerate(self.models):
            rows = np.flatnonzero(self.part[flat] == part)
            laws[rows] = model.laws(self.contexts[:, flat[rows]])
        return laws.reshape(*places.shape, -1)


def _discount(keys: _Ids, counts: _Ids, contexts: _Ids, num_contexts: int) -> _Order:
    taken = _discounts(counts)[np.minimum(counts, 3)]
    total = np.bincount(contexts, counts, num_contexts)
    followed = np.maximum(total, 1.0)
    left = np.where(total > 0, np.bincount(contexts, taken, num_contexts) / followed, 1.0)
    starts = np.searchsorted(contexts, np.arange(num_contexts + 1))
    return _Order(keys, (counts - taken) / followed[contexts], left, starts)


def _discounts(counts: _Ids) -> _Floats:
    """D(0) … D(3), the last of which is of larger counts too."""
    j = np.arange(1, 5)
    n = np.sum(counts == j[:, None], axis=1)
    if n.all():
        discounts = j[:3] - j[1:] * n[1:] / n[:3] * n[0] / (n[0] + 2 * n[1])
        if (discounts > 0).all():
            return np.append(0.0, discounts)
    return np.array([0.0, 0.5, 1.0, 1.5])  # KenLM's


def _checked(stream: np.ndarray, vocabulary: Vocabulary) -> tuple[_Ids, _Ids]:
    """The stream, and how far each token is from the BOS of its document."""
    stream = np.asarray(stream, np.int64)
    if stream.ndim != 1 or not stream.size or stream[0] != vocabulary.bos_id:
        raise ValueError(
            f"stream has shape {stream.shape} and starts with {stream[:1].tolist()}: pass token "
            f"ids [T] of which the first is BOS, {vocabulary.bos_id}"
        )
    starts = document_starts(stream, vocabulary)
    sizes = np.diff(np.append(starts, stream.size))
    return stream, np.arange(stream.size) - np.repeat(starts, sizes)
