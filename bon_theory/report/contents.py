"""What the page says, computed before anything is drawn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np
from numpy.typing import NDArray

from bon_theory.pools import (
    Band,
    ChosenSetting,
    Curve,
    PeakFit,
    Pool,
    best_of_n_curve,
    bootstrap_band,
    choose,
    fit_peak,
    kl_curve,
    normal_band,
    soft_best_of_n_curve,
    win_rate_curve,
)

__all__ = ["Contents", "PromptExample", "ScoreTrack", "gather"]

_SPREADS = (0.1, 0.25, 0.5, 1.0, 2.0)  # temperatures, in deviations of scores within a prompt
_MOST_SOFT = 64  # candidates of soft best-of-n: the work grows with their number ...
_WORK = 100_000_000  # ... times that of all answers: some ten seconds a temperature
_EXAMPLES = 8


@dataclasses.dataclass(frozen=True)
class ScoreTrack:
    """One score under selection at every setting.

    Attributes:
        name: what is scored.
        curve: of best-of-n at every n of the page, with a band that holds for all of it.
        mean: ``[T, G]`` at every temperature and n; NaN where it was not computed.
        low: lower ends of intervals at each setting.
        high: upper ends.
    """

    name: str
    curve: Band
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class PromptExample:
    """A prompt, and what selection does to it.

    Attributes:
        prompt: its name, printable.
        before: mean score of one answer.
        after: of the best of all.
    """

    prompt: str
    before: float
    after: float


@dataclasses.dataclass(frozen=True)
class Contents:
    """All that the page shows.

    Attributes:
        title: of the page.
        notes: what was guessed or left out.
        n: ``[G]`` numbers of candidates.
        temperatures: ``[T]``, the first of them 0, best-of-n.
        tracks: the score that selects, then the one that counts if there is one.
        kl: ``[T, G]`` from the model, in nats; NaN where it was not computed.
        kl_labels: ``[T]``, what kind of number that is.
        win_rate: ``[T, G]`` against one more answer; NaN where none is left.
        choice: the one setting for all prompts, if there is a score to choose by.
        gain: the same of what it adds to one answer.
        peak: where the score that counts turns down, if that can be fitted.
        quality: quantities of the data.
        examples: prompts that change most.
        level: of the intervals.
    """

    title: str
    notes: tuple[str, ...]
    n: NDArray[np.int64]
    temperatures: NDArray[np.float64]
    tracks: tuple[ScoreTrack, ...]
    kl: NDArray[np.float64]
    kl_labels: tuple[str, ...]
    win_rate: NDArray[np.float64]
    choice: ChosenSetting | None
    gain: ChosenSetting | None
    peak: PeakFit | None
    quality: tuple[tuple[str, float | int], ...]
    examples: tuple[PromptExample, ...]
    level: float


def gather(
    key: jax.Array,
    pool: Pool,
    prompts: Sequence[str],
    *,
    title: str,
    quality: Sequence[tuple[str, float | int]] = (),
    notes: Sequence[str] = (),
    level: float = 0.95,
) -> Contents:
    """Compute what the page shows.

    Args:
        key: consumed.
        pool: at least two prompts.
        prompts: their names, printable text.
        title: of the page.
        quality: quantities of the data.
        notes: what was guessed or left out.
        level: of the intervals.

    Raises:
        ValueError: fewer than two prompts.
    """
    if pool.num_prompts < 2:
        raise ValueError(f"a report needs at least 2 prompts, got {pool.num_prompts}.")
    choosing, *resampling = jax.random.split(key, 3)
    numbers = _numbers(int(pool.counts.min()))
    temperatures = np.array([0.0, *(_spread(pool) * s for s in _SPREADS if _spread(pool) > 0)])
    names = ["score"] + (["true score"] if pool.true_scores is not None else [])
    curves = [_settings(pool, numbers, temperatures, name) for name in names]
    tracks = tuple(
        _track(name, curve, numbers.size, resample, level)
        for name, curve, resample in zip(names, curves, resampling, strict=False)
    )
    kl, kl_labels = _divergences(pool, numbers, temperatures)
    choice = gain = peak = None
    if pool.true_scores is not None and np.sum(pool.weights > 0) >= 4:
        seen = _known(curves[1])
        base = best_of_n_curve(pool, n=1, of="true_scores").per_prompt
        choice = choose(choosing, seen, level=level)
        over_one = dataclasses.replace(seen, per_prompt=seen.per_prompt - base)
        gain = choose(jax.random.clone(choosing), over_one, level=level)  # the same halves
        if numbers.size > 2:
            peak = fit_peak(best_of_n_curve(pool, n=numbers, of="true_scores"))
    return Contents(
        title,
        tuple(notes),
        numbers,
        temperatures,
        tracks,
        kl,
        kl_labels,
        _win_rates(pool, numbers, temperatures),
        choice,
        gain,
        peak,
        tuple(quality),
        _examples(pool, prompts),
        level,
    )


def _numbers(most: int) -> NDArray[np.int64]:
    """All up to 8, then four to each doubling, and the most."""
    further = [round(2 ** (k / 4)) for k in range(12, 4 * most.bit_length() + 4)]
    wanted = {*range(1, min(most, 8) + 1), *(n for n in further if n <= most), most}
    return np.array(sorted(wanted), np.int64)


def _spread(pool: Pool) -> float:
    """Root mean square deviation of scores within a prompt."""
    real = np.arange(pool.scores.shape[1]) < pool.counts[:, None]
    scores = np.where(real, pool.scores, 0)
    mean = scores.sum(axis=1) / pool.counts
    deviations = np.where(real, scores - mean[:, None], 0)
    return math.sqrt(float(np.sum(deviations**2) / np.sum(pool.counts)))


def _settings(
    pool: Pool, numbers: NDArray[np.int64], temperatures: NDArray[np.float64], name: str
) -> Curve:
    """``[B, T G]``, NaN where soft best-of-n is not computed."""
    of = "scores" if name == "score" else "true_scores"
    hard = best_of_n_curve(pool, n=numbers, of=of).per_prompt
    few = _few(pool, numbers)
    parts = [hard]
    for temperature in temperatures[1:].tolist():
        part = np.full_like(hard, np.nan)
        curve = soft_best_of_n_curve(pool, n=few, temperature=temperature, of=of)
        part[:, : few.size] = curve.per_prompt
        parts.append(part)
    return Curve(
        np.tile(numbers, temperatures.size),
        np.concatenate(parts, axis=1),
        pool.weights,
        np.repeat(temperatures, numbers.size),
    )


def _known(curve: Curve) -> Curve:
    """The settings that were computed."""
    known = np.isfinite(curve.per_prompt[0])
    heat = curve.temperature
    return Curve(
        curve.n[known],
        curve.per_prompt[:, known],
        curve.weights,
        None if heat is None else heat[known],
    )


def _track(name: str, curve: Curve, size: int, key: jax.Array, level: float) -> ScoreTrack:
    band = normal_band(curve, level=level)
    hard = Curve(curve.n[:size], curve.per_prompt[:, :size], curve.weights)
    whole = bootstrap_band(key, hard, level=level, simultaneous=True)
    table = (-1, size)
    ends = (x.reshape(table) for x in (band.mean, band.low, band.high))
    return ScoreTrack(name, whole, *ends)


def _few(pool: Pool, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of them, at which soft best-of-n is computed."""
    return numbers[numbers <= min(_MOST_SOFT, max(4, _WORK // int(pool.counts.sum())))]


def _divergences(
    pool: Pool, numbers: NDArray[np.int64], temperatures: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    found, few = np.full((temperatures.size, numbers.size), np.nan), _few(pool, numbers)
    hard = kl_curve(pool, n=numbers)
    found[0], labels = hard.mean, [hard.label]
    for row, heat in zip(found[1:], temperatures[1:].tolist(), strict=True):
        soft = kl_curve(pool, n=few, temperature=heat)
        row[: few.size] = soft.mean
        labels.append(soft.label)
    return found, tuple(labels)


def _win_rates(
    pool: Pool, numbers: NDArray[np.int64], temperatures: NDArray[np.float64]
) -> NDArray[np.float64]:
    found = np.full((temperatures.size, numbers.size), np.nan)
    within = numbers[numbers < pool.counts.min()]
    for row, heat in zip(found, temperatures.tolist(), strict=True):
        few = _few(pool, within) if heat else within
        if few.size:
            row[: few.size] = win_rate_curve(pool, n=few, temperature=heat or None).mean
    return found


def _examples(pool: Pool, prompts: Sequence[str]) -> tuple[PromptExample, ...]:
    """Prompts by how much the best of as many answers as all have adds to one, most first."""
    curve = best_of_n_curve(pool, n=[1, int(pool.counts.min())])
    gains = curve.per_prompt[:, 1] - curve.per_prompt[:, 0]
    order = np.argsort(-gains, kind="stable")[:_EXAMPLES]
    return tuple(
        PromptExample(str(prompts[i]), float(curve.per_prompt[i, 0]), float(curve.per_prompt[i, 1]))
        for i in order.tolist()
    )
