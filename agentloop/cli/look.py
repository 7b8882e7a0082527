"""`agentloop status`, `why`, `export`: look at a store, also while a run writes it.

Enters: a store, the names of what to look at. Leaves: text or JSON on stdout; on stderr which run and
grading were taken where there are several. Refuses to know: how a store is read.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from agentloop.plain import plain

if TYPE_CHECKING:
    from agentloop.export.mixing import Mixture
    from agentloop.export.splitting import Split
    from agentloop.records import Json
    from agentloop.store import Store
    from agentloop.store.now import Now

RUN = click.option("--run", "run_name", metavar="NAME", help="which run  [the latest]")
GRADING = click.option("--grading", type=int, default=0, metavar="N",
                       help="which grading; 0 is the run's own  [0]")  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="JSON on stdout")


@contextmanager
def look(path: str, name: str | None, quiet: bool = False) -> Iterator[tuple[Store, str]]:
    """Open a store once for all that a command asks, and choose a run.

    Says on stderr which one was taken when there are several, unless `quiet`.
    """
    from agentloop.store import Store
    from agentloop.store.files import connect

    store = Store(path)
    with connect(store.path, write=False):
        runs = store.runs()
        chosen = store.run(name)
        if name is None and len(runs) > 1 and not quiet:
            others = ", ".join(runs[1:4])
            click.echo(f"run {chosen}, the latest of {len(runs)} (others: {others})", err=True)
        yield store, chosen


def say_which_grading(store: Store, run: str, grading: int) -> int:
    """Return a grading's number; say on stderr which one was taken when there are several."""
    chosen = store.grading(grading, run)
    if len(known := store.gradings(run)) > 1:
        told = [f"{row['grading']} by {row['critic']}" for row in known[1:4]]
        line = f"grading {chosen} of run {run} (0 is its own; {', '.join(told)})"
        click.echo(plain(line), err=True)
    return chosen


@click.command()
@click.argument("store")
@RUN
@GRADING
@JSON
def status(store: str, run_name: str | None, grading: int, as_json: bool) -> None:
    """Show how a run stands: verdicts, scores, pace, cost.

    Also while another process runs it: as far as that has stored, every few seconds.
    """
    with look(store, run_name) as (opened, run):
        grading = say_which_grading(opened, run, grading)
        counts, reasons = opened.counts(run, grading), opened.reasons(run, grading)
        now = _now(opened, counts, grading)
        evidence, trust = (None, None) if grading else (opened.evidence(run), _trust(opened, run))
    if as_json:
        told = evidence.as_dict() if evidence else None
        more = {"reasons": reasons, **now.as_dict()}
        click.echo(json.dumps({**counts, "evidence": told, "calibration": trust, "now": more}))
        return
    from agentloop.cli.standing import lines_of

    for line in lines_of(counts, reasons, now, evidence, trust):
        click.echo(line, color=_coloured())


def _on_a_screen() -> bool:
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def _coloured() -> bool:
    return _on_a_screen() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _now(store: Store, counts: Json, grading: int) -> Now:
    from agentloop.store.files import connect
    from agentloop.store.now import read_now

    with connect(store.path, write=False) as connection:
        return read_now(connection, counts, grading)


def _trust(store: Store, run: str) -> Json:
    from agentloop.store.trust import Judged, untested

    judged = Judged(*store.judged(run))
    if not store.calibrations():
        return untested(judged)
    from agentloop.calibration_report import known_of, trust_in  # slow to load

    return trust_in(known_of(store, run), judged)


@click.command()
@click.argument("store")
@click.argument("item")
@RUN
@GRADING
@JSON
def why(store: str, item: str, run_name: str | None, grading: int, as_json: bool) -> None:
    """Tell an item's story: seed, attempts, marks, quotes, checks, cost.

    ITEM is an item's id or the beginning of it. On a terminal attempts stand side by side, with what
    changed and what was quoted in colour; elsewhere the same is marked by signs.
    """
    with look(store, run_name) as (opened, run):
        story = opened.item(item, run, say_which_grading(opened, run, grading))
    if as_json:
        click.echo(json.dumps(story.as_dict()))
    elif _on_a_screen():
        from rich.console import Console

        from agentloop.telling import tell

        tell(story, Console())
    else:
        click.echo(story.why())


@click.command()
@click.argument("store")
@click.option("-o", "--output", metavar="FILE", help="where to  [stdout]")
@RUN
@GRADING
@click.option("--shape", default="messages", show_default=True, metavar="SHAPE",
              help="messages, prompt_completion, preference, critique, kto or raw")  # fmt: skip
@click.option("--all-runs", is_flag=True, help="of all runs in the store; what two say alike, once")
@click.option("--mix", default="", metavar="FILE:SHARE",
              help="put people's examples among them, as in real.jsonl:0.3")  # fmt: skip
@click.option("--split", default="", metavar="SHARES",
              help="a file for each side, no seed on two: 0.1 or train:0.9,validation:0.1")  # fmt: skip
@click.option("--where", default="", metavar="SQL", help='a condition, as in "score >= 0.9"')
@click.option("--verdict", default="", metavar="VERDICT",
              help="accepted, rejected, ungradable, failed or all  [accepted; of kto all]")  # fmt: skip
def export(
    store: str,
    output: str | None,
    run_name: str | None,
    grading: int,
    all_runs: bool,
    mix: str,
    split: str,
    **chosen: Any,
) -> None:
    """Write examples as JSONL, for trainers; beside FILE its card and manifest.

    A FILE that ends in .parquet is Parquet. Split, NAME.jsonl is NAME.train.jsonl and so on.

    `--where` sees the view `examples`: run, item, grading, verdict, reason, detail, score, round, time,
    seed_id, sample, seed, inputs, recipe, candidate, messages, checks, generator, prompt, critic,
    rubric, grade, self_graded, opening, calibrated, agentloop (item, depth).
    """
    from agentloop.errors import UserError, did_you_mean
    from agentloop.export.mixing import Mixture
    from agentloop.export.saving import save
    from agentloop.export.splitting import Split
    from agentloop.store import VERDICTS

    mixture = Mixture.of(mix) if mix else None
    sides = Split.of(split) if split else None
    verdict = chosen["verdict"]
    if verdict and verdict not in (*VERDICTS, "all"):
        hint = did_you_mean(verdict, [*VERDICTS, "all"])
        raise UserError(f"unknown verdict `{verdict}`{hint}")
    if all_runs and (run_name or grading):
        raise UserError("`--all-runs` goes with neither `--run` nor `--grading`")
    with look(store, run_name, quiet=all_runs) as (opened, run):
        runs = opened.runs() if all_runs else [run]
        if not all_runs:
            grading = say_which_grading(opened, run, grading)
        if output is None or output == "-":
            _print(opened, mixture, sides, runs=runs, grading=grading, **chosen)
            return
        more: dict[str, Any] = {"mix": mixture, "split": sides, "note": _say}
        count = save(opened, output, runs=runs, grading=grading, **more, **chosen)
    parts = [f"{count:,} lines in {output}"]
    if sides:
        parts = [f"{lines:,} lines of {side}" for side, lines in sides.written.items()]
    if mixture:
        few = f"; `{mixture.path}` holds no more" if mixture.short else ""
        parts.append(f"{mixture.used:,} of them by people{few}")
    click.echo(", ".join(parts), err=True)


def _say(text: str) -> None:
    click.echo(plain(text), err=True)


def _print(store: Store, mixture: Mixture | None, sides: Split | None, **chosen: Any) -> None:
    """Write lines to stdout. Raises UserError for several sides."""
    from agentloop import export as exporting
    from agentloop.errors import UserError

    if sides is not None:
        raise UserError("`--split` makes several files: name them with `-o NAME.jsonl`")
    content = exporting.lines(store, **chosen)
    if mixture is not None:
        mixed = mixture.into(((line, "") for line in content), chosen["shape"])
        content = (line for line, _ in mixed)
    exporting.copy(sys.stdout.buffer, content)
    sys.stdout.buffer.flush()
