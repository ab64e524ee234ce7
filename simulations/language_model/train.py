"""Training the language model: next-token prediction on random windows, resumable to the bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from simulations.engine import checkpoint as checkpoints
from simulations.language_model import transformer
from simulations.language_model.text.corpus import Corpus, token_stream
from simulations.language_model.text.tokenizers import ByteTokenizer
from simulations.language_model.transformer import Transformer, next_token_loss

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; the library itself never prints."""


@dataclass(frozen=True)
class TrainingConfig:
    """What decides the trained model, apart from the corpus and the key.

    The default sees 2.5 million bytes: less than a minute on two cores. The learning rate rises
    over ``warmup_steps`` and falls along a cosine; gradients whose norm over all parameters exceeds
    1 are scaled down to 1 before AdamW sees them.

    Attributes:
        model: shape of the model.
        num_steps: updates.
        batch_size: windows in an update.
        window: tokens that each window predicts.
        learning_rate: its largest value.
        warmup_steps: updates until it is reached; fewer than ``num_steps``.
        weight_decay: AdamW's.

    Raises:
        ValueError: the training does not outlast the warm-up.
    """

    model: transformer.TransformerConfig = field(default_factory=transformer.TransformerConfig)
    num_steps: int = 600
    batch_size: int = 32
    window: int = 128
    learning_rate: float = 4e-3
    warmup_steps: int = 50
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a warm-up that training does not outlast."""
        if not 0 <= self.warmup_steps < self.num_steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps} and num_steps is {self.num_steps}: the "
                "warm-up must be shorter than the training"
            )


@dataclass(frozen=True)
class Trained:
    """What training came to.

    Attributes:
        model: with its last parameters.
        losses: training loss at each step, in nats per token, ``[num_steps]``.
    """

    model: Transformer
    losses: np.ndarray


def train(
    config: TrainingConfig,
    key: jax.Array,
    corpus: Corpus,
    *,
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    progress: Progress | None = None,
) -> Trained:
    """Train on ``corpus.train`` by AdamW on clipped gradients; consumes ``key``.

    The windows of step i depend on (key, i) alone: interrupted or not, a run ends in the same
    numbers.

    Args:
        config: of the model and of the training.
        key: a typed key, of the first parameters and of the windows.
        corpus: its training split is used.
        checkpoint: file to which the state is written as training goes on; a run that finds it
            goes on from there.
        checkpoint_every: steps between two writings; the last step is always written.
        progress: called as ``progress("training", done, total)``, in steps.

    Raises:
        ValueError: the checkpoint belongs to another configuration, corpus or key, or the text is
            shorter than a window.
    """
    identity = identity_of(config, key, corpus)
    start_key, window_key = jax.random.split(key)
    model, optimizer = _start(config, start_key)
    losses = np.zeros(config.num_steps, np.float32)
    done = 0
    if checkpoint is not None and checkpoint.exists():
        _, arrays = checkpoints.load(checkpoint, identity)
        done, losses = int(arrays.pop("done")), arrays.pop("losses")
        _restore((model, optimizer), arrays)

    stream = jnp.asarray(_checked_stream(corpus.train, config))
    while done < config.num_steps:
        losses[done] = _step(model, optimizer, stream, window_key, jnp.int32(done), config)
        done += 1
        if progress is not None:
            progress("training", done, config.num_steps)
        if checkpoint is not None and (done % checkpoint_every == 0 or done == config.num_steps):
            arrays = {"done": np.asarray(done), "losses": losses}
            checkpoints.save(checkpoint, identity, arrays | _flatten((model, optimizer)))
    return Trained(model, losses)


def identity_of(config: Any, key: jax.Array, corpus: Corpus) -> checkpoints.Identity:
    """Everything that decides what comes of a ``config``, a dataclass, on a corpus."""
    return {
        "config": asdict(config),
        "corpus_sha256": corpus.sha256,
        "key": jax.random.key_data(key).tolist(),
    }


def mean_loss(model: Transformer, documents: Sequence[str], *, window: int) -> float:
    """Mean nats per token over windows that cover the stream of ``documents``, each seen once.

    A window's first tokens have little context, as in training.

    Args:
        model: the language model.
        documents: texts, at least one.
        window: tokens that each window predicts.

    Raises:
        ValueError: there is no document.
    """
    stream = token_stream(documents, ByteTokenizer())
    num_windows = -(-(stream.size - 1) // window)
    # Windows overlap by one token: the last of one is the context of the next one's first target.
    padded = np.full(num_windows * window + 1, model.config.vocabulary.pad_id, np.int32)
    padded[: stream.size] = stream
    starts = np.arange(num_windows)[:, None] * window
    return float(_loss(model, jnp.asarray(padded[starts + np.arange(window + 1)])))


def _start(config: TrainingConfig, key: jax.Array) -> tuple[Transformer, nnx.Optimizer]:
    model = Transformer(config.model, rngs=nnx.Rngs(key))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, config.num_steps
    )
    transform = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=config.weight_decay)
    )
    return model, nnx.Optimizer(model, transform, wrt=nnx.Param)


@nnx.jit(static_argnames="config")
def _step(
    model: Transformer,
    optimizer: nnx.Optimizer,
    stream: jax.Array,
    key: jax.Array,
    step: jax.Array,
    config: TrainingConfig,
) -> jax.Array:
    """One update on a fresh batch of windows of ``stream [T]``; returns the loss before it."""
    starts = _window_starts(jax.random.fold_in(key, step), stream.size, config)
    windows = stream[starts[:, None] + jnp.arange(config.window + 1, dtype=jnp.int32)[None, :]]
    loss, gradients = nnx.value_and_grad(next_token_loss)(model, windows)
    # Optax's schedules and bias corrections mix Python floats with an integer step count.
    with jax.numpy_dtype_promotion("standard"):
        optimizer.update(model, gradients)
    return loss


def _window_starts(key: jax.Array, num_tokens: int, config: TrainingConfig) -> jax.Array:
    """First tokens of a batch of windows, ``[B]``: a window has one token more, its last target."""
    shape, last = (config.batch_size,), num_tokens - config.window - 1
    return jax.random.randint(key, shape, 0, last + 1, dtype=jnp.int32)


_loss = nnx.jit(next_token_loss)


def _checked_stream(documents: Sequence[str], config: TrainingConfig) -> np.ndarray:
    stream = token_stream(documents, ByteTokenizer())
    if stream.size <= config.window:
        raise ValueError(
            f"the training text has {stream.size} tokens, which is not more than the window of "
            f"{config.window}: pass more text or a smaller window"
        )
    return stream


def _flatten(modules: tuple[Transformer, nnx.Optimizer]) -> dict[str, np.ndarray]:
    """Every array of the model and the optimizer, named by its path."""
    flat = nnx.to_flat_state(nnx.state(modules))
    return {"/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in flat}


def _restore(modules: tuple[Transformer, nnx.Optimizer], arrays: dict[str, np.ndarray]) -> None:
    """Put arrays of ``_flatten`` back in place, in the modules' own dtypes."""
    state = nnx.state(modules)
    for path, leaf in nnx.to_flat_state(state):
        leaf[...] = jnp.asarray(arrays["/".join(map(str, path))], leaf.dtype)
    nnx.update(modules, state)
