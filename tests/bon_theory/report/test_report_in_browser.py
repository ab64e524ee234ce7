"""The page of attacks in a real browser: silent, alone, accessible, moved by the keyboard."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paper_repro.test_page_in_browser import SCHEMES, SHOTS, WIDTHS, Browser

pytestmark = pytest.mark.browser
RIGHT = "\ue014"


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    SHOTS.mkdir(parents=True, exist_ok=True)
    opened = Browser(tmp_path_factory.mktemp("browser") / "profile", page)
    yield opened
    opened.driver.quit()


def test_it_is_silent_loads_nothing_and_runs_nothing_of_the_file(browser: Browser) -> None:
    browser.open()
    browser.driver.get_log("performance")
    browser.open()
    assert browser.driver.get_log("browser") == []
    requests = [
        entry["message"]
        for entry in browser.driver.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert all("file:///" in request or "about:blank" in request for request in requests)
    assert len([r for r in requests if "file:///" in r]) <= 1
    assert "hacked" not in browser.driver.title
    assert browser.run("return document.querySelectorAll('h1').length") == 1
    assert browser.run("return document.querySelectorAll('main img, main b').length") == 0


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_is_accessible_and_fits(width: int, scheme: str, browser: Browser) -> None:
    browser.open(width=width, scheme=scheme)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.violations() == []
    wide = browser.run("return document.documentElement.scrollWidth")
    assert wide <= width
    browser.driver.save_screenshot(str(SHOTS / f"scores-{width}-{scheme}.png"))


@pytest.mark.parametrize("slider", ["n", "temperature"])
def test_a_slider_moved_by_the_keyboard_changes_the_numbers(slider: str, browser: Browser) -> None:
    browser.open()
    numbers = "return document.getElementById('values').innerText"
    browser.run(f"const s = document.getElementById('{slider}'); s.value = 0;"
                "s.dispatchEvent(new Event('input')); s.focus()")  # fmt: skip
    before = browser.run(numbers)
    cursor = "return document.querySelector('#chart-0 .cursor').getAttribute('x1')"
    place = browser.run(cursor)
    browser.press(RIGHT)
    assert browser.run(numbers) != before
    spoken = browser.run(
        f"return document.getElementById('{slider}').getAttribute('aria-valuetext')"
    )
    assert spoken == browser.run(f"return document.getElementById('{slider}-value').textContent")
    if slider == "n":
        assert spoken == "n = 2"
        assert browser.run(cursor) != place


def test_on_paper_there_are_tables_and_no_sliders(browser: Browser) -> None:
    browser.open(media="print")
    assert not browser.run("return document.getElementById('try').checkVisibility()")
    assert browser.run("return document.querySelector('.decision').checkVisibility()")
