"""What counting can do: an interpolated Kneser–Ney n-gram model, the yardstick of a trained one.

Modified interpolated smoothing of Chen and Goodman (1999, §5.3), with contexts that do not reach
beyond the BOS of their document, as in the KenLM toolkit. All in NumPy, an order at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.language_model.text.tokenizers import Vocabulary

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
    """

    keys: _Ids
    discounted: _Floats
    left_over: _Floats


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
        size = self.vocabulary.num_inputs
        probs = np.full(stream.size, 1 / self.vocabulary.num_tokens)
        context = np.zeros(stream.size, np.int64)
        for k, order in enumerate(self.orders, start=1):
            known = (context >= 0) & (offsets >= k - 1)
            keys = context[known] * size + stream[known]
            places = np.minimum(np.searchsorted(order.keys, keys), order.keys.size - 1)
            found = order.keys[places] == keys
            probs[known] *= order.left_over[context[known]]
            probs[known] += np.where(found, order.discounted[places], 0.0)
            ranks = np.full(stream.size, -1, np.int64)
            ranks[known] = np.where(found, places, -1)
            context = np.append(0, ranks[:-1])
        with np.errstate(divide="ignore"):
            return np.where(offsets > 0, np.log(probs), np.nan)


def _discount(keys: _Ids, counts: _Ids, contexts: _Ids, num_contexts: int) -> _Order:
    taken = _discounts(counts)[np.minimum(counts, 3)]
    total = np.bincount(contexts, counts, num_contexts)
    followed = np.maximum(total, 1.0)
    left = np.where(total > 0, np.bincount(contexts, taken, num_contexts) / followed, 1.0)
    return _Order(keys, (counts - taken) / followed[contexts], left)


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
    starts = stream == vocabulary.bos_id
    if stream.ndim != 1 or not stream.size or not starts[0]:
        raise ValueError(
            f"stream has shape {stream.shape} and starts with {stream[:1].tolist()}: pass token "
            f"ids [T] of which the first is BOS, {vocabulary.bos_id}"
        )
    positions = np.arange(stream.size)
    return stream, positions - np.maximum.accumulate(np.where(starts, positions, 0))
