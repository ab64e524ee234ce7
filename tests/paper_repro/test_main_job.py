"""The main job: what is done again and what is not, and its command line."""

import dataclasses
import io
import json
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from paper_repro import __main__ as program
from paper_repro.papers.claim import Computed
from paper_repro.pipeline import provenance, records, runner
from paper_repro.pipeline.payloads import FigureResult
from paper_repro.pipeline.records import Record
from paper_repro.pipeline.stages import Product, Progress, Stage, stages
from paper_repro.pipeline.workers import Crew, Failure, News, Step
from paper_repro.report.summary import summarise
from simulations.tools.progress import Display
from tests.examples import example, ledger


class Bench:
    """Three stages that count how often they run; the second can be made to be interrupted."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.interrupted = False
        self.failing = ""
        self.failures: dict[str, str] = {}
        self.config = {"n": 8}
        self.needed = {"n": 8}

    def stages(self) -> tuple[Stage, ...]:
        module = "paper_repro.papers.claim"
        return (
            Stage("claims/one", "One", module, self._run("one"), FigureResult, self.config),
            Stage("checks", "Two", module, self._run("two"), FigureResult, self.needed),
            Stage(
                "figures/three",
                "Three",
                module,
                self._run("three"),
                FigureResult,
                needs=("checks",),
            ),
        )

    def _run(self, name: str) -> Callable[[Path, Progress], Product]:
        def run(output: Path, progress: Progress) -> Product:
            progress("halfway", 1, 2)
            if name == "two" and self.interrupted:
                raise KeyboardInterrupt
            if name == self.failing:
                raise ValueError(f"{name} fails")
            self.ran.append(name)
            file = output / f"{name}.txt"
            file.write_text(name)
            return Product(FigureResult(name, "A figure.", file.name), (file,))

        return run


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Inline(Crew):
    """One process after the other, in this process."""

    def __init__(self, size: int, output: Path) -> None:
        super().__init__(size, output)
        self.said: list[tuple[Stage, News]] = []

    @property
    def has_room(self) -> bool:
        return not self.said

    def start(self, stage: Stage) -> None:
        def progress(what: str, done: int, total: int) -> None:
            self.said.append((stage, Step(what, done, total)))

        try:
            self.said.append((stage, stage.run(self.output, progress)))
        except ValueError as error:
            self.said.append((stage, Failure(str(error))))

    def news(self) -> Iterator[tuple[Stage, News]]:
        while self.said:
            yield self.said.pop(0)


def run(bench: Bench, output: Path, *only: str) -> tuple[dict[str, Record], str]:
    text = io.StringIO()
    with Display(Console(file=text)) as display:
        found = runner.run(bench.stages(), Inline(1, output), display, only=only)
    bench.failures = found.failures
    return found.records, text.getvalue()


def test_what_is_done_is_not_done_again(bench: Bench, tmp_path: Path):
    first, _ = run(bench, tmp_path)
    again, text = run(bench, tmp_path)
    assert bench.ran == ["one", "two", "three"]
    assert again == first
    assert text.count("cached") == 3


def test_an_interrupted_run_goes_on_where_it_was(bench: Bench, tmp_path: Path):
    bench.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        run(bench, tmp_path)
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["claims-one.json"]
    bench.interrupted = False
    found, _ = run(bench, tmp_path)
    assert bench.ran == ["one", "two", "three"]
    assert set(found) == {"claims/one", "checks", "figures/three"}


def test_a_stage_that_fails_loses_only_those_that_need_it(bench: Bench, tmp_path: Path):
    bench.failing = "two"
    found, text = run(bench, tmp_path)
    assert set(found) == {"claims/one"}
    assert set(bench.failures) == {"checks", "figures/three"}
    assert bench.failures["checks"] == "two fails"
    assert "Two: failed" in text


def test_another_configuration_is_another_result(bench: Bench, tmp_path: Path):
    run(bench, tmp_path)
    bench.config = {"n": 9}
    run(bench, tmp_path)
    assert bench.ran == ["one", "two", "three", "one"]


def test_what_needs_a_result_is_made_again_with_it(bench: Bench, tmp_path: Path):
    run(bench, tmp_path)
    bench.needed = {"n": 9}
    run(bench, tmp_path)
    assert bench.ran == ["one", "two", "three", "two", "three"]


@pytest.mark.parametrize("module", ["payloads", "runner", "stages"])
def test_a_change_of_what_shapes_the_records_makes_all_of_them_stale(
    bench: Bench, tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
):
    run(bench, tmp_path)
    digest = records.digest

    def changed(path: Path) -> str:
        return "another" if path.name == f"{module}.py" else digest(path)

    monkeypatch.setattr(records, "digest", changed)
    run(bench, tmp_path)
    assert bench.ran == ["one", "two", "three"] * 2


def test_a_file_that_was_touched_is_made_again(bench: Bench, tmp_path: Path):
    run(bench, tmp_path)
    (tmp_path / "two.txt").write_text("two, edited")
    run(bench, tmp_path)
    assert bench.ran == ["one", "two", "three", "two"]  # the same result: three may stay


def test_only_what_is_picked_and_what_it_needs_is_run(bench: Bench, tmp_path: Path):
    found, _ = run(bench, tmp_path, "figures")
    assert bench.ran == ["two", "three"]
    assert set(found) == {"checks", "figures/three"}


def test_half_a_record_is_no_record(bench: Bench, tmp_path: Path):
    run(bench, tmp_path)
    path = records.path_of(tmp_path, "checks")
    path.write_text(path.read_text()[:40])
    run(bench, tmp_path)
    assert bench.ran == ["one", "two", "three", "two"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A tree: ``figures.gap`` uses ``simulations.engine.simulate``, no ``bon_theory.policy``."""
    files = {
        "figures/__init__.py": "",
        "figures/gap.py": "def data():\n    from simulations.engine import simulate\n    return 1",
        "simulations/__init__.py": "",
        "simulations/engine/simulate.py": "import numpy as np",
        "bon_theory/__init__.py": "",
        "bon_theory/policy.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_result_depends_on_the_sources_it_imports_and_no_others(checkout: Path):
    def key() -> str:
        return provenance.key("gap", "figures.gap", {"n": 8}, (), provenance.Sources(checkout))

    before = key()
    (checkout / "bon_theory" / "policy.py").write_text("changed = True")
    assert key() == before
    (checkout / "simulations" / "engine.py").write_text("import numpy as np\nchanged = True")
    assert key() != before


@pytest.mark.parametrize(
    "text",
    [
        "{0}",
        "class A:\n def f(self):\n  {0}",
        "async def f():\n async with a:\n  {0}",
        "if a: pass\nelif b: {0}",
        "for a in b: pass\nelse: {0}",
        "while a: {0}",
        "try: {0}\nexcept E: pass",
        "try: pass\nexcept E: {0}",
        "try: pass\nexcept E: pass\nelse: {0}",
        "try: pass\nfinally: {0}",
        "match a:\n case 1: {0}",
        "lambda: 0; {0}",
    ],
)
@pytest.mark.parametrize(
    "statement", ["import bon_theory.policy as p", "from bon_theory import policy"]
)
def test_an_import_counts_wherever_it_stands(text: str, statement: str, checkout: Path):
    (checkout / "figures" / "gap.py").write_text(text.format(statement))
    assert "bon_theory/policy.py" in provenance.Sources(checkout).of("figures.gap")


def test_a_result_depends_on_configuration_and_needs(checkout: Path):
    keys = {
        provenance.key(*arguments, provenance.Sources(checkout))
        for arguments in (
            ("gap", "figures.gap", {"n": 8}, ()),
            ("gap", "figures.gap", {"n": 9}, ()),
            ("gap", "figures.gap", {"n": 8}, ("abc",)),
        )
    }
    assert len(keys) == 3


def test_claims_depend_on_the_theory_and_figures_on_their_scripts():
    sources = provenance.Sources()
    used = sources.of("paper_repro.papers.bonbon_alignment.claims")
    assert {"bon_theory/selection/ranks.py", "paper_repro/papers/claim.py"} <= set(used)
    assert "simulations/language_model/fit.py" in used  # a claim on what training passes by
    others = sources.of("paper_repro.papers.uniform_race.claims")
    assert not any(name.startswith("simulations/language_model") for name in others)
    for stage in stages("quick"):
        assert sources.of(stage.module)


@pytest.mark.slow
def test_planning_imports_no_more_than_it_needs():
    """What takes seconds to import is imported by the stages that use it."""
    program = """
        import sys
        from paper_repro.pipeline.stages import stages
        stages("quick")
        print([name for name in ("matplotlib", "polars", "orbax") if name in sys.modules])
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "[]\n"


# The command line.


@pytest.fixture
def planned(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(program, "stages", lambda profile: bench.stages())
    monkeypatch.setattr(program, "Crew", Inline)
    monkeypatch.setattr(
        program,
        "summarise",
        lambda profile, stages, _found, failures: summarise(profile, stages, {}, failures),
    )
    return bench


def test_a_run_writes_the_report(planned: Bench, tmp_path: Path, capsys: Any):
    assert program.main(["--output", str(tmp_path)]) == 0
    assert "<h1>" in (tmp_path / "report.html").read_text()
    assert "report.html" in capsys.readouterr().out


def test_an_interrupt_is_reported_as_such(planned: Bench, tmp_path: Path, capsys: Any):
    planned.interrupted = True
    assert program.main(["--output", str(tmp_path)]) == 130
    assert "go on" in capsys.readouterr().out
    assert not (tmp_path / "report.html").exists()


def test_a_failed_stage_fails_the_run_and_says_why(planned: Bench, tmp_path: Path, capsys: Any):
    planned.failing = "two"
    assert program.main(["--output", str(tmp_path)]) == 1
    assert "Failed: checks\ntwo fails" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    failed = page[page.index("Failed: ") :]
    assert "two fails" in failed[: failed.index("Known how")]
    assert "Every stage has been run" not in page


def test_something_unexpected_fails_the_run(
    planned: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bad = Computed("example/claim", "differs", (3.0,), (2.0,), unexpected=True)
    broken = dataclasses.replace(summarise("quick", (), {}), ledger=ledger((example(), bad)))
    monkeypatch.setattr(program, "summarise", lambda *_: broken)
    assert program.main(["--output", str(tmp_path)]) == 1


@pytest.mark.parametrize(
    "arguments", [["--profile", "slow"], ["--nonsense"], ["--only"], ["--processes", "0"]]
)
def test_bad_options_exit_with_2(arguments: list[str], capsys: Any):
    with pytest.raises(SystemExit) as exit_:
        program.main(arguments)
    assert exit_.value.code == 2
    assert "error" in capsys.readouterr().err


def test_an_unknown_stage_exits_with_2_and_names_the_choices(tmp_path: Path, capsys: Any):
    assert program.main(["--only", "claim", "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "unknown: claim" in error
    assert "claims/bonbon_alignment" in error
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_exits_with_2(tmp_path: Path, capsys: Any):
    (tmp_path / "file").write_text("")
    assert program.main(["--output", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_stages_come_after_what_they_need_and_are_named_once(profile: Any):
    planned = stages(profile)
    names = [stage.name for stage in planned]
    assert len(names) == len(set(names))
    for position, stage in enumerate(planned):
        assert set(stage.needs) <= set(names[:position])
        json.dumps(dict(stage.config))
        assert pickle.loads(pickle.dumps(stage)).name == stage.name  # it goes to another process
