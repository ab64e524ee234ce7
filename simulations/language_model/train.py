"""Training the language model: next-token prediction on random windows, resumable to the bit."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from flax import nnx

from simulations.engine.checkpoint import Identity
from simulations.language_model.fit import Update, fit
from simulations.language_model.resume import Checkpoint
from simulations.language_model.text.corpus import bits_per_byte, marked
from simulations.language_model.text.tokenizers import Tokenizer, Vocabulary
from simulations.language_model.transformer import (
    Transformer,
    TransformerConfig,
    next_token_loss,
)

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; the library itself never prints."""

DEFAULT_MODEL = TransformerConfig(
    vocabulary=Vocabulary.plain(1024),
    width=128,
    num_layers=2,
    num_heads=2,
    hidden_width=352,
    activation="silu",
    gated=True,
)
"""A Llama of 670,000 parameters: subwords, two heads of the usual width, SwiGLU."""


@dataclass(frozen=True)
class TrainingConfig:
    """What decides the trained model, apart from the tokens and the key.

    Training begins with what needs no layer: embedding and head are fitted to the counts of
    adjacent tokens, while layers add nothing. That takes two seconds and is worth a minute.

    Then gradients of the layers' matrices are made orthogonal before they are applied (Muon); all
    other parameters are AdamW's. Rates rise over ``warmup_steps`` and fall along a cosine.

    Attributes:
        model: shape of the model.
        num_steps: updates.
        batch_size: windows in an update.
        window: tokens that each window predicts.
        learning_rate: AdamW's, of embeddings, head, norms and biases; its largest value.
        matrix_learning_rate: Muon's, its largest value.
        warmup_steps: updates until these are reached; fewer than ``num_steps``.
        weight_decay: of both.
        num_parts: of a batch, one in memory at a time; a divisor of ``batch_size``.
        pair_steps: updates of embedding and head by the counts of pairs, before the others; 0 for
            none. They need V² numbers of memory.

    Raises:
        ValueError: the training does not outlast the warm-up, or parts that are not equal.
    """

    model: TransformerConfig = DEFAULT_MODEL
    num_steps: int = 1500
    batch_size: int = 16
    window: int = 64
    learning_rate: float = 1e-3
    matrix_learning_rate: float = 2e-2
    warmup_steps: int = 20
    weight_decay: float = 0.1
    num_parts: int = 1
    pair_steps: int = 60

    def __post_init__(self) -> None:
        """Refuse a warm-up that training does not outlast, and parts that are not equal."""
        if not 0 <= self.warmup_steps < self.num_steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps} and num_steps is {self.num_steps}: the "
                "warm-up must be shorter than the training"
            )
        if self.num_parts < 1 or self.batch_size % self.num_parts:
            raise ValueError(
                f"num_parts is {self.num_parts} and batch_size is {self.batch_size}: parts are "
                "equal, so make it a divisor"
            )


@dataclass(frozen=True)
class Trained:
    """What training came to.

    Attributes:
        model: with its last parameters.
        losses: training loss at each step, in nats per token, ``[num_steps]``.
        tokens_per_second: trained on by this run; NaN if it found next to nothing to do.
    """

    model: Transformer
    losses: np.ndarray
    tokens_per_second: float


def train(
    config: TrainingConfig,
    key: jax.Array,
    stream: np.ndarray,
    *,
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    devices: jax.sharding.Mesh | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train on random windows of ``stream [T]``; consumes ``key``.

    Documents are cut into windows from their BOS on, as they are met when the model is used, and
    what is left of a last window is filled with the documents that follow. The windows of step i
    depend on (key, i) alone: interrupted or not, a run ends in the same numbers.

    Args:
        config: of the model and of the training.
        key: a typed key, of the first parameters and of the windows.
        stream: token ids, as ``token_stream`` or ``write_tokens`` makes them; it may be on disk.
        checkpoint: folder to which the state is written as training goes on; a run that finds one
            goes on from there.
        checkpoint_every: steps between two writings; the last step is always written.
        devices: a mesh of one axis, over which the windows are shared out.
        progress: called as ``progress("training (…)", done, total)``, in steps, with loss and speed
            in the parentheses.

    Raises:
        ValueError: the checkpoint belongs to another configuration, text or key, the text is
            shorter than a window, or its tokens are not the model's.
        FloatingPointError: the loss is not finite; the last checkpoint is from before.
    """
    _check_stream(stream, config)
    start_key, window_key = jax.random.split(key)
    model = Transformer(config.model, rngs=nnx.Rngs(start_key))
    if config.pair_steps:
        _start_from_pairs(model, stream, config.pair_steps)
    kept = None
    if checkpoint is not None:
        identity = identity_of(config, key, tokens_sha256=_sha256(stream))
        kept = Checkpoint(checkpoint, identity, checkpoint_every)
    fitted = fit(
        model,
        next_token_loss,
        partial(_windows, window_key, stream, _document_starts(stream, config), config),
        _optimizer(config),
        num_steps=config.num_steps,
        num_parts=config.num_parts,
        devices=devices,
        checkpoint=kept,
        progress=None if progress is None else _told(progress),
    )
    return Trained(model, fitted.losses, fitted.speed)


def identity_of(config: Any, key: jax.Array, **data: str) -> Identity:
    """Everything that decides what comes of a ``config``, a dataclass, on data told by hashes."""
    return {"config": asdict(config), "key": jax.random.key_data(key).tolist(), **data}


@dataclass(frozen=True)
class HeldOut:
    """What a model makes of texts that it has not seen.

    Attributes:
        nats_per_token: mean of −log p, EOS counted.
        bits_per_byte: of the text, which compares models of different tokens.
    """

    nats_per_token: float
    bits_per_byte: float


def evaluate(
    model: Transformer, documents: Sequence[str], tokenizer: Tokenizer, *, window: int = 512
) -> HeldOut:
    """How well a model predicts each of ``documents`` from its BOS to its EOS.

    Args:
        model: the language model.
        documents: texts, at least one.
        tokenizer: of the model's vocabulary.
        window: tokens predicted at most from one context; what is longer is cut.

    Raises:
        ValueError: there is no document, or the vocabularies differ.
    """
    if tokenizer.vocabulary != model.config.vocabulary:
        raise ValueError(
            f"tokenizer has {tokenizer.vocabulary}, but the model {model.config.vocabulary}: "
            "encode with the tokenizer that it was trained on"
        )
    pieces = [
        tokens[start : start + window + 1]  # which overlap by one, the context of a first target
        for tokens in (marked(text, tokenizer) for text in documents)
        for start in range(0, len(tokens) - 1, window)
    ]
    if not pieces:
        raise ValueError("documents is empty: pass at least one text")
    batches = _by_length(pieces, model.config.vocabulary.pad_id)
    told = [tuple(map(float, _loss(model, jnp.asarray(rows)))) for rows in batches]
    nats, num_tokens = map(sum, zip(*told, strict=True))
    return HeldOut(nats / num_tokens, bits_per_byte(nats, documents))


_loss = nnx.jit(next_token_loss)


def _by_length(pieces: list[np.ndarray], pad_id: int) -> Iterator[np.ndarray]:
    """Rows ``[64, 32k + 1]`` of like length, PAD to the right: few shapes, little padding."""
    pieces = sorted(pieces, key=len)
    for start in range(0, len(pieces), 64):
        batch = pieces[start : start + 64]
        rows = np.full((64, 1 - (1 - len(batch[-1])) // 32 * 32), pad_id, np.int32)
        for row, piece in zip(rows, batch, strict=False):  # the last batch may be short
            row[: len(piece)] = piece
        yield rows


@functools.cache  # the same object for the same configuration: a second run does not compile
def _optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(0.0, 1.0, config.warmup_steps, config.num_steps)
    return optax.contrib.muon(
        lambda step: config.matrix_learning_rate * rate(step),
        weight_decay=config.weight_decay,
        adam_learning_rate=lambda step: config.learning_rate * rate(step),
        adam_b2=0.99,
        adam_weight_decay=config.weight_decay,
        muon_weight_dimension_numbers=_matrices,
    )


def _matrices(parameters: Any) -> Any:
    """Which parameters are matrices that map features to features: ``[layer, in, out]``."""
    matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    return jax.tree.map(lambda leaf: matrix if leaf.ndim == 3 else None, parameters)


def _start_from_pairs(model: Transformer, stream: np.ndarray, num_steps: int) -> None:
    """Make of an untrained model the best law of the next token given the last alone.

    The layers' outputs start from zero, so that features are the normalised embedding.
    """
    for last in (model.layers.attention.output, model.layers.perceptron.contract):
        last.kernel[...] = jnp.zeros_like(last.kernel[...])
    _to_unit_length(model.embedding)
    counts = _pair_counts(stream, model.config.vocabulary)
    fit(
        model,
        pair_loss,
        lambda step: counts,
        _pair_optimizer(num_steps),
        num_steps=num_steps,
        trained=nnx.Any(nnx.PathContains("embedding"), nnx.PathContains("head")),
    )
    _to_unit_length(model.embedding)


def pair_loss(model: Transformer, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum of −log p(second | first) without layers over ``counts [V_in, V]``; their number."""
    logits = model.logits(model.norm(model.embedding.embedding[...]))
    return -jnp.sum(counts * jax.nn.log_softmax(logits)), jnp.sum(counts)


@functools.cache
def _pair_optimizer(num_steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.linear_schedule(0.05, 0.0, num_steps), b2=0.95)


def _pair_counts(stream: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """How often a token follows another, ``[V_in, V]``."""
    counts = np.zeros((vocabulary.num_inputs, vocabulary.num_inputs), np.float32)
    for chunk in _chunks(stream, overlap=1):
        np.add.at(counts, (chunk[:-1], chunk[1:]), 1)
    return counts[:, : vocabulary.num_tokens]


def _to_unit_length(embedding: nnx.Embed) -> None:
    """Make the mean square of each row one, as RMSNorm does."""
    rows = embedding.embedding[...]
    size = jnp.sqrt(jnp.mean(jnp.square(rows), axis=1, keepdims=True))
    embedding.embedding[...] = rows / jnp.maximum(size, 1e-6).astype(rows.dtype)


def _windows(
    key: jax.Array, stream: np.ndarray, documents: np.ndarray, config: TrainingConfig, step: int
) -> np.ndarray:
    """The batch of a step, ``[B, window + 1]``: a window has one token more, its last target.

    It is the one that holds a token drawn at random, so that all of a long document is seen.
    """
    drawn = _tokens_drawn(key, step, stream.size, config.batch_size)
    document = documents[np.searchsorted(documents, drawn, side="right") - 1]
    starts = drawn - (drawn - document) % config.window
    starts = np.minimum(starts, stream.size - config.window - 1)
    return stream[starts[:, None] + np.arange(config.window + 1)].astype(np.int32)


def _document_starts(stream: np.ndarray, config: TrainingConfig) -> np.ndarray:
    """Where documents begin; a stream without BOS is one document."""
    bos, starts, seen = config.model.vocabulary.bos_id, [np.zeros(1, np.int64)], 0
    for chunk in _chunks(stream):
        starts.append(np.flatnonzero(chunk == bos) + seen)
        seen += chunk.size
    return np.concatenate(starts)


def _tokens_drawn(key: jax.Array, step: int, number: int, batch_size: int) -> np.ndarray:
    """Positions ``[B]`` among ``number``, which may be beyond 32 bits."""
    bits = np.asarray(_bits(key, jnp.uint32(step), batch_size)).astype(np.uint64)
    return ((bits[0] << np.uint64(32) | bits[1]) % np.uint64(number)).astype(np.int64)


@partial(jax.jit, static_argnames="batch_size")
def _bits(key: jax.Array, step: jax.Array, batch_size: int) -> jax.Array:
    return jax.random.bits(jax.random.fold_in(key, step), (2, batch_size), jnp.uint32)


def _told(progress: Progress) -> Callable[[Update], None]:
    def tell(update: Update) -> None:
        speed = "" if np.isnan(update.speed) else f", {update.speed:,.0f} tokens/s"
        progress(f"training (loss {update.loss:.3f}{speed})", update.done, update.total)

    return tell


def _check_stream(stream: np.ndarray, config: TrainingConfig) -> None:
    if stream.size <= config.window:
        raise ValueError(
            f"the training text has {stream.size} tokens, which is not more than the window of "
            f"{config.window}: pass more text or a smaller window"
        )
    largest, inputs = max(map(np.max, _chunks(stream))), config.model.vocabulary.num_inputs
    if largest >= inputs:
        raise ValueError(
            f"the training text has token {largest}, but the model reads 0 to {inputs - 1}: give "
            "it the tokenizer's vocabulary"
        )


def _sha256(stream: np.ndarray) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(stream):
        digest.update(np.ascontiguousarray(chunk, np.dtype("<u4")).data)
    return digest.hexdigest()


def _chunks(stream: np.ndarray, *, size: int = 2**22, overlap: int = 0) -> Iterator[np.ndarray]:
    """Parts of a stream that may be larger than memory."""
    return (stream[start : start + size + overlap] for start in range(0, stream.size, size))
