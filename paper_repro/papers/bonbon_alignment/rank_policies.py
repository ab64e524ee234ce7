"""Claims on tie-free rank policies: their density ratios, win rates and KL divergences."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import bon_theory as bt
from paper_repro.papers.claim import DERIVED, READ, Claim, Tolerance
from paper_repro.papers.closed_forms import tie_free_kl

_claim = partial(Claim, paper="bonbon_alignment", provenance=READ)

BEST_OF_N_CHECK = "best_of_n on uniform reward"
OPTIMAL_CHECK = "win_rate_optimal on uniform reward"

QUADRATURE = Tolerance(
    "closed form against quadrature in float64: a few hundred units of rounding",
    absolute=1e-13,
    relative=1e-13,
)
LOG_RATIO = Tolerance(
    "log-ratios reach −5000 in the far tail, where a unit in the last place is 9e-13",
    absolute=4e-12,
)

NUMBERS = (1.0, 1.5, 2.0, 4.0, 8.0, 64.0, 1000.0)
STRENGTHS = (0.1, 1.0, 5.0, 50.0)


@cache
def uniform() -> bt.Policy:
    """The tie-free reference; no rank policy depends on which one it is."""
    with jax.ensure_compile_time_eval():  # numbers, also when first asked for under jit
        return bt.Policy.uniform_reward()


def optimal_win_rate(strength: float) -> float:
    """1/(1 − e^{−c}) − 1/c."""
    return 1 / -math.expm1(-strength) - 1 / strength


def optimal_kl(strength: float) -> float:
    """c·WR(c) − log((e^c − 1)/c)."""
    log_normaliser = strength + math.log(-math.expm1(-strength) / strength)
    return strength * optimal_win_rate(strength) - log_normaliser


@jax.jit
def win_rates_and_kls(numbers: Array) -> tuple[Array, Array]:
    """Win rate and KL of best-of-n against the reference, at each n."""
    return _curve(bt.best_of_n, numbers)


@jax.jit
def optimal_curve(strengths: Array) -> tuple[Array, Array]:
    """Win rate and KL of the win-rate-optimal policy, at each c."""
    return _curve(bt.win_rate_optimal, strengths)


def _curve(
    select: Callable[[bt.Policy, Array], bt.Policy], parameters: Array
) -> tuple[Array, Array]:
    def at(parameter: Array) -> tuple[Array, Array]:
        policy = select(uniform(), parameter)
        return bt.win_rate(policy, uniform()), bt.kl_divergence(policy, uniform())

    return jax.vmap(at)(parameters)


@jax.jit
def _tilting_class() -> Array:
    """Largest |log(policy/π) − log h(F)| for best-of-8 and the optimum, on three rewards."""
    deviations = []
    for reference in (uniform(), bt.Policy.gaussian_reward(), bt.Policy.exponential_reward()):
        log_rank, rank = reference.log_cdf, jnp.exp(reference.log_cdf)
        best = bt.log_ratio(bt.best_of_n(reference, 8.0), reference)
        optimal = bt.log_ratio(bt.win_rate_optimal(reference, 5.0), reference)
        log_normaliser = math.log(math.expm1(5.0) / 5.0)
        deviations += [
            jnp.max(jnp.abs(best - (math.log(8.0) + 7.0 * log_rank))),
            jnp.max(jnp.abs(optimal - (5.0 * rank - log_normaliser))),
        ]
    return jnp.stack(deviations)


def _slope() -> Array:
    """The slope dWR/dKL along the optimal frontier, by automatic differentiation."""
    strengths = jnp.asarray(STRENGTHS)
    (_, _), (win_rate_slope, kl_slope) = jax.jvp(
        optimal_curve, (strengths,), (jnp.ones_like(strengths),)
    )
    return win_rate_slope / kl_slope


RIVALS = (
    "best-of-4",
    "worst-of-2",
    "best-of-Poisson, μ=5",
    "soft best-of-8, λ=¼",
    "tilt of a Gaussian reward, λ=1",
    "top quarter",
)


@jax.jit
def _rivals(strength: Array) -> Array:
    """``[6, 5]``: WR(P), KL(P‖π), KL(P‖π_c), WR(π_c), KL(π_c‖π) of each rival P."""
    gaussian = bt.Policy.gaussian_reward()
    cut = bt.Policy.from_quantile(lambda u: u, breaks=(0.75,))
    rivals = (
        (bt.best_of_n(uniform(), 4.0), uniform()),
        (bt.worst_of_n(uniform(), 2.0), uniform()),
        (bt.best_of_poisson(uniform(), 5.0), uniform()),
        (bt.soft_best_of_n(uniform(), 8.0, 0.25), uniform()),
        (bt.exponential_tilt(gaussian, 1.0), gaussian),
        (bt.top_fraction(cut, 0.25), cut),
    )
    rows = []
    for policy, reference in rivals:
        optimal = bt.win_rate_optimal(reference, strength)
        rows.append(
            [
                bt.win_rate(policy, reference),
                bt.kl_divergence(policy, reference),
                bt.kl_divergence(policy, optimal),
                bt.win_rate(optimal, reference),
                bt.kl_divergence(optimal, reference),
            ]
        )
    return jnp.array(rows)


@cache
def rivals() -> np.ndarray:
    """Policies that the optimum must beat at equal KL; columns as in ``_rivals``, at c = 5."""
    return np.asarray(_rivals(jnp.asarray(5.0)))


def _optimality_identity() -> np.ndarray:
    """KL(P‖π_c) + KL(π_c‖π) − KL(P‖π) − c·(WR(π_c) − WR(P)) at c = 5, for each rival P."""
    win_rate, kl, kl_from_optimal, optimal_win_rate, optimal_kl = rivals().T
    return kl_from_optimal + optimal_kl - kl - 5.0 * (optimal_win_rate - win_rate)


@jax.jit
def _best_of_n_as_rlhf() -> Array:
    """KL between best-of-n and the tilt of the reward log F at λ = 1/(n − 1), n = 2, 8, 64."""
    log_rank = bt.Policy.from_quantile(jnp.log)
    numbers = jnp.array([2.0, 8.0, 64.0])
    return jax.vmap(
        lambda n: bt.kl_divergence(
            bt.best_of_n(log_rank, n), bt.exponential_tilt(log_rank, 1 / (n - 1))
        )
    )(numbers)


@jax.jit
def _optimum_as_rlhf() -> Array:
    """KL between the optimum and the tilt of the reward F at λ = 1/c, c = 1, 5, 20."""
    strengths = jnp.array([1.0, 5.0, 20.0])
    return jax.vmap(
        lambda c: bt.kl_divergence(
            bt.win_rate_optimal(uniform(), c), bt.exponential_tilt(uniform(), 1 / c)
        )
    )(strengths)


@jax.jit
def _zero_truncated_poisson() -> Array:
    """Largest |Σ_k Pr(N=k)·best-of-k − optimum| on a law with ties, N zero-truncated Poisson(5)."""
    reference = bt.Policy.from_probs(
        np.array([0.3, 0.1, 0.25, 0.15, 0.2]), np.array([0.0, 1.0, 0.5, 1.0, 0.0])
    )
    counts = jnp.arange(1.0, 61.0)
    log_mass = counts * math.log(5.0) - jax.lax.lgamma(counts + 1) - math.log(math.expm1(5.0))
    best = jax.vmap(lambda k: bt.best_of_n(reference, k).probs)(counts)
    mixture = jnp.sum(jnp.exp(log_mass)[:, None] * best, axis=0)
    return jnp.max(jnp.abs(mixture - bt.win_rate_optimal(reference, 5.0).probs))


@jax.jit
def _gaussian_tilt_win_rate() -> Array:
    gaussian = bt.Policy.gaussian_reward()
    temperatures = jnp.array([2.0, 1.0, 0.5])
    return jax.vmap(lambda t: bt.win_rate(bt.exponential_tilt(gaussian, t), gaussian))(temperatures)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="bonbon/tilting-class",
        where="§3.1, eqs. 3.1–3.5, p. 5",
        statement=(
            "Aligned policies of the class are π(y)·f(F(r(y))): for best-of-n f(u) = n·uⁿ⁻¹, for "
            "the win-rate optimum f(u) ∝ eᶜᵘ, whatever the reward. Entries: largest error of log f "
            "over all ranks."
        ),
        compute=_tilting_class,
        expected=(0.0,) * 6,
        tolerance=LOG_RATIO,
        labels=tuple(
            f"{policy}, {reward} reward"
            for reward in ("uniform", "Gaussian", "exponential")
            for policy in ("best-of-8", "optimum c=5")
        ),
        figure="families",
        test="bon_theory/test_selection_continuous.py::test_rank_selections_equal_quadrature",
        checked_by=(BEST_OF_N_CHECK, "best_of_n on Gaussian reward", OPTIMAL_CHECK),
    ),
    _claim(
        id="bonbon/best-of-n-win-rate",
        where="Theorem 2, p. 6",
        statement="Without ties, best-of-n wins against the reference with probability n/(n+1).",
        compute=lambda: win_rates_and_kls(jnp.asarray(NUMBERS))[0],
        expected=tuple(n / (n + 1) for n in NUMBERS),
        tolerance=QUADRATURE,
        labels=tuple(f"n={n:g}" for n in NUMBERS),
        figure="win_rate_frontier",
        test="bon_theory/test_selection_continuous.py::test_closed_forms_of_best_of_n",
        checked_by=(BEST_OF_N_CHECK,),
    ),
    _claim(
        id="bonbon/best-of-n-kl",
        where="Theorem 2, p. 6",
        statement="Without ties, KL(best-of-n ‖ reference) = log n − (n−1)/n.",
        compute=lambda: win_rates_and_kls(jnp.asarray(NUMBERS))[1],
        expected=tuple(tie_free_kl(n) for n in NUMBERS),
        tolerance=QUADRATURE,
        labels=tuple(f"n={n:g}" for n in NUMBERS),
        figure="win_rate_frontier",
        test="bon_theory/test_selection_continuous.py::test_closed_forms_of_best_of_n",
        checked_by=(BEST_OF_N_CHECK,),
    ),
    _claim(
        id="bonbon/optimal-win-rate",
        where="Theorem 1, eq. 3.6, p. 5; Appendix A, Lemma 5",
        statement="The optimal policy π·eᶜᶠ/Z (F the reward's CDF) wins with probability "
        "1/(1−e⁻ᶜ) − 1/c.",
        compute=lambda: optimal_curve(jnp.asarray(STRENGTHS))[0],
        expected=tuple(optimal_win_rate(c) for c in STRENGTHS),
        tolerance=QUADRATURE,
        labels=tuple(f"c={c:g}" for c in STRENGTHS),
        figure="win_rate_frontier",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=(OPTIMAL_CHECK,),
    ),
    _claim(
        id="bonbon/optimal-kl",
        where="Theorem 1, eq. 3.7, p. 5; Appendix A, Lemma 5",
        statement="Its KL divergence is c·WR(c) − log((eᶜ−1)/c).",
        compute=lambda: optimal_curve(jnp.asarray(STRENGTHS))[1],
        expected=tuple(optimal_kl(c) for c in STRENGTHS),
        tolerance=QUADRATURE,
        labels=tuple(f"c={c:g}" for c in STRENGTHS),
        figure="win_rate_frontier",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=(OPTIMAL_CHECK,),
    ),
    _claim(
        id="bonbon/optimality",
        where="Theorem 1, p. 5",
        statement=(
            "No policy has a higher win rate at the same KL. Entries: the residual of "
            "c·(WR(π_c) − WR(P)) = KL(P‖π_c) + KL(π_c‖π) − KL(P‖π), which proves it, at c = 5 for "
            "six policies P."
        ),
        compute=_optimality_identity,
        expected=(0.0,) * len(RIVALS),
        tolerance=Tolerance(
            "quadrature in float64; the density of the top quarter jumps at a panel's end, where "
            "nodes crowd",
            absolute=1e-12,
        ),
        labels=RIVALS,
        figure="families",
        test="bon_theory/test_inequalities.py::test_nothing_wins_more_at_its_divergence",
        checked_by=(OPTIMAL_CHECK, "best_of_poisson on uniform reward"),
    ),
    _claim(
        id="bonbon/frontier-slope",
        where="beside Figure 2, left",
        provenance=DERIVED,
        statement="Along the optimal frontier dWR/dKL = 1/c (by automatic differentiation).",
        compute=_slope,
        expected=tuple(1 / c for c in STRENGTHS),
        tolerance=Tolerance(
            "both derivatives in float64; that of the KL, c/12 at c = 0.1, loses two digits",
            relative=1e-11,
        ),
        labels=tuple(f"c={c:g}" for c in STRENGTHS),
        figure="win_rate_frontier",
        test="bon_theory/test_frontier.py::test_the_slope_of_the_frontier_is_the_temperature",
        checked_by=(OPTIMAL_CHECK,),
    ),
    _claim(
        id="bonbon/best-of-n-is-rlhf",
        where="beside §3.1, the class of tiltings",
        provenance=DERIVED,
        statement=(
            "Best-of-n is the KL-regularised optimum for the reward log F(r) at β = 1/(n−1). "
            "Entries: KL between the two."
        ),
        compute=_best_of_n_as_rlhf,
        expected=(0.0, 0.0, 0.0),
        tolerance=QUADRATURE,
        labels=("n=2", "n=8", "n=64"),
        test="bon_theory/test_selection_continuous.py::test_rank_selections_equal_quadrature",
        checked_by=(BEST_OF_N_CHECK, "exponential_tilt on uniform reward"),
    ),
    _claim(
        id="bonbon/optimum-is-rlhf",
        where="beside Theorem 1",
        provenance=DERIVED,
        statement=(
            "The win-rate optimum is the KL-regularised optimum for the reward F(r) at β = 1/c. "
            "Entries: KL between the two."
        ),
        compute=_optimum_as_rlhf,
        expected=(0.0, 0.0, 0.0),
        tolerance=QUADRATURE,
        labels=("c=1", "c=5", "c=20"),
        test="bon_theory/test_frontier.py::test_without_ties_it_is_the_printed_win_rate_optimum",
        checked_by=(OPTIMAL_CHECK, "exponential_tilt on uniform reward"),
    ),
    _claim(
        id="bonbon/reward-matters-for-rlhf",
        where="beside §3.1, the class of tiltings",
        provenance=DERIVED,
        statement=(
            "With the raw reward instead, RLHF's win rate depends on the reward's law: for a "
            "Gaussian reward it is Φ(1/(β√2))."
        ),
        compute=_gaussian_tilt_win_rate,
        expected=tuple((1 + math.erf(1 / (2 * b))) / 2 for b in (2.0, 1.0, 0.5)),
        tolerance=QUADRATURE,
        labels=("β=2", "β=1", "β=½"),
        figure="families",
        test="bon_theory/test_selection_continuous.py::test_rank_functionals_do_not_depend_on_the_reward_distribution",
    ),
    _claim(
        id="bonbon/zero-truncated-poisson",
        where="beside Theorem 1",
        provenance=DERIVED,
        statement=(
            "The win-rate optimum is best-of-N with N zero-truncated Poisson(c), ties included. "
            "Entry: largest difference between the probabilities, c = 5."
        ),
        compute=_zero_truncated_poisson,
        expected=0.0,
        tolerance=QUADRATURE,
        test="bon_theory/test_invariances.py::test_win_rate_optimal_mixes_best_of_a_positive_poisson_number",
        checked_by=("win_rate_optimal on tied rewards", "best_of_n on tied rewards"),
    ),
)
