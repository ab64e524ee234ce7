"""Training learns, and interruptions leave no trace."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simulations.language_model import train as training
from simulations.language_model.text.corpus import load_corpus, token_stream
from simulations.language_model.text.files import write_tokens
from simulations.language_model.text.kneser_ney import CountedElsewhere
from simulations.language_model.text.tokenizers import ByteTokenizer, Vocabulary
from simulations.language_model.train import (
    Trained,
    TrainingConfig,
    evaluate,
    train,
)
from simulations.language_model.transformer import (
    Transformer,
    TransformerConfig,
    law_loss,
    next_token_loss,
)

TINY = TrainingConfig(
    TransformerConfig(width=8, num_layers=1),
    num_steps=6,
    batch_size=8,
    window=17,
    warmup_steps=2,
    pair_steps=2,
    num_parts=1,
    counted_share=0.0,
)
TOKENIZER = ByteTokenizer()


@pytest.fixture(scope="module")
def stream() -> np.ndarray:
    return token_stream(load_corpus().train[:3000], TOKENIZER)


@pytest.fixture(scope="module")
def uninterrupted(stream: np.ndarray) -> Trained:
    return train(TINY, jax.random.key(0), stream)


def assert_same(first: Trained, second: Trained, *, rtol: float = 0.0) -> None:
    np.testing.assert_allclose(first.losses, second.losses, rtol=rtol)
    for a, b in zip(*(jax.tree.leaves(nnx.state(t.model)) for t in (first, second)), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def interrupt(at: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    return progress


def test_loss_falls_from_that_of_a_uniform_guess(stream: np.ndarray) -> None:
    """log 257 = 5.55 and a half for untrained logits at first; byte frequencies give 3 nats."""
    config = TrainingConfig(
        TransformerConfig(width=16, num_layers=1),
        num_steps=80,
        batch_size=8,
        window=32,
        warmup_steps=5,
        learning_rate=1e-2,
        pair_steps=0,
        counted_share=0.0,
    )
    trained = train(config, jax.random.key(1), stream)
    assert trained.losses[0] > 5.5
    assert trained.losses[-10:].mean() < 3.3
    assert evaluate(trained.model, load_corpus().validation[:50], TOKENIZER).nats_per_token < 3.3


def test_an_interrupted_run_ends_in_the_same_numbers(
    stream: np.ndarray, uninterrupted: Trained, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    call = {"checkpoint": run, "checkpoint_every": 3}
    with pytest.raises(KeyboardInterrupt):
        train(TINY, jax.random.key(0), stream, **call, progress=interrupt(5))
    # A process that is killed as it writes leaves a folder under another name.
    shutil.copytree(run / "3", run / "6.orbax-checkpoint-tmp")

    steps: list[int] = []
    resumed = train(
        TINY, jax.random.key(0), stream, **call, progress=lambda _, done, __: steps.append(done)
    )
    assert steps == [4, 5, 6]
    assert_same(resumed, uninterrupted)
    assert sorted(os.listdir(run)) == ["3", "6"]

    steps.clear()
    loaded = train(TINY, jax.random.key(0), stream, checkpoint=run, progress=interrupt(1))
    assert_same(loaded, uninterrupted)
    assert np.isnan(loaded.tokens_per_second)


def test_a_finished_run_is_read_without_preparations(
    stream: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TINY, counted_share=0.5, counted_order=2)
    trained = train(config, jax.random.key(0), stream, checkpoint=tmp_path / "run")
    for preparation in ("start_from_pairs", "CountedElsewhere"):
        monkeypatch.delattr(training, preparation)
    assert_same(trained, train(config, jax.random.key(0), stream, checkpoint=tmp_path / "run"))


def test_progress_tells_loss_and_speed(stream: np.ndarray, uninterrupted: Trained) -> None:
    told: list[tuple[str, int, int]] = []
    train(TINY, jax.random.key(0), stream, progress=lambda *update: told.append(update))
    assert [update[1:] for update in told] == [(done, 6) for done in range(1, 7)]
    assert told[0][0] == f"training (loss {uninterrupted.losses[0]:.3f})"
    assert told[-1][0].startswith(f"training (loss {uninterrupted.losses[-1]:.3f}, ")
    assert told[-1][0].endswith(" tokens/s)")
    assert uninterrupted.tokens_per_second > 0


def test_a_stream_on_disk_trains_the_same_model(
    stream: np.ndarray, uninterrupted: Trained, tmp_path: Path
) -> None:
    on_disk = write_tokens(tmp_path / "tokens.npy", load_corpus().train[:3000], TOKENIZER)
    assert_same(train(TINY, jax.random.key(0), on_disk), uninterrupted)


def test_targets_are_in_part_the_token_and_in_part_the_law_counted_elsewhere() -> None:
    tokens = np.random.default_rng(0).integers(0, 4, (8, 5))
    vocabulary = Vocabulary.plain(5)
    stream = np.array([[vocabulary.bos_id, *row, vocabulary.eos_id] for row in tokens]).ravel()
    config = replace(TINY, model=TransformerConfig(vocabulary, width=8), counted_share=0.3)
    counted = CountedElsewhere(stream, vocabulary, order=3)
    places = np.array([[0, 1, 2, 3, 4, 5, 6, -1], [0, 1, 2, 3, 4, 5, 6, 7]])
    read, laws = training._with_laws(stream, config, counted, places)
    assert read.tolist() == [stream[:7].tolist()] * 2
    expected = 0.3 * counted(np.arange(1, 7)) + 0.7 * np.eye(5)[stream[1:7]]
    for row in laws:
        np.testing.assert_allclose(row[:6], expected, rtol=1e-6)
        assert not row[6].any()  # PAD, or a BOS that is given


def test_a_law_of_one_token_costs_what_the_token_costs() -> None:
    model = Transformer(TransformerConfig(Vocabulary.plain(5), width=8), rngs=nnx.Rngs(0))
    tokens = jnp.array([[5, 0, 1, 4, 5, 2], [5, 3, 4, 6, 6, 6]], jnp.int32)  # BOS is 5, PAD 6
    laws = jax.nn.one_hot(tokens[:, 1:], 5, dtype=jnp.float32)
    loss, number = nnx.jit(law_loss)(model, (tokens[:, :-1], laws))
    expected, expected_number = nnx.jit(next_token_loss)(model, tokens)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert float(number) == float(expected_number) == 6


def test_accumulated_gradients_are_those_of_the_whole_batch(
    stream: np.ndarray, uninterrupted: Trained
) -> None:
    """Parts differ in how many tokens they predict, as BOS is none: no mean of means would do."""
    parts = train(replace(TINY, num_parts=2), jax.random.key(0), stream)
    assert_same(parts, uninterrupted, rtol=2e-4)


SHARED_OUT = """
import json, sys, jax, numpy
from simulations.language_model.train import train
from tests.simulations.language_model import test_train as here
devices = jax.make_mesh((8,), ("examples",), axis_types=(jax.sharding.AxisType.Auto,))
losses = train(here.TINY, jax.random.key(0), numpy.load(sys.argv[1]), devices=devices).losses
print(json.dumps([jax.device_count(), losses.tolist()]))
"""


@pytest.mark.slow
def test_eight_devices_train_the_model_of_one(
    stream: np.ndarray, uninterrupted: Trained, tmp_path: Path
) -> None:
    np.save(tmp_path / "stream.npy", stream)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    process = subprocess.run(
        [sys.executable, "-c", SHARED_OUT, str(tmp_path / "stream.npy")],
        env={**os.environ, "XLA_FLAGS": flags},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    num_devices, losses = json.loads(process.stdout.splitlines()[-1])
    assert num_devices == 8
    np.testing.assert_allclose(losses, uninterrupted.losses, rtol=1e-4)


def test_layers_are_moved_along_orthogonal_matrices_and_embeddings_by_adam() -> None:
    """The first update of Muon has all singular values near the rate; Adam's entries are equal.

    Nesterov's look-ahead makes them 1 + β(1−β)/(1−β²) times the rate at the first step.
    """
    config = replace(TINY, warmup_steps=0, weight_decay=0.0)
    model = Transformer(config.model, rngs=nnx.Rngs(0))
    parameters = nnx.state(model, nnx.Param)
    rng = np.random.default_rng(0)
    gradient = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(p.dtype), parameters)
    transform = training._optimizer(config)
    first_update = jax.jit(lambda g, p: transform.update(g, transform.init(p), p)[0])
    with jax.numpy_dtype_promotion("standard"):
        updates = first_update(gradient, parameters)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        if update.ndim == 3:
            singular = np.linalg.svd(np.asarray(update[0], np.float64))[1]
            shape = max(1, update.shape[2] / update.shape[1]) ** 0.5
            assert (abs(singular / (shape * config.matrix_learning_rate) - 0.95) < 0.3).all(), path
        else:
            ahead = 1 + 0.9 * 0.1 / (1 - 0.9**2)
            np.testing.assert_allclose(abs(update), ahead * config.learning_rate, rtol=1e-4)


def test_another_key_gives_another_model(stream: np.ndarray, uninterrupted: Trained) -> None:
    other = train(TINY, jax.random.key(1), stream)
    assert (other.losses != uninterrupted.losses).all()


def test_a_checkpoint_of_another_run_is_refused(stream: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "run"
    train(TINY, jax.random.key(0), stream, checkpoint=path)
    wider = replace(TINY, model=TransformerConfig(width=12, num_layers=1))
    with pytest.raises(ValueError, match=r'(?s)"width": 8.*"width": 12.*delete the folder'):
        train(wider, jax.random.key(0), stream, checkpoint=path)
    with pytest.raises(ValueError, match=r'(?s)"key": \[0, 0\].*"key": \[0, 1\]'):
        train(TINY, jax.random.key(1), stream, checkpoint=path)
    with pytest.raises(ValueError, match=training._sha256(stream[1:])):
        train(TINY, jax.random.key(0), stream[1:], checkpoint=path)

    # Damaged: all of its larger files end early.
    for file in (path / "6" / "state").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"run/6 must be a state as it was written"):
        train(TINY, jax.random.key(0), stream, checkpoint=path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: train(TINY, jax.random.key(0), np.arange(4)),
            "has 4 tokens, which is not more than the window of 17",
        ),
        (
            lambda: train(TINY, jax.random.key(0), np.full(40, 300)),
            "has token 300, but the model reads 0 to 257",
        ),
        (lambda: replace(TINY, warmup_steps=6), "warmup_steps is 6 and num_steps is 6"),
        (
            lambda: train(replace(TINY, counted_share=0.5), jax.random.key(0), np.arange(40)),
            "has 1 documents, too few to count n-grams on other ones",
        ),
        (lambda: replace(TINY, num_parts=3), "num_parts is 3 and batch_size is 8"),
        (lambda: replace(TINY, counted_share=1.0), "counted_share is 1.0"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_evaluation_weighs_every_token_once(uninterrupted: Trained) -> None:
    """Three documents by hand from the logits, each from its BOS; the longest in two windows."""
    model, documents = uninterrupted.model, load_corpus().validation[:3]
    sizes = sorted(len(text) + 1 for text in documents)
    window = sizes[-1] - 3
    assert sizes[-2] < window
    nats, count = 0.0, 0
    forward = nnx.jit(lambda model, tokens: jax.nn.log_softmax(model(tokens)))
    for text in documents:
        tokens = token_stream([text], TOKENIZER)
        for start in range(0, tokens.size - 1, window):
            piece = tokens[start : start + window + 1]
            filled = np.append(piece, [model.config.vocabulary.pad_id] * (sizes[-1] - piece.size))
            log_probs = np.asarray(forward(model, jnp.asarray(filled[None])))[0]
            nats -= log_probs[np.arange(piece.size - 1), piece[1:]].sum(dtype=float)
            count += piece.size - 1
    found = evaluate(model, documents, TOKENIZER, window=window)
    assert count == sum(sizes)
    assert found.nats_per_token == pytest.approx(nats / count, rel=1e-5)
    num_bytes = sum(len(text.encode()) for text in documents)
    assert found.bits_per_byte == pytest.approx(nats / np.log(2) / num_bytes, rel=1e-5)
