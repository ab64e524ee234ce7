"""Results on disk: each written whole or not at all, valid only for the key it was made under."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from paper_repro.pipeline.payloads import Payload
from simulations.tools.files import write_atomically


@dataclass(frozen=True)
class Record:
    """The result of a stage.

    Attributes:
        stage: its name.
        key: digest of what the result depends on (``provenance.key``).
        payload: the result.
        files: SHA-256 of each file that belongs to it, by its path in the output directory.
        seconds: the stage took.
        finished: when, in ISO 8601.
    """

    stage: str
    key: str
    payload: Payload
    files: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    finished: str = ""


def path_of(output: Path, stage: str) -> Path:
    """Where the record of a stage lies."""
    return output / "stages" / f"{stage.replace('/', '-')}.json"


def save(output: Path, record: Record) -> None:
    """Write the record; a reader sees the old one or the new one, never a part."""
    text = json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False)
    write_atomically(path_of(output, record.stage), text)


def load(output: Path, stage: str, key: str, payload: type[Payload]) -> Record | None:
    """The stage's record if it was made under ``key`` and all its files are as it left them."""
    try:
        fields = json.loads(path_of(output, stage).read_text(encoding="utf-8"))
        record = Record(**{**fields, "payload": payload.from_json(fields["payload"])})
        intact = all(digest(output / name) == sha for name, sha in record.files.items())
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
    ):  # not there, not JSON, not a record: to be made anew
        return None
    return record if intact and (record.stage, record.key) == (stage, key) else None


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
