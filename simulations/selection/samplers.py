"""The selections as real processes, under the names of the laws they are to be checked against.

Each function draws candidates from a reference, scores them and selects, by one of the four
processes of :mod:`simulations.selection.races`; the formulas under test are not used. What is drawn
from may also be the blocks of a sequence, see :mod:`simulations.draws.chains`.

What is not exact: probabilities are multiples of 2⁻³² (see ``DiscreteReference.drawn_probs``); soft
scores and acceptance probabilities are float32, which moves log-weights by about 2⁻²⁴·max(1, r/λ).
For r/λ up to 100 that is 6e-6, a relative entropy of at most 1e-11, and a check begins to see
S·KL ≈ 20: far more trials than there are. Selection by rank is integer arithmetic throughout.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax import Array
from numpy.typing import NDArray

import bon_theory as bt
from simulations.draws.references import ContinuousReference, DiscreteReference, Reference
from simulations.selection import scores
from simulations.selection.order_statistics import PlaceRace
from simulations.selection.pessimism import PessimisticRejection
from simulations.selection.races import (
    CandidateCount,
    OrderRace,
    RankRace,
    Score,
    ScoredRace,
    SwapRace,
)
from simulations.selection.rejection import Rejection
from simulations.tools.arguments import integer_within, positive_float

_SMALLEST_ACCEPTANCE = 1e-4
_MOST_PLACES = 64  # are remembered in order, by as many comparisons a draw
_LARGEST_BLOCK = 16
_TABLE = 16  # thresholds of a random number, or a multiple
_NODES_A_UNIT = 64  # of log-odds, by which laws of ranks are accurate to 1e-5
_LARGEST_MEAN = 1e6  # of a random number of candidates, which is looked up in a table
_LARGEST_SCORE, _LARGEST_TOTAL = 1e38, 2.0**24  # in float32; of the rewards of a block
_LARGEST_LOG_WAIT = 80.0  # e⁸⁰ times the shortest mean wait still is a float32

Ordered = DiscreteReference | ContinuousReference


# Selection among n candidates.


def best_of_n(reference: Ordered, n: int, *, shared: bool = False) -> RankRace | ScoredRace:
    """Draw n candidates, keep one with the highest reward, uniformly among ties.

    With ``shared``, the candidates are those that a race of noisy scores draws from the same key,
    so that both can be compared trial by trial; the earliest of tied candidates is kept, whose law
    is the same. Without, both words of a counter are candidates, which is several times faster.

    Example:
        >>> from simulations.draws.references import discrete_reference
        >>> race = best_of_n(discrete_reference([0.5, 0.5], [0.0, 1.0]), n=8)
        >>> race(jnp.uint32([0, 7]), jnp.arange(5, dtype=jnp.uint32)) >= 2**31
        Array([ True,  True,  True,  True,  True], dtype=bool)
    """
    if shared:
        return ScoredRace(reference.unordered(), _fixed(n), jnp.float32(1), scores.reward)
    return _by_reward(reference, _fixed(n))


def worst_of_n(reference: Ordered, n: int) -> RankRace | ScoredRace:
    """Draw n candidates, keep one with the lowest reward, uniformly among ties."""
    return _by_reward(reference, _fixed(n), lowest=True)


def kth_best_of_n(reference: Ordered, n: int, k: int) -> PlaceRace:
    """Draw n candidates, keep the k-th in order of reward, those of one reward as they came.

    Example:
        >>> from simulations.draws.references import discrete_reference
        >>> race = kth_best_of_n(discrete_reference([0.5, 0.5], [0.0, 1.0]), n=40, k=2)
        >>> race(jnp.uint32([0, 7]), jnp.arange(3, dtype=jnp.uint32)) >= 2**31
        Array([ True,  True,  True], dtype=bool)
    """
    return _places(reference, n, k, shared=False)


def top_k_of_n(reference: Ordered, n: int, k: int) -> PlaceRace:
    """Draw n candidates, keep any one of the k best."""
    return _places(reference, n, k, shared=True)


def soft_best_of_n(reference: Ordered, n: int, temperature: float) -> ScoredRace:
    """Draw n candidates, keep argmax r_i/λ + Gumbel_i, that is Pr(i) ∝ e^{r_i/λ}."""
    return _race(reference, _fixed(n), temperature, scores.with_gumbel)


def exponential_clocks(reference: Ordered, n: int, temperature: float) -> ScoredRace:
    """Soft best-of-n again: candidate i rings after an exponential time of rate e^{r_i/λ}.

    The first to ring is kept. The same law as :func:`soft_best_of_n` by other arithmetic: waits
    E_i e^{(r_max − r_i)/λ}, whose range must fit float32.

    Raises:
        ValueError: where rewards that can be drawn span more than 80 λ.
    """
    temperature = positive_float("temperature", temperature)
    if not isinstance(reference, Ordered):
        raise ValueError("reference must be one of rewards, got blocks: use soft_best_of_n")
    lowest, highest = _extremes(reference)
    smallest = (highest - lowest) / _LARGEST_LOG_WAIT
    if temperature < smallest:
        raise ValueError(
            f"temperature must be at least {smallest:.3g} for rewards from {lowest:g} to "
            f"{highest:g}, got {temperature}: use soft_best_of_n"
        )
    parameter = jnp.stack([_inverse(temperature, reference), jnp.float32(highest)])
    return ScoredRace(reference.unordered(), _fixed(n), parameter, scores.earliness)


def exponential_race(reference: Ordered, n: int, temperature: float) -> ScoredRace:
    """Draw n candidates, keep argmax r_i/λ + Exp(1)_i."""
    return _race(reference, _fixed(n), temperature, scores.with_exponential)


def noisy_best_of_n(
    reference: Ordered, n: int, scale: float, *, noise: str = "gaussian"
) -> ScoredRace:
    """Draw n candidates, keep argmax r_i/σ + ε_i, as a judge who errs does.

    ``noise`` is one of gaussian, student_t2, gumbel and exponential.
    """
    if noise not in scores.NOISY:
        raise ValueError(f"noise must be one of {', '.join(scores.NOISY)}, got {noise!r}")
    return _race(reference, _fixed(n), scale, scores.NOISY[noise], name="scale")


def best_in_order(reference: Ordered, n: int, rule: bt.OrderMixture) -> OrderRace:
    """Draw an order of the rewards and n candidates; keep the one whose reward is first in it.

    The outcomes of ``rule`` are the rewards that can be drawn, ascending. Of candidates with one
    reward the earliest is kept.

    Raises:
        ValueError: where the rule has not as many outcomes as the reference has levels.
    """
    levels, _ = _levels(reference)
    places = np.asarray(rule.places)
    if places.shape[-1] != levels.size:
        raise ValueError(
            f"rule must order the {levels.size} levels of the reward, got orders of "
            f"{places.shape[-1]} outcomes: make it with mixture_of_orders on these levels"
        )
    edges = np.rint(np.cumsum(np.asarray(rule.weights, np.float64))[:-1] * 2**32)
    thresholds = np.minimum(edges, 2**32 - 1).astype(np.uint32)
    return OrderRace(
        reference.unordered(),
        _fixed(n),
        jnp.asarray(thresholds),
        jnp.asarray(levels, jnp.float32),
        jnp.asarray(places, jnp.float32),
    )


def nearest_reachable(reference: Ordered, n: int, temperature: float) -> OrderRace | SwapRace:
    """Draw n candidates, keep one by the rule that comes nearest to the exponential tilt.

    Of discrete rewards the one that comes first in an order that is drawn, of continuous ones that
    of the highest rank after :func:`swapped_ranks`. Everything random is simulated; which orders,
    and how often each, is computed from the reference's levels of reward.

    Example:
        >>> from simulations.draws.references import discrete_reference
        >>> race = nearest_reachable(discrete_reference([0.5, 0.5], [0.0, 1.0]), 4, temperature=1.0)
        >>> race.places.tolist()  # mostly the higher reward first, sometimes the lower one
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if isinstance(reference, ContinuousReference):
        return swapped_ranks(reference, n, temperature)
    temperature = positive_float("temperature", temperature)
    levels, weights = _levels(reference)
    with jax.enable_x64(True):
        drawn = bt.Policy.from_probs(weights / weights.sum(), levels)
        target = bt.exponential_tilt(drawn, temperature)
        rule = bt.mixture_of_orders(bt.nearest_reachable(target, drawn, n), drawn, n)
    return best_in_order(reference, n, rule)


def swapped_ranks(reference: Ordered, n: int, temperature: float) -> SwapRace:
    """The law of :func:`nearest_reachable` by another rule: ranks swap, the highest is kept.

    Each of n candidates takes its partner's rank, or keeps its own, by a coin of its own. Partners
    and chances are computed from the reference, and looked up for every candidate.

    Example:
        >>> from simulations.draws.references import uniform_reward
        >>> race = swapped_ranks(uniform_reward(), 5, temperature=0.25)  # samples the tilt exactly
        >>> race(jnp.uint32([0, 7]), jnp.arange(3, dtype=jnp.uint32)) >= 2**31
        Array([ True,  True,  True], dtype=bool)
    """
    if not isinstance(reference, Ordered):
        raise ValueError("reference must be one of rewards, got blocks: use nearest_reachable")
    temperature = positive_float("temperature", temperature)
    number = integer_within("n", n, at_most=2**31 - 1, remedy="candidates are counted")
    with jax.enable_x64(True):
        rule = _nearest_rule(_law(reference), jnp.float64(number), jnp.float64(temperature))
        rule = jax.tree.map(lambda x: x.astype(jnp.float32), rule)
    return SwapRace(reference, jnp.int32(number), rule)


# Selection among a random number of candidates.


def best_of_poisson(reference: Ordered, mean_extra_draws: float) -> RankRace | ScoredRace:
    """Best of N = 1 + Poisson(μ) candidates."""
    return _by_reward(reference, _one_plus_poisson(mean_extra_draws))


def soft_best_of_poisson(
    reference: Ordered, mean_extra_draws: float, temperature: float
) -> ScoredRace:
    """Soft best of N = 1 + Poisson(μ) candidates."""
    return _race(reference, _one_plus_poisson(mean_extra_draws), temperature, scores.with_gumbel)


def win_rate_optimal(reference: Ordered, strength: float) -> RankRace | ScoredRace:
    """Best of N candidates, N ~ Poisson(c) given N ≥ 1, which is the win-rate-optimal policy."""
    strength = positive_float("strength", strength)
    sizes = np.arange(1, _poisson_range(strength))
    cdf = 1 - scipy.special.pdtrc(sizes, strength) / -math.expm1(-strength)
    return _by_reward(reference, _random_count(cdf))


def best_of_n_stopped(reference: Ordered, threshold: float, n_max: int) -> ScoredRace:
    """Draw until a rank, uniform within its tie, is at least a; of n_max below it keep the best.

    What is drawn after the first of such a rank is not looked at.
    """
    if not 0 <= threshold < 1:
        raise ValueError(
            f"threshold must be a rank in [0, 1), got {threshold}: use best_of_n for 1"
        )
    count = _fixed(n_max)
    if isinstance(reference, ContinuousReference):
        rank = jnp.uint32(round(threshold * 2**32))
        return ScoredRace(reference, count, rank, scores.reward_up_to_rank)
    return ScoredRace(
        reference.unordered(),
        count,
        _level_and_share(reference, 1 - threshold),
        scores.reward_up_to_level,
    )


# Selection by rejection.


def top_fraction(reference: Ordered, fraction: float) -> Rejection:
    """Draw until a candidate's rank, uniform within its tie, is among the top q."""
    fraction = positive_float("fraction", fraction)
    if not _SMALLEST_ACCEPTANCE <= fraction <= 1:
        raise ValueError(
            f"fraction must be in [{_SMALLEST_ACCEPTANCE}, 1], got {fraction}: "
            "what is rarer takes too many draws"
        )
    if isinstance(reference, Ordered):
        return Rejection(reference, jnp.uint32(round((1 - fraction) * 2**32)), scores.accept_rank)
    return Rejection(reference, _level_and_share(reference, fraction), scores.accept_level)


def exponential_tilt(reference: Ordered, temperature: float) -> Rejection:
    """Draw until one is accepted, with probability e^{(r − r_max)/λ}."""
    temperature = positive_float("temperature", temperature)
    rewards, weights = reference.reward_grid()
    accepted = np.exp((rewards - float(reference.max_reward)) / temperature)
    _check_acceptance(float(weights @ accepted), reference)
    return _tilting(reference, temperature, float(reference.max_reward))


def nearest_in_mean_draws(reference: Ordered, mean_draws: float, temperature: float) -> Rejection:
    """Draw until one is accepted, with probability min(e^{(r − s)/λ}, 1), c draws on average.

    The nearest law to the exponential tilt that so many draws can have. The rule is given the cap
    s, at which a fraction 1/c is accepted, computed from the reference; where more draws than the
    tilt itself takes are allowed, s is the highest reward and fewer are made.

    Example:
        >>> from simulations.draws.references import discrete_reference
        >>> rule = nearest_in_mean_draws(discrete_reference([0.5, 0.5], [0.0, 1.0]), 1.6, 0.5)
        >>> rule.num_draws(jnp.uint32([0, 7]), jnp.arange(8, dtype=jnp.uint32)).tolist()
        [1, 2, 1, 1, 1, 2, 3, 1]
    """
    temperature = positive_float("temperature", temperature)
    if not mean_draws >= 1:
        raise ValueError(f"mean_draws must be at least 1, got {mean_draws}: one is needed")
    rewards, weights = reference.reward_grid()
    highest, lowest = float(reference.max_reward), float(rewards.min())

    def to_spare(cap: float) -> float:
        return (
            float(weights @ np.exp(np.minimum((rewards - cap) / temperature, 0))) - 1 / mean_draws
        )

    if highest == math.inf:  # there at most 1/c is accepted
        highest = float(rewards.max()) + temperature * math.log(mean_draws)
    cap = highest
    if to_spare(highest) < 0:
        cap = scipy.optimize.root_scalar(to_spare, bracket=(lowest, highest)).root
    _check_acceptance(to_spare(cap) + 1 / mean_draws, reference)
    return _tilting(reference, temperature, cap)


def chi_squared_tilt(reference: Ordered, strength: float) -> Rejection:
    """Draw until one is accepted, with probability (r − ν)₊/(r_max − ν), E_π(r − ν)₊ = β.

    Candidates and acceptance are simulated; the rule is given ν and r_max, computed from the
    reference. :func:`inference_time_pessimism` has to estimate ν, as whoever runs it does.
    """
    strength = positive_float("strength", strength)
    rewards, weights = (values[::-1] for values in reference.reward_grid())
    # E(r − ν)₊ ≥ E(r − ν) over the k highest rewards, with equality where these are the r > ν.
    nu = float(np.max((np.cumsum(weights * rewards) - strength) / np.cumsum(weights)))
    _check_acceptance(strength / (float(reference.max_reward) - nu), reference)
    return Rejection(reference.unordered(), jnp.float32(nu), scores.accept_chi_squared)


def inference_time_pessimism(reference: Ordered, n: int, strength: float) -> PessimisticRejection:
    """The χ² rule with its normaliser estimated from n draws, and fresh draws until one is kept.

    Tends to :func:`chi_squared_tilt` for many draws; the rule is given r_max only.

    Example:
        >>> import jax
        >>> from simulations.engine.simulate import simulate
        >>> from simulations.draws.references import discrete_reference
        >>> coin = discrete_reference([0.5, 0.5], [0.0, 1.0])
        >>> race = inference_time_pessimism(coin, 1, 0.25)  # one draw r: keeps what is above r − β
        >>> counts = simulate(jax.random.key(0), race, num_trials=10_000).counts
        >>> round(float(counts[0]) / 10_000, 2)  # after a 0, 1 is kept with odds of 1.25 to 0.25
        0.08
    """
    strength = positive_float("strength", strength)
    if not float(reference.max_reward) < math.inf:
        raise ValueError("reference must have a largest reward, got none: use a bounded reward")
    draws = integer_within("n", n, at_most=2**31 - 1, remedy="draws are counted")
    return PessimisticRejection(reference.unordered(), jnp.int32(draws), jnp.float32(strength))


# Construction.


def _places(reference: Ordered, n: int, k: int, *, shared: bool) -> PlaceRace:
    number = integer_within("n", n, at_most=2**31 - 1, remedy="candidates are counted")
    place = integer_within(
        "k", k, at_most=min(number, _MOST_PLACES), remedy="k of the n candidates are remembered"
    )
    return PlaceRace(reference.unordered(), jnp.int32(number), place, shared)


def _level_and_share(reference: Reference, fraction: float) -> Array:
    """The level at which the top fraction is full, and the share of it that belongs to it."""
    rewards, weights = reference.reward_grid()
    levels, place = np.unique(rewards, return_inverse=True)
    masses = np.bincount(place, weights)
    above = np.append(np.cumsum(masses[::-1])[-2::-1], 0.0)
    level = int(np.argmax(above < fraction))
    share = (fraction - above[level]) / masses[level]
    return jnp.float32([levels[level], share])


def _levels(reference: Ordered) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rewards that can be drawn, ascending, and their probabilities."""
    if isinstance(reference, ContinuousReference):
        raise ValueError(
            "reference must be discrete for a rule that orders rewards, got a continuous one: "
            "discretise it"
        )
    levels, place = np.unique(reference.reward_grid()[0], return_inverse=True)
    return levels, np.bincount(place, reference.reward_grid()[1]).astype(np.float64)


def _law(reference: Ordered) -> bt.Policy:
    """The reward's law, its rank that of the words."""
    if isinstance(reference, DiscreteReference):
        levels, weights = _levels(reference)
        return bt.Policy.from_probs(weights / weights.sum(), levels)

    # Single precision, in steps that the law must not take for atoms: straight between nodes.
    log_odds = np.linspace(-23, 23, 46 * _NODES_A_UNIT + 1)  # as far as there are words
    ranks = jnp.float32(scipy.special.expit([log_odds, -log_odds]))
    rewards = np.maximum.accumulate(np.asarray(reference.quantile(*ranks), np.float64))
    return bt.Policy.from_quantile(
        lambda u: jnp.interp(jnp.log(u) - jnp.log1p(-u), log_odds, rewards),
        lambda s: jnp.interp(jnp.log1p(-s) - jnp.log(s), log_odds, rewards),
        num_nodes=160 * _NODES_A_UNIT + 1,
    )


@partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # it runs but once
def _nearest_rule(drawn: bt.Policy, n: Array, temperature: Array) -> bt.SwappedRanks:
    target = bt.exponential_tilt(drawn, temperature)
    return bt.swapped_ranks(bt.nearest_reachable(target, drawn, n), drawn, n)


def _by_reward(
    reference: Ordered, count: CandidateCount, *, lowest: bool = False
) -> RankRace | ScoredRace:
    """The highest reward, or the lowest: by raw words where these are in its order."""
    if isinstance(reference, Ordered):
        return RankRace(reference, count, lowest)
    return ScoredRace(reference, count, jnp.float32(-1 if lowest else 1), scores.reward)


def _race(
    reference: Ordered,
    count: CandidateCount,
    temperature: float,
    score: Score,
    name: str = "temperature",
) -> ScoredRace:
    inverse = _inverse(temperature, reference, name)
    return ScoredRace(reference.unordered(), count, inverse, score)


def _tilting(reference: Ordered, temperature: float, cap: float) -> Rejection:
    parameter = jnp.stack([_inverse(temperature, reference), jnp.float32(cap)])
    return Rejection(reference.unordered(), parameter, scores.accept_tilt)


def _inverse(temperature: float, reference: Ordered, name: str = "temperature") -> Array:
    """1/λ, by which no reward becomes an infinite score: those tie, and 0·∞ loses to everything."""
    temperature = positive_float(name, temperature)
    rewards = np.abs(_extremes(reference) if isinstance(reference, Ordered) else _LARGEST_TOTAL)
    smallest = float(np.max(rewards, initial=1, where=np.isfinite(rewards))) / _LARGEST_SCORE
    if temperature < smallest:
        raise ValueError(
            f"{name} must be at least {smallest:.3g} for scores that fit float32, "
            f"got {temperature}: raise it, or use best_of_n"
        )
    return jnp.float32(1 / temperature)


def _extremes(reference: Ordered) -> NDArray[np.float32]:
    """Lowest and highest reward that can be drawn."""
    return np.asarray(_rewards(reference, np.array([0, 2**32 - 1], np.uint32)))


@jax.jit
def _rewards(reference: Ordered, words: Array) -> Array:
    """One program, where the quantile function is dozens."""
    return reference.reward(words)


def _fixed(n: int) -> CandidateCount:
    n = integer_within("n", n, at_most=2**31 - 1, remedy="candidates are counted")
    return CandidateCount(jnp.int32(n), jnp.zeros(0, jnp.uint32), _block(n))


def _one_plus_poisson(mean_extra_draws: float) -> CandidateCount:
    mean_extra_draws = positive_float("mean_extra_draws", mean_extra_draws)
    return _random_count(
        scipy.special.pdtr(np.arange(_poisson_range(mean_extra_draws)), mean_extra_draws)
    )


def _random_count(cdf: np.ndarray) -> CandidateCount:
    """P(N ≤ 1), P(N ≤ 2), … as words; rounding to 2⁻³² cuts the far tail off.

    Numbers below 1, of probability 0, fill the table up, so that similar laws share a program.
    """
    edges = np.rint(cdf * 2**32)
    edges = edges[edges < 2**32]
    spare = -len(edges) % _TABLE
    thresholds = jnp.asarray(np.pad(edges, (spare, 0)).astype(np.uint32))
    return CandidateCount(jnp.int32(1 - spare), thresholds, _block(len(edges)))


def _block(num_candidates: int) -> int:
    """The power of two that does not waste half a block on a small number."""
    return min(_LARGEST_BLOCK, 1 << max(1, num_candidates - 1).bit_length())


def _poisson_range(mean: float) -> int:
    if mean > _LARGEST_MEAN:
        raise ValueError(
            f"a Poisson number of candidates must have a mean of at most {_LARGEST_MEAN:g}, got "
            f"{mean:g}: so many are all but a fixed number, best_of_n"
        )
    return int(mean + 12 * math.sqrt(mean) + 30)


def _check_acceptance(rate: float, reference: Reference) -> None:
    if not rate >= _SMALLEST_ACCEPTANCE:
        raise ValueError(
            f"rejection from {type(reference).__name__} with max_reward {reference.max_reward} "
            f"accepts a fraction {rate:.3g} of draws, below {_SMALLEST_ACCEPTANCE}: "
            "raise the temperature or strength, or use a bounded reward"
        )
