"""Text as token ids: a vocabulary's layout, and the byte-level tokenizer that needs no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Vocabulary:
    """``num_tokens`` (V) tokens that a model can emit, the last of them the end of a sequence.

    Ids 0 … V−1 are the model's outputs and EOS = V−1. BOS = V and PAD = V+1 are inputs only: a
    model has no output for them, so the law over responses puts no mass on either, and it sums to
    one over the sequences that end in EOS (or are cut at the longest length allowed).

    Attributes:
        num_tokens: V, at least 2.

    Raises:
        ValueError: there is no token besides EOS.

    Example:
        >>> Vocabulary(5).eos_id, Vocabulary(5).bos_id, Vocabulary(5).pad_id
        (4, 5, 6)
    """

    num_tokens: int

    def __post_init__(self) -> None:
        """Refuse a vocabulary without a token besides EOS."""
        if self.num_tokens < 2:
            raise ValueError(
                f"num_tokens is {self.num_tokens}: a vocabulary needs at least one token besides "
                "the end of a sequence, so pass 2 or more"
            )

    @property
    def eos_id(self) -> int:
        """The end of a sequence, the last token that a model can emit."""
        return self.num_tokens - 1

    @property
    def bos_id(self) -> int:
        """The start of a sequence, an input only."""
        return self.num_tokens

    @property
    def pad_id(self) -> int:
        """Filling left of a prompt and right of a response, an input only."""
        return self.num_tokens + 1

    @property
    def num_inputs(self) -> int:
        """V+2: the emitted tokens, BOS and PAD."""
        return self.num_tokens + 2


BYTES = Vocabulary(num_tokens=257)
"""The 256 bytes and EOS."""


def encode(text: str) -> np.ndarray:
    """UTF-8 bytes of ``text`` as token ids ``[T]``, without BOS or EOS.

    Example:
        >>> encode("né").tolist()
        [110, 195, 169]
    """
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int32)


def decode(tokens: np.ndarray) -> str:
    """Text of the byte tokens in ``tokens [T]`` before the first EOS; BOS and PAD are dropped.

    Bytes that are not UTF-8 (a model may emit them) become U+FFFD.

    Example:
        >>> decode(np.array([258, 257, 72, 105, 256, 33]))
        'Hi'
    """
    tokens = np.asarray(tokens)
    ends = np.flatnonzero(tokens == BYTES.eos_id)
    if ends.size:
        tokens = tokens[: ends[0]]
    return tokens[tokens < BYTES.eos_id].astype(np.uint8).tobytes().decode("utf-8", "replace")


def encode_prompts(texts: Sequence[str]) -> np.ndarray:
    """Prompts ``[B, P]``: BOS and the bytes of each text, with PAD to the left of the shorter ones.

    Padding on the left lets every response start at the same index, whatever its prompt's length.

    Raises:
        ValueError: there is no text.

    Example:
        >>> encode_prompts(["ab", "c"]).tolist()
        [[257, 97, 98], [258, 257, 99]]
    """
    if not texts:
        raise ValueError("texts is empty: pass at least one prompt (an empty string is one)")
    rows = [encode(text) for text in texts]
    length = 1 + max(row.size for row in rows)
    prompts = np.full((len(rows), length), BYTES.pad_id, dtype=np.int32)
    for prompt, row in zip(prompts, rows, strict=True):
        prompt[length - row.size - 1] = BYTES.bos_id
        prompt[length - row.size :] = row
    return prompts
