"""A user's texts: read as they are, a document at a time, and refused by file and line."""

import json
from pathlib import Path

import numpy as np
import polars
import pytest

from simulations.language_model.text import files
from simulations.language_model.text.corpus import token_stream
from simulations.language_model.text.files import documents, read_tokens, write_tokens
from simulations.language_model.text.tokenizers import ByteTokenizer, SubwordTokenizer

TEXTS = ["One line.", "Two\nlines — and ümlauts.", "A third."]


def write(path: Path, texts: list[str]) -> Path:
    if path.suffix == ".txt":
        path.write_bytes("\r\n \r\n\r\n".join(texts).replace("\n", "\r\n").encode("utf-8-sig"))
    elif path.suffix == ".jsonl":
        path.write_text("\n\n".join(json.dumps({"id": 1, "text": text}) for text in texts))
    else:
        polars.DataFrame({"text": texts, "id": range(len(texts))}).write_parquet(path)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_every_format_gives_back_its_documents(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 2)
    assert list(documents(write(tmp_path / name, TEXTS))) == TEXTS


def test_documents_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """A fault far down the file is met when it is reached, not before."""
    path = tmp_path / "long.jsonl"
    path.write_text('{"text": "fine"}\n{"text": "cut sh')
    found = documents(path)
    assert next(found) == "fine"
    with pytest.raises(ValueError, match=r"line 2 is not JSON .* was the file cut short"):
        next(found)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\n\nna\xefve", "line 3 is not UTF-8 .* at byte 2 of the line"),
        ("a.txt", b"\n \n", "holds no text"),
        ("a.jsonl", b"", "holds no text"),
        ("a.jsonl", b'{"body": "x"}', r"line 1 has no text in column 'text', got \['body'\]"),
        ("a.jsonl", b'{"text": 3}', "line 1 has no text in column 'text'"),
        ("a.jsonl", b'["text"]', "line 1 has no text in column 'text', got list"),
        ("a.parquet", b"PAR1 and no more", "not a Parquet file that can be read"),
        ("a.doc", b"", "texts are read from .txt, .jsonl, .parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        list(documents(tmp_path / name))
    assert name in str(caught.value)


def test_parquet_columns_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    polars.DataFrame({"text": ["a", None], "n": [1, 2]}).write_parquet(path)
    with pytest.raises(ValueError, match="row 1 of column 'text' is null"):
        list(documents(path))
    for column in ("n", "body"):
        with pytest.raises(ValueError, match=f"no text in column '{column}', got .*String"):
            list(documents(path, column=column))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="was it cut short"):
        list(documents(path))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_a_file_that_is_not_there_is_said_to_be_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(documents(tmp_path / name))


@pytest.mark.parametrize("num_tokens", [None, 300])
def test_tokens_on_disk_are_those_in_memory(num_tokens: int | None, tmp_path: Path) -> None:
    tokenizer = (
        SubwordTokenizer.train(TEXTS * 9, num_tokens=num_tokens) if num_tokens else ByteTokenizer()
    )
    tokens = write_tokens(tmp_path / "tokens.npy", iter(TEXTS), tokenizer)
    assert isinstance(tokens, np.memmap)
    assert tokens.dtype == np.uint16
    np.testing.assert_array_equal(tokens, token_stream(TEXTS, tokenizer))
    np.testing.assert_array_equal(read_tokens(tmp_path / "tokens.npy"), tokens)


def test_a_failed_write_leaves_the_old_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens.npy"
    write_tokens(path, TEXTS, ByteTokenizer())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="documents is empty"):
        write_tokens(path, [], ByteTokenizer())
    assert path.read_bytes() == before
    path.write_bytes(before[:-1])
    with pytest.raises(ValueError, match=r"tokens\.npy is not a file of tokens"):
        read_tokens(path)
    np.save(path, np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"an array \[2, 2\] of float64, not tokens"):
        read_tokens(path)
