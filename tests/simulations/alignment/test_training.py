"""A step is the loss's gradient on given pairs; an interrupted run ends in the same numbers."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bon_theory.alignment import best_of_n_beta
from simulations.alignment import losses, training
from simulations.alignment.candidates import CandidateTable, Pairs, draw_candidates
from simulations.alignment.losses import PairLogProbs
from simulations.alignment.low_rank import LowRankLinear, merged, with_low_rank
from simulations.alignment.training import AlignmentConfig, Objective, TrainingPairs, align
from simulations.language_model.generate import response_log_probs
from simulations.language_model.transformer import Transformer
from tests.simulations.alignment.tiny import (
    CONFIG,
    LENGTH,
    PROMPTS,
    VOCABULARY,
    distinct_reward,
    key,
    tiny_model,
)


@cache
def drawn() -> CandidateTable:
    return draw_candidates(
        key(), tiny_model(), PROMPTS, distinct_reward, num_candidates=16, max_new_tokens=LENGTH
    )


@cache
def eight_pairs() -> Pairs:
    return drawn().pairs(jax.random.key(1), n=4, ranks="further draws")


TRAINING = AlignmentConfig(
    Objective.bonbon(n=4), num_steps=6, batch_size=4, learning_rate=1e-2, warmup_steps=2
)
OBJECTIVES = {
    "sft": (Objective.sft_best_of_n(), losses.sft),
    "ipo": (Objective.ipo(beta=0.3), lambda p: losses.ipo(p, beta=0.3)),
    "bonbon": (Objective.bonbon(n=4), lambda p: losses.bonbon(p, n=4, sft_weight=0.005)),
    "dpo": (Objective.dpo(beta=0.3), lambda p: losses.dpo(p, beta=0.3)),
    "matched": (
        Objective.ipo_matched(sft_weight=0.25),
        lambda p: 0.25 * losses.sft(p) + 0.75 * losses.ipo_matched(p, target=eight_pairs().target),
    ),
    "relative": (
        Objective.ipo_matched(relative=True),
        lambda p: (
            losses.ipo_matched(p, target=eight_pairs().target) / (1 + eight_pairs().target ** 2)
        ),
    ),
}


def parameters(model: Transformer) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model))]


def log_probs(model: Transformer, pairs: Pairs) -> PairLogProbs:
    chosen = response_log_probs(model, pairs.prompts, pairs.chosen)
    rejected = response_log_probs(model, pairs.prompts, pairs.rejected)
    references = map(jnp.asarray, (pairs.chosen_reference, pairs.rejected_reference))
    return PairLogProbs(chosen, rejected, *references)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_minimised_is_the_named_loss(name: str):
    objective, loss = OBJECTIVES[name]
    total, count = training.pair_loss(
        tiny_model(), TrainingPairs(eight_pairs(), objective.of(eight_pairs().target))
    )
    np.testing.assert_allclose(
        total, jnp.sum(loss(log_probs(tiny_model(), eight_pairs()))), rtol=1e-5
    )
    assert count == 8


def test_the_policy_begins_as_the_reference():
    """Margins vanish at first, up to the rounding of sampling against a pass: IPO costs m²."""
    terms = Objective.ipo(beta=0.5).of(eight_pairs().target)
    total, count = training.pair_loss(tiny_model(), TrainingPairs(eight_pairs(), terms))
    assert float(total / count) == pytest.approx(1.0, abs=1e-4)


def test_a_step_of_rmsprop_is_that_of_the_formula():
    """θ − ηg/(√(.01 g²) + ε) after clipping, the moving average having begun at zero."""
    config = replace(TRAINING, num_steps=1, batch_size=8, warmup_steps=0)
    policy = align(config, key(), tiny_model(), eight_pairs()).policy

    def loss(model: Transformer) -> jax.Array:
        return jnp.mean(losses.bonbon(log_probs(model, eight_pairs()), n=4, sft_weight=0.005))

    gradient = parameters(nnx.grad(loss)(tiny_model()))
    size = np.sqrt(sum(np.sum(np.square(g)) for g in gradient))
    for before, after, slope in zip(
        parameters(tiny_model()), parameters(policy), gradient, strict=True
    ):
        clipped = slope * min(1.0, training.CLIPPED_AT / size)
        step = 1e-2 * clipped / (np.sqrt(0.01 * clipped**2) + 1e-8)
        np.testing.assert_allclose(after, before - step, atol=2e-4)


def test_the_reference_stays_as_it_is():
    before = parameters(tiny_model())
    aligned = align(TRAINING, key(), tiny_model(), eight_pairs())
    assert all(map(np.array_equal, parameters(tiny_model()), before))
    assert not all(map(np.array_equal, parameters(aligned.policy), before))
    assert aligned.losses[-1] < aligned.losses[0]


def evaluate(model: Transformer, step: int) -> dict[str, float]:
    return {"sum": float(sum(np.sum(p) for p in parameters(model)))}


class Killed(Exception):
    """What stops a run."""


@pytest.mark.parametrize("rank", [0, 2])
def test_a_run_that_was_killed_ends_in_the_same_numbers(tmp_path: Path, rank: int):
    config = replace(TRAINING, rank=rank, evaluate_at=(0, 2, 3, 6))
    whole = align(config, key(), tiny_model(), eight_pairs(), evaluate=evaluate)

    def kill(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise Killed

    def run(progress=None) -> training.Aligned:
        return align(
            config,
            key(),
            tiny_model(),
            eight_pairs(),
            evaluate=evaluate,
            folder=tmp_path,
            checkpoint_every=2,
            progress=progress,
        )

    with pytest.raises(Killed):
        run(kill)
    again = run()
    assert all(map(np.array_equal, parameters(again.policy), parameters(whole.policy)))
    assert np.array_equal(again.losses, whole.losses)
    assert again.trajectory == whole.trajectory
    assert [found["step"] for found in again.trajectory] == [0, 2, 3, 6]
    assert run().trajectory == whole.trajectory  # what is done is not done again


def test_another_runs_folder_is_refused(tmp_path: Path):
    align(TRAINING, key(), tiny_model(), eight_pairs(), folder=tmp_path)
    other = replace(TRAINING, objective=Objective.dpo(beta=0.1))
    with pytest.raises(ValueError, match="belongs to"):
        align(other, key(), tiny_model(), eight_pairs(), folder=tmp_path)


def test_another_architecture_than_the_reference_is_refused(tmp_path: Path):
    align(TRAINING, key(), tiny_model(), eight_pairs(), folder=tmp_path)
    wider = Transformer(replace(CONFIG, width=16), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="belongs to"):
        align(TRAINING, key(), wider, eight_pairs(), folder=tmp_path)


def test_a_change_of_low_rank_trains_nothing_else():
    aligned = align(replace(TRAINING, rank=1), key(), tiny_model(), eight_pairs())
    assert np.array_equal(
        aligned.policy.embedding.embedding[...], tiny_model().embedding.embedding[...]
    )
    after = aligned.policy.layers.attention.project.kernel[...]
    change = np.asarray(after - tiny_model().layers.attention.project.kernel[...])[0]
    singular = np.linalg.svd(change, compute_uv=False)
    assert singular[0] > 1e-3 > 1e-3 * singular[0] > singular[1]


def test_a_change_of_low_rank_that_is_merged_gives_the_same_model():
    adapted = with_low_rank(tiny_model(), rank=2, rngs=nnx.Rngs(3))
    linear = adapted.layers.perceptron.expand
    assert isinstance(linear, LowRankLinear)
    linear.second[...] += 0.5
    tokens = jnp.array([[VOCABULARY.bos_id, 1, 2]])
    np.testing.assert_allclose(adapted(tokens), merged(adapted)(tokens), atol=1e-5)
    assert float(jnp.max(jnp.abs(adapted(tokens) - tiny_model()(tokens)))) > 1e-2


def test_parts_of_a_batch_and_rematerialisation_change_rounding_alone():
    whole = align(TRAINING, key(), tiny_model(), eight_pairs())
    parts = align(
        replace(TRAINING, num_parts=2, rematerialise=True), key(), tiny_model(), eight_pairs()
    )
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-4)
    assert parts.policy.config == tiny_model().config


def test_a_program_that_keeps_activations_is_not_taken_for_one_that_does_not():
    """Their models compile apart: what is static of them differs."""
    models = [
        training._policy(replace(TRAINING, rematerialise=remat), key(), tiny_model())
        for remat in (False, True)
    ]
    assert nnx.graphdef(models[0]) == nnx.graphdef(tiny_model()) != nnx.graphdef(models[1])


def test_every_pass_shows_every_pair_once():
    rows = [training._order(key(), step, TRAINING, 8) for step in range(4)]
    assert sorted(np.concatenate(rows[:2])) == sorted(np.concatenate(rows[2:])) == list(range(8))
    assert not np.array_equal(rows[0], rows[2])


def test_bonbons_beta_is_the_papers():
    assert Objective.bonbon(n=8).beta == pytest.approx(0.0275482094)
    assert Objective.bonbon(n=8).of(eight_pairs().target).margin[0] == pytest.approx(
        0.5 / float(best_of_n_beta(8))
    )


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="pairs has 8 pairs, fewer than the 9 of a batch"):
        align(replace(TRAINING, batch_size=9), key(), tiny_model(), eight_pairs())
    matched = replace(TRAINING, objective=Objective.ipo_matched())
    with pytest.raises(ValueError, match="pairs has no targets"):
        align(matched, key(), tiny_model(), drawn().pairs(key(), n=4))
    with pytest.raises(ValueError, match="all must be positive"):
        replace(TRAINING, learning_rate=0.0)
    with pytest.raises(ValueError, match="num_parts is 3 and batch_size is 4"):
        replace(TRAINING, num_parts=3)
    with pytest.raises(ValueError, match="optimizer is 'sgd'"):
        replace(TRAINING, optimizer="sgd")


def test_adamw_is_optaxs():
    config = replace(TRAINING, num_steps=1, batch_size=8, warmup_steps=0, optimizer="adamw")
    after = parameters(align(config, key(), tiny_model(), eight_pairs()).policy)
    before = parameters(tiny_model())
    moved = max(float(np.max(np.abs(a - b))) for a, b in zip(after, before, strict=True))
    assert moved == pytest.approx(1e-2, rel=1e-2)  # a first step of Adam is ± the learning rate
