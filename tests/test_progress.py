"""Progress: calm on a terminal, plain in a pipe, JSON for programs; never an escape from a model."""

from __future__ import annotations

import io
import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentloop.progress import Callback, Tally, clock, money, progress_for, rate, summary
from agentloop.records import Event
from tests.builders import SEEDS, agent, play

EVIL = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def event(kind: Any = "note", **data: Any) -> Event:
    return Event(kind=kind, run="a", at=0.0, data=data)


def tally(**counts: Any) -> Tally:
    given = {"target": 10, "target_kind": "accepted", "verdicts": Counter(accepted=4, failed=1)}
    return Tally(**{**given, **counts})


def shown(mode: str, stream: io.StringIO, *events: Event, counts: Tally | None = None) -> str:
    progress = progress_for(mode, stream)
    progress.start(counts or tally())
    for one in events:
        progress.event(one)
    progress.stop()
    progress.stop()
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["plain", "rich", "json", "none", "auto"])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_no_view_shows_an_escape_that_a_model_wrote(mode: str, stream: Any) -> None:
    text = shown(mode, stream(), event(text=EVIL), event("started", text=EVIL))
    assert "\x1b]0;" not in text
    assert "\x1b[31mred" not in text
    assert mode == "json" or "\u202e" not in text


def test_auto_is_plain_in_a_pipe_and_rich_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in shown("auto", io.StringIO(), event(text="hello"))
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in shown("auto", Terminal(), event(text="hello"))


def test_plain_lines_tell_notes_at_once_and_the_counts_at_the_end() -> None:
    said = shown("plain", io.StringIO(), event("started", text="run a"), event(text="careful\nnow"))
    lines = said.splitlines()
    assert lines[:2] == ["run a", "careful now"]
    assert len(lines) == 3
    assert lines[2].startswith("4 of 10 accepted · 4 accepted · 1 failed · 0 calls")


def test_plain_lines_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [event("settled", item=str(n)) for n in range(500)]
    assert len(shown("plain", io.StringIO(), *events).splitlines()) == 1
    monkeypatch.setattr("agentloop.progress.PLAIN_SECONDS", 0.0)
    assert len(shown("plain", io.StringIO(), *events[:5]).splitlines()) == 6


def test_json_lines_are_one_object_an_event() -> None:
    said = shown("json", io.StringIO(), event(text="a\nb"), event("settled", item="x", score=None))
    first, second = (json.loads(line) for line in said.splitlines())
    assert (first["kind"], first["data"]) == ("note", {"text": "a\nb"})
    assert second["data"] == {"item": "x", "score": None}


def test_none_shows_nothing() -> None:
    assert shown("none", io.StringIO(), event(text="hello")) == ""


def test_the_rich_view_shows_target_verdicts_reasons_and_cost() -> None:
    counts = tally(calls=1234, cost_usd=None, reasons=Counter(duplicate=3), prompt_tokens=1_000_000)
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown("rich", Terminal(), counts=counts))
    for part in ("4 / 10 accepted", "1 failed", "duplicate 3", "1,000,000 tokens", "cost unknown"):
        assert part in said, part


def test_a_function_gets_every_event() -> None:
    got: list[Event] = []
    view = Callback(got.append)
    view.start(tally())
    view.event(event(text="x"))
    view.stop()
    assert got == [event(text="x")]


def test_done_means_accepted_or_settled() -> None:
    assert (tally().done, tally(target_kind="items").done, tally().settled) == (4, 5, 5)


def test_the_time_left_is_at_this_sessions_pace() -> None:
    now = time.monotonic()
    assert tally(before=4, started=now - 60).eta is None
    assert tally(target=None).eta is None
    assert tally(before=2, started=now - 60).eta == pytest.approx(180, rel=0.1)
    assert tally(target=3, started=now - 60).eta == 0
    assert rate(tally(session_calls=30, started=now - 60)) == pytest.approx(0.5, rel=0.1)
    assert rate(tally(started=now + 5)) >= 0


def test_the_summary_says_what_is_left() -> None:
    assert summary(tally(started=time.monotonic() - 60)).endswith("left")
    assert "left" not in summary(tally(target=4, started=time.monotonic() - 60))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "cost unknown"), (0, "0.00 USD"), (0.5, "0.5000 USD"), (12.346, "12.35 USD")],
)
def test_money(value: float | None, text: str) -> None:
    assert money(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "?"), (0, "0 s"), (99.9, "99 s"), (100, "1:40 min"), (3661, "61:01 min")],
)
def test_clock(value: float | None, text: str) -> None:
    assert clock(value) == text


def test_counts_in_events_are_the_runs_over_all_resumes(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:3])
    seen: list[Event] = []
    run = play(tmp_path, agent(), seeds=SEEDS[:5], progress=seen.append)
    last = [e for e in seen if e.kind == "settled"][-1].data["counts"]
    for name in ("accepted", "calls", "requests", "prompt_tokens", "completion_tokens", "cost_usd"):
        assert last[name] == run.counts[name], name
    assert "3 items settled before" in seen[0].data["text"]


def test_stdout_is_left_to_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:2], progress="plain")
    out, err = capsys.readouterr()
    assert out == ""
    assert "2 of 2 items" in err
