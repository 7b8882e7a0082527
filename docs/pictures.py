"""The README's pictures, from a real run: `make pictures` after `make demo`.

    python docs/pictures.py demo/qa.duckdb

Opens the run's live page and its report in the Chromium that is installed, and writes PNG files beside
this one. Nothing is posed: a store with other items gives other pictures.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parent
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-sync"]
SIZE = {"width": 1000, "height": 640}


@contextmanager
def viewing(store: str) -> Iterator[str]:
    """Serve a store's live page; yields its URL."""
    command = [sys.executable, "-m", "agentloop", "view", store, "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.communicate()


def revised(store: str) -> str:
    """Return the item that was revised most often."""
    with duckdb.connect(store, read_only=True) as connection:
        found = connection.execute("SELECT item FROM attempts ORDER BY round DESC, item LIMIT 1")
        return str(found.fetchall()[0][0])


def picture(page: Page, name: str) -> None:
    """Write what the window shows."""
    page.screenshot(path=HERE / f"{name}.png")


def main(store: str) -> None:
    """Write all pictures of a store."""
    with tempfile.TemporaryDirectory() as folder, viewing(store) as url, sync_playwright() as play:
        report = Path(folder) / "report.html"
        command = [sys.executable, "-m", "agentloop", "report", store, "-o", str(report)]
        subprocess.run(command, check=True)
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(url)
        page.goto(f"{url.partition('?')[0]}item/{revised(store)}")
        page.locator(".draft").last.evaluate("draft => draft.scrollIntoView()")
        picture(page, "story")
        page.goto(report.as_uri())
        picture(page, "report")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
