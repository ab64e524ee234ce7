"""Training learns, and interruptions leave no trace."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from simulations.engine import checkpoint
from simulations.language_model import train as training
from simulations.language_model import windows
from simulations.language_model.first_parameters import look_back, pair_counts, start_from_pairs
from simulations.language_model.fit import fit
from simulations.language_model.resume import Checkpoint
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
    _rotation,
    law_loss,
    next_token_loss,
)
from simulations.language_model.windows import Windows, _fitted, chunks, document_starts
from simulations.tools.files import write_atomically

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


@pytest.mark.parametrize("size", [2, 5, 18])
def test_an_epoch_predicts_every_token_once_and_cuts_no_document_that_fits(size: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 40)
    starts, end = np.cumsum(lengths) - lengths, int(lengths.sum())
    windows = Windows.pack(starts, end, size)
    number = windows.first.size - 1
    epochs = [windows.places(jax.random.key(0), number, epoch) for epoch in range(2)]
    for places in epochs:
        predicted = []
        for row in places:
            row = row[row >= 0]
            breaks = np.flatnonzero(np.diff(row) != 1) + 1
            for part in np.split(row, breaks):
                document = np.searchsorted(starts, part[0], side="right") - 1
                if lengths[document] <= size:
                    assert part[0] == starts[document]
                targets = part[~np.isin(part, starts)]
                predicted += [place for place in targets if place > part[0]]
        assert sorted(predicted) == sorted(set(range(end)) - set(starts.tolist()))
    assert sorted(epochs[0].tolist()) == sorted(epochs[1].tolist())
    assert (epochs[0] != epochs[1]).any()
    # The same places a step at a time, over the end of the epoch.
    steps = [windows.places(jax.random.key(0), 3, step) for step in range(2 * number // 3)]
    both = np.concatenate(epochs)[: len(steps) * 3]
    np.testing.assert_array_equal(np.concatenate(steps), both)


def test_windows_are_nearly_full() -> None:
    lengths = np.random.default_rng(0).integers(10, 60, 3000)
    window = _fitted(lengths, 65)
    filled = np.bincount(window, lengths)
    assert filled.max() <= 65
    assert filled.mean() > 0.95 * 65


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
    loss, number = law_loss(model, (tokens[:, :-1], laws))
    expected, expected_number = next_token_loss(model, tokens)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert float(number) == float(expected_number) == 6


def test_training_starts_from_the_law_of_pairs() -> None:
    """A chain in which each token has two successors: that is known, and layers add nothing."""
    steps = np.random.default_rng(0).choice([1, 5], p=[0.75, 0.25], size=4000)
    stream = np.cumsum(steps) % 17
    model = Transformer(TransformerConfig(width=16, num_layers=1), rngs=nnx.Rngs(0))
    start_from_pairs(model, stream, 60)
    law = np.asarray(jax.nn.softmax(model(jnp.asarray(stream[None, :200], jnp.int32))))[0]
    for token in range(17):
        rows = law[stream[:200] == token]
        np.testing.assert_allclose(rows[:, (token + 1) % 17], 0.75, atol=0.12)
        np.testing.assert_allclose(rows[:, (token + 5) % 17], 0.25, atol=0.12)
        assert np.ptp(rows, axis=0).max() < 1e-5  # whatever came before


@pytest.mark.parametrize(
    ("heads", "key_heads", "fraction"), [(2, 2, 1.0), (4, 2, 1.0), (2, 1, 0.5), (3, 3, 0.25)]
)
def test_heads_of_the_first_layer_start_by_looking_at_the_tokens_before(
    heads: int, key_heads: int, fraction: float
) -> None:
    """Of tokens alike, key head k gives the one k + 1 before at least e⁴ times any other."""
    config = TransformerConfig(
        width=64 * heads,
        num_layers=2,
        num_heads=heads,
        num_key_heads=key_heads,
        attention_bias=True,
        rotary_fraction=fraction,
    )
    model = Transformer(config, rngs=nnx.Rngs(0))
    bias = model.layers.attention.project.bias
    assert bias is not None
    before = np.asarray(bias[...])
    look_back(model)
    after = np.asarray(bias[...])
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_array_equal(after[0, 64 * (heads + key_heads) :], 0)  # of the values

    queries, keys, _ = np.split(after[0], [64 * heads, 64 * (heads + key_heads)])
    turn = _rotation(jnp.arange(12, dtype=jnp.int32), 12, config.rotated, config.rotary_base)
    query, key = (
        np.asarray(turn(jnp.broadcast_to(own.reshape(1, -1, 64), (12, own.size // 64, 64))))
        for own in (queries, keys)
    )
    for head in range(heads):
        group = head // (heads // key_heads)
        scores = query[11, head] @ key[:, group].T / 8
        back = np.argsort(-scores)
        assert 11 - back[0] == group + 1
        assert scores[back[0]] - scores[back[1]] == pytest.approx(4, abs=1e-3)


def test_counts_of_pairs_cross_the_parts_that_a_long_stream_is_read_in() -> None:
    stream, vocabulary = np.array([0, 1, 0, 1, 1, 2, 3, 0]), Vocabulary.plain(3)
    counts = pair_counts(stream, vocabulary)
    np.testing.assert_array_equal(counts, [[0, 2, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]])
    parts = chunks(stream, size=3, overlap=1)
    assert [part.tolist() for part in parts] == [[0, 1, 0, 1], [1, 1, 2, 3], [3, 0]]


def test_documents_end_with_the_token_that_begins_them_where_bos_is_eos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Read in parts of three tokens, so that turns go on from one part to the next."""
    monkeypatch.setattr(windows, "chunks", partial(chunks, size=3))
    shared, apart = Vocabulary(3, eos_id=2, bos_id=2), Vocabulary.plain(3)
    documents = np.array([2, 0, 1, 2, 2, 2, 2, 1, 2])  # the second is empty
    assert document_starts(documents, shared).tolist() == [0, 4, 6]
    np.testing.assert_array_equal(pair_counts(documents, shared), [[0, 1, 0], [0, 0, 2], [1, 1, 0]])
    assert document_starts(np.array([0, 2, 3, 1, 2, 3]), apart).tolist() == [0, 2, 5]


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


class Line(nnx.Module):
    """y = slope · x + intercept."""

    def __init__(self) -> None:
        self.slope = nnx.Param(jnp.zeros((), jnp.float32))
        self.intercept = nnx.Variable(jnp.ones((), jnp.float32))


def squares(model: Line, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    x, y = batch
    errors = model.slope[...] * x + model.intercept[...] - y
    return jnp.sum(errors**2), jnp.float32(x.size)


def lines(step: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(step).normal(size=8).astype(np.float32)
    return x, 3 * x + 1


def test_any_loss_fits_and_what_is_frozen_stays() -> None:
    model = Line()
    fitted = fit(model, squares, lines, optax.adam(0.1), num_steps=150)
    assert float(model.slope[...]) == pytest.approx(3, abs=0.01)
    assert float(model.intercept[...]) == 1
    x, y = lines(0)
    assert fitted.losses[0] == pytest.approx(np.mean((1 - y) ** 2), rel=1e-6)
    assert fitted.gradient_norms[0] == pytest.approx(abs(np.mean(2 * x * (1 - y))), rel=1e-6)
    with pytest.raises(ValueError, match="no variable of the model is: name others"):
        fit(model, squares, lines, optax.adam(0.1), num_steps=1, trained=nnx.LoRAParam)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_and_the_last_good_state_is_kept(
    bad: float, tmp_path: Path
) -> None:
    def broken(step: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = lines(step)
        return x, y if step < 5 else y * np.float32(bad)

    kept = Checkpoint(tmp_path, {"run": 1}, every=2)
    call = {"num_steps": 8, "checkpoint": kept}
    transform = optax.adam(0.1)
    with pytest.raises(FloatingPointError, match=f"step 5 has loss .*{tmp_path} holds an earlier"):
        fit(Line(), squares, broken, transform, **call)
    assert sorted(map(int, os.listdir(tmp_path))) == [2, 4]

    resumed, whole = Line(), Line()
    fitted = fit(resumed, squares, lines, transform, **call)
    np.testing.assert_array_equal(
        fitted.losses, fit(whole, squares, lines, transform, num_steps=8).losses
    )
    np.testing.assert_array_equal(resumed.slope[...], whole.slope[...])


def test_a_gradient_that_is_not_finite_stops_before_it_is_kept(tmp_path: Path) -> None:
    """sqrt(0) is finite, its derivative is not."""
    kept = Checkpoint(tmp_path, {}, every=1)
    with pytest.raises(FloatingPointError, match=r"step 0 has loss 0\.0 and a gradient of norm"):
        fit(Line(), roots, lines, optax.sgd(0.1), num_steps=1, checkpoint=kept)
    assert kept.load((jnp.zeros(()),)) is None


def roots(model: Line, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return jnp.sqrt(model.slope[...]), jnp.float32(1)


def test_layers_are_moved_along_orthogonal_matrices_and_embeddings_by_adam() -> None:
    """The first update of Muon has all singular values near the rate; Adam's entries are equal.

    Nesterov's look-ahead makes them 1 + β(1−β)/(1−β²) times the rate at the first step.
    """
    config = replace(TINY, warmup_steps=0, weight_decay=0.0)
    model = Transformer(config.model, rngs=nnx.Rngs(0))
    parameters = nnx.state(model, nnx.Param)
    rng = np.random.default_rng(0)
    gradient = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), parameters)
    transform = training._optimizer(config)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = transform.update(gradient, transform.init(parameters), parameters)
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
