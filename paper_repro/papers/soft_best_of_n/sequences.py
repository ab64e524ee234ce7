"""Claims on sequences with additive reward: symbol by symbol, or whole sequences at once.

Outcomes are grouped by type: for m coins of reward 0 or 1, a sequence's reward is its number of
ones, so a law over the m + 1 counts is all there is, at any length.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln
from numpy.typing import NDArray

import bon_theory as bt
from paper_repro.papers.claim import DERIVED, Claim, Tolerance, printed
from paper_repro.papers.closed_forms import tie_free_kl
from paper_repro.papers.search import root
from paper_repro.papers.soft_best_of_n.laws import (
    ROUNDING,
    SOFT_CHECK,
    TIED_CHECK,
    TILT_CHECK,
    claim,
    enumerated,
    plain,
    point,
    weights,
)

_SYMBOLWISE = "symbolwise sampling"
_BLOCKWISE = "blockwise sampling"
_CHECKED_BY = (SOFT_CHECK, TIED_CHECK, TILT_CHECK)
_BUDGET = 0.1  # nats of KL(P*‖P)


class Blockwise(NamedTuple):
    """Soft best-of-n among whole sequences; KL divergences of the laws over sequences."""

    kl_from_tilt: float
    kl: float
    tilt_kl: float
    chi_squared: float
    reward: float
    tilt: NDArray[np.float64]


@cache
def blockwise(length: int, n: float, temperature: float, *, padded: int = 33) -> Blockwise:
    """On ``length`` fair coins; KL over counts is KL over sequences, as both see counts alone.

    Lengths below ``padded`` share one compiled program.
    """
    ones = np.arange(padded)
    inside = jnp.asarray(ones <= length)
    found = _counts(jnp.asarray(ones), inside, float(length), float(n), float(temperature))
    return Blockwise(**{key: plain(value) for key, value in found.items()})


@jax.jit
def _counts(
    ones: Array, inside: Array, length: Array, n: Array, temperature: Array
) -> dict[str, Array]:
    k = ones.astype(float)
    # Binomial(m, ½), counts beyond m excluded.
    log_ways = gammaln(length + 1) - gammaln(k + 1) - gammaln(jnp.where(inside, length - k, 0) + 1)
    reference = bt.Policy.from_logits(jnp.where(inside, log_ways, -jnp.inf), k)
    policy = bt.soft_best_of_n(reference, n, temperature)
    tilt = bt.exponential_tilt(reference, temperature)
    return {
        "kl_from_tilt": bt.kl_divergence(tilt, policy),
        "kl": bt.kl_divergence(policy, reference),
        "tilt_kl": bt.kl_divergence(tilt, reference),
        "chi_squared": bt.chi_squared_divergence(tilt, reference),
        "reward": bt.expected_reward(policy),
        "tilt": tilt.probs,
    }


@cache
def samples_blockwise(length: int, temperature: float) -> float:
    """Real n at which KL(P*^m‖P_n) over whole sequences is 0.1."""
    log_n = root(
        lambda s: blockwise(length, math.exp(s), temperature).kl_from_tilt - _BUDGET, 0.0, 100.0
    )
    return math.exp(log_n)


@cache
def samples_symbolwise(length: float, temperature: float) -> float:
    """Real n at which m·KL(P*‖P_n) of one symbol is 0.1."""
    log_n = root(
        lambda s: length * point("coin", math.exp(s), temperature).kl_from_tilt - _BUDGET, 0.0, 30.0
    )
    return math.exp(log_n)


def tilted_coin(temperature: float) -> float:
    """P*(1) = 1/(1 + e^{−1/λ}) for a fair coin."""
    return 1 / (1 + math.exp(-1 / temperature))


def coin_divergence(temperature: float) -> float:
    """D = KL(P*‖π) = log 2 − entropy of P*."""
    p = tilted_coin(temperature)
    return math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p)


def _binomial(length: int, p: float) -> NDArray[np.float64]:
    return np.array(
        [math.comb(length, k) * p**k * (1 - p) ** (length - k) for k in range(length + 1)]
    )


def _factorisation_error(length: int, temperature: float) -> float:
    """Largest difference between the tilt over counts and Binomial(m, P*(1))."""
    tilt = blockwise(length, 1.0, temperature).tilt[: length + 1]
    return float(np.abs(tilt - _binomial(length, tilted_coin(temperature))).max())


def _divergence_over_counts(length: int, n: float, temperature: float) -> float:
    """KL between the optimum and symbolwise sampling, over counts of ones."""
    rewards = np.arange(float(length + 1))
    symbol = point("coin", n, temperature)
    optimum, sampled = (
        bt.Policy.from_probs(_binomial(length, float(law[1])), rewards)
        for law in (symbol.tilt, symbol.probs)
    )
    return float(bt.kl_divergence(optimum, sampled))


def _selection_costs(length: int, n: float) -> list[float]:
    """log n − (n−1)/n − KL and KL − 2mg², with g the gain per symbol; λ = 0.5, range R = 1."""
    found = blockwise(length, n, 0.5)
    gain = found.reward / length - 0.5
    return [tie_free_kl(n) - found.kl, found.kl - 2 * length * gain**2]


_SAMPLES = ((8, 1.0), (32, 0.5))
_LENGTHS = (4, 8, 16, 32)
_LONG = (1e6, 1e8)
_LONG_LENGTH = 800
_EXPONENTS = (0.25, 0.5, 0.75, 1.25)  # log n over m·D
_COSTS = ((8, 16.0), (8, 1024.0), (32, 16.0), (32, 1024.0))

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="soft/sequence-optimum",
        where="additive reward",
        provenance=DERIVED,
        statement=(
            "For an additive reward the optimum over sequences is the product of the optima over "
            "symbols. Entries: largest error over the counts of m fair coins."
        ),
        compute=lambda: [_factorisation_error(m, t) for m, t in _SAMPLES],
        expected=(0.0, 0.0),
        tolerance=ROUNDING,
        labels=tuple(f"m={m}, λ={t:g}" for m, t in _SAMPLES),
        figure="sequences",
        test="bon_theory/test_sequence.py::test_blocks_agree_with_all_sequences",
        checked_by=(TILT_CHECK,),
    ),
    claim(
        id="soft/symbolwise-divergence",
        where="symbol by symbol",
        provenance=DERIVED,
        statement="Symbolwise, KL(P*^m‖·) = m·KL(P*‖P_n); eight coins, n = 3.",
        compute=lambda: [_divergence_over_counts(8, 3, t) for t in (0.5, 1.0)],
        expected=tuple(
            8 * float(weights("coin", t).tilt @ np.log(weights("coin", t).tilt / law))
            for t in (0.5, 1.0)
            for law in (np.array(enumerated("coin", 3, t)),)
        ),
        tolerance=ROUNDING,
        labels=("λ=0.5", "λ=1"),
        figure="sequences",
        test="bon_theory/test_sequence.py::test_blocks_agree_with_all_sequences",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/samples-for-a-budget",
        where="symbols or whole sequences",
        provenance=DERIVED,
        statement=(
            "Draws n for KL(P*^m‖·) = 0.1 on m fair coins: n of whole sequences, and n per symbol."
        ),
        compute=lambda: [
            n for case in _SAMPLES for n in (samples_blockwise(*case), samples_symbolwise(*case))
        ],
        expected=(7.914, 2.990, 3.168e6, 7.755),
        tolerance=printed(4),
        labels=tuple(
            f"m={m}, λ={t:g}, {how}" for m, t in _SAMPLES for how in ("blockwise", "symbolwise")
        ),
        figure="sequences",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/blockwise-chi-squared",
        where="whole sequences",
        provenance=DERIVED,
        statement="Over whole sequences χ² is (1 + χ²)^m − 1, exponential in m; λ = 0.5.",
        compute=lambda: [blockwise(m, 1.0, 0.5).chi_squared for m in _LENGTHS],
        expected=tuple(
            math.expm1(m * math.log1p(weights("coin", 0.5).chi_squared)) for m in _LENGTHS
        ),
        tolerance=Tolerance("the power m ≤ 32 of a rounded number", relative=1e-12),
        labels=tuple(f"m={m}" for m in _LENGTHS),
        figure="sequences",
        test="bon_theory/test_sequence_laws.py::test_the_draws_of_whole_sequences_and_their_slope",
        checked_by=(TILT_CHECK,),
    ),
    claim(
        id="soft/blockwise-exponential",
        where="whole sequences",
        provenance=DERIVED,
        statement=(
            "Whole sequences need n ≥ exp(m·D − ε), D = KL(P*‖π), for KL(P*^m‖P_n) ≤ ε: "
            "exponential in the length. Entries: that n at ε = 0.1, λ = 0.5."
        ),
        compute=lambda: [samples_blockwise(m, 0.5) for m in _LENGTHS],
        expected=tuple(math.exp(m * coin_divergence(0.5) - _BUDGET) for m in _LENGTHS),
        kind="inequality",
        relation=">=",
        tolerance=Tolerance("log n is found to 1e-12", relative=1e-10),
        labels=tuple(f"m={m}" for m in _LENGTHS),
        figure="sequences",
        test="bon_theory/test_sequence_laws.py::test_the_draws_of_whole_sequences_and_their_slope",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/symbolwise-samples",
        kind="asymptotic",
        where="symbol by symbol",
        provenance=DERIVED,
        statement=(
            "Symbolwise, KL(P*^m‖·) ≤ ε takes a number of draws per symbol that grows like the "
            "square root of the length, n → √(m·Var_{P*}(w̄)/(2ε)), not like the length, as "
            "n = χ²/(exp(ε/m) − 1) from the bound on KL; ε = 0.1, λ = 0.5."
        ),
        compute=lambda: [samples_symbolwise(m, 0.5) for m in _LONG],
        expected=tuple(math.sqrt(m * weights("coin", 0.5).half_variance / _BUDGET) for m in _LONG),
        tolerance=Tolerance("the next order in 1/n, at n > 1000", relative=5e-3),
        labels=tuple(f"m={m:g}" for m in _LONG),
        figure="sequences",
        test="bon_theory/test_sequence_laws.py::test_the_draws_of_symbols",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/cost-of-gain",
        where="whole sequences",
        provenance=DERIVED,
        statement=(
            "A mean gain g per symbol, by any rule among n sequences, costs "
            "log n − (n−1)/n ≥ KL(P_n‖π) ≥ 2mg²/R². Entries: the two differences, λ = 0.5."
        ),
        compute=lambda: [value for case in _COSTS for value in _selection_costs(*case)],
        expected=(0.0,) * 2 * len(_COSTS),
        kind="inequality",
        relation=">=",
        tolerance=ROUNDING,
        labels=tuple(
            f"m={m}, n={n:g}, {side}" for m, n in _COSTS for side in ("left − KL", "KL − right")
        ),
        figure="sequences",
        test="bon_theory/test_sequence_laws.py::test_a_gain_costs_at_least_its_rate",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/phase-transition",
        kind="asymptotic",
        where="whole sequences",
        provenance=DERIVED,
        statement=(
            "With n = exp(ρm) whole sequences KL(P*^m‖P_n)/m → max(D − ρ, 0): until n reaches "
            "exp(mD) the optimum stays out of reach. m = 800, λ = 0.5."
        ),
        compute=lambda: [
            blockwise(
                _LONG_LENGTH,
                math.exp(share * coin_divergence(0.5) * _LONG_LENGTH),
                0.5,
                padded=_LONG_LENGTH + 1,
            ).kl_from_tilt
            / _LONG_LENGTH
            for share in _EXPONENTS
        ],
        expected=tuple(max(1 - share, 0) * coin_divergence(0.5) for share in _EXPONENTS),
        tolerance=Tolerance("finite length: of the order (log m)/m = 0.008", absolute=0.01),
        labels=tuple(f"ρ={share:g}·D" for share in _EXPONENTS),
        figure="sequences",
        test="bon_theory/test_sequence_laws.py::test_long_sequences_tend_to_the_phase_transition",
        checked_by=_CHECKED_BY,
    ),
)
