"""What the losses aim at: pairs by enumeration, minimisers by optimisers that know no theory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import alignment
from bon_theory.alignment import rank_grid
from bon_theory.alignment.stationarity import minimising_log_ratio
from tests.oracles import alignment as oracle

TIES = bt.Policy.from_probs([0.3, 0.1, 0.25, 0.15, 0.2], [0.0, 1.0, 1.0, 2.0, 3.0])
STRICT = bt.Policy.from_probs([0.4, 0.2, 0.3, 0.1], [2.0, 0.0, 1.0, 3.0])
LAWS = {"ties": TIES, "distinct": STRICT}
UNIFORM = bt.Policy.uniform_reward(num_nodes=641, breaks=(0.5,))

law = pytest.mark.parametrize("reference", LAWS.values(), ids=LAWS)
candidates = pytest.mark.parametrize("n", [2, 3, 4])


def enumerated(reference: bt.Policy, n: int) -> np.ndarray:
    return oracle.pair_probs(np.asarray(reference.probs), np.asarray(reference.rewards), n)


def log_density(policy: bt.Policy, reference: bt.Policy) -> np.ndarray:
    return np.asarray(bt.log_ratio(policy, reference))


@law
@candidates
def test_pairs_are_those_of_all_tuples(reference: bt.Policy, n: int):
    exact = enumerated(reference, n)
    assert np.allclose(alignment.best_and_worst_probs(reference, n=n), exact, rtol=1e-13, atol=0)


@pytest.mark.parametrize("n", [2, 7, 50, 1000])
def test_the_ends_of_pairs_are_the_best_and_the_worst_of_n(n: int):
    probs = np.array([0.5 - 1e-12, 1e-12, 0.3, 1e-15, 0.2, 0.0])
    reference = bt.Policy.from_probs(probs / probs.sum(), [0.0, 0.5, 0.5, 0.7, 1.0, 0.2])
    joint = alignment.best_and_worst_probs(reference, n=n)
    assert jnp.allclose(joint.sum(-1), bt.best_of_n(reference, n).probs, rtol=1e-10, atol=1e-300)
    assert jnp.allclose(joint.sum(-2), bt.worst_of_n(reference, n).probs, rtol=1e-10, atol=1e-300)


@law
@candidates
@pytest.mark.parametrize("sft_weight", [0.0, 0.005, 0.5, 0.95])
def test_bonbon_is_what_an_optimiser_finds_on_enumerated_pairs(
    reference: bt.Policy, n: int, sft_weight: float
):
    margin = 0.5 / float(alignment.best_of_n_beta(n))
    found, slope = oracle.fit(
        enumerated(reference, n), np.asarray(reference.probs), margin, sft_weight
    )
    policy = alignment.bonbon(reference, n=n, sft_weight=sft_weight)
    assert slope < 1e-8  # the optimiser has converged
    assert np.max(np.abs(policy.probs - found)) < 1e-8


@law
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_ipo_is_what_an_optimiser_finds_on_enumerated_pairs(reference: bt.Policy, beta: float):
    joint = enumerated(reference, 3)
    found, _ = oracle.fit(joint, np.asarray(reference.probs), 0.5 / beta, 0.0)
    assert np.max(np.abs(alignment.ipo(reference, n=3, beta=beta).probs - found)) < 1e-8


@law
@candidates
def test_matched_targets_lead_an_optimiser_to_best_of_n(reference: bt.Policy, n: int):
    best = bt.best_of_n(reference, n)
    h = log_density(best, reference)
    targets = h[:, None] - h[None, :]
    for sft_weight in (0.0, 0.3):
        found, _ = oracle.fit(
            enumerated(reference, n), np.asarray(reference.probs), targets, sft_weight
        )
        assert np.max(np.abs(best.probs - found)) < 1e-8
    matched = alignment.ipo_matched(reference, n=n)
    assert jnp.array_equal(matched.probs, best.probs)
    assert alignment.ipo_matched_loss(matched, reference, n=n) < 1e-25


@law
@candidates
def test_losses_are_means_over_enumerated_pairs(reference: bt.Policy, n: int):
    policy, joint = bt.win_rate_optimal(reference, 2.0), enumerated(reference, n)
    h, rewards = log_density(policy, reference), np.asarray(reference.rewards)
    margins, gap = h[:, None] - h[None, :], rewards[:, None] - rewards[None, :]

    ipo = oracle.contrastive_loss(joint, h, 2.5)
    assert jnp.allclose(alignment.ipo_loss(policy, reference, n=n, beta=0.2), ipo, rtol=1e-12)

    sft = -joint.sum(1) @ np.asarray(policy.log_probs)
    assert jnp.allclose(alignment.sft_best_of_n_loss(policy, reference, n=n), sft, rtol=1e-12)
    mixed = 0.3 * sft + 0.7 * ipo
    assert jnp.allclose(
        alignment.bonbon_loss(policy, reference, n=n, beta=0.2, sft_weight=0.3), mixed, rtol=1e-12
    )

    target = log_density(bt.best_of_n(reference, n), reference)
    matched = oracle.contrastive_loss(joint, h, target[:, None] - target[None, :])
    assert jnp.allclose(alignment.ipo_matched_loss(policy, reference, n=n), matched, rtol=1e-12)

    for tau in (0.0, 0.7):
        kept = 1 / (1 + np.exp(-gap / tau)) if tau else 0.5 * (1 + np.sign(gap))
        logistic = np.logaddexp(0, -0.4 * margins), np.logaddexp(0, 0.4 * margins)
        dpo = np.sum(joint * (kept * logistic[0] + (1 - kept) * logistic[1]))
        assert jnp.allclose(
            alignment.dpo_loss(policy, reference, n=n, beta=0.4, label_temperature=tau),
            dpo,
            rtol=1e-12,
        )


def test_dpo_without_strength_is_log_2_and_rises_from_there() -> None:
    """Its slope at 0 is minus half the mean margin; a margin may be infinite."""
    coin = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    best, certain = bt.best_of_n(coin, 3), bt.Policy.from_probs([0.0, 1.0], [0.0, 1.0])
    for policy in (coin, best, certain):
        assert float(alignment.dpo_loss(policy, coin, beta=0.0)) == pytest.approx(np.log(2))
    # One pair in two differs, and is kept in order: its margin is log 7.
    slope = jax.grad(lambda beta: alignment.dpo_loss(best, coin, beta=beta))(0.0)
    assert float(slope) == pytest.approx(-np.log(7) / 4, rel=1e-12)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_the_tie_free_minimiser_solves_the_integral_equation_by_moments(n: int):
    margin = 0.5 / float(alignment.best_of_n_beta(n))
    win_rate, kl = oracle.functionals(oracle.ipo_by_moments(n, margin))
    policy = alignment.ipo_best_of_n(UNIFORM, n=n)
    assert abs(bt.win_rate(policy, UNIFORM) - win_rate) < 1e-11
    assert abs(bt.kl_divergence(policy, UNIFORM) - kl) < 1e-11
    assert abs(policy.probs.sum() - 1) < 1e-11


@pytest.mark.parametrize(
    ("sft_weight", "win_rate", "kl"),
    [(0.0, 0.813681, 0.878527), (0.005, 0.81407, 0.87909), (0.95, 0.88559, 1.18749)],
)
def test_converged_bonbon_at_n_8(sft_weight: float, win_rate: float, kl: float):
    policy = alignment.bonbon(UNIFORM, n=8, sft_weight=sft_weight)
    assert abs(bt.win_rate(policy, UNIFORM) - win_rate) < 1e-5
    assert abs(bt.kl_divergence(policy, UNIFORM) - kl) < 1e-5


@pytest.mark.parametrize(("n", "sft_weight"), [(3, 0.0), (5, 0.3), (8, 0.05)])
def test_levels_converge_to_the_tie_free_minimiser_at_second_order(n: int, sft_weight: float):
    margin = 0.5 / float(alignment.best_of_n_beta(n))
    exact = float(bt.win_rate(alignment.bonbon(UNIFORM, n=n, sft_weight=sft_weight), UNIFORM))
    errors = []
    for levels in (20, 40):
        found, _ = oracle.fit(
            oracle.level_pairs(levels, n), np.full(levels, 1 / levels), margin, sft_weight
        )
        errors.append(found @ (np.arange(levels) + 0.5) / levels - exact)
    # A limit that is off by 3 % of the error at 40 levels, 3e-7 for n = 8, would show.
    assert abs(errors[0] / errors[1] - 4) < 0.2


def test_the_grid_of_ranks_converges(monkeypatch: pytest.MonkeyPatch):
    def win_rate(nodes: int) -> float:
        monkeypatch.setattr(rank_grid, "_NODES", nodes)
        for cached in (rank_grid._nodes, rank_grid._own_panel):
            cached.cache_clear()
        law, margin = rank_grid.grid_pair_law(jnp.asarray(64.0)), 0.5 / alignment.best_of_n_beta(64)
        h = minimising_log_ratio(law, margin, jnp.asarray(0.0))
        ranks, weights = rank_grid._nodes()
        return float(jnp.sum(ranks * weights * jnp.exp(h)))

    coarse, middle, default = (win_rate(nodes) for nodes in (8, 12, 16))
    assert abs(coarse - default) < 1e-8
    assert abs(middle - default) < 1e-11


@pytest.mark.parametrize("sft_weight", [0.0, 0.005, 0.5, 0.99])
def test_nodes_and_fine_levels_agree(sft_weight: float):
    fine = bt.Policy.from_samples(jnp.arange(200.0))
    on_levels, on_nodes = (
        alignment.bonbon(law, n=8, sft_weight=sft_weight) for law in (fine, UNIFORM)
    )
    assert abs(bt.kl_divergence(on_levels, fine) - bt.kl_divergence(on_nodes, UNIFORM)) < 3e-4
    assert abs(bt.win_rate(on_levels, fine) - bt.win_rate(on_nodes, UNIFORM)) < 3e-5


def test_ipo_on_ordinary_pairs_is_the_win_rate_optimum():
    beta = jnp.array([0.05, 0.3, 2.0])
    policy, optimum = alignment.ipo(UNIFORM, beta=beta), bt.win_rate_optimal(UNIFORM, 1 / beta)
    assert jnp.max(jnp.abs(bt.log_ratio(policy, UNIFORM) - bt.log_ratio(optimum, UNIFORM))) < 1e-10
    # With atoms it tilts by the mid-rank, ties included.
    midrank = (jnp.exp(TIES.log_cdf) + jnp.exp(TIES.log_cdf_below)) / 2
    tilt = bt.exponential_tilt(bt.Policy.from_probs(TIES.probs, midrank), 0.3)
    assert jnp.allclose(alignment.ipo(TIES, beta=0.3).probs, tilt.probs, rtol=1e-12)


def test_sft_alone_is_best_of_n():
    for reference in (TIES, UNIFORM):
        best = bt.best_of_n(reference, 8)
        for policy in (
            alignment.bonbon(reference, n=8, sft_weight=1.0),
            alignment.sft_best_of_n(reference, n=8),
        ):
            assert bt.total_variation(policy, best) < 1e-12


def test_with_many_candidates_ipo_best_of_n_keeps_the_better_half():
    n = jnp.array([8, 16, 32, 64, 128])
    policy = alignment.ipo_best_of_n(UNIFORM, n=n)
    win_rate, kl = bt.win_rate(policy, UNIFORM), bt.kl_divergence(policy, UNIFORM)
    assert jnp.all(jnp.diff(win_rate) < 0)  # more candidates make it worse
    for excess in (win_rate - 0.75, kl - jnp.log(2)):  # of the order log(n)/n
        assert jnp.all(excess > 0)
        assert jnp.all(excess[1:] / excess[:-1] < 0.7)


def test_ipo_best_of_n_is_best_at_five_candidates():
    n = jnp.array([3, 4, 5, 6, 7])
    win_rate = bt.win_rate(alignment.ipo_best_of_n(UNIFORM, n=n), UNIFORM)
    assert n[jnp.argmax(win_rate)] == 5


@law
def test_the_gradient_of_the_loss_vanishes_at_the_minimiser(reference: bt.Policy):
    def loss(logits: jax.Array, sft_weight: float) -> jax.Array:
        policy = bt.Policy.from_logits(logits, reference.rewards)
        return alignment.bonbon_loss(policy, reference, n=6, sft_weight=sft_weight)

    for sft_weight in (0.0, 0.2, 1.0):
        slope = jax.grad(loss)(
            alignment.bonbon(reference, n=6, sft_weight=sft_weight).log_probs, sft_weight
        )
        assert jnp.max(jnp.abs(slope)) < 1e-12


def test_wild_problems_have_minimisers_too():
    draws, size = np.random.default_rng(0), 64
    logits = draws.normal(size=(size, 6)) * draws.choice([0.3, 3.0, 15.0], (size, 1))
    logits[::3, 4] = -np.inf
    rewards = draws.choice([0.0, 1.0, 2.0, 3.0], (size, 6))
    n = draws.choice([2.0, 3.0, 8.0, 50.0, 1e3, 1e5], size)
    sft_weight = draws.choice([0.0, 1e-12, 1e-3, 0.5, 0.999, 1 - 1e-12, 1.0], size)
    beta = draws.choice([1e-4, 0.03, 1.0, 100.0], size)

    @jax.jit
    @jax.vmap
    def slope(logits: jax.Array, rewards: jax.Array, **parameters: jax.Array) -> jax.Array:
        reference = bt.Policy.from_logits(logits, rewards)
        start = alignment.bonbon(reference, **parameters).log_probs

        def loss(logits: jax.Array) -> jax.Array:
            policy = bt.Policy.from_logits(logits, rewards)
            return alignment.bonbon_loss(policy, reference, **parameters)

        return jnp.where(logits > -jnp.inf, jax.grad(loss)(start), 0)

    slopes = slope(jnp.asarray(logits), jnp.asarray(rewards), n=n, beta=beta, sft_weight=sft_weight)
    assert jnp.max(jnp.abs(slopes)) < 1e-8


def test_noisy_labels_give_dpo_a_minimiser_on_any_pairs():
    policy = alignment.dpo(TIES, beta=0.5, label_temperature=1.2)
    assert jnp.allclose(policy.probs, bt.exponential_tilt(TIES, 0.6).probs, rtol=1e-14)

    def loss(logits: jax.Array, n: int) -> jax.Array:
        return alignment.dpo_loss(
            bt.Policy.from_logits(logits, TIES.rewards), TIES, n=n, beta=0.5, label_temperature=1.2
        )

    for n in (2, 5):
        assert jnp.max(jnp.abs(jax.grad(loss)(policy.log_probs, n))) < 1e-15


def test_a_deterministic_ranker_lets_dpo_fall_for_ever():
    strengths = jnp.array([1.0, 10.0, 100.0, 1000.0])
    losses = alignment.dpo_loss(bt.win_rate_optimal(STRICT, strengths), STRICT, beta=0.1)
    tied = jnp.sum(STRICT.probs**2) * jnp.log(2)  # the same outcome drawn twice
    assert jnp.all(jnp.diff(losses) < 0)
    assert jnp.all(losses > tied)
    assert losses[-1] < tied + 1e-3


def test_losses_take_their_limits_where_the_policy_lacks_an_outcome():
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
    lacking = bt.Policy.from_probs([0.0, 0.5, 0.5], rewards=[0.0, 0.5, 1.0])
    nearly = bt.Policy.from_probs([1e-200, 0.5, 0.5], rewards=[0.0, 0.5, 1.0])
    assert float(alignment.dpo_loss(lacking, reference, n=4, beta=0.1)) == pytest.approx(
        float(alignment.dpo_loss(nearly, reference, n=4, beta=0.1)), rel=1e-12
    )
    assert 0 < alignment.dpo_loss(bt.top_fraction(reference, 0.4), reference, beta=0.1) < np.log(2)
    for weight in (0.0, 0.5, 1.0):
        assert alignment.bonbon_loss(lacking, reference, n=4, sft_weight=weight) == np.inf


def test_the_margin_at_best_of_n():
    for n in (2, 8, 64):
        exact = (n - 1) * sum(1 / k for k in range(1, n))
        margin = alignment.mean_margin(bt.best_of_n(UNIFORM, n), UNIFORM, n=n)
        assert jnp.allclose(margin, exact, rtol=1e-12)
        assert jnp.allclose(alignment.best_of_n_beta(n), 0.5 / exact, rtol=1e-14)
    levels = bt.Policy.from_samples(jnp.arange(10.0))
    margin = alignment.mean_margin(bt.best_of_n(levels, 8), levels, n=8)
    assert abs(margin - 14.2083) < 5e-5
