"""The live page in Debian's Chromium: followed, searched, read, labelled by keyboard; nothing leaves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from agentloop.errors import StoreError
from agentloop.labelled import calibrate_store
from agentloop.store import Store
from agentloop.store.labels import read_labels
from agentloop.store.writer import Writer
from tests.builders import agent, command, said_by, write_graph, write_seeds
from tests.endpoint import Endpoint
from tests.view.stores import (
    HOSTILE,
    RUN,
    attempt,
    fill,
    grade_again,
    graded,
    hostile,
    item_id,
    rubric_in,
    settle,
    usual,
)

pytest.importorskip("starlette", reason="needs the extra `view`")
pytest.importorskip("playwright", reason="needs playwright")
CHROMIUM = Path("/usr/bin/chromium")
if not CHROMIUM.is_file():
    pytest.skip("needs Debian's chromium", allow_module_level=True)

from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass
class Seen:
    """A page, and all that went on behind it."""

    page: Page
    address: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return "/".join(self.address.split("/")[:3])

    def go(self, path: str) -> Page:
        self.page.goto(self.origin + path)
        return self.page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


PATIENCE = 10_000  # milliseconds until a page must have got there


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return fill(tmp_path)


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """Serve a store; give the address."""
    with command("view", path, "--no-browser", "--annotator", "anna") as server:
        try:
            assert server.stdout
            yield server.stdout.readline().strip()
        finally:
            server.kill()


@pytest.fixture
def address(path: Path) -> Iterator[str]:
    with serving(path) as address:
        yield address


@pytest.fixture
def seen(browser: Browser, address: str) -> Iterator[Seen]:
    with followed(browser, address) as found:
        yield found


@contextmanager
def opened(browser: Browser, path: Path, page: str = "/") -> Iterator[Seen]:
    """Serve a store and open a page of it."""
    with serving(path) as address, followed(browser, address.replace("/?", page + "?")) as found:
        yield found


@contextmanager
def followed(browser: Browser, address: str) -> Iterator[Seen]:
    """Open a page; it asks nobody else for anything, and has nothing to complain of."""
    with watching(browser, address) as found:
        yield found
    assert found.requests
    beyond = [r for r in found.requests if not r.startswith((found.origin + "/", "data:"))]
    assert beyond == []
    assert found.complaints == []


@contextmanager
def watching(browser: Browser, address: str) -> Iterator[Seen]:
    """Open a page that may complain."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    found = watched(context, address)
    found.page.goto(address)
    yield found
    context.close()


def watched(context: BrowserContext, address: str) -> Seen:
    seen = Seen(context.new_page(), address)
    context.on("request", lambda request: seen.requests.append(request.url))

    def said(message: Any) -> None:
        if message.type in ("error", "warning"):
            seen.complaints.append(message.text)

    seen.page.on("console", said)
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    return seen


def rows(page: Page) -> set[int]:
    return {int(code, 16) for code in page.locator("[data-row] code").all_inner_texts()}


def test_the_token_is_no_longer_in_the_address(seen: Seen) -> None:
    expect(seen.page).to_have_url(seen.origin + "/")
    expect(seen.page.locator("[data-row]")).to_have_count(12)
    assert seen.page.evaluate("document.cookie") == ""


def test_a_run_is_followed_live(seen: Seen, path: Path) -> None:
    count, state = (seen.page.locator(f"[data-count={name}]") for name in ("accepted", "state"))
    expect(count).to_have_text("6")
    expect(state).to_contain_text("running, stored until")
    with Writer(path) as writer:
        for number in range(20, 24):
            settle(writer, number, attempt(0, "late", graded("supported", "yes")))
        writer.flush()
        expect(count).to_have_text("10", timeout=20_000)
    seen.page.get_by_role("link", name="4 settled since: show").click()
    expect(seen.page.locator("[data-row]")).to_have_count(16)


class Held(Endpoint):
    """Answers so many calls, and the others once it is let go."""

    def __init__(self, answers: int):
        model = agent()
        super().__init__(0, lambda body, _: web.json_response(said_by(model, body)))
        self._left, self._gate = answers, asyncio.Event()

    async def _chat(self, request: web.Request) -> web.Response:
        self._left -= 1
        if self._left < 0:
            await self._gate.wait()
        return await super()._chat(request)

    def let_go(self) -> None:
        self._loop.call_soon_threadsafe(self._gate.set)

    @contextmanager
    def letting_go(self) -> Iterator[None]:
        """Let go in the end, whatever happens: nobody waits for what is held for ever."""
        try:
            yield
        finally:
            self.let_go()


def has_run(path: Path) -> bool:
    """Whether a store is there that tells of a run."""
    try:
        return bool(Store(path).runs())
    except StoreError:
        return False


def test_a_whole_run_is_followed_from_its_beginning_to_its_end(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agentloop.toml").write_text("")
    recipe, seeds = write_graph(tmp_path), write_seeds(tmp_path, 12)
    line: list[str | Path] = ["run", recipe, "--seeds", seeds, "--store", "s.duckdb"]
    with Held(8) as server:
        more = ["--model", "openai/x", "--base-url", server.url, "--client", "direct"]
        with command(*line, *more, "--concurrency", "2", cwd=tmp_path) as run:
            while not has_run(tmp_path / "s.duckdb"):
                assert run.poll() is None
            with server.letting_go(), opened(browser, tmp_path / "s.duckdb") as seen:
                count, state = (
                    seen.page.locator(f"[data-count={name}]") for name in ("accepted", "state")
                )
                expect(count).to_have_text(re.compile(r"^[34]$"), timeout=20_000)
                expect(state).to_contain_text("running, stored until")
                calls = seen.page.locator("[data-count=calls]")
                expect(calls).to_have_text(re.compile(r"^8, \d+\.\d/s, \d items? in flight$"))
                server.let_go()
                assert run.wait(60) == 0
                expect(state).to_contain_text("stopped by seeds", timeout=20_000)
                expect(count).to_have_text("12")
                seen.page.locator("#more").click()
                expect(seen.page.locator("[data-row]")).to_have_count(12)


def test_items_are_filtered_and_searched(seen: Seen) -> None:
    page = seen.page
    page.get_by_label("verdict").select_option("rejected")
    page.get_by_role("button", name="find").click()
    expect(page.locator("#found")).to_have_text("6")
    assert rows(page) == {n for n in range(12) if not usual(n)[-1].accepted}
    page.get_by_label("below the top in").select_option("useful")
    page.get_by_label("score from").fill("0.4")
    page.get_by_role("button", name="find").click()
    expect(page).to_have_url(re.compile("low=0.4"))
    assert rows(page) == {2, 6, 10}
    page.goto(seen.origin + "/")
    page.keyboard.press("/")
    page.keyboard.type("Number 11")
    page.keyboard.press("Enter")
    expect(page.locator("#found")).to_have_text("1")
    assert rows(page) == {11}


def test_a_story_is_opened_by_keyboard_and_shows_what_changed(seen: Seen) -> None:
    page = seen.page
    for key in ("j", "j", "j", "k", "j", "Enter"):  # the third of the latest twelve: 9
        page.keyboard.press(key)
    expect(page).to_have_url(re.compile(f"/item/{item_id(9)}"))
    expect(page.locator("del")).to_have_text("1542")
    expect(page.locator("ins")).to_have_text("1642")
    expect(page.locator("mark").first).to_have_text("cast in 1642")
    expect(page.locator(".draft")).to_have_count(2)


def test_j_and_k_on_a_story_go_along_the_list_that_it_was_opened_from(seen: Seen) -> None:
    page = seen.go("/?verdict=accepted")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    listed = [n for n in reversed(range(12)) if usual(n)[-1].accepted]
    expect(page).to_have_url(re.compile(f"/item/{item_id(listed[0])}"))
    for key, at in (("j", 1), ("j", 2), ("k", 1), ("k", 0), ("k", 0)):
        page.wait_for_load_state()
        page.keyboard.press(key)
        expect(page).to_have_url(re.compile(f"/item/{item_id(listed[at])}"))


def test_a_server_that_was_stopped_is_said_and_found_again(browser: Browser, path: Path) -> None:
    with serving(path) as address, watching(browser, address) as seen:
        warning = seen.page.get_by_text("not connected")
        expect(warning).to_be_hidden()
        seen.page.route("**/live?*", lambda route: route.fulfill(status=503, json={"error": "x"}))
        expect(warning).to_be_visible()
        seen.page.unroute("**/live?*")
        expect(warning).to_be_hidden()
        seen.page.route("**/live?*", lambda route: route.abort())
        expect(warning).to_be_visible()


def test_two_grades_are_compared(seen: Seen, path: Path) -> None:
    grade_again(path, rubric_in(path.parent), 6)
    page = seen.go(f"/item/{item_id(6)}")
    page.get_by_role("link", name="grading 1").click()
    expect(page.locator("tr.apart").first).to_be_visible()
    expect(page.locator(".draft").get_by_text("critic/two").first).to_be_visible()


def test_labels_are_given_by_keyboard_and_calibrate_sees_them(browser: Browser, path: Path) -> None:
    with opened(browser, path, "/label") as seen:
        label_by_keyboard(seen.page)
    labels = read_labels(Store(path), RUN)
    assert [label.said for label in labels] == ["good", "bad", "good"]
    assert all(label.blind and label.who == "anna" for label in labels)
    report = calibrate_store(path).report
    assert (report.labels, report.annotators) == (3, 1)


def label_by_keyboard(page: Page) -> None:
    """Say good, bad, good and unsure of four candidates; take the last word back."""
    told = page.locator("[data-told]")
    said = {"1": "good", "2": "bad", "3": "unsure"}
    for key in ("1", "2", "1", "3"):
        page.wait_for_load_state()  # the script listens by then
        expect(page.locator("#machine")).to_be_empty()
        page.keyboard.press(key)
        expect(told).to_have_text(f"you said: {said[key]}")
        expect(page.locator("#machine")).to_contain_text("critic/one")
        here = page.url
        page.keyboard.press("j")
        expect(page).not_to_have_url(here)
    page.wait_for_load_state()
    page.keyboard.press("k")
    expect(told).to_have_text("you said: unsure")
    page.wait_for_load_state()
    page.keyboard.press("u")
    expect(told).to_have_text("not labelled")


def test_levels_are_given_with_the_label(seen: Seen, path: Path) -> None:
    page = seen.go("/label")
    page.wait_for_load_state()
    for key in ("a", "ArrowDown", "b", "ArrowUp", "1"):  # partly; around to the last one
        page.keyboard.press(key)
    expect(page.locator("[data-told]")).to_have_text("you said: good")
    page.reload()
    expect(page.get_by_label("partly")).to_be_checked()
    (label,) = read_labels(Store(path), RUN)
    assert (label.said, label.levels) == ("good", {"faithful": "partly", "useful": "unsure"})
    page.keyboard.press("u")
    expect(page.locator("[data-told]")).to_have_text("not labelled")
    expect(page.locator(":checked")).to_have_count(0)
    assert read_labels(Store(path), RUN) == []


def test_what_the_list_showed_is_said_to_count_no_more(seen: Seen, path: Path) -> None:
    page = seen.page
    page.get_by_role("link", name="label").click()
    expect(page.locator("[data-seen]")).to_be_visible()
    page.wait_for_load_state()
    page.keyboard.press("1")
    expect(page.locator("[data-told]")).to_have_text("you said: good")
    assert [label.blind for label in read_labels(Store(path), RUN)] == [False]


def test_hostile_texts_are_texts(seen: Seen, path: Path) -> None:
    with Writer(path) as writer:
        first = hostile(0, HOSTILE, HOSTILE)
        long = hostile(1, HOSTILE + "x" * 1_000_000, HOSTILE + "z" * 1_000_000)
        item = settle(writer, 99, first, long, seed={"passage": HOSTILE, "<i>": "y" * 1_000_000})
    for address in ("/", f"/item/{item}", "/label"):
        page = seen.go(address)
        assert "owned" not in page.title()
        assert page.locator("b, i").count() == 0
        assert page.evaluate("document.scripts.length") == 1
        assert page.evaluate("document.body.innerText.length") < 100_000
    page = seen.go(f"/item/{item}")
    expect(page.locator(".text").first).to_contain_text("<script>document.title = 'owned'</script>")


SIZES = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_pages_fit_and_can_be_read(seen: Seen, width: int, scheme: Any, tmp_path: Path) -> None:
    page = seen.page
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    for name, address in {"items": "/", "story": f"/item/{item_id(9)}", "label": "/label"}.items():
        seen.go(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(int(number) for number in re.findall(r"\d+", ground)[:3]) > 3 * 128
        assert light == (scheme == "light")
        page.screenshot(path=tmp_path / f"{name}-{width}-{scheme}.png", full_page=True)


def test_a_foreign_name_and_a_missing_token_are_refused(browser: Browser, address: str) -> None:
    """A site that lets a name of its own point here gets nothing, whoever is at the browser."""
    context = browser.new_context()
    page = context.new_page()
    origin = address.partition("/?")[0]
    answer = page.goto(origin + "/")
    assert answer
    assert answer.status == 403
    page.goto(address)
    answer = page.goto(address.replace("127.0.0.1", "localhost"))
    assert answer
    assert answer.status == 200
    foreign = context.request.get(address, headers={"Host": "rebound.example"})
    assert foreign.status == 421
    context.close()
