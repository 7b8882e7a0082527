"""`agentloop status`, `why`, `export`: look at a store, also while a run writes it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from agentloop.store import Store

RUN = click.option("--run", "run_name", metavar="NAME", help="which run  [the latest]")
JSON = click.option("--json", "as_json", is_flag=True, help="JSON on stdout")


def _say_which(store: Store, name: str | None) -> str:
    """Return the run's name; say on stderr which one was taken when there are several."""
    runs = store.runs()
    chosen = store.run(name)
    if name is None and len(runs) > 1:
        others = ", ".join(runs[1:4])
        click.echo(f"run {chosen}, the latest of {len(runs)} (others: {others})", err=True)
    return chosen


@click.command()
@click.argument("store")
@RUN
@JSON
def status(store: str, run_name: str | None, as_json: bool) -> None:
    """Show the counts of a run: verdicts, calls, tokens, cost."""
    from agentloop.store import Store

    opened = Store(store)
    run = _say_which(opened, run_name)
    counts = opened.counts(run)
    if as_json:
        click.echo(json.dumps(counts))
        return
    from agentloop.progress import clock, money
    from agentloop.store import VERDICTS

    click.echo(
        f"run {counts['run']} · recipe {counts['recipe']} · {counts['stopped_by'] or 'open'}"
    )
    for verdict in VERDICTS:
        click.echo(f"  {counts[verdict]:>8,} {verdict}")
    for reason, count in opened.reasons(run).items():
        click.echo(f"           {count:>6,} {reason}")
    click.echo(f"  {counts['seeds']:>8,} seeds · {counts['attempts']:,} attempts")
    tokens = counts["prompt_tokens"] + counts["completion_tokens"]
    click.echo(
        f"  {counts['calls']:>8,} calls · {counts['requests']:,} requests · {tokens:,} tokens"
    )
    click.echo(f"  {money(counts['cost_usd'])} · {clock(counts['seconds'])}")


@click.command()
@click.argument("store")
@click.argument("item")
@RUN
@JSON
def why(store: str, item: str, run_name: str | None, as_json: bool) -> None:
    """Tell an item's story: seed, attempts, marks, quotes, checks, cost.

    ITEM is an item's id or the beginning of it.
    """
    from agentloop.store import Store

    opened = Store(store)
    story = opened.item(item, _say_which(opened, run_name))
    click.echo(json.dumps(story.as_dict()) if as_json else story.why())


@click.command()
@click.argument("store")
@click.option("-o", "--output", metavar="FILE", help="where to  [stdout]")
@RUN
@click.option("--shape", default="messages", show_default=True, metavar="SHAPE",
              help="messages, prompt_completion, preference or raw")  # fmt: skip
@click.option("--where", default="", metavar="SQL", help='a condition, as in "score >= 0.9"')
@click.option("--verdict", default="accepted", show_default=True, metavar="VERDICT",
              help="accepted, rejected, ungradable, failed or all")  # fmt: skip
def export(
    store: str, output: str | None, run_name: str | None, shape: str, where: str, verdict: str
) -> None:
    """Write examples as JSONL, for trainers.

    `--where` sees the view `examples`: run, item, grading, verdict, reason, detail, score, round, time,
    seed_id, sample, seed, inputs, recipe, candidate, messages, checks, generator, prompt, critic,
    rubric, grade, self_graded, opening.
    """
    from agentloop import export as exporting
    from agentloop.errors import UserError, did_you_mean
    from agentloop.store import VERDICTS, Store

    if verdict not in (*VERDICTS, "all"):
        hint = did_you_mean(verdict, [*VERDICTS, "all"])
        raise UserError(f"unknown verdict `{verdict}`{hint}")
    opened = Store(store)
    run = _say_which(opened, run_name)
    content = exporting.lines(opened, shape=shape, run=run, verdict=verdict, where=where)
    if output is None or output == "-":
        exporting.copy(sys.stdout.buffer, content)
        sys.stdout.buffer.flush()
        return
    count = exporting.write(output, content, store=opened.path)
    click.echo(f"{count:,} lines in {output}", err=True)
