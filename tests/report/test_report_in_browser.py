"""The report in Debian's Chromium, from the file alone: day and night, narrow and wide, by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentloop.report import save_report
from agentloop.store import Store
from agentloop.store.writer import Writer
from tests.view.stores import HOSTILE, RUN, fill, hostile, settle

pytest.importorskip("playwright", reason="needs playwright")
CHROMIUM = Path("/usr/bin/chromium")
if not CHROMIUM.is_file():
    pytest.skip("needs Debian's chromium", allow_module_level=True)

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright  # noqa: E402

SIZES = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]
GROUND = "getComputedStyle(document.body).backgroundColor"
INK = "getComputedStyle(document.body).color"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = fill(folder, range(30))
    with Writer(path) as writer:
        settle(writer, 99, hostile(0, HOSTILE, HOSTILE), hostile(1, HOSTILE * 9, HOSTILE))
    save_report(Store(path), folder / "report.html", RUN)
    return folder / "report.html"


@pytest.fixture
def seen(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Open the file without a network; it asks for nothing and has nothing to complain of."""
    chosen: tuple[int, Any] = getattr(request, "param", (1280, "light"))
    size: ViewportSize = {"width": chosen[0], "height": 900}
    context = browser.new_context(viewport=size, color_scheme=chosen[1], offline=True)
    requests: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda asked: requests.append(asked.url))
    page = context.new_page()

    def said(message: Any) -> None:
        complaints.append(message.text)

    page.on("console", said)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    yield page
    context.close()
    assert [url for url in requests if not url.startswith("data:,")] == [report.as_uri()]
    assert complaints == []


def brightness(colour: str) -> float:
    return sum(int(number) for number in re.findall(r"\d+", colour)[:3]) / 3


@pytest.mark.parametrize("seen", SIZES, indirect=True, ids=str)
def test_it_fits_and_can_be_read(
    seen: Page, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    width, scheme = request.node.callspec.params["seen"]
    for _ in range(2):  # as it opens, and with all that can be opened open
        assert seen.evaluate("document.documentElement.scrollWidth") <= width
        ground, ink = brightness(seen.evaluate(GROUND)), brightness(seen.evaluate(INK))
        dark, bright = (ink, ground) if scheme == "light" else (ground, ink)
        assert dark < 60
        assert bright > 200
        seen.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    seen.screenshot(path=tmp_path / f"report-{width}-{scheme}.png", full_page=True)


def test_links_and_details_are_reached_and_opened_by_keyboard(seen: Page) -> None:
    wanted = seen.locator("a[href], summary").count()
    reached = set()
    for number in range(2 * wanted):
        seen.keyboard.press("Tab")
        where = "[...document.querySelectorAll('a[href], summary')].indexOf(document.activeElement)"
        reached.add(seen.evaluate(where))
        if number == 0:
            assert seen.evaluate("document.activeElement.className") == "skip"
    assert reached >= set(range(wanted))
    story = seen.locator("details.item").first
    story.locator("summary").first.focus()
    seen.keyboard.press("Enter")
    assert story.evaluate("details => details.open")
    seen.locator("nav a").first.focus()
    seen.keyboard.press("Enter")
    seen.wait_for_url("**#funnel")


def test_hostile_texts_are_texts(seen: Page) -> None:
    assert "owned" not in seen.title()
    assert seen.locator("script, b, i").count() == 0
    assert not set("\x1b\u202e\0") & set(seen.content())
    assert "<script>document.title = 'owned'</script>" in (seen.text_content("body") or "")
