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

QUANTITIES = ("expected_reward", "win_rate")


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
    """

    predicted: NDArray[np.float64]
    predicted_error: NDArray[np.float64]
    predicted_bias: NDArray[np.float64]
    planted: NDArray[np.float64]
    measured: NDArray[np.float64]
    measured_error: NDArray[np.float64]
    resampled: NDArray[np.float64]
    resampled_error: NDArray[np.float64]

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
        kl_divergence: ``[L, Q, B]``, of the law of selected responses from the model's, in nats, as
            the pool predicts it. It is that of the reward laws, because the ratio of the two laws
            depends on a response through its reward alone.
    """

    numbers: NDArray[np.int64]
    temperatures: NDArray[np.float64]
    num_measured: NDArray[np.int64]
    num_resampled: NDArray[np.int64]
    expected_reward: MeasuredQuantity
    win_rate: MeasuredQuantity
    kl_divergence: NDArray[np.float64]

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """Undo ``dataclasses.asdict``, for what comes from a file."""
        fields = dict(tree)
        for name in QUANTITIES:
            fields[name] = MeasuredQuantity(**tree[name])
        return cls(**fields)

    def checks(self, reward: str, spread: float, *, planted: bool = False) -> list[Check]:
        """A check per quantity, route, λ and n, on the mean over prompts.

        Routes are the measurement pool ("fresh") and the prediction pool ("resampled"); the
        statistic is z; the p-value is Bernstein's bound, which holds for the few and skewed terms
        of a large n. For the resampled route it is rigorous. For fresh candidates it takes the
        prediction's own error to first order, whose terms are smaller than the measurement's.

        Args:
            reward: in the checks' names.
            spread: largest less smallest reward of a prompt.
            planted: hold the resampled route against the law for n+1 instead, which is wrong.
        """
        checks = []
        for quantity, largest in zip(QUANTITIES, (spread, 1.0), strict=True):
            comparison: MeasuredQuantity = getattr(self, quantity)
            for route, (z, std_error, groups) in self._routes(comparison, planted).items():
                num_terms = groups * self.kl_divergence.shape[-1]
                p_values = tail_bound(z, largest / (num_terms * std_error))
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
    rewards: Mapping[str, NDArray[np.float64]],
    *,
    false_alarm: float,
    planted: bool = False,
) -> Report:
    """The checks of all rewards as one family, at a family-wise rate by Bonferroni.

    Args:
        comparisons: by reward.
        rewards: ``[B, N+M]``, of all candidates, by reward.
        false_alarm: chance, at most, that any check is rejected although everything is right.
        planted: as :meth:`PoolComparison.checks` takes it: the proof that a wrong prediction is
            rejected (at n ≤ 2; at larger n the laws for n and n+1 hardly differ).
    """
    checks = [
        check
        for name, comparison in comparisons.items()
        for check in comparison.checks(
            name, float(np.ptp(rewards[name], axis=1).max()), planted=planted
        )
    ]
    return Family(tuple(check.name for check in checks), false_alarm).judge(checks)


def compare_pools(
    key: jax.Array,
    prediction_pool: NDArray[np.float64],
    measurement_pool: NDArray[np.float64],
    *,
    numbers: Sequence[int],
    temperatures: Sequence[float],
    num_resamples: int,
    progress: Callable[[int, int], None] | None = None,
) -> PoolComparison:
    """Predict and measure soft best-of-n at every temperature and n. Consumes ``key``.

    Args:
        key: a typed key.
        prediction_pool: rewards ``[B, N]``, N even.
        measurement_pool: rewards ``[B, M]`` of other candidates for the same prompts, M > any n.
        numbers: numbers of candidates n.
        temperatures: λ ≥ 0, in units of the reward; 0 is best-of-n.
        num_resamples: groups drawn with replacement from each prompt's prediction pool.
        progress: called as ``progress(done, total)`` after each pair (λ, n).

    Raises:
        ValueError: pools whose shapes do not fit each other or ``numbers``, or a λ < 0.
    """
    _check(prediction_pool, measurement_pool, numbers, temperatures)
    predicting, measuring = jnp.asarray(prediction_pool), jnp.asarray(measurement_pool)
    shape, width = (len(temperatures), len(numbers)), max(numbers) + 1
    cells = []
    for cell, (i, j) in enumerate(np.ndindex(shape)):
        measure_key, resample_key = jax.random.split(jax.random.fold_in(key, cell))
        n, temperature = jnp.int32(numbers[j]), jnp.asarray(temperatures[i], predicting.dtype)
        measured = measure(measure_key, measuring, n, temperature, width=width)
        resampled = resample(
            resample_key, predicting, n, temperature, width=width, num_groups=num_resamples
        )
        predicted, kl_divergence = _predictions(predicting, n, temperature)
        averages = {"measured": measured, "resampled": resampled}
        cells.append(jax.device_get((predicted | averages, kl_divergence)))
        if progress is not None:
            progress(cell + 1, shape[0] * shape[1])

    return _assemble(cells, numbers, temperatures, measuring.shape[1], num_resamples)


def _assemble(
    cells: Sequence[tuple[dict[str, NDArray], NDArray]],
    numbers: Sequence[int],
    temperatures: Sequence[float],
    num_measured: int,
    num_resamples: int,
) -> PoolComparison:
    """Stack the cells (λ, n): ``[2, B]`` of (expected reward, win rate), and the KL ``[B]``."""
    shape = (len(temperatures), len(numbers))
    arrays, kl_divergence = jax.tree.map(
        lambda *leaves: np.stack(leaves).astype(np.float64).reshape(*shape, *leaves[0].shape),
        *cells,
    )
    measured_groups = num_measured // (np.asarray(numbers) + 1)
    variance = arrays.pop("variance")
    arrays["measured_error"] = np.sqrt(variance / measured_groups[:, None, None])
    arrays["resampled_error"] = np.sqrt(variance / num_resamples)
    reward, win_rate = (
        MeasuredQuantity(**{name: array[:, :, i] for name, array in arrays.items()})
        for i in range(2)
    )
    return PoolComparison(
        numbers=np.asarray(numbers),
        temperatures=np.asarray(temperatures, np.float64),
        num_measured=measured_groups,
        num_resampled=np.full(len(numbers), num_resamples),
        expected_reward=reward,
        win_rate=win_rate,
        kl_divergence=kl_divergence,
    )


def _predictions(
    pool: jax.Array, n: jax.Array, temperature: jax.Array
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Predicted fields of ``MeasuredQuantity``, the variance, ``[2, B]``; the KL ``[B]``."""
    real_n = n.astype(pool.dtype)
    exact = _predict(pool, real_n, temperature)
    predicted = {
        "predicted": exact.mean,
        "predicted_error": exact.error,
        # The bias is c/N + O(1/N²), so that of a half is twice as large.
        "predicted_bias": _mean_of_halves(pool, real_n, temperature) - exact.mean,
        "planted": _mean(pool, real_n + 1, temperature),
        "variance": exact.variance,
    }
    return predicted, exact.kl_divergence


class _Prediction(NamedTuple):
    """Arrays ``[2, B]`` of (expected reward, win rate); the KL divergence is ``[B]``."""

    mean: jax.Array
    variance: jax.Array
    error: jax.Array
    kl_divergence: jax.Array


@jax.jit
def _predict(pool: jax.Array, n: jax.Array, temperature: jax.Array) -> _Prediction:
    """What the exact law of ``pool [B, N]`` says of soft best-of-n, and its standard error."""

    def one_prompt(rewards: jax.Array) -> _Prediction:
        def exact(logits: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            mean, variance, kl_divergence = _exact(logits, rewards, n, temperature)
            return mean, (variance, kl_divergence)

        mean, pull_back, (variance, kl_divergence) = jax.vjp(
            exact, jnp.zeros_like(rewards), has_aux=True
        )
        (slopes,) = jax.vmap(pull_back)(jnp.eye(2, dtype=mean.dtype))
        return _Prediction(mean, variance, jnp.linalg.norm(slopes, axis=-1), kl_divergence)

    return jax.tree.map(jnp.transpose, jax.vmap(one_prompt)(pool))


def _mean_of_halves(pool: jax.Array, n: jax.Array, temperature: jax.Array) -> jax.Array:
    """``_mean`` averaged over the halves of ``pool [B, N]``."""
    halves = pool.reshape(2 * pool.shape[0], -1)
    return _mean(halves, n, temperature).reshape(2, -1, 2).mean(axis=-1)


@jax.jit
def _mean(pool: jax.Array, n: jax.Array, temperature: jax.Array) -> jax.Array:
    """``_Prediction.mean`` alone, which takes a quarter of the time."""

    def one_prompt(rewards: jax.Array) -> jax.Array:
        return _exact(jnp.zeros_like(rewards), rewards, n, temperature)[0]

    return jax.vmap(one_prompt)(pool).T


def _exact(
    logits: jax.Array, rewards: jax.Array, n: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and variance ``[2]`` of the selected reward and of the win score, and the KL divergence.

    The win score of a selected response against one more draw is 1, ½ for a tie, or 0.
    """
    reference = bt.Policy.from_logits(logits, rewards)
    policy = bt.soft_best_of_n(reference, n, temperature)
    reward = bt.expected_reward(policy)
    reward_variance = bt.expected_value(policy, jnp.square(rewards - reward))
    strict = bt.win_rate(policy, reference, ties="loss")
    weak = bt.win_rate(policy, reference, ties="win")
    win_rate = (strict + weak) / 2
    # A sum of squares: the shorter E s² − W² rounds below zero where all candidates tie.
    win_variance = (
        strict * jnp.square(1 - win_rate)
        + jnp.maximum(weak - strict, 0) * jnp.square(0.5 - win_rate)
        + jnp.maximum(1 - weak, 0) * jnp.square(win_rate)
    )
    return (
        jnp.stack([reward, win_rate]),
        jnp.stack([reward_variance, win_variance]),
        bt.kl_divergence(policy, reference),
    )


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
    if not temperatures or not all(temperature >= 0 for temperature in temperatures):
        raise ValueError(f"temperatures is {tuple(temperatures)}: pass numbers of at least 0")
