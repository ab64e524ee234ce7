"""A page of attacks: prompts that try to be markup, script, formula or terminal escape."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from bon_theory.cli.main import app

ATTACKS = [
    "<script>document.title = 'hacked'</script>",
    '"><img src=x onerror="document.title = \'hacked\'">',
    "</script><script>document.title = 'hacked'</script>",
    "</title></style><h1>forged</h1>",
    "javascript:alert(1) {{7*7}} ${7*7}",
    "=HYPERLINK(1)\x1b]0;hacked\x07",
    "\u202eesrever & <b>bold</b>",
    "long " + "w" * 500,
]


@pytest.fixture(scope="session")
def hostile_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draws = np.random.default_rng(3)
    proxy = draws.normal(size=(len(ATTACKS), 16)) * np.arange(1, len(ATTACKS) + 1)[:, None]
    path = tmp_path_factory.mktemp("pool") / "<img src=x onerror=alert(1)> & co.parquet"
    columns = {
        "prompt": np.repeat(ATTACKS, 16),
        "score": proxy.ravel(),
        "true_score": (proxy - 0.3 * proxy**2).ravel(),
    }
    pl.DataFrame(columns).write_parquet(path)
    return path


@pytest.fixture(scope="session")
def page(hostile_pool: Path) -> Path:
    target = hostile_pool.with_name("report.html")
    result = CliRunner().invoke(app, ["report", str(hostile_pool), "-o", str(target)])
    assert result.exit_code == 0, result.stderr
    return target
