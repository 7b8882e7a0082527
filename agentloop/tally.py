"""What a run has counted so far, and the words in which all who show it say it.

Enters: replies, verdicts, refusals, readings of variety, as they come. Leaves: counts, paces, short
texts. Refuses to know: who shows them, the store, how a verdict came about.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentloop.plain import plain
from agentloop.records import Json, floored

if TYPE_CHECKING:
    from agentloop.diversity.reading import Reading
    from agentloop.models.base import Reply
    from agentloop.records import Verdict
    from agentloop.store.evidence import Variety
    from agentloop.store.now import Now

SCORED = 40  # items, those graded last, whose scores are shown one by one
WINDOW = 30  # seconds in which calls are counted for their pace
BARS = "▁▂▃▄▅▆▇█"
STYLES = {"accepted": "green", "rejected": "yellow", "ungradable": "magenta", "failed": "red"}
"""The verdicts in their order, with their colours."""
LIGHTS = {"green": "green", "amber": "yellow", "red": "red"}
"""The colour of each light on a screen."""
UNSEEN = "none yet"
"""The light of a run whose variety was not read yet."""

SPANS = ((86400, "days"), (3600, "h"), (60, "min"))

Score = tuple[float, bool]
"""An item's score, and whether it was accepted."""


class Pace:
    """Counts what happens in the last seconds: one number for each second.

    Whoever counts and whoever reads may be two threads.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now = now
        self._begun = now()
        self._seconds: deque[list[int]] = deque(maxlen=WINDOW)

    def add(self) -> None:
        """Count one."""
        second = int(self._now())
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1][1] += 1
        else:
            self._seconds.append([second, 1])

    @property
    def per_second(self) -> float:
        """How many a second there were in the last half minute, or since the beginning."""
        now = self._now()
        first = int(now) - WINDOW + 1
        found = sum(count for second, count in list(self._seconds) if second >= first)
        return found / max(now - max(self._begun, first), 1e-9) if found else 0.0


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
    budget_usd: float | None = None
    in_flight: int = 0
    started: float = field(default_factory=time.monotonic)
    before: int = 0
    """Items settled, or accepted, by earlier sessions."""
    refusals: int = 0
    """Requests of this session that a limit refused: 429, 503, 529."""
    scores: deque[Score] = field(default_factory=lambda: deque(maxlen=SCORED))
    """Of the items of this session that were graded last."""
    pace: Pace = field(default_factory=Pace)
    """Of this session's calls."""
    light: str = ""
    """Of the variety of accepted texts; `none yet`, or empty where nobody watches."""
    light_reasons: Sequence[str] = ()
    """Why it is not green."""

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
        self.pace.add()
        self.prompt_tokens += reply.usage.prompt_tokens
        self.completion_tokens += reply.usage.completion_tokens
        if self.cost_usd is not None:
            cost = 0.0 if booked and reply.cost_usd is None else reply.cost_usd
            self.cost_usd = None if cost is None else self.cost_usd + cost

    def note_verdict(self, verdict: Verdict) -> None:
        """Count an item that is settled."""
        self.verdicts[verdict.verdict] += 1
        if verdict.reason:
            self.reasons[verdict.reason] += 1
        if verdict.score is not None:
            self.scores.append((verdict.score, verdict.verdict == "accepted"))

    def note_refusal(self) -> None:
        """Count a request that a limit refused."""
        self.refusals += 1

    def note_reading(self, reading: Reading | None) -> None:
        """Take note of the light of the latest reading, where there is one."""
        self.light = reading.light if reading else UNSEEN
        self.light_reasons = reading.reasons if reading else ()

    def as_dict(self) -> Json:
        """Return the counts as JSON values."""
        return {
            "run": self.run,
            **{name: self.verdicts[name] for name in STYLES},
            "target": self.target,
            "in_flight": self.in_flight,
            "calls": self.calls,
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
            "seconds": round(self.seconds, 3),
        }

    def in_full(self) -> Json:
        """Return the counts and all else that a view shows, as JSON values."""
        eta = self.eta
        return {
            **self.as_dict(),
            "target_kind": self.target_kind,
            "eta_seconds": None if eta is None else round(eta, 1),
            "reasons": dict(self.reasons.most_common()),
            "scores": [score for score, _ in self.scores],
            "calls_per_second": round(self.pace.per_second, 2),
            "refusals": self.refusals,
            "budget_usd": self.budget_usd,
            "variety": {"light": self.light or None, "reasons": [*self.light_reasons]},
        }


def clock(seconds: float | None) -> str:
    """Return seconds as `75 s`, `4:05 min` or `3:20 h`."""
    if seconds is None:
        return "?"
    whole = int(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 100 * 60:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole // 60 % 60:02d} h"


def state_told(counts: Json, now: Now) -> str:
    """Say whether a run goes on, and how fresh what is told of it is."""
    if now.ended:
        return f"stopped by {counts['stopped_by']}, {_ago(now.age)} ago"
    if now.running:
        return f"running, stored until {_ago(now.age)} ago"
    return f"open, and nothing was stored for {_ago(now.age)}: the same command goes on"


def _ago(seconds: float) -> str:
    for span, name in SPANS:
        if seconds >= 2 * span:
            return f"{seconds // span:.0f} {name}"
    return f"{seconds:.0f} s"


def goal_told(counts: Json, now: Now) -> str:
    """Say how far a run is that has a target."""
    accepted = now.target_kind == "accepted"
    done = counts["accepted"] if accepted else sum(counts[name] for name in STYLES)
    left = f" · {clock(now.eta_seconds)} left" if now.running and now.eta_seconds else ""
    return f"{done:,} of {now.target:,} {now.target_kind}{left}"


def variety_told(variety: Variety) -> tuple[str, str]:
    """Return the light of what is stored of a run's variety, and what it is of."""
    light = variety.whole or variety.light or UNSEEN
    if not variety.batches:
        return light, ""
    which = "as a whole" if variety.whole else "of late"
    return light, f" {which} · {variety.green} of {variety.batches} batches green"


def money(cost: float | None) -> str:
    """Return USD, or that the price is unknown."""
    if cost is None:
        return "cost unknown"
    return f"{cost:.2f} USD" if cost >= 1 or cost == 0 else f"{cost:.4f} USD"


def spent(cost: float | None, budget: float | None) -> str:
    """Return what was spent, beside the budget where there is one."""
    if budget is None or cost is None:
        return money(cost)
    share = f" ({cost / budget:.0%})" if budget else ""
    return f"{money(cost)} of {budget:g} USD{share}"


def bar(score: float) -> str:
    """Return a bar as high as a score in 0..1."""
    return BARS[max(0, min(len(BARS) - 1, int(score * len(BARS))))]


def scores_told(scores: Sequence[Score]) -> str:
    """Say what the bars of some scores are, and their mean; at least one."""
    mean = sum(score for score, _ in scores) / len(scores)
    return f"mean {floored(mean)} of the last {len(scores)} items with a score"


def reasons_told(reasons: Mapping[str, int], most: int) -> str:
    """Return the reasons that were given most often, with how often."""
    listed = sorted(dict(reasons).items(), key=lambda pair: -pair[1])
    return " · ".join(f"{name} {count:,}" for name, count in listed[:most])


def summary(tally: Tally) -> str:
    """Return all that a view shows in one line."""
    goal = f" of {tally.target:,}" if tally.target else ""
    parts = [f"{tally.done:,}{goal} {tally.target_kind}"]
    if tally.eta is not None and tally.done < (tally.target or 0):
        parts.append(f"{clock(tally.eta)} left")
    listed = [name for name in STYLES if tally.verdicts[name] and name != tally.target_kind]
    parts += [f"{tally.verdicts[name]:,} {name}" for name in listed]
    parts += _listed("reasons", reasons_told(tally.reasons, 3).replace(" · ", ", "))
    if tally.scores:
        parts.append(f"scores: {scores_told(tally.scores)}")
    parts += [f"{tally.calls:,} calls", f"{tally.pace.per_second:.1f}/s"]
    parts += [f"{tally.in_flight} in flight", f"{tally.refusals:,} refused by limits"]
    parts += [spent(tally.cost_usd, tally.budget_usd), *_listed("variety", _light(tally))]
    return " · ".join([*parts, clock(tally.seconds)])


def _light(tally: Tally) -> str:
    why = f" ({tally.light_reasons[0]})" if tally.light_reasons else ""
    return plain(tally.light + why)


def _listed(name: str, text: str) -> Iterable[str]:
    return [f"{name}: {text}"] if text else []


def told(counts: Json) -> str:
    """Return what came of a run in one line."""
    parts = [f"{counts[name]} {name}" for name in STYLES]
    cost = counts["cost_usd"]
    parts.append("cost unknown" if cost is None else f"{cost:.4f} USD")
    parts.append(f"{counts['seconds']:.1f} s")
    return " · ".join(parts)
