"""`agentloop diff`, `rounds`: compare gradings, runs, rounds of revision.

Enters: a store, what to compare. Leaves: tables or JSON on stdout. Refuses to know: how it is counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from agentloop.cli.look import GRADING, JSON, RUN, look, say_which_grading
from agentloop.plain import plain

if TYPE_CHECKING:
    from agentloop.store.diff import Diff, Judged
    from agentloop.store.rounds import Round

WHY = 160  # characters of one reason


@click.command()
@click.argument("store")
@click.argument("a")
@click.argument("b")
@RUN
@JSON
def diff(store: str, a: str, b: str, run_name: str | None, as_json: bool) -> None:
    """Show which items change their verdict from A to B, and why.

    A and B are gradings of one run by their numbers (0 is the run's own), or two runs by their names.
    """
    from agentloop.store import Store
    from agentloop.store.diff import diff as compare
    from agentloop.store.diff import side_of

    opened = Store(store)
    found = compare(opened, side_of(opened, a, run_name), side_of(opened, b, run_name))
    click.echo(json.dumps(found.as_dict()) if as_json else "\n".join(_diff_lines(found)))


def _diff_lines(found: Diff) -> list[str]:
    both = sum(found.transitions.values())
    lines = [plain(f"{found.a} → {found.b} · {both} items in both, {len(found.changed)} change")]
    lines += [plain(found.notice)] if found.notice else []
    for (before, after), count in found.transitions.items():
        lines.append(f"  {count:>8,} {before} → {after}")
    for count, side in ((found.only_a, found.a), (found.only_b, found.b)):
        if count:
            lines.append(plain(f"{count:,} only in {side}"))
    for change in found.changed:
        before, after = _told(change.before), _told(change.after)
        lines.append(f"{change.item}  {before} → {after}  {plain(change.why, WHY)}".rstrip())
    return lines


def _told(side: Judged) -> str:
    from agentloop.records import floored

    score = "" if side.score is None else floored(side.score)
    return " ".join(filter(None, (side.verdict, side.reason, score)))


COLUMNS = {
    "round": "round",
    "attempts": "attempts",
    "mean_score": "score",
    "accepted_share": "accepted",
    "gained": "gained",
    "fixed": "fixed",
    "broken": "broken",
    "unchanged_good": "still good",
    "unchanged_bad": "still bad",
    "growth_chars": "growth",
    "critic_gain": "critic",
    "auditor_gain": "auditor",
    "tokens": "tokens",
    "cost_usd": "USD",
}


@click.command()
@click.argument("store")
@RUN
@GRADING
@JSON
def rounds(store: str, run_name: str | None, grading: int, as_json: bool) -> None:
    """Show what each round of revision brings and costs: is another one worth it?

    `gained` are items accepted for the first time; fixed, broken and still compare with the parent;
    `growth` is in characters; critic and auditor are their mean gains over the parent.
    """
    from agentloop.store.rounds import rounds as query

    with look(store, run_name) as (opened, run):
        found = query(opened, run, say_which_grading(opened, run, grading))
    if as_json:
        click.echo(json.dumps([line.as_dict() for line in found]))
        return
    told = [*_table(found), *(_worth(line) for line in found if line.revisions)]
    click.echo("\n".join([*told, *_by_criterion(found), *_repaired(found)]))


def _table(found: Sequence[Round]) -> list[str]:
    cells = [list(COLUMNS.values())]
    for line in found:
        figures = line.as_dict()
        cells.append([_cell(name, figures[name]) for name in COLUMNS])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "accepted_share":
        return f"{value:.0%}"
    if name in ("growth_chars", "critic_gain", "auditor_gain"):
        return f"{value:+.0f}" if name == "growth_chars" else f"{value:+.3f}"
    if name == "mean_score":
        return f"{value:.3f}"
    return f"{value:.4f}" if name == "cost_usd" else f"{value:,}"


def _by_criterion(found: Sequence[Round]) -> list[str]:
    """Return how each criterion's mean mark goes from round to round."""
    if len(found) < 2 or not any(line.revisions for line in found):
        return []
    names = dict.fromkeys(name for line in found for name in line.marks)
    return [
        f"{plain(name)}: "
        + " → ".join("-" if name not in r.marks else f"{r.marks[name]:.2f}" for r in found)
        for name in names
    ]


def _repaired(found: Sequence[Round]) -> list[str]:
    """Return how many of the accepted were wrong at first."""
    accepted, repaired = sum(r.gained for r in found), sum(r.repaired for r in found)
    if not accepted or not any(line.revisions for line in found):
        return []
    share = f"{repaired / accepted:.0%}"
    return [f"repaired: {repaired} of {accepted} accepted items were refused at first ({share})"]


def _worth(line: Round) -> str:
    """Return what one item more cost in a round, in one sentence."""
    told = f"revision {line.round}: {line.gained} of {line.attempts} items become acceptable"
    if line.tokens_per_gained is not None:
        told += f", {line.tokens_per_gained:,.0f} tokens each"
    if line.cost_per_gained is not None:
        told += f", {line.cost_per_gained:.4f} USD each"
    if line.broken:
        told += f"; {line.broken} that were good are not any more"
    if line.gap is not None:
        told += f"; the critic sees {line.gap:+.3f} more gain than the auditor"
    return told
