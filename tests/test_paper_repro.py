"""The main job: verdicts, what is done again and what is not, the report, the command line."""

import base64
import dataclasses
import doctest
import importlib
import io
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from paper_repro import __main__ as program
from paper_repro import bounds, monte_carlo, provenance, records, report, runner, terminal
from paper_repro.bonbon_alignment import claims as bonbon
from paper_repro.bonbon_alignment.rank_policies import NUMBERS, best_of_n_curve
from paper_repro.claim import Claim, Computed, Tolerance, evaluate, judge, printed
from paper_repro.display import Display
from paper_repro.papers import PAPERS, claims
from paper_repro.records import Record
from paper_repro.stages import Product, Progress, Stage, stages
from paper_repro.summary import PaperResult, Summary, summarise

EXACT = Tolerance("exact", absolute=1e-9)
ALL_CLAIMS = tuple(claim for paper in PAPERS for claim in claims(paper))
CHECKABLE = tuple(claim for claim in bonbon.CLAIMS if claim.compute is not None)


def example(**changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": "example/claim",
        "paper": "example",
        "where": "Theorem 1",
        "statement": "Two is 2.",
        "compute": lambda: 2.0,
        "expected": 2.0,
        "tolerance": EXACT,
    }
    return Claim(**(fields | changes))


# Verdicts.


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "reproduced"),
        ({"compute": lambda: 2.0 + 1e-8}, "differs"),
        ({"compute": lambda: math.nan}, "differs"),
        ({"compute": lambda: [2.0, 2.0]}, "differs"),
        ({"expected": (2.0, 3.0), "compute": lambda: np.array([2.0, 3.0])}, "reproduced"),
        ({"expected": (2.0, 3.0), "compute": lambda: [2.0, 3.1]}, "differs"),
        ({"expected": math.inf, "compute": lambda: math.inf}, "reproduced"),
        ({"expected": math.inf}, "differs"),
        ({"relation": "<=", "expected": 3.0}, "reproduced"),
        ({"relation": "<=", "expected": 1.0}, "differs"),
        ({"relation": ">=", "expected": 1.0}, "reproduced"),
        ({"relation": ">=", "expected": 3.0}, "differs"),
        ({"relation": ">=", "expected": 1.0, "compute": lambda: math.nan}, "differs"),
        ({"relation": "<=", "expected": 3.0, "sharper": "2", "sharp_value": 2.0}, "sharpened"),
        ({"relation": "<=", "expected": 3.0, "sharper": "1", "sharp_value": 1.0}, "differs"),
        ({"relation": "<=", "expected": 1.0, "sharper": "2", "sharp_value": 2.0}, "differs"),
        ({"compute": None, "not_checkable": "no data"}, "not checkable here"),
    ],
)
def test_verdict(changes: dict[str, Any], verdict: str):
    assert evaluate(example(**changes)).verdict == verdict


@pytest.mark.parametrize(
    ("computed", "known_difference", "unexpected"),
    [(2.0, "", False), (3.0, "", True), (3.0, "a misprint", False), (2.0, "a misprint", True)],
)
def test_only_an_undocumented_difference_or_a_stale_document_is_unexpected(
    computed: float, known_difference: str, unexpected: bool
):
    claim = example(compute=lambda: computed, known_difference=known_difference)
    assert evaluate(claim).unexpected is unexpected


def test_a_claim_that_raises_differs_and_says_what_was_raised():
    computed = evaluate(example(compute=lambda: 1 / 0, known_difference="documented"))
    assert (computed.verdict, computed.unexpected) == ("differs", True)
    assert "ZeroDivisionError" in computed.error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compute": None}, "not_checkable"),
        ({"not_checkable": "no data"}, "not_checkable"),
        ({"tolerance": None}, "tolerance"),
        ({"expected": ()}, "expected"),
        ({"labels": ("a", "b")}, "labels"),
        ({"sharper": "more"}, "sharp_value"),
        ({"sharper": "more", "sharp_value": (1.0, 2.0)}, "sharp_value"),
    ],
)
def test_a_claim_whose_parts_do_not_fit_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        example(**changes)


@pytest.mark.parametrize("fields", [("",), ("why", -1.0), ("why", math.nan)])
def test_a_tolerance_needs_a_reason_and_a_size(fields: tuple[Any, ...]):
    with pytest.raises(ValueError, match="must"):
        Tolerance(*fields)


def test_a_printed_number_allows_half_a_unit_of_its_last_digit_or_less():
    claim = example(expected=9.24, tolerance=printed(3))
    assert judge(claim, 9.2449) == "reproduced"
    assert judge(example(expected=1.24, tolerance=printed(3)), 1.2501) == "differs"


def test_a_result_goes_through_json_unchanged():
    computed = Computed(
        "a/b", "differs", (1 / 3, math.inf), (0.1, 2.0), (0.3, 4.0), "E: λ", 0.25, True
    )
    assert Computed.from_json(json.loads(json.dumps(computed.to_json()))) == computed


# The claims.


@pytest.fixture(scope="module")
def bonbon_results() -> list[Computed]:
    return [evaluate(claim) for claim in bonbon.CLAIMS]


def test_every_claim_of_bonbon_comes_out_as_documented(bonbon_results: list[Computed]):
    assert [computed for computed in bonbon_results if computed.unexpected] == []
    assert sum(computed.verdict == "sharpened" for computed in bonbon_results) >= 2


def test_a_wrong_theory_is_found():
    curves = {c.id: c for c in bonbon.CLAIMS}
    win_rate, kl = best_of_n_curve(np.array(NUMBERS) + 1e-6)  # n, off by a millionth
    assert judge(curves["bonbon/best-of-n-win-rate"], win_rate) == "differs"
    assert judge(curves["bonbon/best-of-n-kl"], kl) == "differs"


@pytest.mark.parametrize("claim", CHECKABLE, ids=lambda claim: claim.id)
def test_an_error_of_one_percent_in_any_entry_differs(claim: Claim):
    right = np.ravel(claim.sharp_value if claim.sharper else claim.expected).astype(float)
    assert judge(claim, right) in ("reproduced", "sharpened")
    for entry in range(right.size):
        size = 0.01 * abs(right[entry]) or 1e-8
        for sign in {"=": (-1, 1), "<=": (1,), ">=": (-1,)}[claim.relation]:
            wrong = right.copy()
            wrong[entry] += sign * size
            assert judge(claim, wrong) == "differs"


def test_ids_are_unique_over_all_papers():
    ids = [claim.id for claim in ALL_CLAIMS]
    assert len(ids) == len(set(ids)) > 40


def test_what_vouches_for_a_claim_is_simulated():
    named = {name for claim in ALL_CLAIMS for name in claim.checked_by}
    assert named
    assert named - monte_carlo.subjects(monte_carlo.QUICK) == set()


def test_the_margin_of_pairs_is_checked_with_power():
    config = dataclasses.replace(
        monte_carlo.QUICK,
        laws=dataclasses.replace(monte_carlo.QUICK.laws, cases=monte_carlo.QUICK.laws.cases[:1]),
        margin_trials=1_000_000,
    )
    payload = monte_carlo.run(config, lambda *_: None)
    assert payload["passed"]
    assert len(payload["planted"]) == 5  # n+1 for the law; n+1 and 2 % for mean and variance
    assert payload == json.loads(json.dumps(payload))


# Running, interrupting, going on.


class Bench:
    """Three stages that count how often they run; the second can be made to be interrupted."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.interrupted = False
        self.config = {"n": 8}

    def stages(self) -> tuple[Stage, ...]:
        module = "paper_repro.claim"
        return (
            Stage("claims/one", "One", module, self._run("one"), self.config),
            Stage("checks", "Two", module, self._run("two")),
            Stage("figures/three", "Three", module, self._run("three"), needs=("checks",)),
        )

    def _run(self, name: str) -> Callable[[Path, Progress], Product]:
        def run(output: Path, progress: Progress) -> Product:
            progress("halfway", 1, 2)
            if name == "two" and self.interrupted:
                raise KeyboardInterrupt
            self.ran.append(name)
            file = output / f"{name}.txt"
            file.write_text(name)
            return Product({"name": name}, (file,))

        return run


@pytest.fixture
def bench() -> Bench:
    return Bench()


def run(bench: Bench, output: Path, *only: str) -> tuple[dict[str, Record], str]:
    text = io.StringIO()
    with Display(Console(file=text)) as display:
        found = runner.run(bench.stages(), output, display, only=only)
    return found, text.getvalue()


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


def test_another_configuration_is_another_result(bench: Bench, tmp_path: Path):
    run(bench, tmp_path)
    bench.config = {"n": 9}
    run(bench, tmp_path)
    assert bench.ran == ["one", "two", "three", "one"]


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


def test_a_half_written_file_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "record.json"
    records.write_atomically(path, "old")
    write_text = Path.write_text

    def interrupted(file: Path, text: str, **options: Any) -> int:
        write_text(file, text[: len(text) // 2], **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        records.write_atomically(path, "new and long")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which `figures.gap` uses `simulations.engine`, and not `bon_theory.policy`."""
    files = {
        "figures/__init__.py": "",
        "figures/gap.py": "def data():\n    from simulations import engine\n    return engine",
        "simulations/__init__.py": "",
        "simulations/engine.py": "import numpy as np",
        "bon_theory/__init__.py": "",
        "bon_theory/policy.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_result_depends_on_the_sources_it_imports_and_no_others(checkout: Path):
    def key() -> str:
        return provenance.key("gap", "figures.gap", {"n": 8}, (), checkout)

    before = key()
    (checkout / "bon_theory" / "policy.py").write_text("changed = True")
    assert key() == before
    (checkout / "simulations" / "engine.py").write_text("import numpy as np\nchanged = True")
    assert key() != before


def test_a_result_depends_on_configuration_and_needs(checkout: Path):
    keys = {
        provenance.key(*arguments, checkout)
        for arguments in (
            ("gap", "figures.gap", {"n": 8}, ()),
            ("gap", "figures.gap", {"n": 9}, ()),
            ("gap", "figures.gap", {"n": 8}, ("abc",)),
        )
    }
    assert len(keys) == 3


def test_claims_depend_on_the_theory_and_figures_on_their_scripts():
    used = provenance.sources("paper_repro.bonbon_alignment.claims")
    assert {"bon_theory/selection/ranks.py", "paper_repro/claim.py"} <= set(used)
    assert not any(name.startswith("simulations/language_model") for name in used)
    for stage in stages("quick"):
        assert provenance.sources(stage.module)


# The report.

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CHECK = {"name": "law <8>", "statistic": 1.5, "p_value": 0.25, "num_trials": 1000}
PLANTED = {"name": "law for 9", "statistic": 99.0, "p_value": 0.0, "num_trials": 1000}


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "gap.png").write_bytes(PNG)
    results = []
    for paper in PAPERS:
        pairs = [
            (claim, Computed(claim.id, "reproduced", value, value))
            for claim in claims(paper)
            for value in [tuple(np.ravel(claim.expected).tolist())]
        ]
        results.append(PaperResult(paper, tuple(pairs)))
    checks = {
        "false_alarm": 1e-6,
        "threshold": 1e-8,
        "checks": [CHECK],
        "rejected": [],
        "planted": [PLANTED],
        "missed": [],
        "trials": 1000,
        "seed": 7,
        "passed": True,
    }
    table = {
        "reward": "known words",
        "quantity": "win rate",
        "temperature": 0.0,
        "numbers": [1, 2],
        "predicted": [0.5, 0.6],
        "measured": [0.5, 0.61],
        "error": [0.01, 0.01],
    }
    model = {
        "corpus_bytes": 100,
        "num_parameters": 10,
        "num_steps": 5,
        "validation_loss": 1.5,
        "mean_length": 3.0,
        "seed": 8,
        "false_alarm": 1e-6,
        "threshold": 1e-8,
        "num_checks": 1,
        "largest_z": 1.0,
        "rejected": [],
        "num_planted": 1,
        "planted_rejected": 1,
        "unproved": [],
        "tables": [table],
        "samples": [{"prompt": "The <b>", "sample": " next"}],
        "passed": True,
    }
    bound = {
        "name": "best_of_n_kl",
        "side": "upper",
        "quantity": "KL",
        "source": "[G] <2>",
        "status": "theorem",
        "tightest": "n = 2",
        "slack": [0.25, 0.5],
        "violations": 0,
    }
    sweep = {"num_problems": 9, "seed": 1, "rows": [bound], "violated": [], "passed": True}
    figure = {"name": "gap", "caption": "The gap.", "png": "gap.png"}
    record = Record("checks", "k", checks, seconds=1.0, finished="2026-01-01T00:00:00+00:00")
    return Summary(
        profile="quick",
        papers=tuple(results),
        checks=checks,
        language_model=model,
        bounds=sweep,
        figures=(figure,),
        stages=(("Monte Carlo checks", record), ("Language model", None)),
        versions=provenance.versions(),
        machine="Linux",
    )


class Page(HTMLParser):
    """Collects text, what the page would load, and whether tags are balanced."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.loads += [found[name] or "" for name in ("src", "srcset", "data") if name in found]
        if tag in ("link", "script", "iframe", "object", "base"):
            self.loads.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_report_holds_every_claim_and_loads_nothing(summary: Summary, tmp_path: Path):
    html = report.render(summary, tmp_path)
    page = Page(html)
    assert page.open == []
    assert {claim.id for claim in ALL_CLAIMS} <= set(page.texts)
    assert page.loads == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}"]
    assert not re.search(r"@import|url\(", html)


def test_the_report_states_risk_power_versions_and_seeds(summary: Summary, tmp_path: Path):
    text = " ".join(Page(report.render(summary, tmp_path)).texts)
    assert "at most 1e-06" in text
    assert "at most 2e-06 in all" in text
    assert "1 of them were rejected" in text
    assert "seed 7" in text
    assert provenance.versions()["jax"] in text
    assert "not run" in text


def test_the_report_escapes_what_it_is_given(summary: Summary, tmp_path: Path):
    html = report.render(summary, tmp_path)
    assert "law <8>" in Page(html).texts
    assert "The <b>" in Page(html).texts
    assert "<b>The" not in html


def test_an_unexpected_claim_is_named_at_the_top(summary: Summary, tmp_path: Path):
    result = summary.papers[0]
    claim, computed = result.claims[0]
    bad = dataclasses.replace(computed, verdict="differs", unexpected=True)
    broken = dataclasses.replace(
        summary, papers=(dataclasses.replace(result, claims=((claim, bad),)),)
    )
    assert not broken.passed
    html = report.render(broken, tmp_path)
    assert f"not as documented: {claim.id}" in html.split("</section>")[0]
    text = io.StringIO()
    terminal.show(Console(file=text, width=110), broken, tmp_path / "report.html")
    assert f"Not as documented: {claim.id}" in text.getvalue()


@pytest.mark.parametrize("part", ["checks", "language_model", "bounds"])
def test_a_failed_check_is_not_passed_over(summary: Summary, part: str):
    failed = getattr(summary, part) | {"passed": False}
    assert summary.passed
    assert not dataclasses.replace(summary, **{part: failed}).passed


def test_a_violated_theorem_fails_the_report(tmp_path: Path):
    def columns(names: list[str], violations: list[int]) -> dict[str, list[Any]]:
        texts = {c: ["x"] * len(names) for c in ("side", "quantity", "source", "tightest")}
        slack = {"slack_50": [0.5] * len(names), "status": ["theorem", "conjecture"][: len(names)]}
        return {"name": names, "violations": violations, **texts, **slack}

    def judged(coarse: list[int], fine: list[int]) -> dict[str, Any]:
        tables = {"coarse": columns(["a", "b"], coarse), "fine": columns(["a"], fine)}
        found = {"parameters": {"num_problems": 9, "seed": 1}, "tables": tables}
        (tmp_path / "figures").mkdir(exist_ok=True)
        (tmp_path / "figures" / "bounds.json").write_text(json.dumps(found))
        return bounds.run(tmp_path)

    assert judged([0, 3], [0])["passed"]  # a conjecture may fail; the table says so
    assert judged([0, 0], [2])["violated"] == judged([1, 0], [0])["violated"] == ["a"]
    assert [row["slack"] for row in judged([0, 0], [0])["rows"]] == [[0.5, 0.5], [0.5]]


def test_the_terminal_shows_every_claim(summary: Summary, tmp_path: Path):
    text = io.StringIO()
    terminal.show(Console(file=text, width=110), summary, tmp_path / "report.html")
    for claim in ALL_CLAIMS:
        assert claim.id.partition("/")[2] in text.getvalue()
    assert "Nothing unexpected" in text.getvalue()


# The command line.


@pytest.fixture
def planned(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(program, "stages", lambda profile: bench.stages())
    monkeypatch.setattr(
        program, "summarise", lambda profile, _stages, _found: summarise(profile, (), {})
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


def test_something_unexpected_fails_the_run(
    planned: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bad = Computed("example/claim", "differs", (3.0,), (2.0,), unexpected=True)
    result = PaperResult(PAPERS[0], ((example(), bad),))
    broken = dataclasses.replace(summarise("quick", (), {}), papers=(result,))
    monkeypatch.setattr(program, "summarise", lambda *_: broken)
    assert program.main(["--output", str(tmp_path)]) == 1


@pytest.mark.parametrize("arguments", [["--profile", "slow"], ["--nonsense"], ["--only"]])
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


@pytest.mark.parametrize("module", ["claim", "search", "markup"])
def test_examples_in_docstrings(module: str):
    result = doctest.testmod(importlib.import_module(f"paper_repro.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
