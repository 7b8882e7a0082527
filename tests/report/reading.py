"""Reads a report as a browser would, with the standard library's parser."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "br", "rect", "line", "circle", "polygon", "polyline"}
LEAVING = ("src", "srcset", "href", "action", "data", "poster", "xlink:href", "background")

Rows = list[list[str]]


class Page(HTMLParser):
    """What a page shows and what it would do."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.html = html
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[Rows]] = {}
        """By the id of the section."""
        self.marked: dict[str, list[str]] = {}
        """Texts within `ins`, `del`, `mark`, `summary`."""
        self._open: list[str] = []
        self._section = ""
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    @property
    def text(self) -> str:
        """All that is shown, in one line."""
        return " ".join("".join(self.words).split())

    def section(self, name: str) -> list[Rows]:
        return self.tables.get(name, [])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append((tag, named))
        if tag in VOID:
            return
        self._open.append(tag)
        if tag == "section":
            self._section = named["aria-labelledby"]
        elif tag == "table":
            self.tables.setdefault(self._section, []).append([])
        elif tag == "tr":
            self.tables[self._section][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self._section][-1][-1].append("")
        elif tag in ("ins", "del", "mark", "summary"):
            self.marked.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if {"style", "title"} & set(self._open):
            return
        self.words.append(data)
        for tag in ("ins", "del", "mark", "summary"):
            if tag in self._open:
                self.marked[tag][-1] += data
        if "td" in self._open or "th" in self._open:
            self.tables[self._section][-1][-1][-1] += data


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))
