"""Sampling: the law, its log-probabilities, and independence of how the work is cut up."""

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special

from simulations.language_model.generate import Responses, generate, response_log_probs
from simulations.language_model.sampler import _inverse_cdf
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig
from simulations.statistics.checks import check_histogram

VOCABULARY = Vocabulary.plain(5)
EOS, BOS, PAD = VOCABULARY.eos_id, VOCABULARY.bos_id, VOCABULARY.pad_id
PROMPTS = np.array([[BOS, 0, 3], [PAD, BOS, 2]], np.int32)
NUM_TOKENS = 3


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Untrained, which is already far from uniform."""
    return Transformer(TransformerConfig(VOCABULARY, width=8, num_layers=1), rngs=nnx.Rngs(1))


@nnx.jit
def log_probs(model: Transformer, prompts, responses, temperature) -> jax.Array:
    return response_log_probs(model, prompts, responses, temperature=temperature)


def draw(model: Transformer, seed: int, prompts: np.ndarray = PROMPTS, **options):
    settings: dict[str, Any] = {"num_candidates": 7, "max_new_tokens": NUM_TOKENS} | options
    return generate(jax.random.key(seed), model, prompts, **settings)


def all_responses() -> np.ndarray:
    """Every response ``[K, T]``: it ends at its first EOS, or is cut at T tokens."""
    responses = set()
    for tokens in itertools.product(range(5), repeat=NUM_TOKENS):
        length = tokens.index(EOS) + 1 if EOS in tokens else NUM_TOKENS
        responses.add(tokens[:length] + (PAD,) * (NUM_TOKENS - length))
    return np.array(sorted(responses), np.int32)


def law(model: Transformer, prompt: np.ndarray, temperature: float) -> np.ndarray:
    responses = all_responses()
    prompts = np.repeat(prompt[None], len(responses), axis=0)
    return np.exp(log_probs(model, prompts, responses, jnp.float32(temperature)), dtype=np.float64)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_probabilities_of_all_responses_sum_to_one(model: Transformer, temperature: float) -> None:
    for prompt in PROMPTS:
        probs = law(model, prompt, temperature)
        assert probs.max() > 5 * probs.min()
        np.testing.assert_allclose(probs.sum(), 1, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_responses_follow_the_law(model: Transformer, temperature: float) -> None:
    """G-test of whole responses and of first tokens at a false-alarm rate of 1e-6 each.

    Power: the law at a temperature 20 % higher is rejected, for whole responses.
    """
    drawn = draw(model, 2, num_candidates=2**14, temperature=temperature, batch_size=2**14)
    index = {tuple(response): i for i, response in enumerate(all_responses().tolist())}
    first = all_responses()[:, 0]
    for prompt, tokens in zip(PROMPTS, drawn.tokens, strict=True):
        counts = np.bincount([index[tuple(r)] for r in tokens.tolist()], minlength=len(index))
        probs = law(model, prompt, temperature)
        probs /= probs.sum()  # 1 to float32 rounding, as tested above
        assert check_histogram("responses", counts, probs).p_value > 1e-6
        by_token = check_histogram(
            "first token", np.bincount(tokens[:, 0], minlength=5), np.bincount(first, probs)
        )
        assert by_token.p_value > 1e-6
        wrong = law(model, prompt, 1.2 * temperature)
        assert check_histogram("planted", counts, wrong / wrong.sum()).p_value < 1e-6


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_those_of_one_pass_over_the_response(
    model: Transformer, temperature: float
) -> None:
    """Sums of three float32 log-probabilities by two routes."""
    drawn = draw(model, 3, temperature=temperature)
    for i, prompt in enumerate(PROMPTS):
        prompts = np.repeat(prompt[None], 7, axis=0)
        expected = log_probs(model, prompts, drawn.tokens[i], jnp.float32(temperature))
        np.testing.assert_allclose(drawn.log_probs[i], expected, atol=1e-5)


def test_a_response_ends_at_eos_and_is_padded(model: Transformer) -> None:
    drawn = draw(model, 4, num_candidates=64)
    ended = 0
    for tokens, length in zip(drawn.tokens.reshape(-1, 3), drawn.lengths.ravel(), strict=True):
        assert (tokens[:length] < VOCABULARY.num_tokens).all()
        assert (tokens[: length - 1] != EOS).all()
        assert (tokens[length:] == PAD).all()
        ended += length < NUM_TOKENS
        if length < NUM_TOKENS:
            assert tokens[length - 1] == EOS
    assert 0 < ended < 128


@pytest.mark.parametrize("batch_size", [1, 5, 14])
def test_batches_change_nothing(model: Transformer, batch_size: int) -> None:
    whole, pieces = draw(model, 5), draw(model, 5, batch_size=batch_size)
    np.testing.assert_array_equal(pieces.tokens, whole.tokens)
    np.testing.assert_allclose(pieces.log_probs, whole.log_probs, atol=1e-5)


def test_more_candidates_add_to_the_former_ones(model: Transformer) -> None:
    few, many = draw(model, 6, num_candidates=3), draw(model, 6, num_candidates=7)
    np.testing.assert_array_equal(many.tokens[:, :3], few.tokens)


def test_candidates_differ_between_prompts_candidates_and_keys(model: Transformer) -> None:
    prompts = np.repeat(PROMPTS[:1], 2, axis=0)
    tokens = draw(model, 7, prompts, num_candidates=64).tokens
    assert (tokens[0] != tokens[1]).any()
    assert (tokens[:, 1:] != tokens[:, :-1]).any()
    assert (draw(model, 8, prompts, num_candidates=64).tokens != tokens).any()


def test_a_padded_prompt_is_continued_as_without_padding(model: Transformer) -> None:
    padded = np.concatenate([np.full((2, 2), PAD, np.int32), PROMPTS], axis=1)
    np.testing.assert_array_equal(draw(model, 9, padded).tokens, draw(model, 9).tokens)


def test_a_prompt_whose_response_is_cut_to_one_token(model: Transformer) -> None:
    drawn = draw(model, 10, max_new_tokens=1)
    assert drawn.tokens.shape == (2, 7, 1)
    assert (drawn.lengths == 1).all()


def test_progress_counts_rows(model: Transformer) -> None:
    calls: list[tuple[int, int]] = []
    draw(model, 11, batch_size=5, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(4, 14), (7, 14), (11, 14), (14, 14)]


def test_more_tokens_continue_the_former_ones(model: Transformer) -> None:
    short, long = draw(model, 13, max_new_tokens=2), draw(model, 13, max_new_tokens=5)
    np.testing.assert_array_equal(long.tokens[..., :2], short.tokens)


def test_the_likeliest_token_is_taken_at_temperature_zero(model: Transformer) -> None:
    drawn = draw(model, 14, temperature=0.0)
    assert (drawn.tokens == drawn.tokens[:, :1]).all()
    assert (drawn.log_probs == 0).all()
    likeliest = next_logits(model, drawn).argmax(axis=-1)
    np.testing.assert_array_equal(np.where(drawn.tokens == PAD, PAD, likeliest), drawn.tokens)


def next_logits(model: Transformer, drawn: Responses) -> np.ndarray:
    """What each token was drawn from, ``[B, N, T, V]``, by one pass over all responses."""
    prompts = np.broadcast_to(PROMPTS[:, None], (*drawn.lengths.shape, PROMPTS.shape[1]))
    sequences = np.concatenate([prompts, drawn.tokens], axis=-1).reshape(14, -1)
    logits = np.asarray(nnx.jit(lambda model, tokens: model(tokens))(model, sequences), np.float64)
    return logits[:, PROMPTS.shape[1] - 1 : -1].reshape(*drawn.tokens.shape, -1)


@pytest.mark.parametrize("cut", [{"temperature": 0.7}, {"top_k": 3}, {"top_k": 4, "top_p": 0.8}])
def test_both_log_probs_are_those_of_their_laws(model: Transformer, cut: dict) -> None:
    """The law from all logits by NumPy, in float64, token by token."""
    drawn = draw(model, 15, **cut)
    logits = next_logits(model, drawn)
    for place in zip(*np.nonzero(drawn.tokens != PAD), strict=True):
        token, row = drawn.tokens[place], logits[place]
        under_model = row[token] - special.logsumexp(row)
        assert np.isclose(drawn.token_model_log_probs[place], under_model, atol=1e-5)
        under_law = np.log(cut_law(row, **cut)[token])
        assert np.isclose(drawn.token_log_probs[place], under_law, atol=1e-5)
    assert (drawn.token_log_probs[drawn.tokens == PAD] == 0).all()
    assert (drawn.token_log_probs != drawn.token_model_log_probs).any()


def cut_law(logits: np.ndarray, temperature=1.0, top_k=5, top_p=1.0) -> np.ndarray:
    """By sorting."""
    order = np.argsort(-logits)[:top_k]
    probs = special.softmax(logits[order] / temperature)
    kept = np.concatenate([[0.0], np.cumsum(probs)[:-1]]) < top_p
    law = np.zeros_like(logits)
    law[order[kept]] = probs[kept] / probs[kept].sum()
    return law


@pytest.mark.parametrize("chunk_size", [1, 2])
def test_taking_ended_responses_out_changes_nothing(model: Transformer, chunk_size: int) -> None:
    """Of 16 candidates most end within five tokens; which ones stay is looked up in between."""
    options: dict[str, Any] = {"num_candidates": 16, "max_new_tokens": 9, "temperature": 9.0}
    whole = draw(model, 16, **options)
    assert (whole.lengths < 6).mean() > 0.5
    pieces = draw(model, 16, chunk_size=chunk_size, **options)
    np.testing.assert_array_equal(pieces.tokens, whole.tokens)
    np.testing.assert_allclose(pieces.token_log_probs, whole.token_log_probs, atol=1e-5)
    np.testing.assert_allclose(pieces.token_model_log_probs, whole.token_model_log_probs, atol=1e-5)


def test_an_interrupted_call_goes_on_and_nothing_is_drawn_twice(
    model: Transformer, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(model, 17, batch_size=5, checkpoint=tmp_path, progress=stop)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 3
    resumed = draw(model, 17, batch_size=5, checkpoint=tmp_path)
    assert kept.items() <= {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}.items()
    whole = draw(model, 17, batch_size=5)
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(resumed, field.name), getattr(whole, field.name))


def test_another_call_does_not_go_on_from_a_checkpoint(model: Transformer, tmp_path: Path) -> None:
    other = Transformer(model.config, rngs=nnx.Rngs(2))
    draw(model, 18, checkpoint=tmp_path)
    for seed, drawer, options in [(19, model, {}), (18, other, {}), (18, model, {"top_p": 0.5})]:
        kept = draw(drawer, seed, checkpoint=tmp_path, **options)
        np.testing.assert_array_equal(kept.tokens, draw(drawer, seed, **options).tokens)


def test_a_damaged_checkpoint_is_named(model: Transformer, tmp_path: Path) -> None:
    draw(model, 20, checkpoint=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{file.name} must be a checkpoint"):
        draw(model, 20, checkpoint=tmp_path)


ON_DEVICES = """
import jax, numpy as np
from flax import nnx
from simulations.language_model.generate import generate
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig

config = TransformerConfig(Vocabulary.plain(7), width=16, num_layers=1, num_heads=4)
model = Transformer(config, rngs=nnx.Rngs(1))
prompts = np.array([[7, 0, 3], [8, 7, 2]])
def draw(mesh):
    axes = {"axis_types": (jax.sharding.AxisType.Auto,) * len(mesh[0])}
    mesh = jax.make_mesh(*mesh, **axes) if mesh[0] != (1,) else None
    return generate(jax.random.key(0), model, prompts, num_candidates=13, max_new_tokens=5,
                    chunk_size=2, mesh=mesh)
assert jax.device_count() == 8
one = draw(((1,), ("rows",)))
for mesh in (((8,), ("rows",)), ((2, 4), ("rows", "weights"))):
    many = draw(mesh)
    np.testing.assert_array_equal(many.tokens, one.tokens)
    np.testing.assert_allclose(many.log_probs, one.log_probs, atol=1e-5)
"""


@pytest.mark.slow
def test_eight_devices_draw_what_one_draws() -> None:
    """Candidates over eight; over two, with the weights of each over four."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    subprocess.run(
        [sys.executable, "-c", ON_DEVICES], env=os.environ | {"XLA_FLAGS": flags}, check=True
    )


def test_a_mesh_without_a_known_axis_is_refused(model: Transformer) -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with pytest.raises(ValueError, match=r"mesh has the axes \('data',\): name one 'rows'"):
        draw(model, 21, mesh=mesh)


def test_log_probs_have_gradients(model: Transformer) -> None:
    responses = np.array([[1, EOS, PAD], [0, 2, 3]], np.int32)
    gradients = nnx.jit(
        nnx.grad(lambda model: jnp.sum(response_log_probs(model, PROMPTS, responses)))
    )(model)
    leaves = jax.tree.leaves(gradients)
    assert all(jnp.isfinite(leaf).all() for leaf in leaves)
    assert max(jnp.abs(leaf).max() for leaf in leaves) > 0


def test_inverse_cdf_at_the_ends_and_past_impossible_tokens() -> None:
    probs = jnp.asarray([[0.0, 0.25, 0.0, 0.75, 0.0]] * 4, jnp.float32)
    words = jnp.asarray([0, 2**30 - 1, 2**30, 2**32 - 1], jnp.uint32)
    np.testing.assert_array_equal(_inverse_cdf(words, probs), [1, 1, 3, 3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_candidates": 0}, "num_candidates must be .* got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be .* got 0"),
        ({"max_new_tokens": 2046}, "max_new_tokens is 2046 after a prompt of 3 tokens"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": 6}, "top_k is 6, but the model has 5 tokens"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"batch_size": 0}, "batch_size must be .* got 0"),
        ({"chunk_size": 0}, "chunk_size must be .* got 0"),
        ({"prompts": PROMPTS[0]}, r"prompts has shape \(3,\)"),
        ({"prompts": PROMPTS[:, :0]}, r"prompts has shape \(2, 0\)"),
        ({"prompts": PROMPTS.astype(np.float32)}, "dtype float32"),
        ({"prompts": PROMPTS[:, ::-1]}, "rows that end in PAD"),
        ({"prompts": PROMPTS + 1}, "token ids from 1 to 7"),
    ],
)
def test_bad_input_is_named(model: Transformer, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(model, 12, **options)
