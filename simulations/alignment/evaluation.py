"""What became of a policy: how often it wins, how far it went, and what else changed.

Letters: B held-out prompts, M responses of the policy to each, K of the reference, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from simulations.alignment.candidates import CandidateTable, Score, scored
from simulations.language_model.generate import Responses, generate
from simulations.language_model.text.tokenizers import Tokenizer
from simulations.language_model.transformer import Transformer
from simulations.statistics.estimate import Estimate


@dataclass(frozen=True)
class PolicyEvaluation:
    """A policy beside its reference, averaged over prompts; errors are those over prompts.

    Attributes:
        win_rate: P(r > r₀) + ½ P(r = r₀), r of the policy and r₀ of the reference.
        wins_or_ties: P(r ≥ r₀): [G]'s win rate.
        wins: P(r > r₀).
        kl: KL(policy ‖ reference) in nats, estimated without bias from the policy's responses, see
            :func:`kl_along`.
        kl_from_ranks: what the ranks of the rewards alone say of it, a lower bound; see
            :func:`kl_from_ranks`.
        mean_reward: of the policy.
        mean_length: of its responses, in tokens, EOS counted.
        reference_length: of the reference's.
        repetition: share of a response's pairs of neighbouring tokens that it had before.
        reference_repetition: of the reference's.
    """

    win_rate: Estimate
    wins_or_ties: Estimate
    wins: Estimate
    kl: Estimate
    kl_from_ranks: Estimate
    mean_reward: Estimate
    mean_length: Estimate
    reference_length: Estimate
    repetition: Estimate
    reference_repetition: Estimate

    def to_json(self) -> dict[str, Any]:
        """Each as ``{"mean": …, "std_error": …, "num_samples": …}``."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> PolicyEvaluation:
        """Undo :meth:`to_json`; further fields are left out."""
        return cls(**{name: Estimate(**fields[name]) for name in cls.__annotations__})


@dataclass(frozen=True)
class HeldOutPrompts:
    """Prompts that no pair is of, with the reference's responses to them: judges policies.

    Attributes:
        key: of the policies' responses, the same for all of them.
        reference: the model.
        table: its scored responses.
        reward: that scored them.
        num_responses: M, of a policy to each prompt.
        batch_size: responses drawn at once.
    """

    key: jax.Array
    reference: Transformer
    table: CandidateTable
    reward: Score
    num_responses: int
    batch_size: int = 512

    def evaluate(self, policy: Transformer) -> PolicyEvaluation:
        """Draw responses, score them, compare.

        Raises:
            ValueError: the policy has another vocabulary than the reference; the reward fails.
        """
        return self.compared(policy, self.draw(policy))

    def draw(self, policy: Transformer) -> Responses:
        """The policy's responses to the held-out prompts.

        Raises:
            ValueError: the policy has another vocabulary than the reference.
        """
        if policy.config.vocabulary != self.reference.config.vocabulary:
            raise ValueError(
                f"policy has {policy.config.vocabulary}, but the reference "
                f"{self.reference.config.vocabulary}: they must read and emit the same tokens"
            )
        return generate(
            self.key,
            policy,
            self.table.prompts,
            num_candidates=self.num_responses,
            max_new_tokens=self.table.tokens.shape[-1],
            batch_size=self.batch_size,
        )

    def compared(self, policy: Transformer, drawn: Responses) -> PolicyEvaluation:
        """What these responses of the policy say of it."""
        rewards = scored(self.reward, self.table.prompts, drawn.tokens)
        wins, ties = _wins_and_ties(rewards, self.table.rewards)
        lengths = np.sum(self.table.tokens != self.table.pad_id, axis=-1)
        over_prompts = Estimate.from_values
        return PolicyEvaluation(
            win_rate=over_prompts(wins + ties / 2),
            wins_or_ties=over_prompts(wins + ties),
            wins=over_prompts(wins),
            kl=over_prompts(
                kl_along(policy, self.reference, self.table.prompts, drawn.tokens).mean(axis=1)
            ),
            kl_from_ranks=kl_from_ranks(rewards, self.table.rewards),
            mean_reward=over_prompts(rewards.mean(axis=1)),
            mean_length=over_prompts(drawn.lengths.mean(axis=1)),
            reference_length=over_prompts(lengths.mean(axis=1)),
            repetition=over_prompts(repetition(drawn.tokens, self.table.pad_id).mean(axis=1)),
            reference_repetition=over_prompts(
                repetition(self.table.tokens, self.table.pad_id).mean(axis=1)
            ),
        )


def kl_along(
    policy: Transformer,
    reference: Transformer,
    prompts: NDArray[np.int32],
    tokens: NDArray[np.int32],
    *,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    r"""Estimates ``[B, M]`` of KL(policy ‖ reference) from the policy's responses ``[B, M, T]``.

    .. math:: \sum_t \mathrm{KL}\bigl(\pi_\theta(\cdot \mid y_{<t}) \,\|\,
              \pi(\cdot \mid y_{<t})\bigr), \qquad y \sim \pi_\theta

    It has the mean of the log-ratio of the whole response, which is the divergence, and less
    variance: at each place all tokens count that might have been drawn. It is never negative.

    The chain rule; as an estimator Amini, Vieira and Cotterell 2025.
    """
    shape = tokens.shape[:2]
    rows = np.repeat(prompts, shape[1], axis=0), tokens.reshape(-1, tokens.shape[2])
    total, of_a_row = len(rows[1]), tokens.shape[2] * policy.config.vocabulary.num_tokens
    batch_size = min(batch_size or max(1, min(256, _LOGITS // of_a_row)), total)
    found = []
    for first in range(0, total, batch_size):
        # The last batch repeats its last row, so that one compiled program serves all.
        some = np.minimum(np.arange(first, first + batch_size), total - 1)
        found.append(
            np.asarray(_kl_along(policy, reference, *(jnp.asarray(part[some]) for part in rows)))
        )
        if progress is not None:
            progress(min(first + batch_size, total), total)
    return np.concatenate(found)[:total].astype(np.float64).reshape(shape)


_LOGITS = 2**26  # of a batch: a quarter of a gigabyte, for either model


@nnx.jit
def _kl_along(
    policy: Transformer, reference: Transformer, prompts: jax.Array, responses: jax.Array
) -> jax.Array:
    tokens = jnp.concatenate([prompts, responses], axis=1)[:, :-1]

    def log_probs(model: Transformer) -> jax.Array:
        features = model.features(tokens)[:, -responses.shape[1] :]
        return jax.nn.log_softmax(model.logits(features), axis=-1)

    ours, theirs = log_probs(policy), log_probs(reference)
    at_each = jnp.sum(jnp.exp(ours) * (ours - theirs), axis=-1)
    return jnp.sum(jnp.where(responses < policy.config.vocabulary.num_tokens, at_each, 0.0), axis=1)


def kl_from_ranks(rewards: NDArray[np.float64], reference_rewards: NDArray[np.float64]) -> Estimate:
    r"""A lower bound on KL(policy ‖ reference) from ``rewards [B, M]`` and ``[B, K]`` alone.

    Among K responses of the reference another one of its own has a rank that is uniform over
    0 … K, ties broken by lot. That of a policy's response has a law p, and by data processing

    .. math:: \mathrm{KL}(p \,\|\, \mathrm{uniform}) = \log(K+1) - H(p)
              \le \mathrm{KL}(\pi_\theta \,\|\, \pi).

    It is all of the divergence if the policy is a function of the rank and K is large. The mean
    over prompts is that of one law, the prompts' average, which makes it lower still; responses
    of a prompt are ranked among the same K.

    Returns:
        The divergence of the frequencies less Miller's bias (number of ranks − 1)/(2 B M), with
        the standard error of a jackknife over prompts.
    """
    law = np.mean(_rank_shares(rewards, reference_rewards), axis=1)  # [B, K+1]
    num_prompts, num_ranks = law.shape
    bias = (num_ranks - 1) / (2 * rewards.size)

    def divergence(p: NDArray[np.float64]) -> NDArray[np.float64]:
        positive = np.where(p > 0, p, 1.0)
        return np.log(num_ranks) + np.sum(p * np.log(positive), axis=-1)

    whole = float(divergence(law.mean(axis=0))) - bias
    if num_prompts < 2:
        return Estimate(max(whole, 0.0), np.inf, 1)
    left_out = divergence((law.sum(axis=0) - law) / (num_prompts - 1))
    error = np.sqrt((num_prompts - 1) * np.mean(np.square(left_out - left_out.mean())))
    return Estimate(max(whole, 0.0), float(error), num_prompts)


def _rank_shares(
    rewards: NDArray[np.float64], reference_rewards: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Law ``[B, M, K+1]`` of each response's rank among the K, a tie shared out evenly."""
    below = np.sum(reference_rewards[:, None] < rewards[..., None], axis=-1)[..., None]
    upto = np.sum(reference_rewards[:, None] <= rewards[..., None], axis=-1)[..., None]
    ranks = np.arange(reference_rewards.shape[1] + 1)
    return ((below <= ranks) & (ranks <= upto)) / (upto - below + 1)


def repetition(tokens: NDArray[np.int32], pad_id: int) -> NDArray[np.float64]:
    """Share ``[...]`` of the pairs of neighbours in ``tokens [..., T]`` that occurred before in it.

    0 for a response of fewer than two tokens.

    Example:
        >>> repetition(np.array([[1, 2, 1, 2], [1, 2, 3, 9]]), pad_id=9).round(2).tolist()
        [0.33, 0.0]
    """
    first, second = tokens[..., :-1].astype(np.int64), tokens[..., 1:].astype(np.int64)
    real = second != pad_id
    pair = np.where(real, first * (int(tokens.max()) + 1) + second, -1)
    ordered = np.sort(pair, axis=-1)
    again = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)
    return again.sum(axis=-1) / np.maximum(real.sum(axis=-1), 1)


def _wins_and_ties(
    rewards: NDArray[np.float64], reference_rewards: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P(r > r₀) and P(r = r₀) for each prompt ``[B]``, over all pairs of a response of each."""
    theirs, ours = reference_rewards[:, None, :], rewards[:, :, None]
    return np.mean(ours > theirs, axis=(1, 2)), np.mean(ours == theirs, axis=(1, 2))


@dataclass(frozen=True)
class Sample:
    """One prompt, and a response of the reference and of a policy to it, as texts."""

    prompt: str
    reference: str
    policy: str


def samples(
    held_out: HeldOutPrompts, drawn: Responses, tokenizer: Tokenizer, *, count: int = 4
) -> tuple[Sample, ...]:
    """The first response to each of the first few prompts, side by side."""
    return tuple(
        Sample(*(tokenizer.decode(tokens) for tokens in rows))
        for rows in zip(
            held_out.table.prompts[:count],
            held_out.table.tokens[:count, 0],
            drawn.tokens[:count, 0],
            strict=True,
        )
    )
