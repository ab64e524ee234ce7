"""Curves over settings, numbers of candidates and temperatures, as the commands show them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from bon_theory.cli.scores import ScoreFile
from bon_theory.performance import Ties
from bon_theory.pools import (
    Band,
    Curve,
    Pool,
    best_of_n_curve,
    bootstrap_band,
    kl_curve,
    normal_band,
    soft_best_of_n_curve,
    win_rate_curve,
)

__all__ = ["band", "columns_of", "divergences", "drawn", "score_curve", "win_rates"]


def score_curve(pool: Pool, numbers: list[int], heats: list[float], name: str) -> Curve:
    """Mean of "score" or "true" under selection by the score."""
    of = "scores" if name == "score" else "true_scores"

    def one(heat: float) -> Curve:
        if heat == 0:
            return best_of_n_curve(pool, n=numbers, of=of)
        return soft_best_of_n_curve(pool, n=numbers, temperature=heat, of=of)

    return _over(heats, one)


def divergences(pool: Pool, numbers: list[int], heats: list[float]) -> tuple[Curve, list[str]]:
    """KL from the model, and what kinds of number there are among them."""
    parts = [kl_curve(pool, n=numbers, temperature=heat or None) for heat in heats]
    labels = list(dict.fromkeys(part.label for part in parts))
    return _over(heats, lambda heat: parts[heats.index(heat)]), labels


def win_rates(pool: Pool, numbers: list[int], heats: list[float], ties: Ties) -> Curve:
    """Against one more answer; NaN where none is left."""
    few = [n for n in numbers if n < pool.counts.min()]
    missing = np.full((pool.num_prompts, len(numbers) - len(few)), math.nan)

    def one(heat: float) -> Curve:
        found = np.empty((pool.num_prompts, 0))
        if few:
            found = win_rate_curve(pool, n=few, temperature=heat or None, ties=ties).per_prompt
        return Curve(np.array(numbers), np.concatenate([found, missing], axis=1), pool.weights)

    return _over(heats, one)


def _over(heats: Sequence[float], one: Callable[[float], Curve]) -> Curve:
    """One curve of all settings, those of the first temperature first."""
    parts = [one(heat) for heat in heats]
    return Curve(
        np.concatenate([part.n for part in parts]),
        np.concatenate([part.per_prompt for part in parts], axis=1),
        parts[0].weights,
        np.repeat(heats, parts[0].n.size),
    )


def band(
    curve: Curve, found: ScoreFile, level: float, *, simultaneous: bool = False, seed: int = 0
) -> Band | None:
    """Intervals over prompts, or none where there is one alone."""
    if np.sum(curve.weights > 0) < 2:
        return None
    if simultaneous:
        return bootstrap_band(jax.random.key(seed), curve, level=level, simultaneous=True)
    return normal_band(curve, level=level, clusters=found.clusters)


def columns_of(name: str, curve: Curve, ends: Band | None) -> dict[str, list[float | None]]:
    """A curve's means and the ends of its intervals; None where there is nothing."""
    low, high = (None, None) if ends is None else (ends.low, ends.high)
    if name == "kl" and ends is not None:  # a bound is the same for all prompts: no estimate
        known = np.ptp(curve.per_prompt, axis=0) > 0
        low, high = (np.where(known, x, math.nan) for x in (ends.low, ends.high))
    found = {name: curve.mean, f"{name}_low": low, f"{name}_high": high}
    nothing = [math.nan] * curve.n.size
    return {
        key: [None if math.isnan(x) else x for x in (nothing if v is None else v.tolist())]
        for key, v in found.items()
    }


def drawn(
    curves: dict[str, Curve], bands: dict[str, Band | None], size: int, heats: list[float]
) -> list[tuple[str, Any, Any, Any, Any]]:
    """Lines of a figure: name, n, mean, low and high."""
    lines = []
    for name, curve in curves.items():
        for part, heat in enumerate(heats):
            at = slice(part * size, (part + 1) * size)
            ends, mean = bands[name], curve.mean[at]
            low, high = (mean, mean) if ends is None else (ends.low[at], ends.high[at])
            label = name if heat == 0 else f"{name}, temperature {heat:g}"
            lines.append((label, curve.n[at], mean, low, high))
    return lines
