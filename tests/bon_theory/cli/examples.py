"""The same answers in many files, and the command line on them."""

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import zstandard
from typer.testing import CliRunner, Result

from bon_theory.cli import main

ROOT = Path(__file__).parents[3]
SCORES = np.array([[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
TRUTH = np.array([[0.1, 0.9, 0.4, 0.3], [0.8, 0.7, 0.2, 0.6], [0.0, 0.3, 0.2, 0.5]])
TABLE = pl.DataFrame(
    {
        "prompt": np.repeat(["a", "b", "c"], 4),
        "candidate": np.tile(np.arange(4), 3),
        "score": SCORES.ravel(),
        "true_score": TRUTH.ravel(),
    }
)


def run(*arguments: Any, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main.app, [str(a) for a in arguments], input=stdin)


def rows_of(*arguments: Any, stdin: bytes = b"") -> list[dict[str, Any]]:
    result = run(*arguments, "--format", "json", stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["rows"]


def write_npz(path: Path, kind: Any) -> None:
    np.savez(path, scores=SCORES.astype(kind), true_scores=TRUTH)


def write_inspect(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", "{}")
        for p, (row, truth) in enumerate(zip(SCORES, TRUTH, strict=True)):
            for e, (value, gold) in enumerate(zip(row, truth, strict=True)):
                sample = {"id": p, "epoch": e + 1, "scores": {"match": {"value": "IC"[int(value)]}}}
                sample["scores"]["gold"] = {"value": gold}
                archive.writestr(f"samples/{p}_epoch_{e + 1}.json", json.dumps(sample))


def write_zstandard(path: Path) -> None:
    """As inspect writes today: every member in two frames of Zstandard, which zipfile cannot."""
    plain = path.with_name("plain.zip")
    write_inspect(plain)
    members, directory = io.BytesIO(), b""
    with zipfile.ZipFile(plain) as archive:
        for name in archive.namelist():
            text, place = archive.read(name), members.tell()
            halves = text[: len(text) // 2], text[len(text) // 2 :]
            packed = b"".join(map(zstandard.ZstdCompressor().compress, halves))
            common = struct.pack(
                "<HHHHHLLLHH", 63, 0, 93, 0, 33, zlib.crc32(text), len(packed), len(text),
                len(name), 0,
            )  # fmt: skip
            members.write(b"PK\x03\x04" + common + name.encode() + packed)
            directory += b"PK\x01\x02?\0" + common + struct.pack("<HHHLL", 0, 0, 0, 0, place)
            directory += name.encode()
        count = len(archive.namelist())
    plain.unlink()
    end = struct.pack("<HHHHLLH", 0, 0, count, count, len(directory), members.tell(), 0)
    path.write_bytes(members.getvalue() + directory + b"PK\x05\x06" + end)


def write_log(path: Path) -> None:
    samples = [
        {"id": f"p{p}", "epoch": e, "scores": {"match": bool(v), "gold": float(TRUTH[p, e])}}
        for p in range(3)
        for e, v in enumerate(SCORES[p])
    ]
    path.write_text(json.dumps({"status": "success", "samples": samples}, indent=1))


def write_lists(path: Path) -> None:
    lines = [
        {"score": s.tolist(), "true_score": t.tolist()} for s, t in zip(SCORES, TRUTH, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))


def write_lm_eval(path: Path) -> None:
    """The fields of lm-eval 0.4.13, a document of another kind in every row, several runs."""
    lines = []
    for p in range(3):
        for e in range(4):
            for name, offset in (("first", 0.0), ("second", 5.0)):
                doc: dict[str, Any] = {"q": "x"} if e else {"q": None, "tags": [1, "a", {"b": p}]}
                lines.append(
                    {"doc_id": p, "doc": doc, "target": "4",
                     "arguments": {"gen_args_0": {"arg_0": "x", "arg_1": {"until": ["\n"] * e}}},
                     "resps": [["y"] * e], "filtered_resps": ["y"] if e else [["y"]],
                     "filter": name, "metrics": ["exact_match"], "doc_hash": "a",
                     "prompt_hash": "b", "target_hash": "c",
                     "exact_match": SCORES[p, e] + offset, "true_score": TRUTH[p, e]}
                )  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")


def header(text: str) -> bytes:
    return f"prompt,score\n{text}".encode()
