"""What a file of scores holds, in numbers."""

from __future__ import annotations

import math

import numpy as np

from bon_theory.cli.scores import ScoreFile
from bon_theory.pools import Pool, best_of_n_curve


def summary(found: ScoreFile) -> list[tuple[str, float | int]]:
    """Quantities that say what a pool can tell."""
    pool = found.pool
    real = np.arange(pool.scores.shape[1]) < pool.counts[:, None]
    scores, counts = pool.scores[real], pool.counts
    rows: list[tuple[str, float | int]] = [
        ("prompts", pool.num_prompts),
        ("answers", int(counts.sum())),
        ("fewest answers to a prompt", int(counts.min())),
        ("median answers to a prompt", float(np.median(counts))),
        ("most answers to a prompt", int(counts.max())),
        ("rows left out", found.num_dropped),
        ("lowest score", float(scores.min())),
        ("mean score", float(pool.weights @ best_of_n_curve(pool, n=1).per_prompt[:, 0])),
        ("highest score", float(scores.max())),
        ("distinct scores", int(np.unique(scores).size)),
        ("chance that two answers tie", _ties(pool)),
        ("prompts whose answers all tie", int(np.sum(pool.scores[:, 0] == _highest(pool)))),
    ]
    if pool.true_scores is not None and scores.std() > 0 and pool.true_scores[real].std() > 0:
        rows.append(("correlation with the true score", _within(pool, real)))
    return rows


def _highest(pool: Pool) -> np.ndarray:
    return np.take_along_axis(pool.scores, pool.counts[:, None] - 1, axis=1)[:, 0]


def _ties(pool: Pool) -> float:
    """Mean over prompts with two answers of the chance that two of them have the same score."""
    chances = []
    for row, count in zip(pool.scores, pool.counts.tolist(), strict=True):
        if count > 1:
            sizes = np.unique(row[:count], return_counts=True)[1]
            chances.append(float(sizes @ (sizes - 1)) / (count * (count - 1)))
    return float(np.mean(chances)) if chances else math.nan


def _within(pool: Pool, real: np.ndarray) -> float:
    """Correlation about the means of prompts: what is common to a prompt's answers selects none."""
    assert pool.true_scores is not None
    centred = []
    for table in (pool.scores, pool.true_scores):
        values = np.where(real, table, 0)
        mean = values.sum(axis=1, keepdims=True) / pool.counts[:, None]
        centred.append(np.where(real, values - mean, 0).ravel())
    norm = math.sqrt(float(centred[0] @ centred[0]) * float(centred[1] @ centred[1]))
    return float(centred[0] @ centred[1]) / norm if norm > 0 else math.nan


_FEW = 10  # prompts: halves of five


def caution(num_prompts: int, agree: bool) -> list[str]:
    """What is to be said where a setting is chosen by few prompts, or by such as all agree."""
    notes = []
    if num_prompts < _FEW:
        notes.append(
            f"{num_prompts} prompts are few: one half chooses, the other judges, and the "
            "intervals are rough"
        )
    if agree:
        notes.append("all prompts agree at the chosen setting: what others would do is unknown")
    return notes
