"""The law of *every* sequence that a small model can emit, and every selection on it, exactly.

A language model over a few tokens, cut at a few of them, has a law that can be written down. Then
nothing about best-of-n on sequences need be sampled: a whole response is an outcome of the exact
core (:meth:`EnumeratedLaw.policy`), and a rule that selects block by block is the product of its
conditional laws, each of which is a law of the core as well (:func:`select_blocks`).

Letters: V tokens, of which the last ends a sequence and W = V−1 go on; T the longest sequence,
which is cut there if it has not ended; N_t = W^t prefixes of t tokens that go on, in lexicographic
order; M sequences: those that end early, by their length, then the N_{T−1} V longest. A *tree* is a
tuple of T arrays, ``tree[t] [N_t, V]``: a number for each prefix of t tokens and each token after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

import bon_theory as bt
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer

Floats = NDArray[np.float64]
Tree = tuple[Floats, ...]
Rule = Callable[[bt.Policy], bt.Policy]

MOST_SEQUENCES = 2**21


@dataclass(frozen=True)
class EnumeratedLaw:
    """A law over all sequences, as the laws of each next token.

    Attributes:
        conditionals: tree of log p(token | prefix).
        vocabulary: of V tokens; the columns are its tokens in order, EOS last.
    """

    conditionals: Tree
    vocabulary: Vocabulary

    @property
    def log_probs(self) -> Floats:
        """log-probability ``[M]`` of each sequence, in nats."""
        return at_ends(path_sums(self.conditionals))

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Token ids ``[M, T]`` of each sequence, with PAD after its end."""
        length, columns = len(self.conditionals), _columns(self.vocabulary)
        prefixes, rows = np.empty((1, 0), np.int32), []
        for t in range(length):
            # [N_t, V, t+1]: each prefix with each token after it.
            grown = np.concatenate(
                [
                    np.repeat(prefixes[:, None], columns.size, axis=1),
                    np.broadcast_to(columns[None, :, None], (len(prefixes), columns.size, 1)),
                ],
                axis=2,
            )
            ended = (grown if t == length - 1 else grown[:, -1:]).reshape(-1, t + 1)
            filling = ((0, 0), (0, length - 1 - t))
            rows.append(np.pad(ended, filling, constant_values=self.vocabulary.pad_id))
            prefixes = grown[:, :-1].reshape(-1, t + 1)
        return np.concatenate(rows)

    def policy(self, rewards: Floats) -> bt.Policy:
        """Whole sequences as outcomes with ``rewards [M]``."""
        return bt.Policy.from_logits(self.log_probs, rewards)

    def index(self, responses: NDArray[np.integer]) -> NDArray[np.int64]:
        """Which of the M sequences each of ``responses [..., T]`` is, PAD after its end.

        Raises:
            ValueError: another length, or a response that is not a sequence of this law.
        """
        length, size = len(self.conditionals), self.vocabulary.num_tokens - 1
        if responses.shape[-1] != length:
            raise ValueError(
                f"responses has {responses.shape[-1]} tokens each, but the law is of {length}: "
                "generate with max_new_tokens equal to the law's"
            )
        prefix, last, lengths = self._places(responses)
        if np.any((lengths < length) & (last != size)):
            raise ValueError("responses has PAD without an end: pass what `generate` returns")
        before = np.cumsum([0, *(size**t for t in range(length - 1))])  # sequences that are shorter
        longest = prefix * (size + 1) + last
        return before[lengths - 1] + np.where(lengths == length, longest, prefix)

    def look_up(self, tree: Tree, responses: NDArray[np.integer]) -> Floats:
        """What ``tree`` says of each of ``responses [..., t]`` so far, PAD after an end.

        Raises:
            ValueError: an empty response, tokens after an end, or more of them than the law's.
        """
        prefix, last, lengths = self._places(responses)
        values = np.empty(lengths.shape)
        for t, level in enumerate(tree):
            here = lengths == t + 1
            values[here] = level[prefix[here], last[here]]
        return values

    def _places(self, responses: NDArray[np.integer]) -> tuple[NDArray[np.int64], ...]:
        """Of each response: the index of all but its last token, the last's column, the length."""
        vocabulary, size = self.vocabulary, self.vocabulary.num_tokens - 1
        column = np.full(vocabulary.pad_id + 1, -1)
        column[_columns(vocabulary)] = np.arange(vocabulary.num_tokens)
        digits = column[responses]
        lengths = np.sum(digits >= 0, axis=-1)
        goes_on = np.arange(digits.shape[-1]) < lengths[..., None] - 1
        if np.any(goes_on & ((digits < 0) | (digits == size))) or np.any(lengths == 0):
            raise ValueError("responses has tokens after an end, or none: pad on the right only")
        if digits.shape[-1] > len(self.conditionals):
            raise ValueError(
                f"responses has {digits.shape[-1]} tokens each, but the law is of at most "
                f"{len(self.conditionals)}"
            )
        prefix = np.zeros(lengths.shape, np.int64)
        for t in range(digits.shape[-1]):
            prefix = np.where(goes_on[..., t], prefix * size + digits[..., t], prefix)
        last = np.take_along_axis(digits, lengths[..., None] - 1, axis=-1)[..., 0]
        return prefix, last, lengths


def enumerate_sequences(
    model: Transformer,
    prompt: ArrayLike,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    batch_size: int = 8192,
) -> EnumeratedLaw:
    """The law of all responses to one prompt.

    It is the law that ``generate`` draws from: log softmax(logits / temperature) of the model's
    float32 logits, here normalised in float64.

    Args:
        model: over V tokens with V^T at most 2²¹.
        prompt: token ids ``[P]``.
        max_new_tokens: T, the longest response, EOS included.
        temperature: divides the logits; positive.
        batch_size: prefixes that the model reads at once.

    Raises:
        ValueError: more than 2²¹ sequences, a length below 1, a temperature that is not positive.
    """
    vocabulary, prompt = model.config.vocabulary, np.asarray(prompt, np.int32)
    size, length = vocabulary.num_tokens, max_new_tokens
    if length < 1 or size**length > MOST_SEQUENCES:
        raise ValueError(
            f"max_new_tokens is {length} and the model has {size} tokens: choose it from 1 on and "
            f"such that {size}^max_new_tokens is at most {MOST_SEQUENCES:,}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: it must be positive")

    prefixes = _prefixes(vocabulary, length - 1)
    batch_size = min(batch_size, len(prefixes))
    logits = []
    for first in range(0, len(prefixes), batch_size):
        # The last batch repeats its last row, so that one compiled program serves all.
        rows = np.minimum(np.arange(first, first + batch_size), len(prefixes) - 1)
        tokens = np.concatenate([np.tile(prompt, (batch_size, 1)), prefixes[rows]], axis=1)
        logits.append(np.asarray(_next_logits(model, jnp.asarray(tokens), length)))
    all_logits = np.concatenate(logits)[: len(prefixes)]  # [N_{T−1}, T, V]

    columns = _columns(vocabulary)
    tree = []
    for t in range(length):
        first_with_prefix = slice(None, None, (size - 1) ** (length - 1 - t))
        tree.append(np.float64(all_logits[first_with_prefix, t][:, columns]) / temperature)
    return EnumeratedLaw(tuple(log_softmax(level, axis=1) for level in tree), vocabulary)


def path_sums(tree: Tree) -> Tree:
    """Tree of sums of ``tree`` along the path: log-probabilities from conditionals, for one."""

    def extend(sums: Floats, level: Floats) -> Floats:
        return sums[:, :-1].reshape(-1, 1) + level

    return tuple(accumulate(tree, extend))


def partial_rewards(law: EnumeratedLaw, token_rewards: ArrayLike) -> Tree:
    """Tree of additive rewards so far: r(y_1) + … + r(y_{t+1}), for ``token_rewards [V]`` by id."""
    by_column = np.asarray(token_rewards, np.float64)[_columns(law.vocabulary)]
    return path_sums(tuple(np.tile(by_column, (len(level), 1)) for level in law.conditionals))


def at_ends(tree: Tree) -> Floats:
    """What ``tree`` says of each whole sequence, ``[M]``."""
    return _outcomes(tree)[0]


def expected_rewards(law: EnumeratedLaw, rewards: ArrayLike) -> Tree:
    """Tree of E[reward | prefix and token], of whole sequences' ``rewards [M]``: the look-ahead."""
    return _backward(law, rewards, lambda log_probs, values: np.sum(np.exp(log_probs) * values, 1))


def soft_values(law: EnumeratedLaw, rewards: ArrayLike, temperature: float) -> Tree:
    """Tree of λ log E[exp(reward/λ) | prefix and token]: the look-ahead of the exponential tilt.

    The tilt of the whole law, π(y) e^{r(y)/λ}/Z, has conditionals π(a|s) e^{(v(s,a) − v(s))/λ}:
    selecting token by token with these values by :func:`bon_theory.exponential_tilt` at the same λ
    is selecting whole sequences by it (KL-regularised control; derived by backward recursion).
    """

    def value(log_probs: Floats, values: Floats) -> Floats:
        return temperature * np.asarray(logsumexp(log_probs + values / temperature, axis=1))

    return _backward(law, rewards, value)


def select_blocks(
    law: EnumeratedLaw, values: Tree, rule: Rule, *, block_length: int
) -> EnumeratedLaw:
    """The law of a selection that is made block by block, each given the blocks chosen before.

    From each prefix at a block's start, ``rule`` selects among continuations of ``block_length``
    tokens, or up to an end, by their ``values``: for an additive reward its partial sums, which
    differ from the block's own reward by a constant; else a look-ahead. With ``block_length`` T it
    selects among whole sequences.

    Args:
        law: of the reference.
        values: tree of what a rule sees of a prefix and a token after it.
        rule: a selection, batched over prefixes, ``lambda policy: bt.best_of_n(policy, 4)``.
        block_length: tokens in a block, at least 1; the last one may be shorter.

    Raises:
        ValueError: a block without tokens.
    """
    if block_length < 1:
        raise ValueError(f"block_length is {block_length}: a block has at least 1 token")
    length, selected = len(law.conditionals), []
    for start in range(0, length, block_length):
        block = slice(start, min(start + block_length, length))
        reference, conditionals = law.conditionals[block], []
        log_probs = _select(rule, _outcomes(path_sums(reference)), _outcomes(values[block]))

        # From the block's end back to its start: a token is as probable as all that follows it.
        *early, last = _levels(log_probs, reference)
        mass, conditional = _condition(last, reference[-1])
        conditionals.insert(0, conditional)
        for ended, level in zip(early[::-1], reference[-2::-1], strict=True):
            joint = np.concatenate([mass.reshape(len(level), -1), ended[:, None]], axis=1)
            mass, conditional = _condition(joint, level)
            conditionals.insert(0, conditional)
        selected += conditionals
    return EnumeratedLaw(tuple(selected), law.vocabulary)


def _backward(law: EnumeratedLaw, rewards: ArrayLike, value: Callable[..., Floats]) -> Tree:
    """Tree that is ``rewards`` at the ends and ``value(log_probs, values)`` of what may follow."""
    *early, last = _levels(np.asarray(rewards, np.float64)[None], law.conditionals)
    tree = [last]
    for ended, level in zip(early[::-1], law.conditionals[:0:-1], strict=True):
        ahead = value(level, tree[0]).reshape(ended.size, -1)
        tree.insert(0, np.concatenate([ahead, ended[:, None]], axis=1))
    return tuple(tree)


def _outcomes(levels: Tree) -> Floats:
    """Ends of a block ``[prefixes at its start, outcomes]``, of its ``levels [N_t, V]``."""
    *early, last = levels
    starts = len(levels[0])
    ends = [level[:, -1].reshape(starts, -1) for level in early]
    return np.concatenate([*ends, last.reshape(starts, -1)], axis=1)


def _levels(outcomes: Floats, like: Tree) -> Tree:
    """``_outcomes`` undone: what ended at each level ``[N_t]``, and the last level ``[N_t, V]``."""
    starts = len(like[0])
    widths = [len(level) // starts for level in like[:-1]]
    *early, last = np.split(outcomes, np.cumsum(widths), axis=1)
    return (*(ended.reshape(-1) for ended in early), last.reshape(like[-1].shape))


def _condition(joint: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Mass ``[N]`` of rows of log-probabilities ``joint [N, V]``, and the rows given it.

    Where there is no mass nothing is ever asked of the row, and it is the ``reference``'s.
    """
    mass = np.asarray(logsumexp(joint, axis=1))
    reached = (mass > -np.inf)[:, None]
    return mass, np.where(reached, joint - np.where(reached, mass[:, None], 0.0), reference)


def _select(rule: Rule, log_probs: Floats, rewards: Floats) -> Floats:
    """log-probabilities ``[N, K]`` under ``rule``, which looks at rewards alone.

    What ties is one outcome of the rule, and rows go in batches, the last of which is filled up, so
    that few programs serve all and none needs much memory.
    """
    masses, levels, level_of = _levels_of_reward(log_probs, rewards)
    num_rows, num_levels = masses.shape
    batch_size = max(1, _OUTCOMES_AT_ONCE // num_levels)
    selected = []
    for first in range(0, num_rows, batch_size):
        rows = np.minimum(np.arange(first, first + batch_size), num_rows - 1)
        reference = bt.Policy.from_logits(masses[rows], levels[rows])
        # A law that has been placed on a device keeps its size.
        policy = rule(jax.device_put(reference, reference.log_probs.sharding))
        selected.append(np.asarray(policy.log_probs, np.float64))
    ratios = np.concatenate(selected)[:num_rows] - np.where(masses > -np.inf, masses, 0.0)
    return log_probs + np.take_along_axis(ratios, level_of, axis=1)


def _levels_of_reward(
    log_probs: Floats, rewards: Floats
) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Log-masses and rewards ``[N, L]`` of each row's levels of equal reward, and each one's place.

    Levels rise, and the place of an outcome among them is ``[N, K]``. Where a row has fewer than L
    it is filled up with levels of no mass that tie with its highest; L is one of few sizes.
    """
    order = np.argsort(rewards, axis=1, kind="stable")
    rising = np.take_along_axis(rewards, order, axis=1)
    begins = np.diff(rising, axis=1, prepend=-np.inf) > 0
    level = np.cumsum(begins, axis=1) - 1
    level_of = np.empty_like(order)
    np.put_along_axis(level_of, order, level, axis=1)

    most = int(level.max()) + 1
    size = next((size for size in _SIZES if size >= most), 1 << (most - 1).bit_length())
    masses = np.full((len(rewards), size), -np.inf)
    levels = np.repeat(rising[:, -1:], size, axis=1)
    in_order = np.take_along_axis(log_probs, order, axis=1)
    at = np.nonzero(begins)[0], level[begins]
    masses[at] = np.logaddexp.reduceat(in_order.ravel(), np.flatnonzero(begins))
    levels[at] = rising[begins]
    return masses, levels, level_of


_SIZES = (16, 64, 256)  # of laws by level, then powers of two
_OUTCOMES_AT_ONCE = 2**13


def _columns(vocabulary: Vocabulary) -> NDArray[np.int32]:
    """Token ids in the order of a tree's columns: EOS last."""
    ids = np.arange(vocabulary.num_tokens, dtype=np.int32)
    return np.append(np.delete(ids, vocabulary.eos_id), np.int32(vocabulary.eos_id))


def _prefixes(vocabulary: Vocabulary, length: int) -> NDArray[np.int32]:
    """Token ids ``[N, length]`` of all prefixes that go on, in lexicographic order of columns."""
    columns = _columns(vocabulary)[:-1]
    places = columns.size ** np.arange(length)[::-1]
    return columns[np.arange(columns.size**length)[:, None] // places % columns.size]


@nnx.jit(static_argnames="num_last")
def _next_logits(model: Transformer, tokens: jax.Array, num_last: int) -> jax.Array:
    """Logits ``[R, num_last, V]`` after each of the last tokens of ``tokens [R, T]``."""
    return model.logits(model.features(tokens)[:, -num_last:])
