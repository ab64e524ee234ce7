"""A model small enough that every response is known, and a reward of its responses."""

from functools import cache

import jax
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig

VOCABULARY = Vocabulary.plain(4)
CONFIG = TransformerConfig(VOCABULARY, width=8, num_layers=1)
LENGTH = 3
PROMPTS = np.array([[VOCABULARY.bos_id, 0], [VOCABULARY.pad_id, VOCABULARY.bos_id]], np.int32)


@cache
def tiny_model() -> Transformer:
    """Begun when a test first asks for it: a worker of another directory need not compile it."""
    return Transformer(CONFIG, rngs=nnx.Rngs(0))


def key(seed: int = 7) -> jax.Array:
    """A fresh key: each is consumed once."""
    return jax.random.key(seed)


def reward(prompts: NDArray[np.int32], responses: NDArray[np.int32]) -> NDArray[np.float64]:
    """Number of tokens 1 in each response: integers, many ties."""
    return np.sum(responses == 1, axis=1).astype(np.float64)


def distinct_reward(prompts: NDArray[np.int32], responses: NDArray[np.int32]) -> NDArray:
    """A number of its own for each response."""
    return responses.astype(np.float64) @ (7.0 ** np.arange(responses.shape[1]))
