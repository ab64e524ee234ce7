"""Selection among sampled candidates: predicted by the exact law of a pool, measured by selecting.

Two disjoint pools of rewards per prompt come from the same model. The *prediction pool* gives an
empirical reward law, from which ``bon_theory`` computes what best-of-n and soft best-of-n will do.
The *measurement pool* is what they are then done to: take n candidates, select one, compare it with
one more. A third route selects among n draws *from the prediction pool*: its law is the empirical
one exactly, so it tests the computation alone, without the error of estimating a law.

Letters: B prompts, N candidates in a prediction pool, L temperatures (0 is best-of-n), Q numbers of
candidates n, G groups of n+1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

import bon_theory as bt
from simulations.experiments.pool_selection import measure, resample
from simulations.statistics.checks import Check, Family, Report

QUANTITIES = ("expected_reward", "win_rate", "kl_divergence")


@dataclass(frozen=True)
class MeasuredQuantity:
    """A quantity for each temperature, number of candidates and prompt: arrays ``[L, Q, B]``.

    Attributes:
        predicted: the exact value under the law of the prediction pool.
        predicted_error: its standard error as an estimate of the model's value, by the
            infinitesimal jackknife √Σ_i (∂ predicted / ∂ logit_i)², one reverse pass through the
            exact law.
        predicted_bias: its bias to order 1/N, by comparison with the halves of the pool.
        planted: the exact value for n+1, a wrong prediction that a check ought to reject.
        measured: the mean over disjoint groups of n+1 candidates of the measurement pool.
        measured_error: its standard error under the predicted law (a score test, which stays right
            where a large n leaves few groups).
        resampled: the mean over groups drawn from the prediction pool with replacement.
        resampled_error: its standard error under the predicted law, which is exact.
        span: ``[L, Q]``, largest less smallest value of one response, over prompts.
    """

    predicted: NDArray[np.float64]
    predicted_error: NDArray[np.float64]
    predicted_bias: NDArray[np.float64]
    planted: NDArray[np.float64]
    measured: NDArray[np.float64]
    measured_error: NDArray[np.float64]
    resampled: NDArray[np.float64]
    resampled_error: NDArray[np.float64]
    span: NDArray[np.float64]

    @property
    def measured_std_error(self) -> NDArray[np.float64]:
        """``[L, Q]``: of measured minus predicted, on average over prompts."""
        return _std_error(np.hypot(self.measured_error, self.predicted_error))

    @property
    def resampled_std_error(self) -> NDArray[np.float64]:
        """``[L, Q]``: of resampled minus predicted, on average over prompts."""
        return _std_error(self.resampled_error)

    @property
    def measured_z(self) -> NDArray[np.float64]:
        """``[L, Q]``: measured minus predicted (its bias removed), in standard errors."""
        difference = self.measured - (self.predicted - self.predicted_bias)
        return difference.mean(axis=-1) / self.measured_std_error

    @property
    def resampled_z(self) -> NDArray[np.float64]:
        """``[L, Q]``: resampled minus predicted, in standard errors."""
        return (self.resampled - self.predicted).mean(axis=-1) / self.resampled_std_error

    @property
    def planted_z(self) -> NDArray[np.float64]:
        """``[L, Q]``: resampled minus the wrong prediction for n+1, in standard errors."""
        return (self.resampled - self.planted).mean(axis=-1) / self.resampled_std_error


@dataclass(frozen=True)
class PoolComparison:
    """What ``compare_pools`` finds for one reward.

    Attributes:
        numbers: ``[Q]``, numbers of candidates n.
        temperatures: ``[L]``, in units of the reward; 0 is best-of-n.
        num_measured: ``[Q]``, G = ⌊M/(n+1)⌋ groups of the measurement pool's M candidates per
            prompt.
        num_resampled: ``[Q]``, G for the groups drawn from the prediction pool.
        expected_reward: of the selected response.
        win_rate: its chance against one more draw, ties counting half.
        kl_divergence: of the law of selected responses from the model's, in nats. It is that of the
            reward laws, because the ratio of the two laws depends on a response through its reward
            alone, and it is measured as the mean of that log-ratio over what was selected. Under
            the prediction pool's law every reward has one, also those that the pool has not. Its
            ``predicted_error`` is that of the mean of this log-ratio, which is what is checked; of
            a divergence more is known (best-of-n's is log n − (n−1)/n if nothing ties).
    """

    numbers: NDArray[np.int64]
    temperatures: NDArray[np.float64]
    num_measured: NDArray[np.int64]
    num_resampled: NDArray[np.int64]
    expected_reward: MeasuredQuantity
    win_rate: MeasuredQuantity
    kl_divergence: MeasuredQuantity

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """Undo ``dataclasses.asdict``, for what comes from a file."""
        fields = dict(tree)
        for name in QUANTITIES:
            fields[name] = MeasuredQuantity(**tree[name])
        return cls(**fields)

    def checks(self, reward: str, *, planted: bool = False) -> list[Check]:
        """A check per quantity, route, λ and n, on the mean over prompts.

        Routes are the measurement pool ("fresh") and the prediction pool ("resampled"); the
        statistic is z; the p-value is Bernstein's bound, which holds for the few and skewed terms
        of a large n. For the resampled route it is rigorous. For fresh candidates it takes the
        prediction's own error to first order, whose terms are smaller than the measurement's.

        Args:
            reward: in the checks' names.
            planted: hold the resampled route against the law for n+1 instead, which is wrong.
        """
        checks = []
        for quantity in QUANTITIES:
            comparison: MeasuredQuantity = getattr(self, quantity)
            for route, (z, std_error, groups) in self._routes(comparison, planted).items():
                num_terms = groups * comparison.predicted.shape[-1]
                p_values = tail_bound(z, comparison.span / (num_terms * std_error))
                for (i, temperature), (j, n) in product(
                    enumerate(self.temperatures), enumerate(self.numbers)
                ):
                    name = f"{reward}, {quantity}, {route}, n={n}, temperature={temperature:g}"
                    trials = int(num_terms[j])
                    checks.append(Check(name, float(z[i, j]), float(p_values[i, j]), trials))
        return checks

    def _routes(
        self, comparison: MeasuredQuantity, planted: bool
    ) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]]:
        """z, its standard error, and the groups behind it, by route."""
        error = comparison.resampled_std_error
        if planted:
            return {"planted": (comparison.planted_z, error, self.num_resampled)}
        return {
            "fresh": (comparison.measured_z, comparison.measured_std_error, self.num_measured),
            "resampled": (comparison.resampled_z, error, self.num_resampled),
        }


def judge(
    comparisons: Mapping[str, PoolComparison],
    *,
    false_alarm: float,
    planted: bool = False,
) -> Report:
    """The checks of all rewards as one family, at a family-wise rate by Bonferroni.

    Args:
        comparisons: by reward.
        false_alarm: chance, at most, that any check is rejected although everything is right.
        planted: as :meth:`PoolComparison.checks` takes it: the proof that a wrong prediction is
            rejected (at n ≤ 2; at larger n the laws for n and n+1 hardly differ).
    """
    checks = [
        check
        for name, comparison in comparisons.items()
        for check in comparison.checks(name, planted=planted)
    ]
    return Family(tuple(check.name for check in checks), false_alarm).judge(checks)


def compare_pools(
    key: jax.Array,
    prediction_pool: NDArray[np.float64],
    measurement_pool: NDArray[np.float64],
    *,
    numbers: Sequence[int],
    temperatures: Sequence[float],
    num_redrawn: int,
    progress: Callable[[int, int], None] | None = None,
) -> PoolComparison:
    """Predict and measure soft best-of-n at every temperature and n. Consumes ``key``.

    Args:
        key: a typed key.
        prediction_pool: rewards ``[B, N]``, N even.
        measurement_pool: rewards ``[B, M]`` of other candidates for the same prompts, M > any n.
        numbers: numbers of candidates n.
        temperatures: λ ≥ 0, in units of the reward; 0 is best-of-n.
        num_redrawn: candidates drawn with replacement from each prompt's prediction pool, for each
            pair (λ, n), more than any n.
        progress: called as ``progress(done, total)`` after each pair (λ, n).

    Raises:
        ValueError: pools whose shapes do not fit each other or ``numbers``, or a λ < 0.
    """
    _check(prediction_pool, measurement_pool, numbers, temperatures, num_redrawn)
    predicting, measuring = np.asarray(prediction_pool), np.asarray(measurement_pool)
    levels = _Levels.of(predicting, measuring)
    places = [levels.places(pool) for pool in (predicting, measuring)]
    shape = (len(temperatures), len(numbers))
    cells = []
    for cell, (i, j) in enumerate(np.ndindex(shape)):
        measure_key, resample_key = jax.random.split(jax.random.fold_in(key, cell))
        n, temperature = numbers[j], temperatures[i]
        predicted, ratios = _predictions(levels, n, temperature)
        here, there = (np.take_along_axis(ratios, place, axis=1) for place in places)
        predicted["measured"] = measure(measure_key, measuring, there, n, temperature)
        predicted["resampled"] = resample(
            resample_key, predicting, here, n, temperature, num_draws=num_redrawn
        )
        cells.append((predicted, _span(ratios)))
        if progress is not None:
            progress(cell + 1, shape[0] * shape[1])

    every = np.concatenate([predicting, measuring], axis=1)
    spans = [np.ptp(every, axis=1).max(), 1.0, np.reshape([span for _, span in cells], shape)]
    groups = [size // (np.asarray(numbers) + 1) for size in (measuring.shape[1], num_redrawn)]
    arrays = {
        name: np.stack([cell[name] for cell, _ in cells]).reshape(*shape, len(QUANTITIES), -1)
        for name in cells[0][0]
    }
    variance = arrays.pop("variance")
    for name, number in zip(("measured_error", "resampled_error"), groups, strict=True):
        arrays[name] = np.sqrt(variance / number[:, None, None])
    reward, win_rate, kl_divergence = (
        MeasuredQuantity(
            **{name: array[:, :, quantity] for name, array in arrays.items()},
            span=np.broadcast_to(spans[quantity], shape),
        )
        for quantity in range(len(QUANTITIES))
    )
    return PoolComparison(
        numbers=np.asarray(numbers),
        temperatures=np.asarray(temperatures, np.float64),
        num_measured=groups[0],
        num_resampled=groups[1],
        expected_reward=reward,
        win_rate=win_rate,
        kl_divergence=kl_divergence,
    )


class _Levels(NamedTuple):
    """The different rewards of each prompt, rising, and how often its prediction pool has them.

    Attributes:
        rewards: ``[B, K]`` of either pool; the highest is repeated to fill a row.
        counts: ``[3, B, K]`` in the prediction pool, its first half, its second half. What is not
            there has 1e-30: nothing in every sum, but then the law says what its log-ratio is.
    """

    rewards: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, predicting: NDArray[np.float64], measuring: NDArray[np.float64]) -> Self:
        """Of pools ``[B, N]`` and ``[B, M]``."""
        found = [np.unique(row) for row in np.concatenate([predicting, measuring], axis=1)]
        most, half = max(map(len, found)), predicting.shape[1] // 2
        size = 1 << 2 * -(-(most - 1).bit_length() // 2)  # the next 4ᵏ: rewards share programs
        rewards = np.stack([np.pad(row, (0, size - len(row)), mode="edge") for row in found])
        levels = cls(rewards, np.empty((3, *rewards.shape)))
        parts = (predicting, predicting[:, :half], predicting[:, half:])
        for counts, part in zip(levels.counts, parts, strict=True):
            for row, places in zip(counts, levels.places(part), strict=True):
                row[:] = np.bincount(places, minlength=size)
        return cls(rewards, np.maximum(levels.counts, 1e-30))

    def places(self, pool: NDArray[np.float64]) -> NDArray[np.intp]:
        """Which level each of ``pool [B, M]`` has."""
        pairs = zip(self.rewards, pool, strict=True)
        return np.stack([np.searchsorted(known, row) for known, row in pairs])


def _predictions(
    levels: _Levels, n: int, temperature: float
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Predicted fields of ``MeasuredQuantity`` and the variance, ``[3, B]``; log-ratios."""
    at = levels.rewards, float(n), temperature
    exact = jax.device_get(_predict(levels.counts[0], *at, True))
    first, second = (np.asarray(_predict(half, *at, False).mean) for half in levels.counts[1:])
    more = _predict(levels.counts[0], levels.rewards, n + 1.0, temperature, False)
    predicted = {
        "predicted": exact.mean,
        "predicted_error": exact.error,
        # The bias is c/N + O(1/N²), so that of a half is twice as large.
        "predicted_bias": (first + second) / 2 - exact.mean,
        "planted": np.asarray(more.mean),
        "variance": exact.variance,
    }
    return predicted, exact.ratios


class _Prediction(NamedTuple):
    """Arrays ``[3, B]`` of reward, win rate, KL divergence; the log-ratios of levels ``[B, K]``.

    The error is NaN where it was not asked for.
    """

    mean: Any
    variance: Any
    error: Any
    ratios: Any


@jax.jit
def _predict(
    counts: jax.Array,
    rewards: jax.Array,
    n: jax.Array,
    temperature: jax.Array,
    with_error: jax.Array,
) -> _Prediction:
    """What the exact law of each row of ``counts [B, K]`` says; its standard error if asked for.

    Errors take as long as all the rest, and a program of their own would take seconds to compile.
    """

    def one_prompt(counts: jax.Array, rewards: jax.Array) -> _Prediction:
        def exact(logits: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            mean, variance, ratios = _exact(logits, rewards, n, temperature)
            return mean, (variance, ratios)

        mean, pull_back, (variance, ratios) = jax.vjp(exact, jnp.log(counts), has_aux=True)

        def std_error() -> jax.Array:
            (slopes,) = jax.vmap(pull_back)(jnp.eye(mean.size, dtype=mean.dtype))
            # A level's slope is shared by the candidates that have it.
            return jnp.sqrt(jnp.sum(jnp.square(slopes) / jnp.maximum(counts, 1)[None], axis=-1))

        error = jax.lax.cond(with_error, std_error, lambda: jnp.full_like(mean, jnp.nan))
        return _Prediction(mean, variance, error, ratios)

    return jax.vmap(one_prompt, out_axes=_Prediction(1, 1, 1, 0))(counts, rewards)


def _exact(
    logits: jax.Array, rewards: jax.Array, n: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and variance ``[3]`` of reward, win score and log-ratio; the log-ratios ``[K]``.

    The win score of a selected response against one more draw is 1, ½ for a tie, or 0. A derivative
    takes the log-ratio as a function of the response that is given.
    """
    reference = bt.Policy.from_logits(logits, rewards)
    policy = bt.soft_best_of_n(reference, n, temperature)
    ratio = jax.lax.stop_gradient(bt.log_ratio(policy, reference))
    reward, kl = bt.expected_reward(policy), bt.expected_value(policy, ratio)
    strict = bt.win_rate(policy, reference, ties="loss")
    weak = bt.win_rate(policy, reference, ties="win")
    win_rate = (strict + weak) / 2
    # A sum of squares: the shorter E s² − W² rounds below zero where all candidates tie.
    win_variance = (
        strict * jnp.square(1 - win_rate)
        + jnp.maximum(weak - strict, 0) * jnp.square(0.5 - win_rate)
        + jnp.maximum(1 - weak, 0) * jnp.square(win_rate)
    )
    variances = [
        bt.expected_value(policy, jnp.square(rewards - reward)),
        win_variance,
        bt.expected_value(policy, jnp.square(ratio - kl)),
    ]
    return jnp.stack([reward, win_rate, kl]), jnp.stack(variances), ratio


def _span(ratios: NDArray[np.float64]) -> float:
    """Largest less smallest log-ratio of what is selected.

    One below −40 is selected with a probability below e^−40, as the law of what is selected is the
    reference times its exponential: less than any false-alarm rate.
    """
    return float(ratios.max() - max(ratios.min(), -40.0))


def _std_error(error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the mean over prompts (last axis) of independent quantities."""
    # A law without any variance leaves rounding errors alone, which are no discrepancy.
    return np.maximum(np.linalg.norm(error, axis=-1) / error.shape[-1], 1e-7)


def tie_probability(rewards: NDArray[np.float64]) -> float:
    """Chance that two different candidates of a prompt have equal ``rewards [B, N]``, over prompts.

    >>> tie_probability(np.array([[1.0, 1.0, 2.0]])) == 1 / 3
    True
    """
    size = rewards.shape[1]
    counts = [np.unique(row, return_counts=True)[1] for row in rewards]
    return float(np.mean([np.sum(c * (c - 1)) / (size * (size - 1)) for c in counts]))


def tail_bound(z: NDArray[np.float64], largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bernstein's bound 2 exp(−z²/(2 + 2·largest·|z|/3)) on the chance of a sum beyond ±z.

    The sum is of independent centred terms, in units of its standard deviation, and none of them
    exceeds ``largest``. Where that is not small the normal tail is far too optimistic: a best-of-64
    loses 1 comparison in 65, so a mean of 240 win scores has Poisson tails.

    >>> print(f"{tail_bound(np.array(5.0), np.array(0.0)):.2e}")
    7.45e-06
    """
    return np.minimum(1.0, 2 * np.exp(-np.square(z) / (2 + 2 * largest * np.abs(z) / 3)))


def _check(
    prediction: NDArray[np.float64],
    measurement: NDArray[np.float64],
    numbers: Sequence[int],
    temperatures: Sequence[float],
    num_redrawn: int,
) -> None:
    if prediction.ndim != 2 or prediction.shape[1] % 2:
        raise ValueError(
            f"prediction_pool has shape {prediction.shape}: pass [B, N] with N even, since its "
            "halves show the bias"
        )
    if measurement.ndim != 2 or measurement.shape[0] != prediction.shape[0]:
        raise ValueError(
            f"measurement_pool has shape {measurement.shape} and prediction_pool "
            f"{prediction.shape}: pass candidates of the same prompts"
        )
    if not numbers or min(numbers) < 1 or max(numbers) >= measurement.shape[1]:
        raise ValueError(
            f"numbers is {tuple(numbers)} and measurement_pool has {measurement.shape[1]} "
            "candidates per prompt: pass numbers from 1 to one less than that"
        )
    if num_redrawn <= max(numbers):
        raise ValueError(
            f"num_redrawn is {num_redrawn}: draw more than the {max(numbers)} candidates that are "
            "selected among"
        )
    if not temperatures or not all(temperature >= 0 for temperature in temperatures):
        raise ValueError(f"temperatures is {tuple(temperatures)}: pass numbers of at least 0")
