"""``python -m simulations check``: a table, files, and an exit status that can be 1."""

import json
import re
from typing import Any

import pytest

import bon_theory as bt
from simulations.__main__ import main
from simulations.experiments import theory_checks, theory_problems

ONE = ["check", "--quick", "--only", "chi_squared_tilt(0.1) on distinct"]


def test_the_report_is_printed_and_saved(tmp_path, capsys):
    assert main([*ONE, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "4 checks with a family-wise false-alarm rate of 1e-06: 0 rejected." in printed
    saved = json.loads((tmp_path / "checks.json").read_text())
    assert saved["passed"]
    assert len(saved["cases"][0]["checks"]) == 4
    assert "chi_squared_tilt(0.1) on distinct rewards" in (tmp_path / "checks.txt").read_text()


def test_a_wrong_theory_is_exit_status_1(tmp_path, capsys, monkeypatch):
    exact: Any = theory_problems._select_each  # pyright sees no methods of a jitted function
    right = bt.chi_squared_tilt
    monkeypatch.setattr(bt, "chi_squared_tilt", lambda policy, b: right(policy, 1.05 * b))
    exact.clear_cache()
    assert main([*ONE, "--output", str(tmp_path)]) == 1
    exact.clear_cache()
    assert "FAILED" in capsys.readouterr().out
    assert not json.loads((tmp_path / "checks.json").read_text())["passed"]


def test_no_case_of_that_name(capsys):
    with pytest.raises(SystemExit):
        main(["check", "--only", "nothing like it"])
    assert "--only must match a case" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "-1"], "--seed must be in"),
        (["--seed", str(2**63)], "--seed must be in"),
        (["--output", __file__], "--output must be a folder, got .*: File exists"),
    ],
)
def test_options_are_refused_before_the_run(options, message, capsys, monkeypatch):
    monkeypatch.setattr(theory_checks, "run", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(SystemExit, match="2"):
        main(["check", *options])
    assert re.search(message, capsys.readouterr().err)


def test_both_signs_and_every_atom_are_planted():
    config = theory_checks.two_sided(theory_checks.DEFAULT)
    case = next(c for c in config.cases if c.name == "soft_best_of_n(8, 0.25) on tied rewards")
    assert config.atom_error == 0.01
    assert [tuple(round(x, 6) for x in planted) for planted in case.planted] == [
        (9, 0.25), (8, 0.255), (7, 0.25), (8, 0.245)
    ]  # fmt: skip
