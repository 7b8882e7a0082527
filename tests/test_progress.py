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

from agentloop.progress import Callback, progress_for
from agentloop.records import Event, Verdict
from agentloop.tally import Pace, Tally, bar, clock, money, spent, summary
from tests.builders import SEEDS, agent, command, marks, play, serving, write_graph, write_seeds

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
    assert lines[2].startswith("4 of 10 accepted · 0 s left · 1 failed · 0 calls · 0.0/s")


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


def full(**more: Any) -> Tally:
    """Return a tally in which there is something of everything that is shown."""
    counts = tally(
        reasons=Counter(below_threshold=7, duplicate=3),
        calls=1234,
        cost_usd=0.5,
        budget_usd=2.0,
        in_flight=16,
        started=time.monotonic() - 60,
        refusals=12,
        light="amber",
        light_reasons=("half of them begin alike", f"it says {EVIL}"),
        **more,
    )
    for score, verdict in ((0.0, "rejected"), (1.0, "accepted"), (0.5, "rejected")):
        counts.scores.append((score, verdict == "accepted"))
    return counts


def screen(counts: Tally, monkeypatch: pytest.MonkeyPatch, width: int, **environment: str) -> str:
    """Return what the rich view leaves on a terminal of that width."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    environment = {"TERM": "xterm-256color", "COLUMNS": str(width), "LINES": "40", **environment}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return shown("rich", Terminal(), counts=counts)


def letters(said: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)


@pytest.mark.parametrize("width", [40, 60, 100, 200])
def test_the_rich_view_shows_everything_and_fits(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = letters(screen(full(), monkeypatch, width))
    told = " ".join(said.split())
    for part in (
        "below_threshold 7 · duplicate 3",
        "scores ▁█▅ mean 0.50 of the last 3 items with a score",
        "16 items in flight",
        "12 refused by limits (429)",
        "0.5000 USD of 2 USD (25%)",
        "variety ● amber",
        "half of them begin alike",
    ):
        assert part in told, part
    assert max(len(line.rstrip()) for line in said.splitlines()) <= width


def test_scores_and_light_are_coloured_unless_nobody_wants_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = screen(full(), monkeypatch, 100)
    assert re.search(r"\x1b\[33m▁\x1b\[0m\x1b\[32m█\x1b\[0m\x1b\[33m▅", said)
    assert "\x1b[33m● amber" in said
    grey = screen(full(), monkeypatch, 100, NO_COLOR="1")
    assert "▁█▅" in grey
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", grey)


def test_a_reason_cannot_act_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    said = screen(full(), monkeypatch, 100)
    assert "\x1b]0;" not in said
    assert "\u202e" not in said
    assert "\x1b" not in summary(tally(light="red", light_reasons=(EVIL,)))


def test_what_nobody_watches_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = letters(screen(tally(), monkeypatch, 100))
    assert "variety" not in quiet
    assert "scores" not in quiet
    assert "variety" not in summary(tally())


def test_a_plain_line_holds_the_same_facts() -> None:
    assert re.fullmatch(
        r"4 of 10 accepted · 90 s left · 1 failed · reasons: below_threshold 7, duplicate 3 · "
        r"scores: mean 0\.50 of the last 3 items with a score · 1,234 calls · 0\.0/s · "
        r"16 in flight · 12 refused by limits · 0\.5000 USD of 2 USD \(25%\) · "
        r"variety: amber \(half of them begin alike\) · 60 s",
        summary(full(before=0)),
    )


def test_a_score_is_as_high_as_its_bar() -> None:
    assert "".join(bar(n / 8) for n in range(9)) == "▁▂▃▄▅▆▇██"
    assert bar(-1) + bar(2) == "▁█"


def test_a_verdict_counts_once_and_its_score_is_kept() -> None:
    counts = Tally()
    for number in range(50):
        counts.note_verdict(Verdict(verdict="accepted", score=number / 50))
    counts.note_verdict(Verdict(verdict="rejected", reason="under_floor", score=0.25))
    counts.note_verdict(Verdict(verdict="ungradable", reason="judge_unreadable"))
    assert counts.verdicts == Counter(accepted=50, rejected=1, ungradable=1)
    assert counts.reasons == Counter(under_floor=1, judge_unreadable=1)
    assert len(counts.scores) == 40
    assert list(counts.scores)[-2:] == [(0.98, True), (0.25, False)]


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    now = [1000.25]
    pace = Pace(lambda: now[0])
    assert pace.per_second == 0
    for _ in range(10):
        pace.add()
    now[0] += 2
    assert pace.per_second == pytest.approx(5)
    for second in range(60):
        now[0] = 1003 + second
        pace.add()
        pace.add()
    assert pace.per_second == pytest.approx(60 / 29)
    now[0] += 1000
    assert pace.per_second == 0
    pace.add()
    assert 0 < pace.per_second <= 1


def test_spending_stands_beside_its_budget() -> None:
    assert spent(1.0, 4.0) == "1.00 USD of 4 USD (25%)"
    assert spent(0.0, 0.0) == "0.00 USD of 0 USD"
    assert spent(None, 4.0) == "cost unknown"
    assert spent(0.5, None) == "0.5000 USD"


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


def test_the_summary_says_what_is_left() -> None:
    assert "left" in summary(tally(started=time.monotonic() - 60))
    assert "left" not in summary(tally(target=4, started=time.monotonic() - 60))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "cost unknown"), (0, "0.00 USD"), (0.5, "0.5000 USD"), (12.346, "12.35 USD")],
)
def test_money(value: float | None, text: str) -> None:
    assert money(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "?"),
        (0, "0 s"),
        (99.9, "99 s"),
        (100, "1:40 min"),
        (3661, "61:01 min"),
        (9_999_999, "2777:46 h"),
    ],
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


def test_the_last_counts_hold_all_that_a_view_shows(tmp_path: Path) -> None:
    seen: list[Event] = []
    model = agent(critique=marks("no"))
    run = play(tmp_path, model, seeds=SEEDS[:3], max_rounds=0, budget_usd=3, progress=seen.append,
               on_collapse="warn")  # fmt: skip
    counts = [event for event in seen if event.kind == "counts"][-1].data["counts"]
    assert counts["rejected"] == run.counts["rejected"] == 3
    assert (counts["reasons"], counts["scores"]) == ({"below_threshold": 3}, [0.0] * 3)
    assert (counts["refusals"], counts["budget_usd"]) == (0, 3)
    assert counts["variety"] == {"light": "none yet", "reasons": []}
    assert counts["calls_per_second"] > 0
    assert (counts["eta_seconds"], counts["target"], counts["target_kind"]) == (0, 3, "items")
    assert json.loads(json.dumps(counts)) == counts


@pytest.mark.parametrize("fails", [False, True])
def test_with_json_all_that_is_on_stderr_is_an_event(tmp_path: Path, fails: bool) -> None:
    recipe, seeds = write_graph(tmp_path), write_seeds(tmp_path, 2)
    with serving(agent()) as server:
        url = "http://127.0.0.1:9/v1" if fails else server.url
        line: list[str | Path] = ["run", recipe, "--seeds", seeds, "--store", "s.duckdb"]
        line += ["--model", "openai/x", "--base-url", url, "--client", "direct"]
        line += ["--progress", "json"]
        with command(*line, cwd=tmp_path) as run:
            out, err = run.communicate(timeout=60)
    events = [Event.model_validate_json(line) for line in err.splitlines()]
    assert out == ""
    assert (run.returncode == 0) is not fails
    assert events[-1].kind == "note"
    if not fails:
        assert "export them: agentloop export" in events[-1].data["text"]
