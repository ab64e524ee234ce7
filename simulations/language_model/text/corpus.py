"""English that every Python carries: what its standard library says about itself in sentences.

That is the language reference in ``pydoc_data``, and the documentation strings and comments of the
library's source: 1.3 MB. The text differs between Python versions, so results name it by size and
hash. Neighbours say nearly the same, which would leak training text into what is held out: a
document, that is a section of the reference or a file of the library, is held out as a whole, by a
hash of its name, which keeps it on the same side in every Python version. Sentences are made unique
by their letters alone, and what is held out is left out altogether if it has six words in a row in
common with training.

A user's own texts are read by ``text.files``.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from simulations.language_model.text.tokenizers import Tokenizer

SHORTEST, LONGEST = 40, 400
SHARED_WORDS = 6
"""A held-out document with so many words in a row that training has as well is left out."""

LETTER_SHARE = 0.8
"""A sentence has at least this share of letters and spaces: it leaves out grammar and code."""

Split = Literal["train", "validation", "scoring"]

OPTIONAL = frozenset(
    {"antigravity", "curses", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data"}
    | {"test", "this", "tkinter", "turtle", "turtledemo"}
)
"""Modules that a distribution of Python may leave out, and those that hold no prose."""

_DOCUMENTATION_OR_COMMENT = re.compile(
    r"""^[ \t]*(?:r?(?P<quotes>\"{3}|'{3})(?P<text>.*?)(?P=quotes)|(?:[ \t]*#[^\n]*\n)+)""",
    re.MULTILINE | re.DOTALL,
)
_NO_LETTER = re.compile(r"[^A-Za-z ]+")
_COMMENT_SIGN = re.compile(r"^[ \t]*#+ ?", re.MULTILINE)


@dataclass(frozen=True)
class Corpus:
    """Texts in three disjoint splits.

    Attributes:
        train: fits the tokenizer and the model.
        validation: gives the prompts and the validation loss.
        scoring: fits the rewards, which are to know nothing of the model's training text.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    scoring: tuple[str, ...]

    @classmethod
    def of(cls, documents: Iterable[str]) -> Corpus:
        """Documents that fit into memory, each in the split that ``split_of`` gives it.

        What is held out has nowhere six words in a row (``SHARED_WORDS``) that training has too.

        Raises:
            ValueError: there is no document.
        """
        return cls._split((split_of(document), document) for document in documents)

    @classmethod
    def _split(cls, placed: Iterable[tuple[Split, str]]) -> Corpus:
        """Texts, each with its split, but for what is held out and like the training text."""
        splits: dict[Split, list[str]] = {"train": [], "validation": [], "scoring": []}
        for split, text in placed:
            splits[split].append(text)
        if not any(splits.values()):
            raise ValueError("documents is empty: pass at least one text")
        trained_on = set().union(*map(_runs, splits["train"]))
        clean = {
            name: tuple(text for text in splits[name] if trained_on.isdisjoint(_runs(text)))
            for name in ("validation", "scoring")
        }
        return cls(train=tuple(splits["train"]), **clean)

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes over all three splits."""
        return sum(len(text.encode()) for text in (*self.train, *self.validation, *self.scoring))

    @property
    def sha256(self) -> str:
        """Hash of all three splits: equal exactly when the sentences and their order are."""
        splits = ("\n".join(split) for split in (self.train, self.validation, self.scoring))
        return hashlib.sha256("\n\n".join(splits).encode()).hexdigest()


def split_of(document: str) -> Split:
    """3/4 of all documents are for training, 1/16 for validation and 3/16 for scoring.

    The letters alone decide, so that a document and its copy under another layout stay together.
    """
    residue = _hash(document)[0] % 16
    return "validation" if residue == 0 else "scoring" if residue <= 3 else "train"


@functools.cache
def load_corpus() -> Corpus:
    """The distinct sentences of this Python's own texts, by documents.

    About 14,500 sentences of 93 bytes, made in a second. The documents are in the order of their
    names' hashes, so that any run of them is a mixture.
    """
    seen: set[str] = set()
    placed: list[tuple[Split, str]] = []
    for name, text in sorted(python_documents(), key=lambda document: _hash(document[0])):
        for sentence in sentences(text):
            if (letters := _letters(sentence)) not in seen:
                seen.add(letters)
                placed.append((split_of(name), sentence))
    return Corpus._split(placed)


def python_documents() -> Iterator[tuple[str, str]]:
    """Name and text of the language reference's sections, then of the library's files.

    Of a file that is what its documentation strings and comments say, in its order.
    """
    from pydoc_data.topics import topics

    yield from ((f"topic {name}", topics[name]) for name in sorted(topics))
    root = Path(sysconfig.get_path("stdlib"))
    for module in sorted(sys.stdlib_module_names - OPTIONAL):
        for file in (root / f"{module}.py", *sorted((root / module).rglob("*.py"))):
            name = file.relative_to(root)
            if file.is_file() and not {"test", "tests"} & set(name.parts):
                source = file.read_text(encoding="utf-8", errors="replace")
                said = "\n\n".join(
                    found["text"] or _COMMENT_SIGN.sub("", found[0])
                    for found in _DOCUMENTATION_OR_COMMENT.finditer(source)
                )
                yield name.as_posix(), said


def sentences(text: str) -> Iterator[str]:
    """The English sentences of a text, each on one line.

    Example:
        >>> list(sentences("It is a sentence that has enough letters to be kept. Not this."))
        ['It is a sentence that has enough letters to be kept.']
    """
    for paragraph in re.split(r"\n[ \t]*\n", text):
        line = " ".join(paragraph.split())
        yield from filter(_is_english, re.split(r"(?<=[.!?]) (?=[A-Z])", line))


def _is_english(sentence: str) -> bool:
    if not SHORTEST <= len(sentence) <= LONGEST or not sentence.isascii():
        return False
    if not sentence[0].isupper() or sentence[-1] not in ".!?:":
        return False
    return len(_NO_LETTER.sub("", sentence)) >= LETTER_SHARE * len(sentence)


def _hash(text: str) -> bytes:
    return hashlib.sha256(_letters(text).encode()).digest()


def _letters(text: str) -> str:
    """The text in lower case without anything that is not a letter; itself if it has none."""
    return "".join(filter(str.isalpha, text.lower())) or text


def _runs(text: str) -> set[tuple[str, ...]]:
    """All words in a row, ``SHARED_WORDS`` of them."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return {tuple(words[i : i + SHARED_WORDS]) for i in range(len(words) - SHARED_WORDS + 1)}


def bits_per_byte(nats: float, documents: Iterable[str]) -> float:
    """What all ``documents`` cost, EOS included, by the UTF-8 bytes of their text.

    It compares laws over different tokens: the same text is told by each.

    Example:
        >>> bits_per_byte(6 * math.log(2), ["né"])
        2.0
    """
    return nats / math.log(2) / sum(len(text.encode()) for text in documents)


def token_stream(documents: Iterable[str], tokenizer: Tokenizer) -> np.ndarray:
    """All documents as one sequence ``[T]``, each between BOS and EOS.

    Raises:
        ValueError: there is no document.

    Example:
        >>> from simulations.language_model.text.tokenizers import ByteTokenizer
        >>> token_stream(["a", "b"], ByteTokenizer()).tolist()
        [257, 97, 256, 257, 98, 256]
    """
    pieces = [marked(text, tokenizer) for text in documents]
    if not pieces:
        raise ValueError("documents is empty: pass at least one text")
    return np.concatenate(pieces)


def marked(document: str, tokenizer: Tokenizer) -> np.ndarray:
    """The tokens ``[T]``, int32, of a document between BOS and EOS."""
    vocabulary = tokenizer.vocabulary
    tokens = [[vocabulary.bos_id], tokenizer.encode(document), [vocabulary.eos_id]]
    return np.concatenate(tokens).astype(np.int32)


def prompt_texts(documents: Sequence[str], *, num_prompts: int, num_bytes: int) -> tuple[str, ...]:
    """The first words, whole and at most ``num_bytes``, of ``num_prompts`` of the documents.

    Args:
        documents: those shorter than twice ``num_bytes`` are passed over, as little would be left
            to continue.
        num_prompts: how many documents are taken, equally far from one another, in their order.
        num_bytes: the longest prompt.

    Raises:
        ValueError: ``num_prompts`` below 1, or fewer documents are long enough.

    Example:
        >>> documents = ["Too short.", "Return the next item."]
        >>> prompt_texts(documents, num_prompts=1, num_bytes=10)
        ('Return the',)
    """
    if num_prompts < 1:
        raise ValueError(f"num_prompts is {num_prompts}: pass 1 or more")
    long_enough = [text for text in documents if len(text) >= 2 * num_bytes]
    if num_prompts > len(long_enough):
        raise ValueError(
            f"num_prompts is {num_prompts}, but {len(long_enough)} documents have at least "
            f"{2 * num_bytes} bytes: ask for fewer or shorter prompts"
        )
    # One byte more is cut first, so that a word which ends exactly at the limit is kept whole.
    chosen = long_enough[:: len(long_enough) // num_prompts][:num_prompts]
    return tuple(text[: num_bytes + 1].rpartition(" ")[0] for text in chosen)
