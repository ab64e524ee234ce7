"""The programs that draw tokens: N continuations of each of B prompts, in one compiled loop.

Letters as in :mod:`simulations.language_model.transformer`. A prompt is read (:func:`read`), its
continuations are begun (:func:`begin`) and go on until a length is reached or all have ended
(:func:`go_on`); those that have not ended can be kept alone (:func:`keep`), or one of each prompt
can become a part of what was read (:func:`choose`), from which the next block is begun.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from simulations.language_model import sharding
from simulations.language_model.cache import Branches, Prefix
from simulations.language_model.sampler import TokenLaw, draw, row_words, token_words
from simulations.language_model.transformer import Transformer, num_parameters
from simulations.tools.pytree import pytree


@pytree(data_fields=["parameters"], meta_fields=["graph"])
@dataclass(frozen=True)
class Frozen:
    """A transformer as arguments of a compiled function."""

    parameters: nnx.State
    graph: nnx.GraphDef[Transformer]

    @classmethod
    def of(cls, model: Transformer) -> Frozen:
        """The model as it is now."""
        graph, parameters = nnx.split(model)
        return cls(parameters, graph)

    @property
    def model(self) -> Transformer:
        """The transformer."""
        return nnx.merge(self.graph, self.parameters)


@pytree(data_fields=["logits", "prefix", "num_drawn", "ended"], meta_fields=[])
@dataclass(frozen=True)
class Start:
    """Where continuations branch off.

    Attributes:
        logits: ``[B, V]``, of the first token.
        prefix: what came before it.
        num_drawn: ``[]``, how many slots of the response are before it.
        ended: ``[B]``, whether the response has ended already.
    """

    logits: jax.Array
    prefix: Prefix
    num_drawn: jax.Array
    ended: jax.Array


@pytree(
    data_fields=[
        "words",
        "tokens",
        "token_log_probs",
        "token_model_log_probs",
        "ended",
        "branches",
    ],
    meta_fields=[],
)
@dataclass(frozen=True)
class Drawn:
    """Continuations as far as they were drawn; the last token was not read yet.

    Attributes:
        words: ``[2, B, N]``, the random key of each.
        tokens: ``[B, N, T]``, PAD after the end and where nothing was drawn yet.
        token_log_probs: ``[B, N, T]`` under the law they are drawn from; 0 at PAD.
        token_model_log_probs: likewise under the model; None where that is the same law.
        ended: ``[B, N]``.
        branches: what was read of them: all tokens but the last.
    """

    words: jax.Array
    tokens: jax.Array
    token_log_probs: jax.Array
    token_model_log_probs: jax.Array | None
    ended: jax.Array
    branches: Branches

    def write(self, frozen: Frozen, at: jax.Array, drawn: tuple[jax.Array, ...]) -> Drawn:
        """With a token for each at place ``at``; one that has ended gets none."""
        vocabulary = frozen.model.config.vocabulary
        token, log_prob, model_log_prob = (each.reshape(self.ended.shape) for each in drawn)
        token = jnp.where(self.ended, vocabulary.pad_id, token)

        def put(old: jax.Array, new: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(old, new[..., None], at, axis=2)

        def put_log_prob(old: jax.Array, new: jax.Array) -> jax.Array:
            return put(old, jnp.where(self.ended, 0.0, new).astype(jnp.float32))

        under_model = self.token_model_log_probs
        return replace(
            self,
            tokens=put(self.tokens, token),
            token_log_probs=put_log_prob(self.token_log_probs, log_prob),
            token_model_log_probs=None
            if under_model is None
            else put_log_prob(under_model, model_log_prob),
            ended=self.ended | (token == vocabulary.eos_id),
        )


def is_worth_compiling(model: Transformer, num_tokens: int) -> bool:
    """Whether drawing so many tokens takes long enough for programs of the best shapes.

    That is 1e12 operations, two for each parameter and token, on a processor; an accelerator is
    through with them before a program is compiled, and asks for 1e15.
    """
    least = 1e12 if jax.default_backend() == "cpu" else 1e15
    return 2.0 * num_parameters(model) * num_tokens >= least


@partial(jax.jit, static_argnames="num_more")
def read(frozen: Frozen, prompts: jax.Array, num_more: int = 0) -> Start:
    """The start of all responses to ``prompts [B, P]``, with ``num_more`` free slots after them."""
    logits, prefix = frozen.model.prefill(prompts, num_slots=prompts.shape[1] + num_more)
    return Start(logits, prefix, jnp.int32(0), jnp.zeros(prompts.shape[0], bool))


@partial(jax.jit, static_argnames=("num_tokens", "num_slots", "mesh"))
def begin(
    frozen: Frozen,
    law: TokenLaw,
    key: jax.Array,
    prompt: jax.Array,
    candidate: jax.Array,
    start: Start,
    *,
    num_tokens: int,
    num_slots: int | None = None,
    mesh: Mesh | None = None,
) -> Drawn:
    """The first tokens, with room for ``num_tokens``.

    Args:
        frozen: the model.
        law: what tokens are drawn from.
        key: words ``[2]``.
        prompt: the number of each prompt, ``[B]``; with the candidate's it decides what is drawn.
        candidate: the number of each candidate, ``[B, N]``.
        start: of the prompts.
        num_tokens: T.
        num_slots: of what is remembered of each, T by default; :func:`widen` adds more. All are
            looked at for each token, so few are faster.
        mesh: devices that share the candidates.
    """
    shape = candidate.shape
    rows = jnp.broadcast_to(prompt[:, None], shape)
    pad = frozen.model.config.vocabulary.pad_id

    def nothing() -> jax.Array:
        return jnp.zeros((*shape, num_tokens), jnp.float32)

    drawn = Drawn(
        row_words(key, rows, candidate),
        jnp.full((*shape, num_tokens), pad, jnp.int32),
        nothing(),
        None if law.plain else nothing(),
        jnp.broadcast_to(start.ended[:, None], shape),
        Branches.empty(start.prefix, shape[1], num_slots or num_tokens),
    )
    drawn = _shared_out(drawn, mesh)
    logits = jnp.broadcast_to(start.logits[:, None], (*shape, start.logits.shape[-1]))
    return drawn.write(frozen, jnp.int32(0), _draw(law, drawn.words, start.num_drawn, logits))


@partial(jax.jit, donate_argnames="drawn")
def go_on(
    frozen: Frozen, law: TokenLaw, start: Start, drawn: Drawn, num_tokens: jax.Array
) -> Drawn:
    """Draw on, until there are ``num_tokens`` of each or all have ended; ``drawn`` is given up.

    It has a slot for each token but the last, which is not checked.
    """
    model = frozen.model

    def unfinished(drawn: Drawn) -> jax.Array:
        return (drawn.branches.length + 1 < num_tokens) & ~jnp.all(drawn.ended)

    def one_more(drawn: Drawn) -> Drawn:
        at = drawn.branches.length
        last = jax.lax.dynamic_index_in_dim(drawn.tokens, at, axis=2, keepdims=False)
        logits, branches = model.step(last, start.prefix, drawn.branches)
        new = _draw(law, drawn.words, start.num_drawn + at + 1, logits)
        return replace(drawn, branches=branches).write(frozen, at + 1, new)

    return jax.lax.while_loop(unfinished, one_more, drawn)


@partial(jax.jit, static_argnames="num_slots")
def widen(drawn: Drawn, *, num_slots: int) -> Drawn:
    """The same with ``num_slots`` to remember tokens in."""
    return replace(drawn, branches=drawn.branches.widen(num_slots))


@partial(jax.jit, static_argnames="mesh")
def keep(drawn: Drawn, kept: jax.Array, *, mesh: Mesh | None = None) -> Drawn:
    """The continuations ``kept [B, M]`` of each prompt alone."""
    rows = jnp.arange(kept.shape[0], dtype=jnp.int32)[:, None]

    def take(array: jax.Array, axis: int) -> jax.Array:
        return array[rows, kept] if axis == 1 else array[:, rows, kept]

    return _shared_out(_by_candidate(take, drawn, drawn.branches.keep(kept)), mesh)


@jax.jit
def choose(frozen: Frozen, start: Start, drawn: Drawn, chosen: jax.Array) -> Start:
    """The start after continuation ``chosen [B]`` of each prompt, as far as it was drawn."""
    one = keep(drawn, chosen[:, None])
    last = jax.lax.dynamic_index_in_dim(one.tokens, one.branches.length, axis=2, keepdims=False)
    logits, branches = frozen.model.step(last, start.prefix, one.branches)
    prefix = start.prefix.append(branches, jnp.zeros_like(chosen))
    return Start(logits[:, 0], prefix, start.num_drawn + branches.length, one.ended[:, 0])


def on_host(drawn: Drawn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, their log-probabilities, and those under the model, ``[B, N, T]`` each."""
    under_law, under_model = drawn.token_log_probs, drawn.token_model_log_probs
    under_model = under_law if under_model is None else under_model
    return np.array(drawn.tokens), np.array(under_law), np.array(under_model)


def _by_candidate(
    function: Callable[[jax.Array, int], jax.Array], drawn: Drawn, branches: Branches
) -> Drawn:
    """The ``function`` of every array with an axis of candidates and of where that is."""
    under_model = drawn.token_model_log_probs
    return Drawn(
        function(drawn.words, 2),
        function(drawn.tokens, 1),
        function(drawn.token_log_probs, 1),
        None if under_model is None else function(under_model, 1),
        function(drawn.ended, 1),
        branches,
    )


def _shared_out(drawn: Drawn, mesh: Mesh | None) -> Drawn:
    split = partial(sharding.split_rows, mesh=mesh)
    branches = drawn.branches.of_memory(lambda memory: split(memory, memory.ndim - 4))
    branches = replace(branches, occupied=split(branches.occupied, 1))
    return _by_candidate(split, drawn, branches)


def _draw(
    law: TokenLaw, words: jax.Array, position: jax.Array, logits: jax.Array
) -> tuple[jax.Array, ...]:
    """Tokens and log-probabilities ``[B N]`` at ``position`` of the response."""
    return draw(
        law,
        token_words(words.reshape(2, -1), position),
        logits.reshape(-1, logits.shape[-1]),
    )
