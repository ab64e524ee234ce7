"""Training learns, and interruptions leave no trace."""

import os
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simulations.engine import checkpoint
from simulations.language_model.text.corpus import Corpus, load_corpus, token_stream
from simulations.language_model.text.tokenizers import ByteTokenizer
from simulations.language_model.train import (
    Trained,
    TrainingConfig,
    _start,
    _window_starts,
    mean_loss,
    train,
)
from simulations.language_model.transformer import TransformerConfig
from simulations.tools.files import write_atomically

TINY = TrainingConfig(
    TransformerConfig(width=8, num_layers=1), num_steps=6, batch_size=5, window=17, warmup_steps=2
)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus()


@pytest.fixture(scope="module")
def uninterrupted(corpus: Corpus) -> Trained:
    return train(TINY, jax.random.key(0), corpus)


def assert_same(first: Trained, second: Trained) -> None:
    np.testing.assert_array_equal(first.losses, second.losses)
    for a, b in zip(*(jax.tree.leaves(nnx.state(t.model)) for t in (first, second)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loss_falls_from_that_of_a_uniform_guess(corpus: Corpus) -> None:
    """log 257 = 5.55 and a half for untrained logits at first; byte frequencies give 3 nats."""
    config = TrainingConfig(
        TransformerConfig(width=16, num_layers=1),
        num_steps=80,
        batch_size=8,
        window=32,
        warmup_steps=5,
        learning_rate=1e-2,
    )
    trained = train(config, jax.random.key(1), corpus)
    assert trained.losses[0] > 5.5
    assert trained.losses[-10:].mean() < 3.3
    held_out = mean_loss(trained.model, corpus.validation[:50], window=32)
    assert held_out < 3.3


def test_an_interrupted_run_ends_in_the_same_numbers(
    corpus: Corpus, uninterrupted: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "model.npz"

    def interrupt(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("training", 6)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            TINY, jax.random.key(0), corpus, checkpoint=path, checkpoint_every=3, progress=interrupt
        )
    steps: list[int] = []
    resumed = train(
        TINY,
        jax.random.key(0),
        corpus,
        checkpoint=path,
        progress=lambda _, done, __: steps.append(done),
    )
    assert steps == [4, 5, 6]
    assert_same(resumed, uninterrupted)
    assert os.listdir(tmp_path) == ["model.npz"]

    steps.clear()
    loaded = train(
        TINY,
        jax.random.key(0),
        corpus,
        checkpoint=path,
        progress=lambda _, done, __: steps.append(done),
    )
    assert steps == []
    assert_same(loaded, uninterrupted)


def test_the_first_and_the_last_window_are_drawn_and_none_beyond() -> None:
    """A stream of two tokens more than a window has two windows with their targets."""
    config = replace(TINY, batch_size=64)
    starts = _window_starts(jax.random.key(3), TINY.window + 2, config)
    assert set(np.asarray(starts).tolist()) == {0, 1}


def test_gradients_longer_than_one_are_clipped_before_adam() -> None:
    """Three steps of AdamW by hand; the second gradient has norm 30, the others less than 1."""
    config = replace(TINY, num_steps=9, warmup_steps=3)
    model, optimizer = _start(config, jax.random.key(0))
    leaves, tree = jax.tree.flatten(nnx.state(model, nnx.Param))
    rng = np.random.default_rng(0)
    mean, square = ([np.zeros(leaf.shape) for leaf in leaves] for _ in range(2))
    expected = [np.asarray(leaf, np.float64) for leaf in leaves]
    for step, norm in enumerate((0.5, 30.0, 0.5)):
        gradients = [rng.normal(size=leaf.shape) for leaf in leaves]
        length = np.sqrt(sum(np.sum(g**2) for g in gradients))
        gradients = [(norm / length * g).astype(np.float32) for g in gradients]
        with jax.numpy_dtype_promotion("standard"):
            optimizer.update(model, jax.tree.unflatten(tree, map(jnp.asarray, gradients)))
        rate = config.learning_rate * step / config.warmup_steps
        for k, gradient in enumerate(gradients):
            clipped = gradient * min(1.0, 1 / norm)
            mean[k] = 0.9 * mean[k] + 0.1 * clipped
            square[k] = 0.999 * square[k] + 0.001 * clipped**2
            first, second = mean[k] / (1 - 0.9 ** (step + 1)), square[k] / (1 - 0.999 ** (step + 1))
            move = first / (np.sqrt(second) + 1e-8) + config.weight_decay * expected[k]
            expected[k] -= rate * move
    for ours, theirs in zip(jax.tree.leaves(nnx.state(model, nnx.Param)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_another_key_gives_another_model(corpus: Corpus, uninterrupted: Trained) -> None:
    other = train(TINY, jax.random.key(1), corpus)
    assert (other.losses != uninterrupted.losses).all()


def test_a_checkpoint_of_another_run_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    train(TINY, jax.random.key(0), corpus, checkpoint=path)
    wider = replace(TINY, model=TransformerConfig(width=12, num_layers=1))
    with pytest.raises(ValueError, match=r'(?s)"width": 8.*"width": 12.*delete the file'):
        train(wider, jax.random.key(0), corpus, checkpoint=path)
    with pytest.raises(ValueError, match=r'(?s)"key": \[0, 0\].*"key": \[0, 1\]'):
        train(TINY, jax.random.key(1), corpus, checkpoint=path)
    less = Corpus(corpus.train[1:], corpus.validation, corpus.scoring)
    with pytest.raises(ValueError, match=less.sha256):
        train(TINY, jax.random.key(0), less, checkpoint=path)


def test_a_text_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="has 4 tokens, which is not more than the window of 17"):
        train(TINY, jax.random.key(0), Corpus(("ab",), (), ()))


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match="warmup_steps is 6 and num_steps is 6"):
        replace(TINY, warmup_steps=6)


def test_mean_loss_weighs_every_token_once(corpus: Corpus, uninterrupted: Trained) -> None:
    """Windows of 17 over three documents: by hand from the logits, window by window."""
    model, documents = uninterrupted.model, corpus.validation[:3]
    stream = token_stream(documents, ByteTokenizer())
    # Whole windows, so that every forward pass has one shape; the last is filled with PAD.
    filled = np.append(stream, [model.config.vocabulary.pad_id] * (-(stream.size - 1) % 17))
    losses = []
    forward = nnx.jit(lambda model, tokens: jax.nn.log_softmax(model(tokens)))
    for start in range(0, filled.size - 1, 17):
        log_probs = np.asarray(forward(model, jnp.asarray(filled[None, start : start + 17])))[0]
        for row, target in zip(log_probs, filled[start + 1 : start + 18], strict=True):
            if target < 257:
                losses.append(-row[target])
    assert len(losses) == stream.size - 3
    np.testing.assert_allclose(mean_loss(model, documents, window=17), np.mean(losses), rtol=1e-5)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    checkpoint.save(path, {"run": 1}, {"x": np.arange(3)})

    def fail(file) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    identity, arrays = checkpoint.load(path, {"run": 1})
    assert identity == {"run": 1}
    np.testing.assert_array_equal(arrays["x"], np.arange(3))
    assert os.listdir(tmp_path) == ["file.npz"]


def test_the_identity_survives_json() -> None:
    assert checkpoint.file_name("a", {"n": (1, 2), "m": 3}) == checkpoint.file_name(
        "a", {"m": 3, "n": [1, 2]}
    )
    assert checkpoint.file_name("a", {"n": 1}) != checkpoint.file_name("a", {"n": 2})


def test_the_reserved_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reserved name 'identity'"):
        checkpoint.save(tmp_path / "x.npz", {}, {"identity": np.arange(2)})
