"""Training the language model: next-token prediction on shuffled texts, resumable to the bit."""

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
from simulations.language_model.first_parameters import look_back, start_from_pairs
from simulations.language_model.fit import Batch, Update, fit
from simulations.language_model.resume import Checkpoint
from simulations.language_model.text.corpus import bits_per_byte, marked
from simulations.language_model.text.kneser_ney import CountedElsewhere
from simulations.language_model.text.tokenizers import Tokenizer, Vocabulary
from simulations.language_model.transformer import (
    Transformer,
    TransformerConfig,
    law_loss,
    next_token_loss,
)
from simulations.language_model.windows import Windows, chunks, document_starts

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
    attention_bias=True,
)
"""A Qwen2 of 665,000 parameters: subwords, two heads of the usual width, SwiGLU."""


@dataclass(frozen=True)
class TrainingConfig:
    """What decides the trained model, apart from the tokens and the key.

    Training begins with what needs no layer: embedding and head are fitted to the counts of
    adjacent tokens, while layers add nothing. That takes two seconds and is worth a minute. Where
    queries and keys have biases, these are such that the first layer's heads attend to the token
    before, to the one before that, and so on, which they would learn to do anyway.

    Then gradients of the layers' matrices are made orthogonal before they are applied (Muon); all
    other parameters are AdamW's. Rates rise over ``warmup_steps`` and fall along a cosine.

    What is to be predicted is in part the token that came, and in part the law of n-grams counted
    on other documents: in a text that is read several times the token alone would be learnt by
    heart.

    Attributes:
        model: shape of the model.
        num_steps: updates.
        batch_size: windows in an update.
        window: tokens that each window predicts at most.
        learning_rate: AdamW's, of embeddings, head, norms and biases; its largest value.
        matrix_learning_rate: Muon's, its largest value.
        warmup_steps: updates until these are reached; fewer than ``num_steps``.
        weight_decay: of both.
        num_parts: of a batch, one in memory at a time; a divisor of ``batch_size``. A processor is
            a fifth faster with parts that fit into its cache, an accelerator with one.
        pair_steps: updates of embedding and head by the counts of pairs, before the others; 0 for
            none. They need V² numbers of memory.
        counted_share: how much of each target is the law of n-grams, in [0, 1); 0 counts none.
            They need a few times the memory of the text, and 8 V² numbers.
        counted_order: n.

    Raises:
        ValueError: the training does not outlast the warm-up, or parts that are not equal.
    """

    model: TransformerConfig = DEFAULT_MODEL
    num_steps: int = 1000
    batch_size: int = 16
    window: int = 64
    learning_rate: float = 4e-3
    matrix_learning_rate: float = 4e-2
    warmup_steps: int = 20
    weight_decay: float = 0.1
    num_parts: int = 2
    pair_steps: int = 60
    counted_share: float = 0.5
    counted_order: int = 4

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
        if not 0 <= self.counted_share < 1:
            raise ValueError(
                f"counted_share is {self.counted_share}: it is a part of each target, so make it "
                "0 or more and less than 1"
            )


@dataclass(frozen=True)
class Trained:
    """What training came to.

    Attributes:
        model: with its last parameters.
        losses: training loss at each step, in nats per token, ``[num_steps]``; of n-grams' laws
            where they are a part of what is to be predicted.
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
    """Train on the documents of ``stream [T]``; consumes ``key``.

    Documents are packed into windows, whole where they fit and else in parts, and the windows are
    read in an order of its own in each epoch. Those of step i depend on (key, i) alone: interrupted
    or not, a run ends in the same numbers.

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
    kept = None
    if checkpoint is not None:
        identity = identity_of(config, key, tokens_sha256=_sha256(stream))
        kept = Checkpoint(checkpoint, identity, checkpoint_every)
    if kept is None or not kept.is_begun:
        if config.pair_steps:
            start_from_pairs(model, stream, config.pair_steps)
        if config.model.attention_bias and config.model.rotated:
            look_back(model)
    documents = document_starts(stream, config.model.vocabulary)
    if config.counted_share and documents.size < 4:
        raise ValueError(
            f"the training text has {documents.size} documents, too few to count n-grams on other "
            "ones: pass more text, or counted_share=0"
        )
    windows = Windows.pack(documents, stream.size, config.window + 1)
    places = partial(windows.places, window_key, config.batch_size)
    if config.counted_share:

        @functools.cache  # a run that is done already has no use for it
        def counted() -> CountedElsewhere:
            return CountedElsewhere(stream, config.model.vocabulary, order=config.counted_order)

        def batch(places: np.ndarray) -> Batch:
            return _with_laws(stream, config, counted(), places)

        loss = law_loss
    else:
        loss, batch = next_token_loss, partial(_tokens, stream, config)
    fitted = fit(
        model,
        loss,
        lambda step: batch(places(step)),
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
    """Rows ``[64, 64k + 1]`` of like length, PAD to the right: few shapes, little padding."""
    pieces = sorted(pieces, key=len)
    for start in range(0, len(pieces), 64):
        batch = pieces[start : start + 64]
        rows = np.full((64, 1 - (1 - len(batch[-1])) // 64 * 64), pad_id, np.int32)
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


def _tokens(stream: np.ndarray, config: TrainingConfig, places: np.ndarray) -> np.ndarray:
    """The batch ``[B, window + 1]`` at ``places`` of the stream, PAD where these are −1."""
    tokens = stream[np.maximum(places, 0)].astype(np.int32)
    return np.where(places < 0, np.int32(config.model.vocabulary.pad_id), tokens)


def _with_laws(
    stream: np.ndarray, config: TrainingConfig, counted: CountedElsewhere, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens ``[B, T]``, and what is to be learnt of the one after each, ``[B, T, V]``."""
    tokens = _tokens(stream, config, places)
    laws = counted(np.maximum(places[:, 1:], 0))
    laws *= config.counted_share
    predicted = tokens[:, 1:] < laws.shape[-1]
    laws[*np.nonzero(predicted), tokens[:, 1:][predicted]] += 1 - config.counted_share
    laws[~predicted] = 0.0
    return tokens[:, :-1], laws


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
    largest, inputs = max(map(np.max, chunks(stream))), config.model.vocabulary.num_inputs
    if largest >= inputs:
        raise ValueError(
            f"the training text has token {largest}, but the model reads 0 to {inputs - 1}: give "
            "it the tokenizer's vocabulary"
        )


def _sha256(stream: np.ndarray) -> str:
    digest = hashlib.sha256()
    for chunk in chunks(stream):
        digest.update(np.ascontiguousarray(chunk, np.dtype("<u4")).data)
    return digest.hexdigest()
