"""Figures: legible, written whole or not at all, the same each time."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

import figures
from figures import (
    output,
    style,
    ties,
)
from figures.output import FigureData, FigureFiles
from tests.drawings import EVERY, MODULES, data, drawn

ROOT = Path(__file__).parents[2]


def test_the_registry_names_every_script_but_those_that_need_results() -> None:
    scripts = {
        path.stem
        for path in (ROOT / "figures").glob("*.py")
        if re.search(r"^def draw\(", path.read_text(), re.M)
    }
    assert set(figures.ALL) == scripts - set(figures.OF_RESULTS)
    assert all(figures.script(name) is MODULES[name] for name in figures.ALL)
    with pytest.raises(ValueError, match=r"name must be one of win_rate_frontier, .* got 'pie'"):
        figures.script("pie")


# Legibility.


def texts(figure: Figure) -> list[Text]:
    """All but tick labels, some of which lie outside the limits and are never drawn."""
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    ticks = {
        label
        for axis in axes
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
    }
    found = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return [text for text in found if text.get_text() and text not in ticks]


@cache
def placed(name: str) -> tuple[tuple[Text, Bbox], ...]:
    """Every text and its place on the page, before the figure is saved at other resolutions."""
    canvas = FigureCanvasAgg(drawn(name))
    canvas.draw()
    boxes = ((text, text.get_window_extent(canvas.get_renderer())) for text in texts(drawn(name)))
    return tuple(boxes)


@EVERY
def test_every_text_is_inside_the_page_and_large_enough(name: str) -> None:
    page = drawn(name).bbox
    assert len(placed(name)) >= 6
    for text, box in placed(name):
        assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1, text.get_text()
        assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1, text.get_text()
        assert float(text.get_fontsize()) >= 7.0, text.get_text()


@EVERY
def test_axes_are_labelled_and_the_width_is_a_paper_column(name: str) -> None:
    figure = drawn(name)
    assert figure.get_size_inches()[0] in (style.SINGLE_COLUMN, style.DOUBLE_COLUMN)
    bottom = min(ax.get_position().y0 for ax in figure.axes)
    for ax in figure.axes:
        assert ax.get_title(loc="left") or ax.get_title()
        if ax.get_position().y0 < bottom + 0.01:
            assert ax.get_xlabel()


@EVERY
def test_every_text_is_legible_on_white(name: str) -> None:
    faint = [t.get_text() for t in texts(drawn(name)) if style.contrast(t.get_color()) < 4.5]
    assert faint == []


@EVERY
def test_labels_fit_their_axes_and_name_nothing_of_the_code(name: str) -> None:
    figure, boxes = drawn(name), dict(placed(name))
    for ax in figure.axes:
        if ax.get_ylabel():
            assert boxes[ax.yaxis.label].height <= ax.bbox.height, ax.get_ylabel()
        words = [*texts(figure), *ax.get_xticklabels(), *ax.get_yticklabels()]
        code = re.compile(r"[a-z]_[a-z]")
        assert [t.get_text() for t in words if code.search(t.get_text())] == []


@pytest.mark.parametrize("color", [*style.COLORS.values(), style.BOUND, "#FFFFFF"])
def test_ink_is_a_colour_made_legible(color: str) -> None:
    assert style.contrast(style.ink(color)) >= 4.5
    if style.contrast(color) >= 4.5:
        assert style.ink(color) == color.lower()


def test_contrasts_are_those_of_the_guidelines() -> None:
    assert style.contrast("white") == pytest.approx(1.0)
    assert style.contrast("black") == pytest.approx(21.0)
    assert style.contrast("#767676") == pytest.approx(
        4.54, abs=0.005
    )  # the lightest grey that does
    assert style.contrast("#777777") < 4.5


def test_different_methods_have_different_colours() -> None:
    # The two optima share black: on ranks they are one law.
    distinct = {name: c for name, c in style.COLORS.items() if name != "win_rate_optimal"}
    assert len({*distinct.values(), style.BOUND}) == len(distinct) + 1


def test_shades_run_from_light_to_the_colour_itself() -> None:
    shades = style.shades("#D55E00", 3)
    brightness = [sum(bytes.fromhex(shade[1:])) for shade in shades]
    assert brightness == sorted(brightness, reverse=True)
    assert shades[-1] == "#d55e00"
    assert style.shades("#D55E00", 1) == ["#d55e00"]


def test_a_users_settings_do_not_change_a_figure() -> None:
    import matplotlib

    with matplotlib.rc_context({"lines.linewidth": 9.0, "font.size": 30.0}):
        figure = ties.draw(data("ties"))
    assert figure.axes[0].lines[0].get_linewidth() == 1.3
    assert figure.axes[0].xaxis.label.get_fontsize() == 8.0


# Files.


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FigureFiles]:
    """Each figure's files, in a folder of their own, written once."""

    @cache
    def files(name: str) -> FigureFiles:
        placed(name)
        return output.write(name, drawn(name), data(name), tmp_path_factory.mktemp(name))

    return files


@EVERY
def test_a_figure_is_four_small_files(name: str, saved: Callable[[str], FigureFiles]) -> None:
    written = sorted(saved(name).json.parent.iterdir())
    assert [path.name for path in written] == [f"{name}.{k}" for k in ("json", "npz", "pdf", "png")]
    assert all(path.stat().st_size < 500_000 for path in written)


# What makes them the same lies in ``output``, and one figure shows it.
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "ties")) for n in MODULES]
)
def test_the_same_data_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Of two fresh drawings: one that was laid out before moves its texts a little."""
    first, again = (
        output.write(name, MODULES[name].draw(data(name)), data(name), tmp_path / place)
        for place in ("a", "b")
    )
    for kind in ("pdf", "png", "npz", "json"):
        assert getattr(first, kind).read_bytes() == getattr(again, kind).read_bytes(), kind


def test_the_files_carry_the_numbers_the_caption_and_the_versions(
    saved: Callable[[str], FigureFiles],
) -> None:
    files = saved("ties")
    written = json.loads(files.json.read_text())
    with np.load(files.npz) as arrays:
        for table, columns in data("ties").tables.items():
            for column, values in columns.items():
                np.testing.assert_array_equal(arrays[f"{table}/{column}"], values)
                np.testing.assert_array_equal(written["tables"][table][column], values)
        assert written["caption"] == json.loads(str(arrays["metadata"]))["caption"] == files.caption
    assert written["versions"]["jax"] == jax.__version__
    assert b"CreationDate" not in files.pdf.read_bytes()


def test_an_interrupted_run_leaves_the_old_file(
    saved: Callable[[str], FigureFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = saved("ties")
    folder = files.png.parent
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        output.write("ties", drawn("ties"), data("ties"), folder, png_dpi=50)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert files.png in before


def test_data_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="columns of table 't' must be equally long"):
        FigureData("", {"t": {"x": np.zeros(2), "y": np.zeros(3)}})
    with pytest.raises(ValueError, match="column 'x' of table 't' is not finite"):
        FigureData("", {"t": {"x": np.array([0.0, np.nan])}})


def test_numbers_are_in_double_precision_whatever_the_caller_has_set() -> None:
    with jax.enable_x64(False):
        table = ties.data(points=5)["over_n"]
    assert table["kl_2"].dtype == np.float64


def test_the_committed_picture_is_small() -> None:
    picture = ROOT / "figures" / "readme.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size <= 150_000
