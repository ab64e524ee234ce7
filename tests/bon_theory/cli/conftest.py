"""A table of answers as a file."""

from pathlib import Path

import pytest

from tests.bon_theory.cli.examples import TABLE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    TABLE.write_csv(path)
    return path
