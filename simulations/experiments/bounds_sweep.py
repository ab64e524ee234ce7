"""Every inequality of ``bon_theory.bounds`` on random problems: ever violated? how tight?

A theorem must have no violation; a conjecture is searched for one. The problems are spread over
everything that the inequalities could depend on: probabilities from nearly equal to nearly
degenerate, rewards with and without ties, draws from barely more than one to ten thousand, integer
and not, temperatures from greedy to flat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory.bounds import REGISTRY, Inequality, Problem
from simulations.tools.precision import require_float64
from simulations.tools.programs import compiled_in_earnest

__all__ = [
    "QUANTILES",
    "BoundsSweepConfig",
    "Example",
    "BoundsSweepOutcome",
    "BoundsSweepResults",
    "run",
]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class BoundsSweepConfig:
    """How many problems, and what counts.

    Attributes:
        inequalities: which; all of the registry unless told.
        num_problems: S.
        num_outcomes: K, at least 2.
        batch_size: problems computed at a time.
        relative_tolerance: rounding allowed, as a share of the larger of bound and exact value.
        absolute_tolerance: and besides.
        trivial: problems where bound and exact value are both below this are not asked how tight
            the bound is: everything is near 0 there.
    """

    inequalities: tuple[Inequality, ...] = tuple(REGISTRY.values())
    num_problems: int = 131_072
    num_outcomes: int = 5
    batch_size: int = 256
    relative_tolerance: float = 1e-9
    absolute_tolerance: float = 1e-13
    trivial: float = 1e-3


@dataclass(frozen=True)
class Example:
    """One problem, written out.

    Attributes:
        probs: of the outcomes.
        rewards: of the outcomes.
        parameters: those that the inequality is about.
        bound: its value there.
        exact: the truth there.
    """

    probs: tuple[float, ...]
    rewards: tuple[float, ...]
    parameters: Mapping[str, float]
    bound: float
    exact: float


@dataclass(frozen=True)
class BoundsSweepOutcome:
    """What the sweep found about one inequality.

    Attributes:
        inequality: the entry of the registry.
        violations: problems on the wrong side by more than rounding.
        worst: the least slack relative to the larger of bound and exact value, over all problems;
            rounding may make it slightly negative.
        relative_slack: that ratio at :data:`QUANTILES` of the problems that are not trivial: 0 is
            tight, 1 says nothing about a quantity that is positive, more is vacuous.
        tightest: the problem that is not trivial where the ratio is least.
    """

    inequality: Inequality
    violations: int
    worst: float
    relative_slack: NDArray[np.float64]
    tightest: Example


@dataclass(frozen=True)
class BoundsSweepResults:
    """One outcome per inequality.

    Attributes:
        config: what was asked for.
        outcomes: by name.
    """

    config: BoundsSweepConfig
    outcomes: Mapping[str, BoundsSweepOutcome]

    @property
    def violated(self) -> tuple[str, ...]:
        """Names of the inequalities with a violation, theorem or conjecture."""
        return tuple(name for name, outcome in self.outcomes.items() if outcome.violations)


def run(config: BoundsSweepConfig, key: Array) -> BoundsSweepResults:
    """Draw the problems, evaluate every inequality on each; needs float64 (``jax.enable_x64``).

    Args:
        config: size and tolerances.
        key: typed key; consumed.

    Raises:
        ValueError: without float64.
    """
    require_float64("bounds_sweep")
    problems = _random_problems(key, config.num_problems, config.num_outcomes)
    pairs = _evaluate(problems, config.inequalities, config.batch_size)
    outcomes = {
        inequality.name: _outcome(config, inequality, problems, *map(np.asarray, pair))
        for inequality, pair in zip(config.inequalities, pairs, strict=True)
    }
    return BoundsSweepResults(config, outcomes)


def _random_problems(key: Array, size: int, num_outcomes: int) -> Problem:
    """Problems ``[S]`` over outcomes ``[S, K]``; by NumPy: JAX draws gammas one by one on a CPU."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def log_uniform(low: float, high: float) -> NDArray[np.float64]:
        return 10 ** random.uniform(low, high, size)

    def sometimes(
        share: float, values: NDArray[np.float64], otherwise: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        chosen = random.random((size, *(1,) * (values.ndim - 1))) < share
        return np.where(chosen, values, otherwise)

    # Dirichlet laws, a concentration a each, of gammas as logarithms, so that tiny probabilities
    # are kept: a gamma of a is one of a + 1 times U^(1/a).
    concentration, shape = log_uniform(-1.5, 1.5)[:, None], (size, num_outcomes)
    logits = np.log(random.standard_gamma(concentration + 1, shape))
    logits -= random.standard_exponential(shape) / concentration
    rewards = random.random(shape)
    rewards = sometimes(0.4, np.round(3 * rewards) / 3, rewards)
    n = 1 + log_uniform(-2, 4)
    return Problem.of(
        bt.Policy.from_logits(logits, rewards),
        n=sometimes(0.5, np.round(n), n),
        temperature=log_uniform(-1.7, 1),
        order=sometimes(0.1, np.full(size, np.inf), log_uniform(-1, 1)),
        mean_extra_draws=log_uniform(-2, 2),
        strength=log_uniform(-2, 2),
        ratio=log_uniform(0, 2),
        true_reward=sometimes(0.5, random.random(shape), rewards + 0.2 * random.random(shape)),
    )


@partial(compiled_in_earnest, static_argnames=("inequalities", "batch_size"))
def _evaluate(
    problems: Problem, inequalities: tuple[Inequality, ...], batch_size: int
) -> tuple[tuple[Array, Array], ...]:
    """Bound and exact value ``[S]`` of each inequality."""

    def at(problem: Problem) -> tuple[tuple[Array, Array], ...]:
        exact = {
            quantity: quantity.exact(problem) for quantity in {i.quantity for i in inequalities}
        }
        return tuple((i.bound(problem).value, exact[i.quantity]) for i in inequalities)

    return jax.lax.map(at, problems, batch_size=batch_size)


def _outcome(
    config: BoundsSweepConfig,
    inequality: Inequality,
    problems: Problem,
    bound: NDArray[np.float64],
    exact: NDArray[np.float64],
) -> BoundsSweepOutcome:
    slack = bound - exact if inequality.side == "upper" else exact - bound
    scale = np.maximum(np.abs(bound), np.abs(exact))
    with np.errstate(invalid="ignore"):  # an infinite bound is vacuous, and 0 of 0 is tight
        ratio = np.where(np.isinf(scale), 1.0, np.where(scale > 0, slack / scale, 0.0))
    finite = np.where(np.isinf(scale), 0.0, scale)
    wrong = ~(slack >= -config.relative_tolerance * finite - config.absolute_tolerance)
    telling = np.flatnonzero(scale > config.trivial)
    tightest = int(telling[np.argmin(ratio[telling])])
    return BoundsSweepOutcome(
        inequality,
        violations=int(np.count_nonzero(wrong)),
        worst=float(np.min(ratio[telling])),
        relative_slack=np.quantile(ratio[telling], QUANTILES),
        tightest=_example(
            inequality, problems, tightest, float(bound[tightest]), float(exact[tightest])
        ),
    )


def _example(
    inequality: Inequality, problems: Problem, index: int, bound: float, exact: float
) -> Example:
    law = problems.law
    return Example(
        tuple(np.asarray(law.probs[index]).tolist()),
        tuple(np.asarray(law.rewards[index]).tolist()),
        {
            name: float(values[index])
            for name, values in problems.parameters.items()
            if name in inequality.parameters
        },
        bound,
        exact,
    )
