"""The data of alignment: candidates that the reference drew, scored, and the pairs made of them.

Letters: B prompts, N candidates of each, P pairs, L tokens of a prompt, T of a response.

Candidates are drawn once. A pair is made of n of a prompt's candidates, of which the best and the
worst are kept; an ordinary preference pair is the case n = 2. **Ties are broken by lot**, uniformly
among equals, as the exact theory does (:func:`bon_theory.alignment.best_and_worst_probs`): a prompt
whose candidates all tie gives a pair that says nothing on average, and is counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulations.alignment.losses import log_atom_excess, log_rank, matched_target
from simulations.engine.checkpoint import describe
from simulations.language_model.generate import generate, response_log_probs
from simulations.language_model.rewards.text import Reward, score
from simulations.language_model.text.tokenizers import Tokenizer
from simulations.language_model.transformer import Transformer, parameters_sha256
from simulations.tools.arguments import integer_within
from simulations.tools.files import write_atomically

Ranks = Literal["further draws", "pool"]
"""Whose ranks tell a pair's margin at best-of-n, see :meth:`CandidateTable.pairs`."""

Score = Callable[[NDArray[np.int32], NDArray[np.int32]], ArrayLike]
"""(prompts ``[R, L]``, responses ``[R, T]``) → a number for each, ``[R]``."""


class Pairs(NamedTuple):
    """P pairs of responses to prompts; a batch of training is any rows of it.

    Attributes:
        prompts: ``[P, L]``, PAD to the left.
        chosen: ``[P, T]``, the best of n, PAD to the right.
        rejected: ``[P, T]``, the worst.
        chosen_reference: ``[P]``, its log-probability under the reference, in nats.
        rejected_reference: ``[P]``, likewise.
        target: ``[P]``, an estimate of the pair's margin at best-of-n; NaN where none was asked
            for.
    """

    prompts: NDArray[np.int32]
    chosen: NDArray[np.int32]
    rejected: NDArray[np.int32]
    chosen_reference: NDArray[np.float32]
    rejected_reference: NDArray[np.float32]
    target: NDArray[np.float32]


@dataclass(frozen=True)
class CandidateTable:
    """N scored candidates of each of B prompts.

    Attributes:
        prompts: ``[B, L]``, PAD to the left.
        tokens: ``[B, N, T]``, EOS the last, PAD after it.
        rewards: ``[B, N]``.
        log_probs: ``[B, N]``, of whole responses under the reference, in nats.
        pad_id: the id of PAD.
        identity: hash of what decided them: key, reference, prompts, sizes, reward.
    """

    prompts: NDArray[np.int32]
    tokens: NDArray[np.int32]
    rewards: NDArray[np.float64]
    log_probs: NDArray[np.float64]
    pad_id: int
    identity: str = ""

    @property
    def all_tied(self) -> NDArray[np.bool_]:
        """Which prompts have candidates of one reward only, ``[B]``: they teach nothing."""
        return self.rewards.min(axis=1) == self.rewards.max(axis=1)

    def under(self, model: Transformer, *, batch_size: int = 128) -> CandidateTable:
        """The same candidates with their log-probabilities under ``model``.

        A reference that computes in another precision than the one that drew them has others.

        Args:
            model: of their vocabulary.
            batch_size: candidates read at once, ≥ 1.

        Raises:
            ValueError: ``batch_size`` is no such number.
        """
        batch_size = integer_within(
            "batch_size", batch_size, at_most=2**31 - 1, remedy="candidates are counted"
        )
        rows = self.tokens.reshape(-1, self.tokens.shape[-1])
        prompts = np.repeat(self.prompts, self.tokens.shape[1], axis=0)
        log_probs = np.empty(len(rows))
        for first in range(0, len(rows), batch_size):
            # The last batch takes in rows of the one before: one shape, one program.
            batch = slice(max(min(first, len(rows) - batch_size), 0), first + batch_size)
            log_probs[batch] = response_log_probs(model, prompts[batch], rows[batch])
        return replace(self, log_probs=log_probs.reshape(self.rewards.shape), identity="")

    def pairs(
        self, key: jax.Array, *, n: int, ranks: Ranks | None = None, target_n: int | None = None
    ) -> Pairs:
        """Best and worst of every n candidates, ties by lot; consumes ``key``.

        A prompt gives ⌊N/n⌋ pairs, of disjoint candidates. Pairs of a prompt follow one another.

        Args:
            key: a typed key, of the lots.
            n: candidates of a pair, from 2 to N; 2 makes ordinary preference pairs.
            ranks: where targets come from. ``"further draws"``: from a prompt's candidates outside
                the pair's own n, without bias but for ties (:func:`~simulations.alignment.losses.
                log_rank`); ``"pool"``: from ranks among all N, the pair's own counted. None for no
                targets.
            target_n: the n of the best-of-n that targets are margins of; ``n`` unless given.

        Raises:
            ValueError: n is not between 2 and N, or there are no further draws to rank by.
        """
        n = integer_within("n", n, at_least=2, at_most=self.rewards.shape[1], remedy=_PAIRS)
        num_prompts, groups = len(self.prompts), self.rewards.shape[1] // n
        if ranks not in (None, "pool", "further draws"):
            raise ValueError(f"ranks must be 'further draws', 'pool' or None, got {ranks!r:.80}")
        if ranks == "further draws" and self.rewards.shape[1] == n:
            raise ValueError(
                f"ranks are to come from further draws, but all {n} candidates are a pair's own: "
                "draw more candidates, or take ranks='pool'"
            )
        lots = _uniforms(key, self.rewards.shape)
        member = np.arange(groups * n).reshape(groups, n)
        # Stable order by reward, then by lot; [B, groups, n].
        order = np.lexsort((lots[:, member], self.rewards[:, member]), axis=-1)
        best, worst = (member[np.arange(groups), order[..., place]] for place in (-1, 0))

        def at(array: NDArray, which: NDArray[np.intp]) -> NDArray:
            rows = array[np.arange(num_prompts)[:, None], which]
            return rows.reshape(num_prompts * groups, *array.shape[2:])

        target = np.full(num_prompts * groups, np.nan)
        if ranks is not None:
            inside = member if ranks == "further draws" else member[:, :0]
            target = self._targets(best, worst, inside, target_n or n).reshape(-1)
        return Pairs(
            np.repeat(self.prompts, groups, axis=0),
            at(self.tokens, best),
            at(self.tokens, worst),
            at(self.log_probs, best).astype(np.float32),
            at(self.log_probs, worst).astype(np.float32),
            target.astype(np.float32),
        )

    def _targets(
        self,
        best: NDArray[np.intp],
        worst: NDArray[np.intp],
        inside: NDArray[np.intp],
        n: int,
    ) -> NDArray[np.float64]:
        """Margins ``[B, groups]`` by ranks among all candidates but those ``inside`` a group."""
        rows = np.arange(len(self.rewards))[:, None]
        own = self.rewards[:, inside]  # [B, groups, n or 0]
        num_draws = self.rewards.shape[1] - inside.shape[1]

        def log_density(which: NDArray[np.intp]) -> NDArray[np.float64]:
            reward = self.rewards[rows, which]
            ascending = np.sort(self.rewards, axis=1)
            below, not_above = (
                np.stack(
                    [np.searchsorted(a, r, side) for a, r in zip(ascending, reward, strict=True)]
                )
                for side in ("left", "right")
            )
            below = below - np.sum(own < reward[..., None], axis=-1)
            not_above = not_above - np.sum(own <= reward[..., None], axis=-1)
            ranks = matched_target(log_rank(not_above, num_draws), 0.0, n=n)
            return ranks + log_atom_excess(below, not_above, n=n)

        return log_density(best) - log_density(worst)

    def to_parquet(self, path: Path) -> None:
        """Write a row for each candidate, and the identity among the file's metadata; atomically.

        Columns: ``prompt_id``, ``candidate``, ``prompt_tokens``, ``tokens`` (without PAD),
        ``reward``, ``log_prob``.
        """
        import polars  # here, as most who read this module write no file

        shape, pad = self.rewards.shape, self.pad_id
        prompt_id, candidate = (index.reshape(-1) for index in np.indices(shape))
        tokens = self.tokens.reshape(-1, self.tokens.shape[-1])
        frame = polars.DataFrame(
            {
                "prompt_id": prompt_id.astype(np.uint32),
                "candidate": candidate.astype(np.uint32),
                "prompt_tokens": [self.prompts[i][self.prompts[i] != pad] for i in prompt_id],
                "tokens": [row[row != pad] for row in tokens],
                "reward": self.rewards.reshape(-1),
                "log_prob": self.log_probs.reshape(-1),
            }
        )
        about = {
            "identity": self.identity,
            "pad": str(pad),
            # Padding included: another width rounds otherwise.
            "longest": str(tokens.shape[1]),
            "longest_prompt": str(self.prompts.shape[1]),
        }
        metadata = {"simulations.alignment": json.dumps(about)}
        write_atomically(path, lambda file: frame.write_parquet(file, metadata=metadata))

    @classmethod
    def from_parquet(cls, path: Path) -> CandidateTable:
        """Read what :meth:`to_parquet` wrote.

        Raises:
            ValueError: the file is damaged, another's, or has prompts without candidates or with
                different numbers of them.
        """
        import polars

        try:
            about = json.loads(polars.read_parquet_metadata(path)["simulations.alignment"])
            frame = polars.read_parquet(path).sort("prompt_id", "candidate")
            pad, longest = int(about["pad"]), int(about["longest"])
            counts = np.bincount(frame["prompt_id"].to_numpy())
            prompts = frame.filter(polars.col("candidate") == 0)["prompt_tokens"].to_list()
            width = int(about.get("longest_prompt", max(map(len, prompts))))
            tokens = frame["tokens"].to_list()
            rewards, log_probs = frame["reward"].to_numpy(), frame["log_prob"].to_numpy()
        except (polars.exceptions.PolarsError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} must be candidates as they were written, got a damaged or foreign file "
                f"({type(error).__name__}: {error!s:.80}): delete it to draw them afresh"
            ) from error
        if counts.size == 0 or counts.min() != counts.max():
            raise ValueError(
                f"{path} has prompts with {counts.min(initial=0)} to {counts.max(initial=0)} "
                "candidates: every prompt needs as many as the others, and at least 2"
            )
        shape = counts.size, int(counts[0])
        left = np.full((shape[0], width), pad, np.int32)
        for row, prompt in zip(left, prompts, strict=True):
            row[width - len(prompt) :] = prompt
        right = np.full((len(tokens), longest), pad, np.int32)
        for row, response in zip(right, tokens, strict=True):
            row[: len(response)] = response
        right = right.reshape(*shape, longest)
        rewards, log_probs = rewards.reshape(shape), log_probs.reshape(shape)
        return cls(left, right, rewards, log_probs, pad, about["identity"])


@dataclass(frozen=True)
class TextScore:
    """A reward of the response's text as a :data:`Score`, with its checks.

    Attributes:
        reward: texts to numbers.
        tokenizer: writes the text.
    """

    reward: Reward
    tokenizer: Tokenizer

    def __call__(
        self, prompts: NDArray[np.int32], responses: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """Rewards ``[R]`` of ``responses [R, T]``."""
        return score(self.reward, [self.tokenizer.decode(tokens) for tokens in responses])


def draw_candidates(
    key: jax.Array,
    reference: Transformer,
    prompts: NDArray[np.int32],
    reward: Score,
    *,
    num_candidates: int,
    max_new_tokens: int,
    batch_size: int = 512,
    folder: Path | None = None,
    reward_name: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> CandidateTable:
    """Draw and score candidates of every prompt, or read them if they are there; consumes ``key``.

    Args:
        key: a typed key.
        reference: that draws.
        prompts: ``[B, L]``, as ``encode_prompts`` makes them.
        reward: scores prompts and responses, a batch at a time.
        num_candidates: N, at least 2.
        max_new_tokens: T.
        batch_size: responses drawn at once.
        folder: keeps each batch as it is drawn, and ``candidates.parquet`` once all are scored; the
            same call again goes on from what is there. What was drawn is kept if the reward fails.
        reward_name: what tells this reward from others, if a folder is to.
        progress: called as ``progress(done, total)``, in responses.

    Raises:
        ValueError: N is less than 2, the reward raises, or gives another number of scores or one
            that is not finite; the folder holds candidates of another run.
    """
    num_candidates = integer_within(
        "num_candidates", num_candidates, at_least=2, at_most=2**31 - 1, remedy=_PAIRS
    )
    path = None if folder is None else folder / "candidates.parquet"
    identity = _identity(key, reference, prompts, (num_candidates, max_new_tokens), reward_name)
    if path is not None and path.exists():
        found = CandidateTable.from_parquet(path)
        if found.identity != identity:
            raise ValueError(
                f"{path} holds candidates of another reference, key, size, reward or other "
                "prompts: give this run a folder of its own, or delete that file"
            )
        return found
    drawn = generate(
        key,
        reference,
        prompts,
        num_candidates=num_candidates,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        checkpoint=folder,
        progress=progress,
    )
    table = CandidateTable(
        np.asarray(prompts, np.int32),
        drawn.tokens,
        scored(reward, prompts, drawn.tokens),
        drawn.model_log_probs,
        reference.config.vocabulary.pad_id,
        identity,
    )
    if path is not None:
        table.to_parquet(path)
    return table


def scored(
    reward: Score, prompts: NDArray[np.int32], tokens: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Rewards ``[B, N]`` of ``tokens [B, N, T]``, checked.

    Raises:
        ValueError: another number of scores, or one that is not finite, whose prompt and candidate
            it names.
    """
    num_prompts, num_candidates, longest = tokens.shape
    scores = np.asarray(
        reward(np.repeat(prompts, num_candidates, axis=0), tokens.reshape(-1, longest)),
        np.float64,
    )
    if scores.shape != (num_prompts * num_candidates,):
        raise ValueError(
            f"reward returned scores of shape {scores.shape} for {num_prompts * num_candidates} "
            "responses: return one number for each"
        )
    scores = scores.reshape(num_prompts, num_candidates)
    if not np.isfinite(scores).all():
        prompt, candidate = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(
            f"reward is {scores[prompt, candidate]} for candidate {candidate} of prompt {prompt}: "
            "return finite numbers"
        )
    return scores


_PAIRS = "a pair is the best and the worst of n candidates, so it takes two"


def _identity(
    key: jax.Array,
    reference: Transformer,
    prompts: NDArray[np.int32],
    sizes: tuple[int, int],
    reward_name: str,
) -> str:
    described = [
        jax.random.key_data(key).tolist(),
        describe(reference.config),
        parameters_sha256(reference),
        describe(np.asarray(prompts)),
        sizes,
        reward_name,
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _uniforms(key: jax.Array, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Lots; 64 bits, so that equal ones do not happen."""
    bits = np.asarray(jax.random.bits(key, (2, *shape), np.uint32)).astype(np.uint64)
    return ((bits[0] << np.uint64(32) | bits[1]) >> np.uint64(11)).astype(np.float64)
