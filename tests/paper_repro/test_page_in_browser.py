"""The report in a real browser: quiet, self-contained, accessible, whole on paper and by keyboard.

``make test-browser`` runs this, and leaves screenshots and the printed page in build/browser.
"""

import base64
import io
import json
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paper_repro.report import page as report
from tests.paper_repro.conftest import made_up

pytestmark = pytest.mark.browser
webdriver: Any = pytest.importorskip("selenium.webdriver")
wait: Any = pytest.importorskip("selenium.webdriver.support.wait")
pypdf: Any = pytest.importorskip("pypdf")

ROOT = Path(__file__).parents[2]
AXE = Path(__file__).with_name("vendor") / "axe-core" / "axe.min.js"
SHOTS = ROOT / "build" / "browser"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
WIDTHS, SCHEMES = (1280, 390), ("light", "dark")
A4_WIDTH = 688  # CSS pixels between the margins of 14 mm: 182 mm at 96 to the inch


class Browser:
    """A headless Chromium with the report open, and what the tests ask of it."""

    def __init__(self, profile: Path, page: Path) -> None:
        programs = [shutil.which("chromium"), shutil.which("chromedriver")]
        if None in programs:
            pytest.fail("install Chromium and its driver: apt-get install chromium chromium-driver")
        options = webdriver.ChromeOptions()
        options.binary_location = programs[0]
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
        self.address = page.as_uri()

    def command(self, name: str, **arguments: Any) -> Any:
        """A command of the browser's own protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def open(self, *, width: int = 1280, scheme: str = "light", media: str = "screen") -> None:
        """The page anew, so wide, in that scheme of colours, on that medium."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", media=media, features=features)
        self.driver.get("about:blank")
        self.driver.get(self.address)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        """Keys, wherever the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def violations(self) -> list[str]:
        """What axe finds, each with the element it finds it at."""
        if not self.run("return 'axe' in window"):
            self.run(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "axe.run({resultTypes: ['violations']}).then(r => arguments[0](r.violations))"
        )
        return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]

    def cut_off(self) -> list[str]:
        """Elements that reach beyond the page, or whose content they do not show."""
        return self.run("""
            const width = document.documentElement.clientWidth;
            const beyond = (e) => e.getBoundingClientRect().right > width + 1;
            const clipped = (e) =>
                getComputedStyle(e).overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1;
            return [...document.querySelectorAll("main *, header *")]
                .filter((e) => e.checkVisibility({contentVisibilityAuto: true}))
                .filter((e) => !e.closest(".hidden, caption, thead"))
                .filter((e) => beyond(e) || clipped(e))
                .map((e) => e.outerHTML.slice(0, 200));
        """)

    def shown(self) -> int:
        """Statements that can be seen."""
        return self.run("""
            const claims = [...document.querySelectorAll(".claim")];
            return claims.filter((claim) => claim.checkVisibility()).length;
        """)


UNFOLD = "document.querySelectorAll('details').forEach(d => { d.open = true; })"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("report")
    page = folder / "report.html"
    page.write_text(report.render(made_up(folder), folder), encoding="utf-8")
    SHOTS.mkdir(parents=True, exist_ok=True)
    browser = Browser(folder / "profile", page)
    yield browser
    browser.driver.quit()


def test_the_page_is_silent_and_loads_nothing(browser: Browser):
    browser.open()
    browser.driver.get_log("performance")  # what the browser does as it starts is no affair of ours
    browser.open()
    browser.run("document.querySelector('figure a').click()")
    messages = browser.driver.get_log("browser")
    assert messages == []
    lines = browser.driver.get_log("performance")
    events = [json.loads(line["message"])["message"] for line in lines]
    requests = [e for e in events if e["method"] == "Network.requestWillBeSent"]
    asked = [request["params"]["request"]["url"] for request in requests]
    assert browser.address in asked  # the log sees requests
    assert {u for u in asked if not u.startswith(("data:", "about:"))} == {browser.address}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_bars_a_reader_and_nothing_is_cut_off(browser: Browser, width: int, scheme: str):
    browser.open(width=width, scheme=scheme)
    _screenshot(browser, f"{width}-{scheme}", width)
    assert browser.violations() == []
    assert browser.cut_off() == []
    browser.run(UNFOLD)
    assert browser.violations() == []
    if width == min(WIDTHS):  # rows are cards there, and nothing scrolls sideways
        assert browser.cut_off() == []


@pytest.mark.parametrize(
    ("planted", "rule"),
    [
        ("document.body.style.color = '#aaa'", "color-contrast"),
        ("document.querySelector('figure img').removeAttribute('alt')", "image-alt"),
        ("document.querySelector('.scroll').style.width = '9in'", "cut off"),
    ],
)
def test_a_planted_barrier_is_found(browser: Browser, planted: str, rule: str):
    browser.open(width=390)
    browser.run(planted)
    found = browser.violations() + [f"cut off: {element}" for element in browser.cut_off()]
    assert rule in {text.partition(":")[0] for text in found}


def test_the_printed_page_is_whole(browser: Browser):
    browser.open(width=A4_WIDTH, media="print")
    assert browser.cut_off() == []
    unseen = "return [...document.querySelectorAll('details *')].filter(e => !e.checkVisibility())"
    assert browser.run(f"{unseen}.length") == 0

    browser.open()
    browser.run("document.getElementById('show-differs').checked = true")  # paper is not filtered
    browser.command("Emulation.setEmulatedMedia", media="")
    printed = base64.b64decode(browser.command("Page.printToPDF", preferCSSPageSize=True)["data"])
    (SHOTS / "report.pdf").write_bytes(printed)
    pages = pypdf.PdfReader(io.BytesIO(printed)).pages
    sizes = {tuple(round(float(side)) for side in page.mediabox[2:]) for page in pages}
    assert sizes == {(595, 842)}  # A4 in points
    text = squeezed("".join(page.extract_text() for page in pages))
    cells = browser.run(
        "return [...document.querySelectorAll('main :is(td, li)')].map(e => e.textContent)"
    )
    lost = {cell for cell in cells if squeezed(cell) not in text}
    assert lost == set()


def squeezed(text: str) -> str:
    """Without spaces, and with the ligatures of print as letters."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def test_verdicts_are_filtered_by_keyboard(browser: Browser):
    browser.open()
    every = browser.shown()
    browser.run("document.getElementById('show-all').focus()")
    browser.press(webdriver.Keys.ARROW_RIGHT)
    chosen = browser.run("return document.activeElement.id")
    some = browser.shown()
    assert chosen != "show-all"
    assert 0 < some < every
    told = browser.run("return document.getElementById('shown').textContent")
    assert told == f"{some} of {every} statements shown"


def test_a_number_leads_to_its_statements(browser: Browser):
    browser.open()
    numbers = browser.driver.find_elements("css selector", "a[data-show]")
    assert len(numbers) > 3
    for number in numbers:
        browser.run("arguments[0].click()", number)
        assert browser.shown() == int(number.text)


def test_a_link_to_a_hidden_statement_shows_it(browser: Browser):
    browser.open()
    every = browser.shown()
    browser.run("document.getElementById('show-not-checkable-here').click()")
    hidden = browser.run("return document.querySelector('.claim.reproduced').id")
    assert browser.shown() < every
    browser.run("location.hash = arguments[0]", hidden)
    wait.WebDriverWait(browser.driver, 10).until(lambda _: browser.shown() == every)


def test_a_picture_opens_and_closes_by_keyboard(browser: Browser):
    browser.open()
    browser.run("document.querySelector('figure a').focus()")
    browser.press(webdriver.Keys.ENTER)
    opened = "return document.getElementById('picture').open"
    width = "return document.querySelector('#picture img').getBoundingClientRect().width"
    natural = "return document.querySelector('figure img').naturalWidth"
    assert browser.run(opened)
    assert browser.run(width) == browser.run(natural)
    assert browser.violations() == []
    browser.press(webdriver.Keys.ESCAPE)
    assert not browser.run(opened)
    assert browser.run("return document.activeElement.matches('figure a')")


def test_without_scripts_everything_is_there_and_the_filters_work(browser: Browser):
    browser.open()
    every = browser.shown()
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open()
        claims = browser.driver.find_elements("css selector", ".claim")
        assert sum(claim.is_displayed() for claim in claims) == every
        browser.driver.find_element("id", "show-reproduced").click()
        assert 0 < sum(claim.is_displayed() for claim in claims) < every
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def _screenshot(browser: Browser, name: str, width: int) -> None:
    clip = {"x": 0, "y": 0, "width": width, "height": 6000, "scale": 1}
    shot = browser.command("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    (SHOTS / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))
