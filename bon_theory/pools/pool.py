"""Scored answers to prompts, as they come from a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory._arguments import shown

__all__ = ["Pool"]

Scores = Sequence[ArrayLike] | NDArray[Any]
"""One array of scores per prompt, of any lengths."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pool:
    r"""Scored answers to each of B prompts; a frozen pytree of float64 NumPy arrays.

    Answers stand in ascending order of their score, equal scores in the order given; no estimator
    depends on the order in which answers were given.

    Attributes:
        scores: ``[B, N]``, ascending along the last axis; beyond a prompt's count, ``inf``.
        counts: ``[B]``, how many answers each prompt has.
        true_scores: ``[B, N]`` in the same order, a second score of the same answers, or None.
        weights: ``[B]``, how much each prompt counts in a mean, summing to one.
        log_probs: ``[B, N]`` in the same order, the log-probability of each whole answer under the
            model it was drawn from, in nats, or None.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.2, 0.9, 0.4], [0.1, 0.1]])
        >>> pool.counts
        array([3, 2])

    Derived here (bookkeeping; no published counterpart).
    """

    scores: NDArray[np.float64]
    counts: NDArray[np.int64]
    true_scores: NDArray[np.float64] | None
    weights: NDArray[np.float64]
    log_probs: NDArray[np.float64] | None = None

    @classmethod
    def from_lists(
        cls,
        scores: Scores,
        *,
        true_scores: Scores | None = None,
        log_probs: Scores | None = None,
        weights: ArrayLike | None = None,
    ) -> Pool:
        """A pool of one array of scores per prompt, of equal or unequal lengths.

        Args:
            scores: 0 and 1, booleans, integers, half precision or any other finite real numbers.
            true_scores: of the same answers.
            log_probs: of the same answers, at most 0.
            weights: one per prompt, nonnegative; equal by default.

        Raises:
            ValueError: a prompt without answers, a score that is no finite number (with the prompt
                and the answer), a log-probability above 0, or lengths that differ.

        Example:
            >>> import bon_theory as bt
            >>> bt.pools.Pool.from_lists([[True, False, True]]).scores
            array([[0., 1., 1.]])
        """
        rows = [_row("scores", index, row) for index, row in enumerate(scores)]
        if not rows:
            raise ValueError("scores must hold at least one prompt, got none.")
        counts = np.array([row.size for row in rows])

        def ordered(name: str, given: Scores | None) -> NDArray[np.float64] | None:
            if given is None:
                return None
            beside = [_row(name, index, row) for index, row in enumerate(given)]
            _require_same_lengths(name, counts, np.array([row.size for row in beside]))
            return _padded(beside, rows, np.nan)

        sorted_scores = _padded(rows, rows, np.inf)
        log_weights = ordered("log_probs", log_probs)
        if log_weights is not None and np.nanmax(log_weights) > 0:
            raise ValueError(
                f"log_probs must be at most 0, got {np.nanmax(log_weights)}: give natural "
                "logarithms of the probabilities of whole answers."
            )
        truth = ordered("true_scores", true_scores)
        return cls(sorted_scores, counts, truth, _shares(weights, counts.size), log_weights)

    @classmethod
    def from_table(
        cls,
        prompts: Iterable[Any],
        scores: ArrayLike,
        *,
        true_scores: ArrayLike | None = None,
        log_probs: ArrayLike | None = None,
    ) -> Pool:
        """A pool of a long table, one row per answer; prompts in order of their first row.

        Args:
            prompts: what tells the prompt of each row, hashable.
            scores: ``[R]``.
            true_scores: ``[R]`` or None.
            log_probs: ``[R]`` or None.

        Raises:
            ValueError: as :meth:`from_lists`; columns of unequal lengths.

        Example:
            >>> import bon_theory as bt
            >>> bt.pools.Pool.from_table(["a", "b", "a"], [0.2, 0.5, 0.1]).scores
            array([[0.1, 0.2],
                   [0.5, inf]])
        """
        places: dict[Any, list[int]] = {}
        for row, prompt in enumerate(prompts):
            places.setdefault(prompt, []).append(row)
        columns = {"scores": scores, "true_scores": true_scores, "log_probs": log_probs}
        num_rows = sum(map(len, places.values()))
        parts = {}
        for name, column in columns.items():
            if column is None:
                continue
            values = np.asarray(column)
            if values.shape != (num_rows,):
                raise ValueError(
                    f"{name} must have one entry per row of prompts, {num_rows}, "
                    f"got shape {values.shape}."
                )
            parts[name] = [values[rows] for rows in places.values()]
        return cls.from_lists(**parts)

    @property
    def num_prompts(self) -> int:
        """B."""
        return self.counts.size

    def with_at_least(self, num_answers: int) -> Pool:
        """The prompts that have so many answers; the others are left out of every mean.

        Raises:
            ValueError: there is none.

        Example:
            >>> import bon_theory as bt
            >>> bt.pools.Pool.from_lists([[0.2, 0.9, 0.4], [0.1, 0.1]]).with_at_least(3).num_prompts
            1
        """
        kept = self.counts >= num_answers
        if not kept.any():
            raise ValueError(
                f"num_answers must be at most {self.counts.max()}, what the longest prompt has, "
                f"got {num_answers}."
            )
        return self.take(np.flatnonzero(kept))

    def take(self, prompts: ArrayLike) -> Pool:
        """The pool of some prompts, in the order given.

        Example:
            >>> import bon_theory as bt
            >>> bt.pools.Pool.from_lists([[0.2, 0.9], [0.1, 0.5]]).take([1]).scores
            array([[0.1, 0.5]])
        """
        rows = np.asarray(prompts, np.intp)
        beside = (None if x is None else x[rows] for x in (self.true_scores, self.log_probs))
        truth, log_probs = beside
        weights = _shares(self.weights[rows])
        return Pool(self.scores[rows], self.counts[rows], truth, weights, log_probs)

    def of_count(self) -> Iterable[tuple[int, NDArray[np.intp]]]:
        """``(N, prompts that have N answers)``, for every N that occurs."""
        for count in np.unique(self.counts).tolist():
            yield count, np.flatnonzero(self.counts == count)


def _row(name: str, prompt: int, row: ArrayLike) -> NDArray[np.float64]:
    """One prompt's scores as float64."""
    try:
        given = np.asarray(row)
        if given.dtype.kind in "cSUMm":  # NumPy converts all of them
            raise TypeError
        values = given.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} of prompt {prompt} must be numbers, got {shown(row)}: convert them to float."
        ) from None
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"{name} of prompt {prompt} must be a list of at least one score, "
            f"got shape {values.shape}: leave out prompts without answers."
        )
    if not np.all(np.isfinite(values)):
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(
            f"{name} must be finite, got {values[first]} at answer {first} of prompt {prompt}: "
            "leave out answers without a score."
        )
    return values


def _require_same_lengths(name: str, counts: NDArray[np.int64], others: NDArray[np.int64]) -> None:
    if counts.shape != others.shape or np.any(counts != others):
        raise ValueError(
            f"{name} must have the lengths of scores, got {shown(others)} for {shown(counts)}."
        )


def _padded(
    rows: list[NDArray[np.float64]], scores: list[NDArray[np.float64]], fill: float
) -> NDArray[np.float64]:
    """``[B, N]``, each row in ascending order of its scores, followed by ``fill``."""
    table = np.full((len(rows), max(row.size for row in rows)), fill)
    for target, row, by in zip(table, rows, scores, strict=True):
        target[: row.size] = row[np.argsort(by, kind="stable")]
    return table


def _shares(weights: ArrayLike | None, size: int | None = None) -> NDArray[np.float64]:
    """Weights that sum to one."""
    values = np.ones(size or 0) if weights is None else np.asarray(weights, np.float64)
    if size is not None and values.shape != (size,):
        raise ValueError(f"weights must be one per prompt, {size}, got shape {values.shape}.")
    if not (np.all(values >= 0) and 0 < values.max() < np.inf):
        raise ValueError(f"weights must be nonnegative with a positive sum, got {shown(weights)}.")
    values = values / values.max()  # the sum of the largest numbers would overflow
    return values / values.sum()
