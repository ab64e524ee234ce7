"""Text as token ids: a vocabulary's layout, and the byte-level tokenizer that needs no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a model reads and emits.

    Ids 0 … V−1 are the model's outputs. BOS may be one of them, or V, an input only, on which the
    law over responses puts no mass. PAD is the first id that is neither; a model knows it by that
    and has no row for it.

    Attributes:
        num_tokens: V, at least 2.
        eos_id: the end of a sequence, one of the outputs.
        bos_id: what a sequence starts with, at most V.

    Raises:
        ValueError: no token besides EOS, or ids out of range.
    """

    num_tokens: int
    eos_id: int
    bos_id: int

    def __post_init__(self) -> None:
        """Refuse a vocabulary without a token besides EOS, and ids out of range."""
        if self.num_tokens < 2:
            raise ValueError(
                f"num_tokens is {self.num_tokens}: a vocabulary needs at least one token besides "
                "the end of a sequence, so pass 2 or more"
            )
        for name, value, most in (
            ("eos_id", self.eos_id, self.num_tokens - 1),
            ("bos_id", self.bos_id, self.num_tokens),
        ):
            if not 0 <= value <= most:
                raise ValueError(
                    f"{name} is {value}: with num_tokens {self.num_tokens} it must be 0 to {most}"
                )

    @classmethod
    def plain(cls, num_tokens: int) -> Vocabulary:
        """V tokens, the last of them EOS, and a BOS that is never emitted.

        Example:
            >>> Vocabulary.plain(5)
            Vocabulary(num_tokens=5, eos_id=4, bos_id=5)
        """
        return cls(num_tokens, eos_id=num_tokens - 1, bos_id=num_tokens)

    @property
    def num_inputs(self) -> int:
        """How many tokens a model reads: V, and one more if BOS is an input only."""
        return max(self.num_tokens, self.bos_id + 1)

    @property
    def pad_id(self) -> int:
        """Filling left of a prompt and right of a response."""
        return self.num_inputs


BYTES = Vocabulary.plain(num_tokens=257)
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
