"""The page holds the library's numbers, and text from the file as text."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from bon_theory import pools
from bon_theory.cli.main import app
from bon_theory.report import gather, render
from bon_theory.report.chart import Chart, Line, draw
from tests.bon_theory.report.conftest import ATTACKS


class Elements(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def data(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


def test_the_page_is_whole_and_small(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text) < 1_200_000
    assert not re.search(r"""(src|href|url|@import)\s*[=(]\s*["']?\s*(https?:)?//""", text)
    assert "default-src 'none'" in text


def test_text_from_the_file_makes_no_element_and_is_shown(page: Path) -> None:
    found = Elements(page.read_text(encoding="utf-8"))
    assert found.tags.count("script") == 2
    assert found.tags.count("h1") == 1
    assert not {"img", "b", "iframe"} & {*found.tags}
    assert not [name for name in found.names if name.startswith("on")]
    for attack in ATTACKS[:5]:
        assert attack in found.text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", found.text)
    assert "<img src=x onerror=alert(1)> & co.parquet" in found.text


def test_sliders_move_over_the_numbers_of_the_library(page: Path, hostile_pool: Path) -> None:
    shown, rows = data(page.read_text(encoding="utf-8")), pl.read_parquet(hostile_pool)
    score, truth = (rows[name].to_numpy().reshape(-1, 16) for name in ("score", "true_score"))
    pool = pools.Pool.from_lists(score, true_scores=truth)
    n = shown["n"]
    assert n == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16]
    for track, of in zip(shown["tracks"], ("scores", "true_scores"), strict=True):
        hard = pools.best_of_n_curve(pool, n=n, of=of)
        np.testing.assert_allclose(track["mean"][0], hard.mean, rtol=1e-5, atol=1e-9)
        band = pools.normal_band(hard)
        np.testing.assert_allclose(track["low"][0], band.low, rtol=1e-5)
        heat = shown["temperature"][2]
        soft = pools.soft_best_of_n_curve(pool, n=n, temperature=heat, of=of)
        np.testing.assert_allclose(track["mean"][2], soft.mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        shown["winRate"][0][:-1], np.array(n[:-1]) / (np.array(n[:-1]) + 1), rtol=1e-5
    )
    assert shown["winRate"][0][-1] is None


def test_divergence_and_win_rate_are_told_at_every_temperature(
    page: Path, hostile_pool: Path
) -> None:
    shown, rows = data(page.read_text(encoding="utf-8")), pl.read_parquet(hostile_pool)
    pool = pools.Pool.from_lists(rows["score"].to_numpy().reshape(-1, 16))
    heat = shown["temperature"][1]
    kl = pools.kl_curve(pool, n=shown["n"], temperature=heat)
    np.testing.assert_allclose(shown["kl"][1], kl.mean, rtol=1e-3, atol=1e-6)
    assert shown["klLabels"][1] == kl.label
    wins = pools.win_rate_curve(pool, n=shown["n"][:-1], temperature=heat)
    np.testing.assert_allclose(shown["winRate"][1][:-1], wins.mean, rtol=1e-3)
    assert len(shown["places"]["chart-kl"]) == len(shown["temperature"])


def test_embedded_data_cannot_end_its_element() -> None:
    pool = pools.Pool.from_lists(np.random.default_rng(0).normal(size=(5, 4)))
    contents = gather(jax.random.key(0), pool, list("abcde"), title="t")
    attack = "</script><script>alert(1)</script>"
    page = render(dataclasses.replace(contents, kl_labels=(attack,) * 6))
    assert Elements(page).tags.count("script") == 2
    assert data(page)["klLabels"][0] == attack


def test_without_a_true_score_it_does_not_choose() -> None:
    pool = pools.Pool.from_lists(np.random.default_rng(0).normal(size=(5, 4)))
    page = render(gather(jax.random.key(0), pool, list("abcde"), title="t"))
    assert "without a second score nothing here says" in page
    assert 'id="chart-over"' not in page


@pytest.mark.parametrize("scores", [[[1.0, 1.0]] * 4, [[2.0]] * 3, [[0.0, 1e100]] * 5])
def test_degenerate_pools_have_a_page(scores: list[list[float]]) -> None:
    for truth in (None, scores):
        pool = pools.Pool.from_lists(scores, true_scores=truth)
        page = render(gather(jax.random.key(0), pool, ["p"] * len(scores), title="t"))
        assert page.endswith("</html>\n")
        assert "nan," not in page


def test_one_prompt_is_too_few(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text("prompt,score\na,1\na,2\n")
    result = CliRunner().invoke(app, ["report", str(file), "-o", str(tmp_path / "r.html")])
    assert result.exit_code == 2
    assert "a report needs at least 2 prompts, got 1" in result.stderr
    assert not (tmp_path / "r.html").exists()


def test_a_chart_puts_points_where_they_belong() -> None:
    y = np.array([0.0, 1.0, np.nan, 2.0])
    svg, found = draw(Chart("c", "t", np.array([1.0, 2, 4, 8]), [Line("a", y)], "n", "y", True))
    (places,) = found
    np.testing.assert_allclose(np.diff(np.array(places)), (640 - 64 - 28) / 3, atol=0.02)
    points = re.search(r'<polyline class="line series-0" points="([^"]*)"', svg)
    assert points
    pairs = [tuple(map(float, pair.split(","))) for pair in points[1].split()]
    assert [x for x, _ in pairs] == [places[0], places[1], places[3]]
    heights = [b for _, b in pairs]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.02)
