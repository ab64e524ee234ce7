"""``python -m simulations language-model``: questions in, answers out, errors as a sentence."""

from pathlib import Path

import pytest

from simulations.__main__ import main
from simulations.language_model import command

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints" / "llama"
ANSWER = ["language-model", "answer", "a cat", "--checkpoint"]


def test_a_question_is_printed_with_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ANSWER, str(GOLDEN), "--max-new-tokens", "6"]) == 0
    printed = capsys.readouterr().out
    ((question, answer),) = command.answers(["a cat"], GOLDEN, 6)
    assert printed == f"> {question}\n{answer}\n\n"


def test_what_cannot_be_read_or_is_too_long_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        ([*ANSWER, str(tmp_path / "none")], "none is not there: pass a directory or a GGUF file"),
        ([*ANSWER, str(tmp_path)], "has no config.json"),
        (
            [*ANSWER, str(GOLDEN), "--max-new-tokens", "99"],
            "max_new_tokens is 99 after a prompt of",
        ),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
