"""What the claims on [G] compute themselves: the other reading of its pairs, and ties."""

from fractions import Fraction

import numpy as np
import pytest

import bon_theory as bt
from paper_repro.papers.bonbon_alignment import converged, discrete, independent_pairs
from tests.oracles import alignment as oracle

PROBS, REWARDS = np.array(converged.PROBS), np.array(converged.REWARDS)  # with a tie


def margin(n: int) -> float:
    return (n - 1) * sum(1 / k for k in range(1, n))


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("sft_weight", [0.0, 0.005, 0.6])
def test_independent_pairs_lead_an_optimiser_to_the_minimiser(n: int, sft_weight: float) -> None:
    reference = bt.Policy.from_probs(PROBS, REWARDS)
    found = independent_pairs.minimiser(reference, n, sft_weight)
    levels = np.array([0.3, 0.35, 0.15, 0.2])  # the tie as one level
    above = np.cumsum(levels)
    best = np.diff(np.append(0.0, above) ** n)
    worst = -np.diff((1 - np.append(0.0, above)) ** n)
    within = PROBS / levels[[0, 1, 1, 2, 3]]
    joint = np.outer(best[[0, 1, 1, 2, 3]] * within, worst[[0, 1, 1, 2, 3]] * within)
    fitted, slope = oracle.fit(joint, PROBS, margin(n), sft_weight)
    assert slope < 1e-8
    np.testing.assert_allclose(found.probs, fitted, atol=1e-8)


def test_with_sft_alone_independent_pairs_have_best_of_n_as_their_minimiser() -> None:
    reference = bt.Policy.from_probs(PROBS, REWARDS)
    found = independent_pairs.minimiser(reference, 4, 1 - 1e-6)
    np.testing.assert_allclose(found.probs, bt.best_of_n(reference, 4).probs, atol=1e-5)


def test_on_independent_pairs_two_candidates_fit_the_win_rate_optimum_too() -> None:
    # ρ = u at n = 2, so that h is linear in the rank: the optimum of strength m/E_{f_2} u = 3m/2.
    uniform = bt.Policy.uniform_reward()
    found = independent_pairs.minimiser(uniform, 2, 0.0)
    optimum = bt.win_rate_optimal(uniform, 1.5 * margin(2))
    assert float(bt.kl_divergence(found, optimum)) < 1e-13


def fitted_on_levels(levels: int, n: int, target: float, sft_weight: float) -> tuple[float, float]:
    """Win rate and KL of the least loss on equally likely distinct rewards, pairs of one draw."""
    rank = np.arange(levels + 1) / levels
    above = np.maximum(rank[None, :] - rank[:, None], 0) ** n  # P(min > i-th, max ≤ j-th)
    joint = -np.diff(np.diff(above, axis=0), axis=1).T  # [best, worst]
    law, _ = oracle.fit(joint, np.full(levels, 1 / levels), target, sft_weight)
    middle = (rank[1:] + rank[:-1]) / 2
    return float(law @ middle), float(law @ np.log(law * levels))


@pytest.mark.parametrize(
    ("scale", "place"), [(0.2, (0.86386, 1.10223)), (1, (0.81407, 0.87909)), (5, (0.76013, 0.575))]
)
def test_the_ablated_minimisers_are_least_squares(scale: float, place: tuple[float, float]) -> None:
    coarse, fine = (
        np.array(fitted_on_levels(levels, 8, margin(8) / scale, 0.005)) for levels in (40, 80)
    )
    limit = fine + (fine - coarse) / 3  # levels cost 1/L²
    np.testing.assert_allclose(limit, place, atol=3e-4)


def test_corrections_for_ties_by_exact_sums() -> None:
    laws = discrete._random_laws()
    corrections = discrete._corrections()
    for row in (0, 1, 2):
        probs = [Fraction(float(p)) for p in laws[row] if p]
        total = sum(probs)
        above = [sum(probs[: j + 1]) / total for j in range(len(probs))]
        below = [Fraction(0), *above[:-1]]
        for n in (2, 8):
            best = [b**n - a**n for a, b in zip(below, above, strict=True)]
            won = sum(p * b for p, b in zip(best, above, strict=True)) - Fraction(n, n + 1)
            lost = Fraction(n, n + 1) - sum(p * a for p, a in zip(best, below, strict=True))
            exact = [float(won), float(lost)]
            np.testing.assert_allclose(corrections[f"n={n}"][1:, row], exact, rtol=1e-10)
            assert 0 <= won <= n * sum(p * p for p in probs) >= lost >= 0


def test_a_limit_a_tenth_as_large_is_violated_by_many_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    tenth = {name: (kl / 10, win / 10) for name, (kl, win) in discrete._limits().items()}
    monkeypatch.setattr(discrete, "_limits", lambda: tenth)
    assert sum(discrete._corrections_beyond_their_limits()) > 1000
