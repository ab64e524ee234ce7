"""The page about score files: what it says is printed is printed."""

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bon_theory.cli.main import app

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(
    r"^```console\n(.*?)^```", (ROOT / "docs" / "scores.md").read_text("utf-8"), re.M | re.S
)
SESSIONS = [s for block in BLOCKS for s in re.split(r"^\$ ", block, flags=re.M) if s]
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def agrees(promised: str, printed: str) -> bool:
    return doctest.OutputChecker().check_output(promised, printed, LOOSE)


@pytest.mark.parametrize("session", SESSIONS, ids=lambda s: s.split()[1])
def test_a_command_prints_what_the_page_promises(
    session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    command, _, promised = session.partition("\n")
    program, *arguments = shlex.split(command)
    assert program == "bon-theory"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    printed = result.stderr + result.stdout
    assert agrees(promised, printed), printed


def test_a_broken_promise_is_found() -> None:
    assert agrees("a 1.0\n...\nend\n", "a   1.0\nb\nend\n")
    assert not agrees("a 1.1\n...\nend\n", "a 1.0\nb\nend\n")


def test_every_command_is_on_the_page() -> None:
    page = (ROOT / "docs" / "scores.md").read_text("utf-8")
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"bon-theory {command.callback.__name__}" in page
