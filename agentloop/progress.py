"""Progress for people and programs, on stderr; data never goes there, nor progress to stdout.

Enters: events of a run and its tally. Leaves: a calm live view, a plain line now and then, or JSON
lines. Refuses to know: the store, the graph, how a verdict came about.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import orjson

from agentloop.plain import plain
from agentloop.tally import (
    LIGHTS,
    STYLES,
    Score,
    Tally,
    bar,
    clock,
    reasons_told,
    scores_told,
    spent,
    summary,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from agentloop.records import Event

PLAIN_SECONDS = 20.0
REFRESH = 4  # times a second
REASONS = 3  # why variety is not green, of which so many are shown


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
            self._console.print(_faint(plain(event.data.get("text", ""))))

    def stop(self) -> None:
        """Draw the last state and leave it on the screen."""
        self._live.stop()

    def _render(self) -> RenderableType:
        from rich.console import Group

        tally = self._tally
        lines = [self._head(), _verdicts(tally)]
        lines += [_faint(reasons_told(tally.reasons, 5))] if tally.reasons else []
        scores = list(tally.scores)  # a copy: this is another thread than that which counts
        lines += [_scores(scores)] if scores else []
        lines += [
            _work(tally),
            _faint(f"{spent(tally.cost_usd, tally.budget_usd)} · {_tokens(tally)}"),
        ]
        return Group(*lines, *_variety(tally))

    def _head(self) -> RenderableType:
        """How far it is: of the target, in time."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally = self._tally
        goal = f"{tally.done:,} / {tally.target:,}" if tally.target else f"{tally.done:,}"
        head = Table.grid(padding=(0, 2))
        row: list[RenderableType] = [Text(f"{goal} {tally.target_kind}")]
        if tally.target:
            width = min(30, self._console.width // 3)
            row.append(ProgressBar(tally.target, tally.done, width, complete_style="green"))
        row.append(Text(clock(tally.seconds)))
        if tally.eta is not None:
            row.append(Text(f"{clock(tally.eta)} left"))
        head.add_row(*row)
        return head


def _verdicts(tally: Tally) -> Text:
    from rich.text import Text

    parts = [(f"{tally.verdicts[name]:,} {name}", style) for name, style in STYLES.items()]
    return Text("  ").join(Text(said, style) for said, style in parts)


def _scores(scores: Sequence[Score]) -> Text:
    """A bar for each item, in the colour of its verdict."""
    from rich.text import Text

    shown = [(bar(score), STYLES["accepted" if fine else "rejected"]) for score, fine in scores]
    return Text.assemble(("scores ", "dim"), *shown, (f" {scores_told(scores)}", "dim"))


def _work(tally: Tally) -> Text:
    from rich.text import Text

    work = (
        f"{tally.calls:,} calls · {tally.pace.per_second:.1f}/s · {tally.in_flight} items in flight"
    )
    refused = f"{tally.refusals:,} refused by limits (429)"
    return Text.assemble((f"{work} · ", "dim"), (refused, "yellow" if tally.refusals else "dim"))


def _tokens(tally: Tally) -> str:
    return f"{tally.prompt_tokens + tally.completion_tokens:,} tokens"


def _variety(tally: Tally) -> list[Text]:
    """The light of variety and why it is not green; nothing where nobody watches."""
    from rich.text import Text

    if not tally.light:
        return []
    light = (f"● {tally.light}", LIGHTS.get(tally.light, "dim"))
    return [
        Text.assemble(("variety ", "dim"), light),
        *(_faint(f"  {plain(reason)}") for reason in tally.light_reasons[:REASONS]),
    ]


def _faint(text: str) -> Text:
    from rich.text import Text

    return Text(text, "dim")


def progress_for(mode: str, stream: TextIO | None = None) -> Progress:
    """Return the view for a mode; `auto` is rich on a terminal and plain lines elsewhere."""
    stream = stream or sys.stderr
    if mode == "auto":
        mode = "rich" if stream.isatty() else "plain"
    if mode == "none":
        return Silent()
    return {"rich": RichView, "plain": PlainLines, "json": JsonLines}[mode](stream)
