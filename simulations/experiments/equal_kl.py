"""Texts to look at: what best-of-n and soft best-of-n select at one divergence from the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from numpy.typing import NDArray

import bon_theory as bt


@dataclass(frozen=True)
class Selected:
    """Texts for one prompt.

    Attributes:
        prompt: that was answered.
        reference: an answer of the model's.
        best_of_n: the best of n others.
        soft: soft best-of-n's among still others, more of them, at the same divergence from the
            model.
    """

    prompt: str
    reference: str
    best_of_n: str
    soft: str


def texts_at_equal_kl(
    key: jax.Array,
    prompts: Sequence[str],
    texts: NDArray[np.str_] | NDArray[np.object_],
    rewards: NDArray[np.float64],
    *,
    n: int,
    soft_n: int,
) -> tuple[Selected, ...]:
    """What is selected for each prompt; consumes ``key``.

    The temperature of soft best-of-n is each prompt's own: by the law of its rewards, the two are
    then equally far from the model.

    Args:
        key: a typed key.
        prompts: the first few.
        texts: ``[B, N]``, of at least as many prompts.
        rewards: ``[B, N]``, N more than n and ``soft_n`` together.
        n: answers that best-of-n looks at.
        soft_n: answers that soft best-of-n looks at, more than n.
    """
    rewards = rewards[: len(prompts)]
    law = bt.Policy.from_samples(rewards)
    budget = bt.kl_divergence(bt.best_of_n(law, n), law)
    temperatures = np.asarray(bt.temperature_for_kl(law, budget, n=soft_n))
    first, second = np.split(rewards[:, 1 : 1 + n + soft_n], [n], axis=1)
    best = 1 + np.argmax(first, axis=1)
    noise = np.asarray(jax.random.gumbel(key, second.shape, second.dtype))
    soft = 1 + n + np.argmax(second / temperatures[:, None] + noise, axis=1)
    return tuple(
        Selected(str(prompt), str(row[0]), str(row[best[i]]), str(row[soft[i]]))
        for i, (prompt, row) in enumerate(zip(prompts, texts, strict=False))
    )
