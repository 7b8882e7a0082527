"""Progress for people and programs, on stderr; data never goes there, nor progress to stdout.

Enters: events of a run and its tally. Leaves: a calm live view, a plain line now and then, or JSON
lines. Refuses to know: the store, the graph, how a verdict came about.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import orjson

from agentloop.plain import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agentloop.models.base import Reply
    from agentloop.records import Event, Json

PLAIN_SECONDS = 20.0
REFRESH = 4  # times a second


@dataclass
class Tally:
    """What a run has counted so far; the runner writes it, views read it."""

    run: str = ""
    recipe: str = ""
    target: int | None = None
    """Accepted items asked for, else items to settle."""
    target_kind: str = "items"
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    in_flight: int = 0
    started: float = field(default_factory=time.monotonic)
    before: int = 0
    """Items settled, or accepted, by earlier sessions."""
    session_calls: int = 0

    @property
    def settled(self) -> int:
        """Items with a verdict."""
        return self.verdicts.total()

    @property
    def done(self) -> int:
        """How much of the target is reached."""
        return self.verdicts["accepted"] if self.target_kind == "accepted" else self.settled

    @property
    def seconds(self) -> float:
        """Seconds of this session."""
        return time.monotonic() - self.started

    @property
    def eta(self) -> float | None:
        """Seconds to the target at this session's pace; None while unknown."""
        made = self.done - self.before
        if self.target is None or made <= 0:
            return None
        return self.seconds / made * max(0, self.target - self.done)

    def note_call(self, reply: Reply | None, tries: int, *, booked: bool) -> None:
        """Count a call; `booked`: a budget has booked what an endpoint does not say."""
        self.requests += tries
        if reply is None:
            return
        self.calls += 1
        self.session_calls += 1
        self.prompt_tokens += reply.usage.prompt_tokens
        self.completion_tokens += reply.usage.completion_tokens
        if self.cost_usd is not None:
            cost = 0.0 if booked and reply.cost_usd is None else reply.cost_usd
            self.cost_usd = None if cost is None else self.cost_usd + cost

    def as_dict(self) -> Json:
        """Return the counts as JSON values."""
        return {
            "run": self.run,
            **{
                name: self.verdicts[name]
                for name in ("accepted", "rejected", "ungradable", "failed")
            },
            "target": self.target,
            "in_flight": self.in_flight,
            "calls": self.calls,
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
            "seconds": round(self.seconds, 3),
        }


class Progress(Protocol):
    """Watches one run."""

    def start(self, tally: Tally) -> None:
        """Begin to show."""

    def event(self, event: Event) -> None:
        """Take note of something."""

    def stop(self) -> None:
        """Show the end; safe to call twice."""


class Silent:
    """Shows nothing."""

    def start(self, tally: Tally) -> None:
        """Do nothing."""

    def event(self, event: Event) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class Callback(Silent):
    """Hands events to a function, for Python."""

    def __init__(self, function: Callable[[Event], Any]):
        self._function = function

    def event(self, event: Event) -> None:
        """Call the function."""
        self._function(event)


class JsonLines(Silent):
    """One JSON object an event on stderr."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def event(self, event: Event) -> None:
        """Write the event."""
        self._stream.write(orjson.dumps(event.model_dump()).decode() + "\n")
        self._stream.flush()


class PlainLines(Silent):
    """A line every twenty seconds or so, for pipes and logs."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._tally = Tally()
        self._last = 0.0

    def start(self, tally: Tally) -> None:
        """Remember the tally."""
        self._tally = tally
        self._last = time.monotonic()

    def event(self, event: Event) -> None:
        """Write notes at once, counts now and then."""
        if event.kind in ("note", "started"):
            self._write(str(event.data.get("text", "")))
        elif time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            self._write(summary(self._tally))

    def stop(self) -> None:
        """Write the last counts."""
        if self._last:
            self._write(summary(self._tally))
            self._last = 0.0

    def _write(self, text: str) -> None:
        self._stream.write(plain(text) + "\n")
        self._stream.flush()


class RichView(Silent):
    """One calm live view."""

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream)
        self._tally = Tally()
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=REFRESH,
            transient=False,
        )

    def start(self, tally: Tally) -> None:
        """Draw from now on."""
        self._tally = tally
        self._live.start()

    def event(self, event: Event) -> None:
        """Print notes above the view; counts are drawn by the clock."""
        if event.kind in ("note", "started"):
            self._console.print(plain(event.data.get("text", "")), style="dim", markup=False)

    def stop(self) -> None:
        """Draw the last state and leave it on the screen."""
        self._live.stop()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally = self._tally
        head = Table.grid(padding=(0, 2))
        goal = f"{tally.done} / {tally.target}" if tally.target else str(tally.done)
        bar = ProgressBar(total=tally.target or 1, completed=tally.done, width=30)
        eta = f"{clock(tally.eta)} left" if tally.eta is not None else ""
        head.add_row(
            Text(f"{goal} {tally.target_kind}"), bar, Text(clock(tally.seconds)), Text(eta)
        )
        verdicts = Text()
        for name, style in _STYLES.items():
            verdicts.append(f"{tally.verdicts[name]} {name}  ", style=style)
        reasons = " · ".join(f"{name} {count}" for name, count in tally.reasons.most_common(5))
        work = (
            f"{tally.calls} calls · {rate(tally):.1f}/s · {tally.in_flight} items in flight · "
            f"{tally.prompt_tokens + tally.completion_tokens:,} tokens · {money(tally.cost_usd)}"
        )
        return Group(head, verdicts, Text(reasons, style="dim"), Text(work, style="dim"))


_STYLES = {"accepted": "green", "rejected": "yellow", "ungradable": "magenta", "failed": "red"}


def rate(tally: Tally) -> float:
    """Return this session's calls a second."""
    return tally.session_calls / max(tally.seconds, 1e-9)


def clock(seconds: float | None) -> str:
    """Return seconds as `75 s` or `4:05 min`."""
    if seconds is None:
        return "?"
    whole = int(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60}:{whole % 60:02d} min"


def money(cost: float | None) -> str:
    """Return USD, or that the price is unknown."""
    if cost is None:
        return "cost unknown"
    return f"{cost:.2f} USD" if cost >= 1 or cost == 0 else f"{cost:.4f} USD"


def summary(tally: Tally) -> str:
    """Return the counts in one line."""
    goal = f" of {tally.target}" if tally.target else ""
    parts = [f"{tally.done}{goal} {tally.target_kind}"]
    parts += [f"{tally.verdicts[name]} {name}" for name in _STYLES if tally.verdicts[name]]
    parts += [f"{tally.calls} calls", f"{rate(tally):.1f}/s", f"{tally.in_flight} in flight"]
    parts += [money(tally.cost_usd), clock(tally.seconds)]
    if tally.eta is not None and tally.done < (tally.target or 0):
        parts.append(f"{clock(tally.eta)} left")
    return " · ".join(parts)


def told(counts: Json) -> str:
    """Return what came of a run in one line."""
    parts = [f"{counts[name]} {name}" for name in _STYLES]
    cost = counts["cost_usd"]
    parts.append("cost unknown" if cost is None else f"{cost:.4f} USD")
    parts.append(f"{counts['seconds']:.1f} s")
    return " · ".join(parts)


def progress_for(mode: str, stream: TextIO | None = None) -> Progress:
    """Return the view for a mode; `auto` is rich on a terminal and plain lines elsewhere."""
    stream = stream or sys.stderr
    if mode == "auto":
        mode = "rich" if stream.isatty() else "plain"
    if mode == "none":
        return Silent()
    return {"rich": RichView, "plain": PlainLines, "json": JsonLines}[mode](stream)
