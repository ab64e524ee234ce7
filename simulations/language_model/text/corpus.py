"""English that every Python carries: the sentences of the language reference in ``pydoc_data``.

The text differs between Python versions, so results name it by size and hash. The topics repeat
one another's sections, which would leak held-out text into training: sentences are made unique
first, and each is then sent to its split by a hash of its own text, which keeps it on the same side
in every Python version.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simulations.language_model.text.tokenizers import Tokenizer

SHORTEST, LONGEST = 40, 400
LETTER_SHARE = 0.8
"""A sentence has at least this share of letters and spaces: it leaves out grammar and code."""


@dataclass(frozen=True)
class Corpus:
    """Sentences in three disjoint splits.

    Attributes:
        train: fits the model.
        validation: gives the prompts and the validation loss.
        scoring: fits the rewards, which are to know nothing of the model's training text.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    scoring: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes over all three splits."""
        return sum(len(text.encode()) for text in (*self.train, *self.validation, *self.scoring))

    @property
    def sha256(self) -> str:
        """Hash of all three splits: equal exactly when the sentences and their order are."""
        splits = ("\n".join(split) for split in (self.train, self.validation, self.scoring))
        return hashlib.sha256("\n\n".join(splits).encode()).hexdigest()


def load_corpus(topics: Mapping[str, str] | None = None) -> Corpus:
    """The corpus of this Python's ``pydoc_data.topics``, or of any mapping of names to texts.

    About 1,800 sentences of 110 bytes: 3/4 for training, 1/16 for validation, 3/16 for scoring.

    Args:
        topics: texts by name; those of this Python unless given.

    Example:
        >>> text = "It is a sentence that has enough letters to be kept. Not this."
        >>> corpus = load_corpus({"a": text})
        >>> [*corpus.train, *corpus.validation, *corpus.scoring]
        ['It is a sentence that has enough letters to be kept.']
    """
    if topics is None:
        from pydoc_data.topics import topics as standard_topics

        topics = standard_topics
    splits: tuple[list[str], ...] = ([], [], [])
    for sentence in sentences([topics[name] for name in sorted(topics)]):
        residue = hashlib.sha256(sentence.encode()).digest()[0] % 16
        splits[1 if residue == 0 else 2 if residue <= 3 else 0].append(sentence)
    train, validation, scoring = splits
    return Corpus(tuple(train), tuple(validation), tuple(scoring))


def sentences(texts: Sequence[str]) -> list[str]:
    """The distinct English sentences of ``texts`` as they first appear, on one line each."""
    found: dict[str, None] = {}
    for text in texts:
        for paragraph in re.split(r"\n[ \t]*\n", text):
            line = " ".join(paragraph.split())
            for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", line):
                if _is_english(sentence):
                    found[sentence] = None
    return list(found)


def _is_english(sentence: str) -> bool:
    if not SHORTEST <= len(sentence) <= LONGEST or not sentence.isascii():
        return False
    letters = sum(character.isalpha() or character == " " for character in sentence)
    return (
        sentence[0].isupper() and sentence[-1] in ".!?:" and letters >= LETTER_SHARE * len(sentence)
    )


def token_stream(documents: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """All documents as one sequence ``[T]``, each between BOS and EOS.

    Raises:
        ValueError: there is no document.

    Example:
        >>> from simulations.language_model.text.tokenizers import ByteTokenizer
        >>> token_stream(["a", "b"], ByteTokenizer()).tolist()
        [257, 97, 256, 257, 98, 256]
    """
    start, end = [tokenizer.vocabulary.bos_id], [tokenizer.vocabulary.eos_id]
    pieces = [np.concatenate([start, tokenizer.encode(text), end]) for text in documents]
    if not pieces:
        raise ValueError("documents is empty: pass at least one text")
    return np.concatenate(pieces).astype(np.int32)


def prompt_texts(documents: Sequence[str], *, num_prompts: int, num_bytes: int) -> tuple[str, ...]:
    """The first words, whole and at most ``num_bytes``, of the first ``num_prompts`` documents.

    Args:
        documents: those shorter than twice ``num_bytes`` are passed over, as little would be left
            to continue.
        num_prompts: how many documents are taken, in their order.
        num_bytes: the longest prompt.

    Raises:
        ValueError: fewer than ``num_prompts`` documents are long enough.

    Example:
        >>> documents = ["Too short.", "Return the next item."]
        >>> prompt_texts(documents, num_prompts=1, num_bytes=10)
        ('Return the',)
    """
    long_enough = [text for text in documents if len(text) >= 2 * num_bytes]
    if num_prompts > len(long_enough):
        raise ValueError(
            f"num_prompts is {num_prompts}, but {len(long_enough)} documents have at least "
            f"{2 * num_bytes} bytes: ask for fewer or shorter prompts"
        )
    # One byte more is cut first, so that a word which ends exactly at the limit is kept whole.
    return tuple(text[: num_bytes + 1].rpartition(" ")[0] for text in long_enough[:num_prompts])
