"""A story on a terminal: side by side where there is room, in colour where that is wanted, harmless."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import agentloop as al
from agentloop.records import CheckResult, Critique, Grade, Item, Json, Mark, Seed
from agentloop.store import Store
from agentloop.store.story import Story
from agentloop.telling import tell
from tests.builders import RUBRIC, SEEDS, agent, draft, environment, mark, play, tiny

EVIL = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe\x00\r\x9b2J\u200b<script>alert(1)</script>[bold]"
QUOTING = RUBRIC + "    evidence: quote\n    quote_from: seed.passage\n"


def attempt(number: int, answer: str, **more: Any) -> al.Attempt:
    given = {"model": "m", "parent": number - 1 if number else None}
    fields = {"question": "Where?", "answer": answer}
    return al.Attempt(round=number, candidate=fields, **{**given, **more})


def grade(quote: str = "", level: str = "no") -> Grade:
    found = Mark(criterion="right", level=level, value=0, how="written", quote=quote, reason="why")
    return Grade(marks=(found,), score=0, rubric="0123456789", model="m")


def story(*attempts: al.Attempt, passage: str = "The Elbe rises in the mountains.") -> Story:
    item = Item(
        run="a",
        id="0123456789ab",
        seed=Seed(id="0123456789abcdef", fields={"passage": passage}),
        inputs={"sample": 1},
        attempts=attempts,
        verdict=al.Verdict(verdict="accepted", score=1, round=1),
    )
    return Story(item, "tiny", [])


def shown(told: Story, width: int = 120, **console: Any) -> str:
    stream = io.StringIO()
    tell(told, Console(file=stream, width=width, **console))
    return stream.getvalue()


def coloured(told: Story, width: int = 120) -> str:
    return shown(told, width, force_terminal=True, color_system="standard", _environ={})


def letters(said: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", said)


TWO = story(attempt(0, "In the old north.", grade=grade("rises in the mountains")),
            attempt(1, "In the new north.", grade=grade()))  # fmt: skip


def test_attempts_stand_side_by_side_where_there_is_room() -> None:
    (line,) = [line for line in shown(TWO, 100).splitlines() if "first draft" in line]
    assert "revision 1 by m (kept)" in line
    assert not [line for line in shown(TWO, 80).splitlines() if "draft" in line and "kept" in line]
    assert (
        len([line for line in shown(TWO, 80).splitlines() if "draft" in line or "kept" in line])
        == 2
    )


@pytest.mark.parametrize("width", [20, 40, 80, 100, 200])
def test_no_line_is_longer_than_the_screen(width: int) -> None:
    many = story(*(attempt(n, f"{'word ' * 80}{'x' * 300}", grade=grade()) for n in range(5)))
    assert max(map(len, shown(many, width).splitlines())) <= width


def test_changes_and_quotes_are_coloured() -> None:
    said = coloured(TWO)
    assert "In the \x1b[9;31mold\x1b[0m\x1b[1;32mnew\x1b[0m north." in said
    assert "The Elbe \x1b[30;43mrises in the mountains.\x1b[0m" in said
    assert "[-" not in said


def test_without_colours_they_stand_between_signs() -> None:
    for said in (shown(TWO), shown(TWO, force_terminal=True, no_color=True)):
        assert "In the [-old-]{+new+} north." in said
        assert "The Elbe «rises in the mountains.»" in said


def test_a_draft_of_its_own_is_no_change_of_another() -> None:
    said = shown(story(attempt(0, "In the north."), attempt(1, "In the south.", parent=None)))
    assert "[-" not in said
    assert "In the south." in said


def test_all_that_was_found_out_is_told() -> None:
    told = story(
        attempt(0, "In the north.", prompt="abcdef0123"),
        attempt(
            1,
            "In the south.",
            checks=(CheckResult(name="length", passed=False, evidence="too short"),),
            grade=grade("no such words"),
            detail="weakest `right`",
            critique=Critique(
                marks=(
                    {"name": "right", "ask": "?", "level": "no", "quote": "", "reason": "wrong"},
                ),
                checks=({"name": "length", "evidence": "too short"},),
            ),
        ),
    )
    for said in (" ".join(shown(told, 80).split()), told.why()):
        for part in (
            "prompt abcdef01",
            "check length: too short",
            "rubric 01234567",
            "mark right: no (0.00, written)",
            "stands in neither seed nor candidate",
            "reason: why",
            "not accepted: weakest `right`",
            "critique of right (no): wrong",
            "critique of check length: too short",
            "0 calls",
        ):
            assert part in said, part


@pytest.mark.parametrize("width", [30, 120])
@pytest.mark.parametrize(
    "evil", [EVIL, "\u202e\u2066\ud800", "a\nitem x · accepted", "x" * 1_000_000]
)
def test_nothing_that_was_written_acts_on_the_screen(evil: str, width: int) -> None:
    told = story(
        attempt(0, evil, model=evil, grade=grade(evil)),
        attempt(1, f"{evil} {evil}", checks=(CheckResult(name=evil, passed=True),)),
        passage=evil,
    )
    said = coloured(told, width)
    assert not re.search(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u2069]", said)
    assert "\x1b]" not in said
    assert set(re.findall(r"\x1b(.)", said)) <= {"["}
    assert "item x · accepted" not in said.splitlines()
    assert len(said) < 60_000
    said.encode()


def test_text_is_no_markup() -> None:
    assert "[bold]loud[/bold] :smile:" in shown(story(attempt(0, "[bold]loud[/bold] :smile:")))


def on_a_terminal(folder: Path, *arguments: str, **more: str) -> str:
    """Return what `agentloop` writes to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentloop", *arguments],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env={**environment(), "TERM": "xterm-256color", "COLUMNS": "120", **more},
        )
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            said += part
        assert process.wait() == 0
    finally:
        os.close(ours)
    return said.decode()


@pytest.fixture
def item(tmp_path: Path) -> Json:
    """One item of a real run, revised once."""
    quote = "rises in the Giant Mountains"
    critique = [
        json.dumps({"right": mark(level, why, quote=quote)})
        for level, why in (("no", "the sea is not named"), ("yes", ""))
    ]
    answers = draft("Into a sea."), draft("Into the North Sea.")
    model = agent(generate=answers[0], critique=critique, revise=answers[1])
    run = play(tmp_path, model, tiny(tmp_path, QUOTING), seeds=SEEDS[:1])
    (row,) = run.items("all")
    return row


def test_why_is_coloured_on_a_terminal_and_plain_in_a_pipe(tmp_path: Path, item: Json) -> None:
    line = ("why", "qa.duckdb", item["item"])
    said = on_a_terminal(tmp_path, *line)
    assert re.search(r"\x1b\[30;43mrises in the Giant Mountains", said)
    assert "\x1b[1;32m" in said
    assert "│" in said
    grey = on_a_terminal(tmp_path, *line, NO_COLOR="1")
    assert "«rises in the Giant Mountains»" in grey
    assert not re.search(r"\x1b\[[0-9;]*[34][0-7]m", grey)
    assert "{+" in grey
    told = Store(tmp_path / "qa.duckdb").item(item["item"]).why()
    piped = subprocess.run(
        [sys.executable, "-m", "agentloop", *line], cwd=tmp_path, env=environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert piped.stdout == told + "\n"
    assert "in seed.passage: The river Elbe «rises in the Giant Mountains» and flows" in told
    assert re.search(r"^    changed: Into \[-a.*North.*\+\}\.$", told, re.MULTILINE)
    assert "    as before" in told


def test_status_is_coloured_on_a_terminal_unless_nobody_wants_that(
    tmp_path: Path, item: Json
) -> None:
    assert "\x1b[32m         1 accepted" in on_a_terminal(tmp_path, "status", "qa.duckdb")
    assert "\x1b" not in on_a_terminal(tmp_path, "status", "qa.duckdb", NO_COLOR="1")
