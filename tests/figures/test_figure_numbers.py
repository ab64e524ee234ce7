"""Figures: the numbers that they show."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from figures import (
    bonbon,
    hedging,
    language_model,
    reward_frontier,
    sequences,
    ties,
)
from simulations.experiments.language_model import LanguageModelResults
from tests.drawings import SMALL, data, results


def test_equal_kl_gaps_are_the_printed_ones() -> None:
    table, [top] = (
        data("win_rate_frontier")["powers_of_two"],
        [data("win_rate_frontier")["largest_gap"]],
    )
    gaps = dict(zip(table["n"].tolist(), table["gap"], strict=True))
    printed = {2: 9.24015e-3, 4: 3.99589e-3, 8: 7.86168e-4, 64: 1.85856e-6}
    for n, gap in printed.items():
        assert gaps[n] == pytest.approx(gap, rel=1e-5)  # six printed digits
    assert top["gap"][0] == pytest.approx(0.009473, abs=5e-7)
    assert top["n"][0] == pytest.approx(1.778, abs=5e-4)


def test_no_point_of_the_plane_is_above_the_frontier() -> None:
    for name in ("discrete", "uniform"):
        shortfall = data("reward_frontier")[f"{name}/soft_best_of_n"]["shortfall"]
        assert shortfall.min() > -1e-10
        assert shortfall.max() < 0.03
    uniform = data("reward_frontier")["uniform/best_of_n"]
    n = uniform["n"]
    np.testing.assert_allclose(uniform["reward"], n / (n + 1), atol=1e-12)
    np.testing.assert_allclose(uniform["kl"], np.log(n) - (n - 1) / n, atol=1e-12)


def test_no_soft_selection_beats_the_best_rule_of_as_many_draws() -> None:
    """At equal temperature E r - λ KL is larger for the best rule, whatever the number of draws."""
    for name in ("discrete", "uniform"):
        soft, best = (
            data("reward_frontier")[f"{name}/{r}"] for r in ("soft_best_of_n", "any_rule")
        )
        worth = [table["reward"] - table["temperature"] * table["kl"] for table in (soft, best)]
        assert np.all(worth[0] <= worth[1] + 1e-6)  # nodes: see the next test
        assert best["shortfall"].min() > -1e-10
    rates = data("convergence_rate")["rates"]
    for distance in ("kl", "total_variation"):
        assert np.all(rates[f"{distance}_best"] <= rates[distance] + 1e-12)


def test_the_quadrature_of_the_uniform_plane_is_converged() -> None:
    """Twice the nodes move the coldest point, which is the hardest, by less than 1e-6."""
    n = reward_frontier.NUMBERS[-1]
    coldest = reward_frontier.temperatures(n, 2)[-2]

    @jax.jit
    def place(reference: bt.Policy) -> tuple[jax.Array, jax.Array]:
        policy = bt.soft_best_of_n(reference, float(n), coldest)
        return bt.expected_reward(policy), bt.kl_divergence(policy, reference)

    nodes = reward_frontier.NODES
    coarse, fine = (place(bt.Policy.uniform_reward(num_nodes=k)) for k in (nodes, 2 * nodes))
    np.testing.assert_allclose(coarse[0], fine[0], atol=1e-7)
    np.testing.assert_allclose(coarse[1], fine[1], atol=1e-6)


def test_published_bounds_hold_and_the_sharp_asymptotics_are_reached() -> None:
    rates = data("convergence_rate")["rates"]
    for name in ("kl", "reward_gap", "total_variation"):
        assert np.all(rates[name] <= rates[f"{name}_bound"] * (1 + 1e-12))
        assert rates[name][-1] == pytest.approx(rates[f"{name}_sharp"][-1], rel=0.01)
        assert rates[f"{name}_bound"][-1] > 10 * rates[name][-1]


def test_ties_agree_with_powers_of_the_distribution_function() -> None:
    table = data("ties")["over_n"]
    for count in ties.CURVES:
        cdf = np.linspace(0, 1, count + 1)
        law = np.diff(cdf[None, :] ** table["n"][:, None], axis=1)
        kl = np.sum(np.where(law > 0, law * np.log(np.where(law > 0, law * count, 1)), 0), axis=1)
        np.testing.assert_allclose(table[f"kl_{count}"], kl, atol=1e-11)
    outcomes = data("ties")["over_outcomes"]
    assert np.all(outcomes["gap"] <= outcomes["gap_bound"])
    assert np.all(outcomes["estimate_excess"] >= 0)
    assert outcomes["gap"][-1] == pytest.approx(outcomes["gap_sharp"][-1], rel=1e-3)


def test_the_best_rule_is_nearer_than_soft_best_of_n_and_exact_from_its_number_on() -> None:
    uniform, coins = data("reachable")["uniform"], data("reachable")["coins"]
    assert np.all(uniform["best_kl_from_tilt"] <= uniform["soft_kl_from_tilt"] + 1e-12)
    for lam, n in zip(*data("reachable")["exact"].values(), strict=True):
        assert n == pytest.approx(1 / (lam * -np.expm1(-1 / lam)), rel=1e-12)
        exact = (uniform["temperature"] == lam) & (uniform["n"] > n)
        assert np.all(uniform["best_kl_from_tilt"][exact] < 1e-15)
    for name in ("variation", "kl"):
        assert np.all(coins[f"best_{name}"] <= coins[f"soft_{name}"] + 1e-12)
    assert np.all(coins["best_kl"] >= 1 - coins["exponent"] - 1e-9)


def test_stopping_halves_what_best_of_n_loses_at_equal_mean_draws() -> None:
    found = data("budgets")
    mean = found["budget"]["mean_draws"]
    rules = ("best_of_poisson", "best_of_n", "stopped_2", "stopped_4", "top_fraction")
    wins = [found[rule]["win_rate"] for rule in rules]
    for fewer, more in pairwise(wins):
        assert np.all(fewer <= more + 1e-12)
    np.testing.assert_allclose(1 - wins[-1], 1 / (2 * mean), rtol=1e-10)
    # 321 nodes in each of the intervals between jumps, however narrow.
    np.testing.assert_allclose(1 - wins[1], 1 / (mean + 1), rtol=1e-10)
    for limit in (2, 4):
        a, most = found[f"stopped_{limit}"]["threshold"], limit * mean
        missed = a**most
        win = most * a ** (most + 1) / (most + 1) + (1 - missed) * (1 + a) / 2
        np.testing.assert_allclose(found[f"stopped_{limit}"]["win_rate"], win, rtol=1e-11)


@pytest.mark.slow
def test_particles_need_no_look_ahead_and_may_be_too_many() -> None:
    found = data("particles")
    assert found["particles"]["from_optimum"][-1] < 0.05 * found["symbols"]["from_optimum"][-1]
    assert found["particles"]["from_optimum"][-1] < 0.05 * found["whole"]["from_optimum"][-1]
    assert np.all(found["particles"]["from_optimum"] <= found["bound"]["from_optimum"])
    # Of one draw all rules are the reference; the optimum has the best of E r - λ KL.
    first = [found[name]["from_optimum"][0] for name in ("symbols", "whole", "hard", "twisted")]
    np.testing.assert_allclose(first, found["particles"]["from_optimum"][0], rtol=1e-12)
    lam = found.parameters["temperature"]
    [best] = found["optimum"]["reward"] - lam * found["optimum"]["kl"]
    for name in ("symbols", "ahead", "whole", "hard", "particles", "twisted"):
        assert np.all(found[name]["reward"] - lam * found[name]["kl"] <= best + 1e-12)
    turns = dict(zip(*(found["turns"][x].tolist() for x in ("n", "from_optimum")), strict=True))
    assert turns[2] < turns[16] < turns[8]


@pytest.mark.slow
def test_families_keep_their_known_places() -> None:
    top = data("families")["top_fraction"]
    np.testing.assert_allclose(top["kl"], -np.log(top["parameter"]), atol=1e-11)
    np.testing.assert_allclose(top["win_rate"], 1 - top["parameter"] / 2, atol=1e-11)
    for name in ("best_of_n", "best_of_poisson", "soft_best_of_n", "top_fraction"):
        assert data("families")[name]["shortfall"].min() > -1e-10
    np.testing.assert_allclose(data("families")["win_rate_optimal"]["shortfall"], 0, atol=1e-10)


@pytest.mark.slow
def test_bonbon_starts_at_ipo_best_of_n_and_ends_at_best_of_n() -> None:
    found = data("bonbon")
    sweep, by_n = found[f"bonbon_{bonbon.N}"], found["by_n"]
    here = by_n["n"] == bonbon.N
    assert sweep["win_rate"][0] == pytest.approx(by_n["win_rate"][here][0], abs=1e-10)
    assert sweep["win_rate"][-1] == pytest.approx(bonbon.N / (bonbon.N + 1), abs=1e-10)
    # IPO on ordinary pairs follows the optimum at every time.
    np.testing.assert_allclose(found["flow_ipo"]["shortfall"], 0, atol=2e-4)  # 64 levels
    assert found["flow_ipo_best_of_n"]["win_rate"].max() > 0.96  # the flow overshoots


@pytest.mark.slow
def test_softness_pays_beyond_a_fifth_of_the_square() -> None:
    table = data("choosing")["crossings"]
    np.testing.assert_allclose(table["n"] / (table["hard"] ** 2 / 5), 1, atol=0.26)
    advantage = data("choosing")["advantage"]
    assert advantage["share"].max() < 1
    assert advantage["share"][(advantage["hard"] == 8) & (advantage["n"] < 10)] < 0
    temperatures = data("choosing")["temperatures"]
    budgets = dict(
        zip(*(data("choosing")["budgets"][c].tolist() for c in ("kl", "hard_n")), strict=True)
    )
    assert all(n > budgets[kl] for kl, n in zip(temperatures["kl"], temperatures["n"], strict=True))


@pytest.mark.slow
def test_nothing_of_a_hedging_curve_is_above_its_marked_point() -> None:
    for name in hedging.NAMES:
        curve, [top] = data("hedging")[name], data("hedging")[f"{name}/best"]["true_reward"]
        assert curve["true_reward"].max() <= top
    assert "λ = 0.0383" in data("hedging").caption


def test_simulated_points_of_the_readme_lie_on_the_curves() -> None:
    """40 means within five standard errors: false alarm about 40·6e-7, doubled n is 20 off."""
    reference = bt.Policy.from_probs(reward_frontier.PROBS, reward_frontier.REWARDS)
    points = data("readme")["simulated"]

    @jax.jit
    def exact(factor: jax.Array) -> jax.Array:
        n, temperature = jnp.asarray(points["n"]) * factor, jnp.asarray(points["temperature"])
        policy = bt.soft_best_of_n(reference, n, temperature)
        return jnp.stack([bt.expected_reward(policy), bt.kl_divergence(policy, reference)])

    means = np.stack([points["reward"], points["kl"]])
    errors = np.stack([points["reward_error"], points["kl_error"]])
    assert np.abs((means - exact(1.0)) / errors).max() < 5
    assert np.abs((means - exact(2.0)) / errors).max() > 15


def test_the_language_model_figure_averages_over_prompts() -> None:
    comparison = results().known_words.comparison.win_rate
    table = data("language_model")["known_words/win_rate"]
    cell = (table["n"] == 4) & (table["temperature"] == 1.0)
    assert table["measured"][cell] == [np.mean(comparison.measured[1, 1])]
    error = np.sqrt(np.sum(comparison.measured_error[1, 1] ** 2)) / SMALL.num_prompts
    np.testing.assert_allclose(table["measured_error"][cell], error, rtol=1e-14)
    assert "12,345 parameters" in data("language_model").caption


def test_the_language_model_figure_reads_saved_results(tmp_path: Path) -> None:
    results().save(tmp_path / "results.npz")
    again = language_model.data(LanguageModelResults.load(tmp_path / "results.npz"))
    assert again.caption == data("language_model").caption
    for name, table in data("language_model").tables.items():
        for column, values in table.items():
            np.testing.assert_array_equal(again[name][column], values)


def test_the_caption_follows_the_results() -> None:
    changed = replace(results(), num_parameters=7)
    assert "7 parameters" in language_model.data(changed).caption


@pytest.mark.slow
def test_whole_sequences_need_exponentially_many_draws_and_blocks_do_not() -> None:
    table = data("sequences")["draws"]

    def n(block: int, length: int) -> float:
        [found] = table["n"][(table["block"] == block) & (table["length"] == length)]
        return float(found)

    assert n(1, 32) == pytest.approx(7.755, rel=1e-3)
    assert n(sequences.WHOLE, 16) == n(16, 16)
    growth = data("sequences").parameters["divergence"]
    assert n(sequences.WHOLE, 64) > n(sequences.WHOLE, 16) * np.exp(48 * growth)
    assert n(16, 64) < 4 * n(16, 16)


@pytest.mark.slow
def test_no_law_of_sequences_exceeds_the_tilts() -> None:
    def least_kl(reward: np.ndarray) -> np.ndarray:  # log 2 - entropy, of coins
        return np.log(2) + reward * np.log(reward) + (1 - reward) * np.log1p(-reward)

    cost, tilts = data("sequences")["cost"], data("sequences")["tilts"]
    np.testing.assert_allclose(tilts["kl"], least_kl(tilts["reward"]), rtol=1e-9, atol=1e-14)
    # Laws of one coin are tilts; longer blocks waste some of the divergence.
    one, floor = cost["length"] == 1, least_kl(cost["reward"])
    np.testing.assert_allclose(cost["kl"][one], floor[one], rtol=1e-12)
    assert np.all(cost["kl"][~one] > floor[~one] * (1 + 1e-9))
    transition = data("sequences")["transition"]
    assert np.all(transition["kl_from_optimum"] >= transition["limit"] - 1e-12)
