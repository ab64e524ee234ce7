r"""Rewards that are sums over tokens, exactly: r(y) = Σ_t r(y_t), or Σ_t r(y_t | y_1 … y_{t−1}).

For them selecting block by block needs no look-ahead, and the theory of additive rewards
(:mod:`bon_theory.sequence`) speaks of real sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
from numpy.typing import NDArray
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from simulations.language_model.generate import response_token_log_probs
from simulations.language_model.text.tokenizers import Tokenizer
from simulations.language_model.transformer import Transformer


def lexicon(
    tokenizer: Tokenizer, valences: Mapping[str, float] | None = None
) -> NDArray[np.float64]:
    """Reward ``[V]`` of each token: the valence of the word that it is, 0 for pieces of words.

    A token is a word if it is a space and a word of the lexicon, in any case. Unlike a sentiment of
    the text, the sum over tokens knows no negation and no emphasis: it is additive exactly.

    Args:
        tokenizer: of the model; bytes have no words, and all rewards are 0.
        valences: by word in lower case; those of VADER (MIT licence; −4 to 4) unless given.

    Example:
        >>> from simulations.language_model.text.tokenizers import SubwordTokenizer
        >>> tokenizer = SubwordTokenizer.train(["a good day, a bad day"] * 9, num_tokens=280)
        >>> rewards = lexicon(tokenizer)
        >>> float(rewards[tokenizer.encode(" good day")].sum())
        1.9
    """
    if valences is None:
        valences = SentimentIntensityAnalyzer().lexicon
    rewards = np.zeros(tokenizer.vocabulary.num_tokens)
    for token in range(rewards.size):
        text = tokenizer.decode(np.array([token], np.int32))
        if text[:1] == " ":
            rewards[token] = valences.get(text[1:].lower(), 0.0)
    return rewards


@dataclass(frozen=True)
class WantedNumber:
    """−(c − wanted)² of a response, c being how many of its tokens are among some.

    It is not additive, and beyond ``wanted`` more is worse: a truth for proxies to miss.

    Attributes:
        tokens: that count.
        wanted: how many of them are best.

    Example:
        >>> WantedNumber((7, 8), 2)(np.array([[7, 0, 1], [7, 8, 7]])).tolist()
        [-1.0, -1.0]
    """

    tokens: tuple[int, ...]
    wanted: int

    def __call__(self, responses: NDArray[np.integer]) -> NDArray[np.float64]:
        """Rewards ``[...]`` of ``responses [..., T]``."""
        return -np.square(self.count(responses) - self.wanted).astype(np.float64)

    def count(self, responses: NDArray[np.integer]) -> NDArray[np.int64]:
        """c, ``[...]``."""
        return np.isin(responses, self.tokens).sum(axis=-1)


def of_tokens(rewards: NDArray[np.float64], tokens: NDArray[np.integer]) -> NDArray[np.float64]:
    """Reward of each of ``tokens [..., T]`` by the table ``rewards [V]``; 0 at PAD.

    Their sum over T is the response's reward, their running sum what it has earned so far.
    """
    return np.append(rewards, 0.0)[np.minimum(tokens, rewards.size)]


def log_ratio(
    model: Transformer,
    prompts: NDArray[np.integer],
    other: Transformer,
    other_prompts: NDArray[np.integer],
    responses: NDArray[np.integer],
) -> NDArray[np.float64]:
    """log p(y_t | prompt, y_<t) − log q(y_t | other prompt, y_<t) of each token, ``[R, T]``.

    What one model, or one system prompt, would rather say than another: additive over tokens given
    those before them, and at λ = 1 its tilt of q is p. It is 0 at PAD.

    Args:
        model: p.
        prompts: ``[R, P]`` of each response under p, PAD to the left.
        other: q, over the same tokens.
        other_prompts: ``[R, P′]`` under q.
        responses: ``[R, T]``, PAD to the right.

    Raises:
        ValueError: models of different vocabularies.
    """
    if model.config.vocabulary != other.config.vocabulary:
        raise ValueError(
            f"model has {model.config.vocabulary} and other has {other.config.vocabulary}: pass "
            "models of the same tokens"
        )
    mine = response_token_log_probs(model, prompts, responses)
    theirs = response_token_log_probs(other, other_prompts, responses)
    return np.asarray(jax.device_get(mine - theirs), np.float64)
