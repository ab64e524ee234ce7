"""Responses drawn from a language model, with the log-probability of every token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from numpy.typing import NDArray

from simulations.draws.words import key_words
from simulations.engine import checkpoint as files
from simulations.language_model import decode, sharding
from simulations.language_model.sampler import TokenLaw
from simulations.language_model.transformer import (
    Transformer,
    parameters_sha256,
    token_log_probs,
)
from simulations.tools.arguments import integer_within

_CHUNK = 16  # tokens after which rows that have ended are taken out


@dataclass(frozen=True)
class Responses:
    """N responses to each of B prompts, on the host.

    Attributes:
        tokens: ``[B, N, T]``, up to EOS, which is the last token kept, or up to the length limit;
            then PAD.
        lengths: ``[B, N]``, EOS counted.
        token_log_probs: ``[B, N, T]``, of each token under the law it was drawn from, in nats;
            0 at PAD.
        token_model_log_probs: ``[B, N, T]``, likewise under the model, whose law it is at
            temperature 1 with no token cut.
    """

    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    token_log_probs: NDArray[np.float32]
    token_model_log_probs: NDArray[np.float32]

    @property
    def log_probs(self) -> NDArray[np.float64]:
        """Of whole responses under the law they were drawn from, ``[B, N]``."""
        return self.token_log_probs.sum(axis=-1, dtype=np.float64)

    @property
    def model_log_probs(self) -> NDArray[np.float64]:
        """Of whole responses under the model, ``[B, N]``."""
        return self.token_model_log_probs.sum(axis=-1, dtype=np.float64)


def generate(
    key: jax.Array,
    model: Transformer,
    prompts: np.ndarray | jax.Array,
    *,
    num_candidates: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    batch_size: int = 512,
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Responses:
    """Draw ``num_candidates`` i.i.d. responses to each of ``prompts [B, P]``; consumes ``key``.

    A response y has probability Π_t softmax(logits_t / temperature)[y_t], EOS included, cut and
    renormalised by ``top_k`` and ``top_p`` (see
    :class:`~simulations.language_model.sampler.TokenLaw`); one that is cut at ``max_new_tokens``
    has that of its tokens, so that all probabilities sum to one.

    Candidate j of prompt i depends on (key, i, j) alone: more candidates, more tokens or further
    prompts add to what was drawn, and ``batch_size``, ``chunk_size`` and ``mesh`` change nothing
    but the time (up to the rounding of a matrix product, which may turn a draw that falls within
    1e-6 of a boundary).

    A prompt is read once for all the candidates of a batch. A batch stops when all its responses
    have ended; every ``chunk_size`` tokens those that have ended are taken out of it, once they are
    half, and those that have not get room to remember as many more.

    Args:
        key: a typed key.
        model: the language model.
        prompts: token ids, PAD to the left, as ``text.tokenizers.encode_prompts`` makes them.
        num_candidates: N ≥ 1.
        max_new_tokens: T ≥ 1, the longest response, EOS included.
        temperature: divides the logits; 0 takes the likeliest token always.
        top_k: keeps the k likeliest tokens, and what ties with the last.
        top_p: keeps the fewest likeliest tokens of at least this probability, in (0, 1].
        batch_size: rows sampled at once, ≥ 1.
        chunk_size: tokens between looking for responses that have ended, ≥ 1. Each chunk, and each
            halving of the rows, compiles a program; by default it is 16 for responses of at least
            twice as many tokens and work of at least 1e12 operations (1e15 on an accelerator), two
            for each parameter, row and token; what is shorter, or less work, is one chunk.
        mesh: devices that share the work, see :mod:`simulations.language_model.sharding`.
        checkpoint: a directory, in which each batch is kept as it is done; the same call again goes
            on from what is there, with the same result.
        progress: called as ``progress(done, total)``, in rows, after each batch.

    Raises:
        ValueError: prompts that are not ``[B, P]``, empty, padded on the right, of another
            vocabulary, or too long for the model's context with a response; a number out of range;
            a mesh without axes that are known; a damaged checkpoint.
        OSError: a checkpoint that cannot be written.

    Example:
        >>> from flax import nnx
        >>> from simulations.language_model.text.tokenizers import Vocabulary
        >>> from simulations.language_model.architecture import TransformerConfig
        >>> config = TransformerConfig(Vocabulary.plain(5), width=8, num_layers=1)
        >>> model = Transformer(config, rngs=nnx.Rngs(0))
        >>> prompts = np.array([[config.vocabulary.bos_id]])
        >>> drawn = generate(
        ...     jax.random.key(0), model, prompts, num_candidates=3, max_new_tokens=4
        ... )
        >>> drawn.tokens.shape, drawn.log_probs.shape
        ((1, 3, 4), (1, 3))
    """
    law = TokenLaw(temperature, top_k, top_p)
    prompts = checked_prompts(prompts, model, law, max_new_tokens)
    num_candidates = _whole("num_candidates", num_candidates)
    batch_size = _whole("batch_size", batch_size)
    if chunk_size is None:
        num_tokens = prompts.shape[0] * num_candidates * max_new_tokens
        worth_it = max_new_tokens >= 2 * _CHUNK and decode.is_worth_compiling(model, num_tokens)
        chunk_size = _CHUNK if worth_it else max_new_tokens
    chunk_size = _whole("chunk_size", chunk_size)
    sampler = _Sampler(key_words(key), model, law, prompts, max_new_tokens, chunk_size, mesh)

    shape = (prompts.shape[0], num_candidates)
    tokens = np.full((*shape, max_new_tokens), model.config.vocabulary.pad_id, np.int32)
    log_probs, model_log_probs = np.zeros((2, *tokens.shape), np.float32)
    done = 0
    for batch in _batches(*shape, batch_size, sharding.num_devices(mesh, sharding.ROWS)):
        drawn = sampler(batch) if checkpoint is None else _kept(checkpoint, sampler, batch)
        real = batch.candidate < num_candidates
        where = np.broadcast_to(batch.prompt[:, None], real.shape)[real], batch.candidate[real]
        for whole, part in zip((tokens, log_probs, model_log_probs), drawn, strict=True):
            whole[where] = part[real]
        done += int(real.sum())
        if progress is not None:
            progress(done, shape[0] * shape[1])
    lengths = (tokens < model.config.vocabulary.num_tokens).sum(axis=-1).astype(np.int32)
    return Responses(tokens, lengths, log_probs, model_log_probs)


def greedy(
    model: Transformer, prompts: np.ndarray | jax.Array, *, max_new_tokens: int
) -> NDArray[np.int32]:
    """The answer ``[B, T]`` to each of ``prompts [B, P]`` that takes the likeliest token always.

    Up to EOS, which is the last token kept, then PAD. Nothing is random: answers can be compared.

    Args:
        model: the language model.
        prompts: as :func:`generate` takes them.
        max_new_tokens: T, EOS included.

    Raises:
        ValueError: as :func:`generate`.
    """
    drawn = generate(
        jax.random.key(0),
        model,
        prompts,
        num_candidates=1,
        max_new_tokens=max_new_tokens,
        temperature=0,
    )
    return drawn.tokens[:, 0]


@jax.jit
def response_token_log_probs(
    model: Transformer,
    prompts: np.ndarray | jax.Array,
    responses: np.ndarray | jax.Array,
    *,
    temperature: float = 1.0,
) -> jax.Array:
    """log-probability of each token of ``responses [B, T]`` after ``prompts [B, P]``, in one pass.

    log softmax(logits / temperature) of the response's tokens, EOS included, and 0 at PAD. It
    equals ``Responses.token_log_probs`` of the same tokens, and it is differentiable.

    Args:
        model: the language model.
        prompts: as :func:`generate` takes them.
        responses: token ids, PAD to the right.
        temperature: divides the logits; positive.
    """
    responses = jnp.asarray(responses, jnp.int32)
    tokens = jnp.concatenate([jnp.asarray(prompts, jnp.int32), responses], axis=1)
    # What predicts the response begins at the prompt's last token.
    logits = model.logits(model.features(tokens[:, :-1])[:, -responses.shape[1] :])
    counted = responses < model.config.vocabulary.num_tokens
    log_probs = token_log_probs(logits / temperature, jnp.where(counted, responses, 0))
    return jnp.where(counted, log_probs, 0.0)


@jax.jit
def response_log_probs(
    model: Transformer,
    prompts: np.ndarray | jax.Array,
    responses: np.ndarray | jax.Array,
    *,
    temperature: float = 1.0,
) -> jax.Array:
    """log-probability ``[B]`` of whole ``responses``: the sum of :func:`response_token_log_probs`.

    Takes the same arguments.
    """
    return jnp.sum(
        response_token_log_probs(model, prompts, responses, temperature=temperature), axis=1
    )


def checked_prompts(
    prompts: np.ndarray | jax.Array, model: Transformer, law: TokenLaw, max_new_tokens: int
) -> NDArray[np.int32]:
    """``prompts [B, P]`` that the model can continue by so many tokens of the law.

    Raises:
        ValueError: anything else, see :func:`generate`.
    """
    prompts, vocabulary = np.asarray(prompts), model.config.vocabulary
    _whole("max_new_tokens", max_new_tokens)
    if prompts.ndim != 2 or prompts.size == 0 or not np.issubdtype(prompts.dtype, np.integer):
        raise ValueError(
            f"prompts has shape {prompts.shape} and dtype {prompts.dtype}: pass token ids [B, P], "
            "as `encode_prompts` makes them"
        )
    if prompts.min() < 0 or prompts.max() > vocabulary.pad_id:
        raise ValueError(
            f"prompts has token ids from {prompts.min()} to {prompts.max()}, but the model takes "
            f"0 to {vocabulary.pad_id}: encode them with the model's vocabulary"
        )
    if (prompts[:, -1] == vocabulary.pad_id).any():
        raise ValueError("prompts has rows that end in PAD: pad on the left instead")
    longest = int(np.sum(prompts != vocabulary.pad_id, axis=1).max())
    if longest + max_new_tokens > model.config.context:
        raise ValueError(
            f"max_new_tokens is {max_new_tokens} after a prompt of {longest} tokens, but the model "
            f"has a context of {model.config.context}: shorten one of them"
        )
    if law.top_k is not None and law.top_k > vocabulary.num_tokens:
        raise ValueError(
            f"top_k is {law.top_k}, but the model has {vocabulary.num_tokens} tokens: leave it out "
            "to keep all"
        )
    return prompts.astype(np.int32)


@dataclass(frozen=True)
class _Batch:
    """Rows that are sampled at once.

    Attributes:
        number: of the batch.
        prompt: ``[G]``.
        candidate: ``[G, M]``; beyond the last that was asked for where there is nothing to do.
    """

    number: int
    prompt: NDArray[np.int32]
    candidate: NDArray[np.int32]


def _batches(
    num_prompts: int, num_candidates: int, num_rows: int, num_devices: int
) -> Iterator[_Batch]:
    """Batches of one shape, of about ``num_rows``, that hold every candidate of every prompt.

    The candidates of a prompt are cut into parts of equal size, a multiple of ``num_devices``, and
    a batch has as many parts as fit.
    """
    parts = -(-num_candidates // num_rows)
    size = -(-num_candidates // parts)
    size = -(-size // num_devices) * num_devices
    at_once = min(max(1, num_rows // size), num_prompts * parts)
    for number, first in enumerate(range(0, num_prompts * parts, at_once)):
        group = np.arange(first, first + at_once)
        prompt, part = np.divmod(np.minimum(group, num_prompts * parts - 1), parts)
        candidate = part[:, None] * size + np.arange(size)
        candidate[group >= num_prompts * parts] = num_candidates  # fills the last batch up
        yield _Batch(number, prompt.astype(np.int32), candidate.astype(np.int32))


class _Sampler:
    """Draws batches; what was read of a prompt serves the next batch of the same prompts."""

    def __init__(
        self,
        key: jax.Array,
        model: Transformer,
        law: TokenLaw,
        prompts: NDArray[np.int32],
        num_tokens: int,
        chunk: int,
        mesh: Mesh | None,
    ) -> None:
        self.key, self.law, self.prompts, self.mesh = key, law, prompts, mesh
        self.config, self.num_tokens, self.chunk = model.config, num_tokens, chunk
        self.frozen = decode.Frozen.of(model if mesh is None else sharding.place(model, mesh))
        self.unit = sharding.num_devices(mesh, sharding.ROWS)
        self.read: tuple[bytes, decode.Start] | None = None

    def __call__(self, batch: _Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens, their log-probabilities, and those under the model, ``[G, M, T]`` each."""
        start = self.start(batch.prompt)
        frozen, law, mesh, size = self.frozen, self.law, self.mesh, self.num_tokens
        rows = self.key, batch.prompt, batch.candidate
        slots = min(self.chunk, size)
        drawn = decode.begin(frozen, law, *rows, start, num_tokens=size, num_slots=slots, mesh=mesh)
        whole = decode.on_host(drawn)
        place = np.broadcast_to(np.arange(batch.candidate.shape[1]), batch.candidate.shape)
        for stop in range(self.chunk, size + self.chunk, self.chunk):
            stop = min(stop, size)
            if stop > drawn.branches.occupied.shape[-1]:
                drawn = decode.widen(drawn, num_slots=stop)
            drawn = decode.go_on(frozen, law, start, drawn, np.int32(stop))
            running = ~np.asarray(drawn.ended)
            width = self.width(running)
            finished = stop == size or not running.any()
            if finished or width < place.shape[1]:
                for array, part in zip(whole, decode.on_host(drawn), strict=True):
                    np.put_along_axis(array, place[..., None], part, axis=1)
            if finished:
                break
            if width < place.shape[1]:
                first = np.argsort(~running, axis=1, kind="stable")[:, :width].astype(np.int32)
                drawn = decode.keep(drawn, first, mesh=mesh)
                place = np.take_along_axis(place, first, axis=1)
        return whole

    def start(self, prompt: NDArray[np.int32]) -> decode.Start:
        """Where the responses to these prompts branch off."""
        if self.read is None or self.read[0] != prompt.tobytes():
            self.read = prompt.tobytes(), decode.read(self.frozen, self.prompts[prompt])
        return self.read[1]

    def width(self, running: NDArray[np.bool_]) -> int:
        """As many candidates as have room for those that run, by halves of what there are."""
        most, width = int(np.sum(running, axis=1).max()), running.shape[1]
        while width % (2 * self.unit) == 0 and most <= width // 2:
            width //= 2
        return width

    @cached_property
    def identity(self) -> files.Identity:
        """What decides the responses; of the model the SHA-256 of its parameters."""
        described = {
            "key": np.asarray(self.key),
            "model": self.config,
            "law": self.law,
            "prompts": self.prompts,
            "max_new_tokens": self.num_tokens,
            "chunk_size": self.chunk,
        }
        return {"parameters": parameters_sha256(self.frozen.model)} | {
            name: files.describe(value) for name, value in described.items()
        }


def _kept(
    directory: Path, sampler: _Sampler, batch: _Batch
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The batch as it is on disk, or drawn and put there."""
    rows = {"prompt": batch.prompt, "candidate": batch.candidate}
    identity = dict(sampler.identity) | {k: files.describe(v) for k, v in rows.items()}
    path = directory / files.file_name(f"responses-{batch.number:05d}", identity)
    names = "tokens", "log_probs", "model_log_probs"
    if path.exists():
        _, arrays = files.load(path, identity)
        return arrays[names[0]], arrays[names[1]], arrays[names[2]]
    drawn = sampler(batch)
    files.save(path, identity, dict(zip(names, drawn, strict=True)))
    return drawn


def _whole(name: str, value: Any) -> int:
    return integer_within(name, value, at_most=2**31 - 1, remedy="pass how many, 1 or more")
