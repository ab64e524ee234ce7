"""A user's texts on disk: read a document at a time, kept as tokens that need not fit in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import polars

from simulations.language_model.text.corpus import marked
from simulations.language_model.text.tokenizers import Tokenizer
from simulations.tools.files import write_atomically

ROWS_AT_ONCE = 4096
"""Rows of a Parquet file that are in memory at a time."""


def documents(path: Path, *, column: str = "text") -> Iterator[str]:
    """The texts of a file, one after another.

    Args:
        path: ``.txt``, whose documents are set apart by blank lines; ``.jsonl``, an object on each
            line; or ``.parquet``. All in UTF-8.
        column: with the text in JSONL and Parquet.

    Raises:
        ValueError: another suffix, and as the file is read: no document in it, a line that is not
            UTF-8 or not JSON (as where a download was cut short), a missing column, or one that
            is not text.
        FileNotFoundError: there is no such file.
    """
    readers = {
        ".txt": lambda: _paragraphs(path),
        ".jsonl": lambda: _objects(path, column),
        ".parquet": lambda: _rows(path, column),
    }
    if path.suffix not in readers:
        raise ValueError(
            f"path is {str(path)[-80:]}: texts are read from {', '.join(readers)}; convert it"
        )
    return _at_least_one(readers[path.suffix](), path)


def write_tokens(path: Path, documents: Iterable[str], tokenizer: Tokenizer) -> np.ndarray:
    """``token_stream`` of documents that need not fit into memory; what is on disk is mapped.

    Args:
        path: ``.npy``, written atomically.
        documents: texts, read once.
        tokenizer: whose ids are stored in as few bytes as they need.

    Returns:
        The tokens ``[T]``, read-only.

    Raises:
        ValueError: there is no document.
    """
    dtype = np.min_scalar_type(tokenizer.vocabulary.num_inputs - 1)

    def write(file: IO[bytes]) -> None:
        size = 0
        _write_header(file, size, dtype)
        for document in documents:
            tokens = marked(document, tokenizer).astype(dtype)
            file.write(tokens.data)
            size += tokens.size
        if not size:
            raise ValueError("documents is empty: pass at least one text")
        file.seek(0)
        _write_header(file, size, dtype)  # which leaves room for any length

    write_atomically(path, write)
    return read_tokens(path)


def read_tokens(path: Path) -> np.ndarray:
    """What ``write_tokens`` wrote, mapped into memory: ``[T]``, read-only.

    Raises:
        ValueError: the file is damaged or another one.
    """
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is not a file of tokens ({str(error)[:80]}): write it anew from the texts"
        ) from error
    if tokens.ndim != 1 or tokens.dtype.kind != "u":
        raise ValueError(
            f"{path} has an array {list(tokens.shape)} of {tokens.dtype}, not tokens [T]: write it "
            "anew from the texts"
        )
    return tokens


def _write_header(file: IO[bytes], size: int, dtype: np.dtype) -> None:
    described = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        file, {"shape": (size,), "fortran_order": False, "descr": described}
    )


def _at_least_one(documents: Iterator[str], path: Path) -> Iterator[str]:
    empty = True
    for document in documents:
        empty = False
        yield document
    if empty:
        raise ValueError(f"{path} holds no text: pass a file with at least one document")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number} is not UTF-8 ({error.reason} at byte {error.start} of "
                    "the line): convert the file"
                ) from error


def _paragraphs(path: Path) -> Iterator[str]:
    lines: list[str] = []
    for _, line in _lines(path):
        if line.strip():
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _objects(path: Path, column: str) -> Iterator[str]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number} is not JSON ({error}), got {line[:40]!r}: was the file cut "
                "short?"
            ) from error
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            found = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise ValueError(
                f"{path}, line {number} has no text in column {column!r}, got {str(found)[:80]}: "
                "name the column with the text"
            )
        yield row[column]


def _rows(path: Path, column: str) -> Iterator[str]:
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        frame = polars.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
        if schema.get(column) != polars.String:
            raise ValueError(
                f"{path} has no text in column {column!r}, got {str(dict(schema))[:80]}: name the "
                "column with the text"
            )
        start = 0
        while (found := frame.select(column).slice(start, ROWS_AT_ONCE).collect()).height:
            for index, text in enumerate(found[column], start=start):
                if text is None:
                    raise ValueError(f"{path}, row {index} of column {column!r} is null: drop it")
                yield text
            start += found.height
    except polars.exceptions.PolarsError as error:
        raise ValueError(
            f"{path} is not a Parquet file that can be read ({str(error)[:80]}): was it cut short?"
        ) from error
