"""What `agentloop status` prints: how a run stands, line by line.

Enters: counts, reasons, what is stored of the last minutes, evidence. Leaves: lines, coloured with
escapes of our own that whoever prints them may strip. Refuses to know: stores, terminals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from agentloop.plain import plain
from agentloop.store import VERDICTS
from agentloop.store.trust import NO_EVIDENCE
from agentloop.tally import LIGHTS, STYLES, UNSEEN, bar, clock, scores_told, spent

if TYPE_CHECKING:
    from agentloop.records import Json
    from agentloop.store.evidence import Evidence, Variety
    from agentloop.store.now import Now

SPANS = ((86400, "days"), (3600, "h"), (60, "min"))


def lines_of(
    counts: Json,
    reasons: Mapping[str, int],
    now: Now,
    evidence: Evidence | None,
    trust: Json | None,
) -> Iterator[str]:
    """Yield the lines; a grading beside the run's own has neither evidence nor trust."""
    yield f"run {plain(counts['run'])} · recipe {plain(counts['recipe'])} · {_state(counts, now)}"
    if now.target:
        yield f"  {_goal(counts, now)}"
    for verdict in VERDICTS:
        yield click.style(f"  {counts[verdict]:>8,} {verdict}", STYLES[verdict])
    for reason, count in reasons.items():
        yield f"           {count:>6,} {reason}"
    if now.scores:
        yield f"  scores {_bars(now)} {scores_told(now.scores)}"
    yield f"  {counts['seeds']:>8,} seeds · {counts['attempts']:,} attempts{_on_the_way(now)}"
    tokens = counts["prompt_tokens"] + counts["completion_tokens"]
    yield f"  {counts['calls']:>8,} calls · {counts['requests']:,} requests · {tokens:,} tokens"
    if now.running:
        yield f"  {now.calls_per_second:>8.1f} calls/s in the last minute{_in_vain(counts, now)}"
    yield f"  {spent(counts['cost_usd'], now.budget_usd)} · {clock(counts['seconds'])}"
    if evidence is None or trust is None:
        yield f"  {NO_EVIDENCE}"
        return
    if now.watched or evidence.variety.batches:
        yield f"  variety {_light(evidence.variety)}"
    known = [line for line in evidence.lines() if line not in evidence.variety.lines]
    for line in (trust["line"], *known, *filter(None, [evidence.costs.line])):
        yield f"  {plain(line)}"


def _state(counts: Json, now: Now) -> str:
    """Say whether it goes on, and how fresh the rest is."""
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


def _goal(counts: Json, now: Now) -> str:
    accepted = now.target_kind == "accepted"
    done = counts["accepted"] if accepted else sum(counts[verdict] for verdict in VERDICTS)
    left = f" · {clock(now.eta_seconds)} left" if now.running and now.eta_seconds else ""
    return f"{done:,} of {now.target:,} {now.target_kind}{left}"


def _bars(now: Now) -> str:
    colours = {True: STYLES["accepted"], False: STYLES["rejected"]}
    return "".join(click.style(bar(score), colours[accepted]) for score, accepted in now.scores)


def _on_the_way(now: Now) -> str:
    if not now.on_the_way:
        return ""
    if now.running:
        return f" · {now.on_the_way:,} items in flight"
    return f" · {now.on_the_way:,} items begun and without a verdict"


def _in_vain(counts: Json, now: Now) -> str:
    again = max(0, counts["requests"] - counts["calls"])
    refused = "" if now.refused is None else f" · {now.refused:,} refused by limits (429)"
    return f"{refused} · {again:,} requests in vain"


def _light(variety: Variety) -> str:
    light = variety.whole or variety.light or UNSEEN
    told = click.style(f"● {light}", LIGHTS.get(light))
    if not variety.batches:
        return told
    which = "as a whole" if variety.whole else "of late"
    return f"{told} {which} · {variety.green} of {variety.batches} batches green"
