"""Selection of real sequences: from a pool of responses, or block by block as they are drawn.

Letters: B prompts, S sequences selected for each, n candidates that a rule looks at, M ≥ n that are
drawn, T tokens, K blocks of a response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

import bon_theory as bt
from simulations.draws.words import key_words
from simulations.language_model import decode
from simulations.language_model.generate import checked_prompts
from simulations.language_model.rewards.tokens import of_tokens
from simulations.language_model.sampler import TokenLaw, row_words, token_words
from simulations.language_model.transformer import Transformer
from simulations.selection.candidates import CandidateRule
from simulations.statistics.estimate import Estimate
from simulations.tools.arguments import integer_within

Value = Callable[[NDArray[np.int32], NDArray[np.int32]], NDArray[np.float64]]
"""(prompts ``[R, P]``, responses so far ``[R, M, t]``, PAD after an end) → what each is worth."""

_NOISE = 1  # the words of a position that decide about selection, not about its token


@dataclass(frozen=True)
class Additive:
    """What the tokens so far have earned; made by :func:`additive`.

    Attributes:
        token_rewards: ``[V]``.
    """

    token_rewards: NDArray[np.float64]

    def __call__(
        self, prompts: NDArray[np.int32], tokens: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """Sums ``[R, M]`` over ``tokens [R, M, t]``."""
        return of_tokens(self.token_rewards, tokens).sum(axis=-1)


def additive(token_rewards: ArrayLike) -> Additive:
    """What the tokens so far have earned, by a table ``[V]``.

    Within a block it differs from the block's own reward by a constant, so that no look-ahead is
    left out: the theory of additive rewards (:mod:`bon_theory.sequence`) speaks of it.

    Example:
        >>> additive([0.0, 1.0, 2.0])(np.zeros((1, 1), np.int32), np.array([[[2, 1], [1, 4]]]))
        array([[3., 1.]])
    """
    return Additive(np.asarray(token_rewards, np.float64))


@dataclass(frozen=True)
class SelectedSequences:
    """S sequences selected for each of B prompts, on the host.

    Attributes:
        tokens: ``[B, S, T]``, PAD after the end.
        lengths: ``[B, S]``, EOS counted.
        token_log_probs: ``[B, S, T]``, of each token under the law that candidates are drawn from.
        token_model_log_probs: ``[B, S, T]``, likewise under the model.
        values: ``[B, S]``, of the whole sequences.
        candidate_values: ``[B, S, K, M]``, of the candidates of every block.
    """

    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    token_log_probs: NDArray[np.float32]
    token_model_log_probs: NDArray[np.float32]
    values: NDArray[np.float64]
    candidate_values: NDArray[np.float64]


def select_from_pool(key: jax.Array, rule: CandidateRule, rewards: ArrayLike) -> NDArray[np.intp]:
    """Which of N responses to each prompt are selected, ``[B, N // n]``; consumes ``key``.

    Disjoint groups of n consecutive responses compete, so that the selected are i.i.d. given the
    prompt. With the key of :func:`~simulations.language_model.generate.generate` the selected are
    those of :func:`select_online` with one block.

    Args:
        key: a typed key.
        rule: what is kept of n.
        rewards: ``[B, N]``.

    Raises:
        ValueError: rewards of another shape, or fewer responses than the rule looks at.

    Example:
        >>> from simulations.selection.candidates import best_of_n
        >>> select_from_pool(jax.random.key(0), best_of_n(2), [[0.1, 0.7, 0.9, 0.4, 0.8]])
        array([[1, 2]])
    """
    rewards = np.asarray(rewards, np.float64)
    if rewards.ndim != 2:
        raise ValueError(f"rewards has shape {rewards.shape}: pass [B, N], a row for each prompt")
    num_prompts, num_groups = rewards.shape[0], rewards.shape[1] // rule.n
    if num_groups == 0:
        raise ValueError(
            f"n is {rule.n}, but the pool has {rewards.shape[1]} responses to a prompt: draw more, "
            "or select among fewer"
        )
    used = num_groups * rule.n
    place = np.indices((num_prompts, used)).astype(np.int32)
    words = _noise_words(row_words(key_words(key), *jnp.asarray(place)), jnp.int32(0))
    groups = (num_prompts, num_groups, rule.n)
    picked = rule.pick(words.reshape(groups), rewards[:, :used].reshape(groups))
    return picked + np.arange(num_groups) * rule.n


def select_online(
    key: jax.Array,
    model: Transformer,
    prompts: np.ndarray | jax.Array,
    rule: CandidateRule,
    *,
    value: Value,
    max_new_tokens: int,
    block_length: int | None = None,
    num_sequences: int = 1,
    num_spare: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    batch_size: int = 512,
    progress: Callable[[int, int], None] | None = None,
) -> SelectedSequences:
    """Draw n candidates for each block of tokens, keep one, and go on from it; consumes ``key``.

    What is kept becomes a part of the prefix that the next block's candidates share, so a block
    costs n rows of its own tokens, whatever came before it. Sequence s of prompt i depends on
    (key, i, s) alone.

    Args:
        key: a typed key.
        model: the language model.
        prompts: ``[B, P]``, as :func:`~simulations.language_model.generate.generate` takes them.
        rule: what is kept of n.
        value: what a response so far is worth: :func:`additive`, or a value function. It is asked
            about whole candidates at the end of each block.
        max_new_tokens: T, EOS included.
        block_length: tokens of a block; the whole response by default. The last one may be shorter.
        num_sequences: S, selected independently.
        num_spare: candidates of each block that the rule does not see; they serve
            :func:`kl_from_candidates`.
        temperature: of the law that candidates are drawn from, see ``generate``.
        top_k: likewise.
        top_p: likewise.
        batch_size: rows sampled at once, ≥ 1.
        progress: called as ``progress(done, total)``, in sequences, after each batch.

    Raises:
        ValueError: as ``generate``; token rewards of another vocabulary, or a value function that
            returns other shapes.

    Example:
        >>> from flax import nnx
        >>> from simulations.language_model.text.tokenizers import Vocabulary
        >>> from simulations.language_model.architecture import TransformerConfig
        >>> from simulations.selection.candidates import best_of_n
        >>> config = TransformerConfig(Vocabulary.plain(3), width=8, num_layers=1)
        >>> model = Transformer(config, rngs=nnx.Rngs(0))
        >>> selected = select_online(
        ...     jax.random.key(0), model, [[3]], best_of_n(8),
        ...     value=additive([0.0, 1.0, 0.0]), max_new_tokens=4, block_length=2,
        ... )
        >>> selected.tokens
        array([[[1, 1, 1, 1]]], dtype=int32)
    """
    law = TokenLaw(temperature, top_k, top_p)
    prompts = checked_prompts(np.asarray(prompts), model, law, max_new_tokens)
    num_tokens = model.config.vocabulary.num_tokens
    if isinstance(value, Additive) and value.token_rewards.shape != (num_tokens,):
        raise ValueError(
            f"value has token rewards of shape {value.token_rewards.shape}, but the model has "
            f"{num_tokens} tokens: give one reward to each"
        )
    size = max_new_tokens if block_length is None else _whole("block_length", block_length)
    size = min(size, max_new_tokens)
    sizes = [min(size, max_new_tokens - first) for first in range(0, max_new_tokens, size)]
    num_sequences = _whole("num_sequences", num_sequences)
    num_drawn = rule.n + _whole("num_spare", num_spare, at_least=0)
    at_once = max(1, _whole("batch_size", batch_size) // num_drawn)

    frozen, words = decode.Frozen.of(model), key_words(key)
    total = prompts.shape[0] * num_sequences
    at_once = min(at_once, total)
    # Blocks of every length share a program, unless the room that they leave costs more than it.
    small = not decode.is_worth_compiling(model, total * num_drawn * max_new_tokens)
    room = max_new_tokens if small else max(sizes)
    batches = []
    for first in range(0, total, at_once):
        # The last batch repeats its last row, so that one compiled program serves all.
        rows = np.minimum(np.arange(first, first + at_once), total - 1)
        prompt, sequence = np.divmod(rows.astype(np.int32), np.int32(num_sequences))
        candidate = sequence[:, None] * np.int32(num_drawn) + np.arange(num_drawn, dtype=np.int32)
        batches.append(
            _select(frozen, law, words, prompts, prompt, candidate, rule, value, sizes, room)
        )
        if progress is not None:
            progress(min(first + at_once, total), total)

    tokens, log_probs, model_log_probs, values, candidates = (
        np.concatenate(parts)[:total].reshape(prompts.shape[0], num_sequences, *parts[0].shape[1:])
        for parts in zip(*batches, strict=True)
    )
    lengths = (tokens < model.config.vocabulary.num_tokens).sum(axis=-1).astype(np.int32)
    return SelectedSequences(tokens, lengths, log_probs, model_log_probs, values, candidates)


def _select(
    frozen: decode.Frozen,
    law: TokenLaw,
    key: jax.Array,
    prompts: NDArray[np.int32],
    prompt: NDArray[np.int32],
    candidate: NDArray[np.int32],
    rule: CandidateRule,
    value: Value,
    sizes: list[int],
    room: int,
) -> tuple[np.ndarray, ...]:
    """One row for each of ``prompt [R]``: tokens, log-probabilities, values, candidates' values.

    Blocks of ``sizes`` are drawn into ``room`` for tokens.
    """
    start = decode.read(frozen, prompts[prompt], num_more=sum(sizes) + room)
    rows, kept, values, settled = np.arange(prompt.size), [], [], []
    for size in sizes:
        drawn = decode.begin(frozen, law, key, prompt, candidate, start, num_tokens=room)
        drawn = decode.go_on(frozen, law, start, drawn, np.int32(size))
        block = tuple(array[..., :size] for array in decode.on_host(drawn))
        before = np.concatenate([np.empty((prompt.size, 0), np.int32), *(k[0] for k in kept)], 1)
        before = np.broadcast_to(before[:, None], (*candidate.shape, before.shape[1]))
        worth = value(prompts[prompt], np.concatenate([before, block[0]], axis=-1))
        values.append(_checked(worth, candidate.shape))
        words = np.asarray(_noise_words(drawn.words, start.num_drawn))
        chosen = rule.pick(words[:, : rule.n], values[-1][:, : rule.n])
        kept.append([array[rows, chosen] for array in block])
        settled.append(values[-1][rows, chosen])
        if len(kept) < len(sizes):
            start = decode.choose(frozen, start, drawn, chosen.astype(np.int32))
    tokens, log_probs, model_log_probs = (
        np.concatenate(parts, axis=-1) for parts in zip(*kept, strict=True)
    )
    return tokens, log_probs, model_log_probs, settled[-1], np.stack(values, axis=1)


@dataclass(frozen=True)
class KlEstimate:
    """KL(selected ‖ reference) of sequences, in nats, and how it is known.

    Attributes:
        estimate: mean and standard error, over sequences.
        method: ``"exact log-ratios"``, whose mean has no bias, or ``"candidates"``, see
            :func:`kl_from_candidates`.
    """

    estimate: Estimate
    method: str

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Where the KL divergence is, by the normal law of a mean of many sequences."""
        half = float(scipy.special.ndtri((1 + level) / 2)) * self.estimate.std_error
        return self.estimate.mean - half, self.estimate.mean + half


def kl_from_laws(log_probs: ArrayLike, reference_log_probs: ArrayLike) -> KlEstimate:
    """The mean of log P(y)/π(y) over selected sequences, where both laws are known.

    Args:
        log_probs: of selected sequences under the law of selection, as
            :mod:`simulations.language_model.enumerate` knows it for small vocabularies.
        reference_log_probs: of the same sequences under the law they were drawn from.

    Raises:
        ValueError: shapes that differ, or a sequence that the reference cannot emit.

    Example:
        >>> kl_from_laws([-0.5, -0.5], [-1.0, -1.5]).estimate.mean
        0.75
    """
    selected = np.asarray(log_probs, np.float64)
    reference = np.asarray(reference_log_probs, np.float64)
    if selected.shape != reference.shape:
        raise ValueError(
            f"log_probs has shape {selected.shape} and reference_log_probs {reference.shape}: pass "
            "both of the same sequences"
        )
    if not (np.isfinite(selected).all() and np.isfinite(reference).all()):
        raise ValueError(
            "log_probs and reference_log_probs must be finite: a sequence that was selected has "
            "positive probability under both, so one of the laws is not the one used"
        )
    return KlEstimate(Estimate.from_values(selected - reference), "exact log-ratios")


def kl_from_candidates(rule: CandidateRule, selected: SelectedSequences) -> KlEstimate:
    """KL(selected ‖ reference) by the values of all candidates of each block.

    The divergence of sequences is the expected sum, over blocks, of that between the laws of the
    next block, and that of a block depends on the law of its candidates' values alone. The latter
    is estimated by the M candidates: 2 D(all) − mean of D(each half), D the exact divergence of the
    rule on an empirical law, which leaves a bias of order (n/M)² per block. The standard error is
    over sequences (derived here).

    Args:
        rule: which selected.
        selected: with M even and at least 4 n, see ``num_spare`` of :func:`select_online`.

    Raises:
        ValueError: too few candidates, or an odd number of them.
    """
    values = selected.candidate_values
    num_drawn = values.shape[-1]
    if num_drawn < 4 * rule.n or num_drawn % 2:
        raise ValueError(
            f"selected has {num_drawn} candidates of a block, of which the rule looks at {rule.n}: "
            f"select with num_spare at least {3 * rule.n} and {rule.n} + num_spare even"
        )
    divergence = np.zeros(values.shape[:-2])
    for block in np.moveaxis(values, -2, 0):  # one program, however many blocks there are
        halves = block.reshape(*block.shape[:-1], 2, num_drawn // 2)
        divergence += 2 * _kl(rule, block) - _kl(rule, halves).mean(axis=-1)
    return KlEstimate(Estimate.from_values(divergence), "candidates")


def _kl(rule: CandidateRule, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the rule on the empirical laws of ``values [..., M]``."""
    laws = bt.Policy.from_samples(values.reshape(-1, values.shape[-1]))
    return np.asarray(bt.kl_divergence(rule.law(laws), laws)).reshape(values.shape[:-1])


def _noise_words(rows: jax.Array, position: jax.Array) -> jax.Array:
    """Random words ``[B, N]`` for what is selected at a position, from the rows' keys."""
    return token_words(rows, position, stream=_NOISE)[0]


def _checked(values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    if values.shape != shape:
        raise ValueError(
            f"value returned an array of shape {values.shape} for {shape[0]} rows of {shape[1]} "
            f"candidates: return [{shape[0]}, {shape[1]}]"
        )
    return values


def _whole(name: str, value: int, *, at_least: int = 1) -> int:
    return integer_within(
        name, value, at_least=at_least, at_most=2**31 - 1, remedy="pass how many there are to be"
    )
