"""Text as token ids: a vocabulary's layout, bytes, and subwords trained here or a checkpoint's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import tokenizers
import tokenizers.decoders
import tokenizers.models
import tokenizers.pre_tokenizers
import tokenizers.trainers

from simulations.tools.files import write_atomically


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


class Tokenizer(Protocol):
    """Text to token ids and back: bytes, byte pairs trained here, or a checkpoint's own.

    Attributes:
        vocabulary: the ids' layout.
        starts_with_bos: whether a prompt starts with BOS: so it does where the model was trained
            that way; a checkpoint says so, or its chat template writes BOS itself.
        sha256: of all that decides the ids; two tokenizers with equal ones are the same.
    """

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def starts_with_bos(self) -> bool: ...

    @property
    def sha256(self) -> str: ...

    def encode(self, text: str) -> np.ndarray:
        """Token ids ``[T]``, int32, of ``text`` alone: neither BOS nor EOS is added."""
        ...

    def decode(self, tokens: np.ndarray) -> str:
        """Text of ``tokens [T]`` before the first EOS; BOS, PAD and other marks are dropped."""
        ...


@dataclass(frozen=True)
class ByteTokenizer:
    """The 256 bytes of UTF-8, and EOS: no training, and every text is its own length in bytes.

    Example:
        >>> ByteTokenizer().encode("né").tolist()
        [110, 195, 169]
        >>> ByteTokenizer().decode(np.array([258, 257, 72, 105, 256, 33]))
        'Hi'
    """

    vocabulary: Vocabulary = field(default=BYTES, init=False)
    starts_with_bos: bool = field(default=True, init=False)
    sha256: str = field(default=hashlib.sha256(b"bytes").hexdigest(), init=False)

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int32)

    def decode(self, tokens: np.ndarray) -> str:
        """Bytes that are not UTF-8 (a model may emit them) become U+FFFD."""
        tokens = _before_eos(tokens, self.vocabulary)
        return tokens[tokens < BYTES.eos_id].astype(np.uint8).tobytes().decode("utf-8", "replace")


@dataclass(frozen=True)
class SubwordTokenizer:
    """A tokenizer of the ``tokenizers`` library with the vocabulary of the model that reads it.

    Whether the text of a special token is read as that token is the library's own setting,
    ``tokenizers.Tokenizer.encode_special_tokens``: a chat template needs it, and a tokenizer that
    was trained here never does it, so that no text can end itself.

    Attributes:
        tokenizer: the library's; it is not to be changed afterwards.
        vocabulary: of the model; it may have more tokens than the tokenizer, not fewer.
        starts_with_bos: whether a prompt starts with BOS.

    Raises:
        ValueError: the tokenizer has ids beyond the vocabulary.

    Example:
        >>> tokenizer = SubwordTokenizer.train(["to be or not to be"] * 9, num_tokens=260)
        >>> tokenizer.encode("to be").size, tokenizer.decode(tokenizer.encode("to be"))
        (2, 'to be')
    """

    tokenizer: tokenizers.Tokenizer
    vocabulary: Vocabulary
    starts_with_bos: bool = True

    END: ClassVar[str] = "<|endoftext|>"
    """How EOS is written in the file of a tokenizer that was trained here."""

    def __post_init__(self) -> None:
        """Refuse a vocabulary that does not hold the tokenizer's ids."""
        largest = max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if largest >= self.vocabulary.num_inputs:
            raise ValueError(
                f"tokenizer has ids up to {largest}, but the vocabulary ends at "
                f"{self.vocabulary.num_inputs - 1}: pass the tokenizer that belongs to the model"
            )

    @classmethod
    def train(cls, documents: Iterable[str], *, num_tokens: int) -> SubwordTokenizer:
        """Byte pairs (byte-level BPE, as in GPT-2) of the words of ``documents``.

        Every text has tokens, as the 256 bytes are among them; the pair that is most frequent is
        joined until there are ``num_tokens`` with EOS, or none that occurs twice is left. The same
        documents give the same tokens.

        Args:
            documents: texts, read once.
            num_tokens: V, at least 257.

        Raises:
            ValueError: fewer tokens than bytes and EOS.
        """
        if num_tokens < BYTES.num_tokens:
            raise ValueError(
                f"num_tokens is {num_tokens}: the bytes and EOS are {BYTES.num_tokens} already, "
                "so pass that many or more"
            )
        byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = byte_level
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=num_tokens - 1,
            min_frequency=2,
            initial_alphabet=byte_level.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(documents, trainer)
        tokenizer.add_special_tokens([cls.END])  # after training, so that EOS is the last id
        return cls._own(tokenizer)

    @classmethod
    def load(cls, path: Path) -> SubwordTokenizer:
        """What ``save`` wrote of a tokenizer that was trained here.

        Raises:
            ValueError: another file.
        """
        tokenizer = read_tokenizer_json(path)
        if tokenizer.token_to_id(cls.END) != tokenizer.get_vocab_size() - 1:
            raise ValueError(
                f"{path} is not a tokenizer trained here, whose last token is {cls.END!r}: read a "
                "checkpoint's tokenizer together with its model"
            )
        return cls._own(tokenizer)

    @classmethod
    def _own(cls, tokenizer: tokenizers.Tokenizer) -> SubwordTokenizer:
        tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a text is 13 characters
        return cls(tokenizer, Vocabulary.plain(tokenizer.get_vocab_size()))

    def save(self, path: Path) -> None:
        """Write a ``tokenizer.json``, which other programs read as well."""
        write_atomically(path, self.tokenizer.to_str(pretty=True))

    @property
    def sha256(self) -> str:
        described = (self.tokenizer.to_str(), self.vocabulary, self.starts_with_bos)
        return hashlib.sha256(repr(described).encode()).hexdigest()

    def encode(self, text: str) -> np.ndarray:
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, np.int32)

    def decode(self, tokens: np.ndarray) -> str:
        """Bytes that are not UTF-8 become U+FFFD, and ids without a token are dropped."""
        return self.tokenizer.decode(_before_eos(tokens, self.vocabulary).tolist())


def read_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    """A ``tokenizer.json`` of any origin, as data: nothing in it is run.

    Raises:
        ValueError: the file is not one.
    """
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError:
        raise
    except Exception as error:  # the library raises nothing more exact
        raise ValueError(
            f"{path} is not a tokenizer.json ({str(error)[:80]}): pass the file that the "
            "`tokenizers` library wrote"
        ) from error


def encode_prompts(texts: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """Prompts ``[B, P]``: each text's tokens, after BOS where the tokenizer says so, PAD before it.

    Padding on the left lets every response start at the same index, whatever its prompt's length.

    Raises:
        ValueError: there is no text, or one without any token.

    Example:
        >>> encode_prompts(["ab", "c"], ByteTokenizer()).tolist()
        [[257, 97, 98], [258, 257, 99]]
    """
    if not texts:
        raise ValueError("texts is empty: pass at least one prompt")
    vocabulary = tokenizer.vocabulary
    start = [vocabulary.bos_id] if tokenizer.starts_with_bos else []
    rows = [np.concatenate([start, tokenizer.encode(text)]) for text in texts]
    if empty := [index for index, row in enumerate(rows) if not row.size]:
        raise ValueError(
            f"texts[{empty[0]}] has no token, and this tokenizer puts no BOS first: a response "
            "needs something to follow"
        )
    length = max(row.size for row in rows)
    prompts = np.full((len(rows), length), vocabulary.pad_id, dtype=np.int32)
    for prompt, row in zip(prompts, rows, strict=True):
        prompt[length - row.size :] = row
    return prompts


def _before_eos(tokens: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """What is between leading BOS and PAD, and the first EOS (which may be the same id as BOS)."""
    tokens = np.asarray(tokens)
    proper = (tokens != vocabulary.bos_id) & (tokens != vocabulary.pad_id)
    tokens = tokens[np.argmax(proper) :] if proper.any() else tokens[:0]
    ends = np.flatnonzero(tokens == vocabulary.eos_id)
    return tokens[: ends[0]] if ends.size else tokens
