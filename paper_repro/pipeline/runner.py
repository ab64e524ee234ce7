"""Running the stages: what is on disk and still valid is taken from there."""

from __future__ import annotations

import datetime
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paper_repro.pipeline import provenance, records
from paper_repro.pipeline.provenance import Sources
from paper_repro.pipeline.records import Record
from paper_repro.pipeline.stages import Product, Stage
from paper_repro.pipeline.workers import Crew, Failure, Step
from simulations.tools.progress import Display

# What shapes the records of all stages, though no stage imports it.
_SHAPE = ("payloads", "runner", "stages")


def selected(stages: Sequence[Stage], only: Collection[str]) -> set[str]:
    """Names of the stages that ``only`` picks by name or group, and of those they need.

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


@dataclass(frozen=True)
class Finished:
    """What a run leaves.

    Attributes:
        records: every valid record by its stage, whether it was picked or not.
        failures: what was raised, by stage.
    """

    records: dict[str, Record] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def run(
    stages: Sequence[Stage], crew: Crew, display: Display, *, only: Collection[str] = ()
) -> Finished:
    """Run what is picked and not yet done, side by side, the heaviest first.

    A stage's record is written when the stage has ended, in one step. An interrupt therefore loses
    the stages under way and no other; so does a stage that fails, with those that need it.

    Args:
        stages: all of them, each after those that it needs.
        crew: of processes, that knows where everything is written.
        display: told what runs and how far it is.
        only: names or groups of stages; none for all.
    """
    picked = selected(stages, only)
    keys: dict[str, str] = {}
    finished, waiting = Finished(), []
    sources = Sources()
    for stage in stages:
        keys[stage.name] = _key(stage, keys, sources)
        record = records.load(crew.output, stage.name, keys[stage.name], stage.payload)
        if record is not None:
            finished.records[stage.name] = record
            if stage.name in picked:
                display.line(f"{stage.title}: cached (took {record.seconds:.1f} s)")
        elif stage.name in picked:
            waiting.append(stage)
    if waiting:
        with crew:
            _run(waiting, crew, finished, keys, display)
    return finished


def _run(
    todo: Sequence[Stage],
    crew: Crew,
    finished: Finished,
    keys: Mapping[str, str],
    display: Display,
) -> None:
    """Start what can be started, listen, until every stage has a record or a failure."""
    waiting = sorted(todo, key=lambda stage: -stage.weight)
    under_way: dict[str, float] = {}
    weights = {stage.title: stage.weight for stage in todo}
    ended: list[Stage] = []

    def share(running: Mapping[str, float]) -> float:
        done = sum(s.weight for s in ended) + sum(weights[t] * x for t, x in running.items())
        return done / sum(weights.values())

    display.overall(share)
    while waiting or under_way:
        for stage in [s for s in waiting if set(s.needs) & set(finished.failures)]:
            waiting.remove(stage)
            finished.failures[stage.name] = "not run: a stage that it needs has failed"
        while crew.has_room and (stage := _next(waiting, finished.records, crew)) is not None:
            waiting.remove(stage)
            under_way[stage.name] = time.perf_counter()
            display.started(stage.title)
            crew.start(stage)
        for stage, news in crew.news():
            if isinstance(news, Step):
                display.step(stage.title, news.what, news.done, news.total)
                continue
            seconds = time.perf_counter() - under_way.pop(stage.name)
            ended.append(stage)
            if isinstance(news, Failure):
                finished.failures[stage.name] = news.trace
                display.ended(stage.title, "failed")
                continue
            record = _record(stage, keys[stage.name], crew.output, news, seconds)
            finished.records[stage.name] = record
            display.ended(stage.title)


def _next(waiting: Sequence[Stage], done: Collection[str], crew: Crew) -> Stage | None:
    """The first stage that has what it needs, of those first for which a process is there."""
    ready = (stage for stage in waiting if set(stage.needs) <= set(done))
    return min(ready, key=lambda stage: not crew.has_idle(stage.settings), default=None)


def _key(stage: Stage, keys: dict[str, str], sources: Sources) -> str:
    shape = [records.digest(Path(__file__).with_name(f"{name}.py")) for name in _SHAPE]
    needs = tuple(keys[name] for name in stage.needs)
    config = {**stage.config, "shape": shape}
    return provenance.key(stage.name, stage.module, config, needs, sources)


def _record(stage: Stage, key: str, output: Path, product: Product, seconds: float) -> Record:
    """Put down what a stage made."""
    files = {file.relative_to(output).as_posix(): records.digest(file) for file in product.files}
    record = Record(
        stage=stage.name,
        key=key,
        payload=product.payload,
        files=files,
        seconds=seconds,
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    records.save(output, record)
    return record
