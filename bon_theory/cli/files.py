"""Rows of scored answers in whatever file they come: recognised by content, not by name.

CSV, TSV, JSON lines, JSON, Parquet, NumPy's NPY and NPZ, logs of inspect (``.eval``, JSON) and
samples of lm-eval (``--log_samples``). Text in a file is data: nothing of it is run or unpickled.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import jax.numpy as jnp
import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

__all__ = ["InputError", "Progress", "open_rows"]

_VALUES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}  # inspect's correct, incorrect, partial, none
_BLOCK = 1 << 22  # bytes
_ZSTANDARD = 93  # among a ZIP's ways of compression
_Read = TypeVar("_Read")
Progress = Callable[[float], None]
_ARRAYS = ("scores", "true_scores", "log_probs")


class InputError(ValueError):
    """What is wrong with a file, in one line."""


def open_rows(source: str, progress: Progress = lambda share: None) -> pl.LazyFrame:
    """The rows of a file, or of standard input for ``-``; only what is asked for is read of it.

    JSON lines, the slowest of the formats, tell ``progress`` what share of them is read.

    Raises:
        InputError: there is no such file, it is empty, or it is none of the formats; without the
            file's name.
    """
    path: Any = Path(source)
    if source == "-":
        path = io.BytesIO(sys.stdin.buffer.read())
        head = path.getvalue()[:65536]
    else:
        if "\0" in source or not path.is_file():
            raise InputError("is not a file")
        with path.open("rb") as file:
            head = file.read(65536)
    if not head.strip():
        raise InputError("is empty")
    try:
        return _rows(path, head, progress)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        raise InputError("is cut short or damaged") from None


def _rows(path: Path | IO[bytes], head: bytes, progress: Progress) -> pl.LazyFrame:
    if head.startswith(b"PAR1"):
        return pl.scan_parquet(path)
    if head.startswith(b"\x93NUMPY"):
        return _arrays({"scores": _loaded(path)})
    if head.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith(".npy") for name in names):
                return _npz(path)
            samples = [n for n in names if n.startswith("samples/") and n.endswith(".json")]
            if not samples:
                raise InputError("is an archive without samples or arrays")
            return _inspect(_parsed(_member(archive, name)) for name in samples)
    if b"\0" in head:
        raise InputError("is none of CSV, JSON lines, JSON, Parquet, NPY, NPZ or an inspect log")
    first = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if first == b"[" or (first == b"{" and not _is_lines(head)):
        text = path.read_bytes() if isinstance(path, Path) else path.read()
        return _document(_parsed(text))
    if first == b"{":
        return _json_lines(path, progress)
    header = head.splitlines()[0]
    separator = max(",;\t", key=lambda c: header.count(c.encode()))
    # Everything as text: what is no number is then found and named, wherever it stands.
    return pl.scan_csv(path, separator=separator, infer_schema=False)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One file of an archive; inspect compresses by Zstandard, as zipfile cannot before 3.14."""
    entry = archive.getinfo(name)
    if entry.compress_type != _ZSTANDARD:
        return archive.read(name)
    import zstandard

    file: Any = archive.fp
    file.seek(entry.header_offset + 26)  # the lengths of the name and of what follows it
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    file.seek(name_length + extra_length, io.SEEK_CUR)
    packed = io.BytesIO(file.read(entry.compress_size))
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as stream:
            text = stream.read(entry.file_size + 1)
    except zstandard.ZstdError:
        text = b""
    if zlib.crc32(text) != entry.CRC:
        raise zipfile.BadZipFile
    return text


def _json_lines(path: Path | IO[bytes], progress: Progress) -> pl.LazyFrame:
    """Rows of JSON lines, a block of the file at a time: polars maps the whole file into memory."""
    first = next(_blocks(path))
    found = _either(
        first, lambda block: pl.scan_ndjson(block, infer_schema_length=10_000).collect_schema()
    )
    size = path.stat().st_size if isinstance(path, Path) else path.seek(0, io.SEEK_END)
    # As text, like CSV: a score may be 0 for thousands of rows before the first 0.5.
    schema = pl.Schema({name: _as_text(dtype) for name, dtype in found.items()})

    def batches(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        left, done = math.inf if n_rows is None else n_rows, 0

        def wanted(block: io.BytesIO) -> pl.DataFrame:
            rows = pl.scan_ndjson(block, schema=schema)
            rows = rows if with_columns is None else rows.select(with_columns)
            return (rows if predicate is None else rows.filter(predicate)).collect()

        for block in _blocks(path):
            found = _either(block, wanted)
            found = found if left == math.inf else found.head(int(left))
            left -= found.height
            done += block.getbuffer().nbytes
            progress(done / size)
            yield found
            if left <= 0:
                return

    return register_io_source(batches, schema=schema)


def _either(block: io.BytesIO, read: Callable[[io.BytesIO], _Read]) -> _Read:
    """Lines as they are, or with the NaN and Infinity that Python writes into JSON as text."""
    try:
        return read(block)
    except pl.exceptions.ComputeError as error:
        try:
            lines = [x for x in block.getvalue().split(b"\n") if x.strip()]
            plain = [json.dumps(json.loads(line, parse_constant=str)) for line in lines]
        except (ValueError, RecursionError):
            raise error from None
        return read(io.BytesIO("\n".join(plain).encode()))


def _as_text(dtype: Any) -> Any:
    if isinstance(dtype, pl.List):
        return pl.List(_as_text(dtype.inner))
    return dtype if dtype.is_nested() else pl.String()


def _blocks(path: Path | IO[bytes]) -> Iterator[io.BytesIO]:
    """Whole lines of a file, some 4 MB at a time."""
    with path.open("rb") if isinstance(path, Path) else contextlib.nullcontext(path) as file:
        file.seek(0)
        rest = b""
        while block := file.read(_BLOCK):
            cut = block.rfind(b"\n") + 1
            if cut:
                yield io.BytesIO(rest + block[:cut])
                rest = b""
            rest += block[cut:]
        if rest.strip():
            yield io.BytesIO(rest)


def _is_lines(head: bytes) -> bool:
    """Whether the first line is a whole JSON object, or is longer than what was looked at."""
    line, newline, _ = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    try:
        value = json.loads(line)
        return isinstance(value, dict) and not isinstance(value.get("samples"), list)
    except ValueError:
        # A first line that is cut off here is a long row; a brace alone opens a document.
        return not newline or len(line.strip()) > 2


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON: {str(error)[:80]}") from None


def _document(value: Any) -> pl.LazyFrame:
    """A list of rows, or an inspect log."""
    if isinstance(value, dict) and isinstance(value.get("samples"), list):
        return _inspect(value["samples"])
    rows = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError("holds no list of objects, one per answer")
    return pl.DataFrame(rows, infer_schema_length=None, strict=False).lazy()


def _inspect(samples: Iterator[Any] | Sequence[Any]) -> pl.LazyFrame:
    """One row per sample and epoch, one column per scorer."""
    rows = []
    for sample in samples:
        if not isinstance(sample, dict):
            raise InputError("is an inspect log with samples that are none")
        row: dict[str, Any] = {"id": str(sample.get("id")), "epoch": sample.get("epoch", 1)}
        scores = sample.get("scores")  # none, where an error stopped the sample
        for scorer, score in (scores if isinstance(scores, dict) else {}).items():
            value = score.get("value") if isinstance(score, dict) else score
            row[f"score:{scorer}"] = _VALUES.get(value, value) if isinstance(value, str) else value
        rows.append(row)
    if not rows:
        raise InputError("is an inspect log without samples")
    if not any(len(row) > 2 for row in rows):
        raise InputError("is an inspect log with samples that have no scores")
    return pl.DataFrame(rows, infer_schema_length=None, strict=False).lazy()


def _npz(path: Path | IO[bytes]) -> pl.LazyFrame:
    with np.load(path, allow_pickle=False) as archive:
        try:
            arrays = {name: archive[name] for name in archive.files}
        except ValueError:
            raise InputError("holds objects, which are not unpickled: save numbers") from None
    if len(arrays) == 1:
        return _arrays({"scores": next(iter(arrays.values()))})
    if "scores" not in arrays:
        raise InputError(f"has no array scores among {', '.join(arrays)[:80]}")
    return _arrays({name: arrays[name] for name in _ARRAYS if name in arrays})


def _loaded(path: Path | IO[bytes]) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except ValueError:
        raise InputError("is cut short, or holds objects, which are not unpickled") from None


def _arrays(arrays: dict[str, np.ndarray]) -> pl.LazyFrame:
    """``[B, N]`` arrays as one row per answer; a NaN is an answer that is missing."""
    shape = arrays["scores"].shape
    if len(shape) != 2 or any(array.shape != shape for array in arrays.values()):
        raise InputError(
            f"must hold arrays [prompts, answers], got shapes "
            f"{', '.join(str(a.shape) for a in arrays.values())[:80]}"
        )
    columns = {"prompt": np.repeat(np.arange(shape[0]), shape[1])}
    for name, array in arrays.items():
        if array.dtype.kind == "V" and array.dtype.itemsize == 2:
            array = array.view(jnp.bfloat16)  # NumPy saves the type as two bytes
        try:
            if array.dtype.kind in "cMm":  # NumPy converts all of them
                raise TypeError
            columns[name] = array.astype(np.float64).ravel()
        except (TypeError, ValueError):
            raise InputError(f"holds {name} of type {array.dtype}, which are no numbers") from None
    return pl.DataFrame(columns).lazy()
