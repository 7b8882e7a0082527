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
from agentloop.tally import (
    LIGHTS,
    STYLES,
    bar,
    clock,
    goal_told,
    scores_told,
    spent,
    state_told,
    variety_told,
)

if TYPE_CHECKING:
    from agentloop.records import Json
    from agentloop.store.evidence import Evidence, Variety
    from agentloop.store.now import Now


def lines_of(
    counts: Json,
    reasons: Mapping[str, int],
    now: Now,
    evidence: Evidence | None,
    trust: Json | None,
) -> Iterator[str]:
    """Yield the lines; a grading beside the run's own has neither evidence nor trust."""
    yield f"run {plain(counts['run'])} · recipe {plain(counts['recipe'])} · {state_told(counts, now)}"
    if now.target:
        yield f"  {goal_told(counts, now)}"
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
    light, more = variety_told(variety)
    return click.style(f"● {light}", LIGHTS.get(light)) + more
