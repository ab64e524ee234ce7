"""Running the stages: what is on disk and still valid is taken from there."""

from __future__ import annotations

import datetime
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from paper_repro.pipeline import provenance, records
from paper_repro.pipeline.display import Display
from paper_repro.pipeline.records import Record
from paper_repro.pipeline.stages import Stage

# What shapes the records of all stages, though no stage imports it.
_SHAPE = ("payloads", "runner", "stages")


def selected(stages: Sequence[Stage], only: Collection[str]) -> set[str]:
    """Names of the stages that `only` picks by name or group, and of those they need.

    Raises:
        ValueError: an entry picks nothing.
    """
    names = {stage.name for stage in stages}
    groups = {name.split("/")[0] for name in names}
    if strays := set(only) - names - groups:
        raise ValueError(
            f"unknown: {', '.join(sorted(strays))}; choose from {', '.join(sorted(groups | names))}"
        )
    picked = {name for name in names if not only or {name, name.split("/")[0]} & set(only)}
    for stage in reversed(stages):  # those needed come earlier
        if stage.name in picked:
            picked |= set(stage.needs)
    return picked


def run(
    stages: Sequence[Stage], output: Path, display: Display, *, only: Collection[str] = ()
) -> dict[str, Record]:
    """Run what is picked and not yet done; return every valid record, picked or not.

    A stage's record is written when the stage has ended, in one step. An interrupt therefore loses
    the stage under way and no other.
    """
    picked = selected(stages, only)
    keys: dict[str, str] = {}
    found: dict[str, Record] = {}
    for stage in stages:
        keys[stage.name] = _key(stage, keys)
        record = records.load(output, stage.name, keys[stage.name], stage.payload)
        if record is not None:
            if stage.name in picked:
                display.cached(stage.title, record.seconds)
        elif stage.name in picked:
            record = _run(stage, keys[stage.name], output, display)
        if record is not None:
            found[stage.name] = record
    return found


def _key(stage: Stage, keys: dict[str, str]) -> str:
    shape = [records.digest(Path(__file__).with_name(f"{name}.py")) for name in _SHAPE]
    needs = tuple(keys[name] for name in stage.needs)
    return provenance.key(stage.name, stage.module, {**stage.config, "shape": shape}, needs)


def _run(stage: Stage, key: str, output: Path, display: Display) -> Record:
    start = time.perf_counter()
    with display.running(stage.title) as progress:
        product = stage.run(output, progress)
    files = {file.relative_to(output).as_posix(): records.digest(file) for file in product.files}
    record = Record(
        stage=stage.name,
        key=key,
        payload=product.payload,
        files=files,
        seconds=time.perf_counter() - start,
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    records.save(output, record)
    return record
