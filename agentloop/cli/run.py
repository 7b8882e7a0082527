"""`agentloop run`: a recipe to its target."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agentloop.collecting import seldom_collecting
from agentloop.plain import plain

if TYPE_CHECKING:
    from agentloop.runner import Run

F = TypeVar("F", bound=Callable[..., Any])


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


_what = _options(
    click.argument("recipe"),
    click.option(
        "--seeds", metavar="FILE", help="JSONL, JSON, CSV, Parquet or duckdb:FILE?SELECT …"
    ),
    click.option("--store", metavar="FILE", help="DuckDB file, made if it is not there"),
    click.option("--accept", type=int, metavar="N", help="go on until N items are accepted"),
    click.option("--items", type=int, metavar="N", help="settle N items; with --accept, at most N"),
    click.option("--per-seed", type=int, metavar="N", help="use a seed up to N times  [4]"),
    click.option(
        "--shard",
        metavar="I/N",
        help="part I of N of the seeds, in a store of its own; targets and budget are the part's",
    ),
    click.option("--run", "run_name", metavar="NAME", help="the run's name  [the recipe's]"),
    click.option(
        "--fork", metavar="NAME", help="a new run that takes over the run's replies that still fit"
    ),
    click.option("--retry", metavar="LIST", help="open items again: failed,ungradable"),
    click.option(
        "--map", "mapping", multiple=True, metavar="A=B", help="the recipe's field A is B"
    ),
)
_models = _options(
    click.option("--model", metavar="SPEC", help="openai/…, anthropic/…, ollama/…, local  [local]"),
    click.option(
        "--generator", multiple=True, metavar="SPEC", help="model of one role; a mix: a@0.7 b@0.3"
    ),
    click.option("--critic", metavar="SPEC", help="model of one role"),
    click.option("--reviser", metavar="SPEC", help="model of one role"),
    click.option("--auditor", metavar="SPEC", help="grades a sample again, blind  [the critic's]"),
    click.option("--role", multiple=True, metavar="R=SPEC", help="model of a role of the recipe's"),
    click.option("--panel", metavar="LIST", help="more critics; their marks are averaged"),
    click.option("--escalate", metavar="SPEC", help="decides where looks are far apart"),
    click.option("--base-url", metavar="URL", help="an OpenAI-compatible endpoint"),
    click.option("--client", metavar="NAME", help="auto, direct or litellm  [auto]"),
)
_how = _options(
    click.option("--rubric", metavar="FILE", help="your rubric.yaml"),
    click.option("--prompts", metavar="DIR", help="your prompts, before the recipe's"),
    click.option("--audit", metavar="SHARE", help="all (a gate), off, or a share  [10%]"),
    click.option("--canaries", metavar="SHARE", help="spoilt items shown to the critic  [2%]"),
    click.option("--calibration", metavar="FILE", help="the critic's, by `agentloop calibrate`"),
    click.option(
        "--attribute",
        multiple=True,
        metavar="A=X,Y",
        help="what items are to differ in: topic=law,art",
    ),
    click.option("--novelty", metavar="KIND", help="near, semantic or exact copies fall  [near]"),
    click.option("--novel-to", multiple=True, metavar="FILE", help="texts to stay away from"),
    click.option("--decontaminate", multiple=True, metavar="FILE", help="test sets to stay out of"),
    click.option("--on-collapse", metavar="WHAT", help="off, warn, steer or stop  [warn]"),
    click.option("--reference", metavar="FILE#F", help="real texts of the kind that is made"),
    click.option("--max-depth", type=int, metavar="N", help="generations away from people  [2]"),
    click.option("--quota", metavar="A", help="keep the shares of an attribute exactly"),
    click.option("--verbalise", type=int, metavar="N", help="drafts at once, one taken by chance"),
    click.option(
        "--max-rounds", type=int, metavar="R", help="revisions of one item  [the recipe's]"
    ),
    click.option("--concurrency", type=int, metavar="K", help="items in flight  [16; local: 2]"),
    click.option("--workers", metavar="N", help="processes that share the work, or auto  [1]"),
    click.option("--engine", metavar="NAME", help="local or ray  [local]"),
    click.option("--ray-address", metavar="ADDR", help="a Ray cluster that runs: HOST:PORT, auto"),
    click.option("--budget-usd", type=float, metavar="USD", help="spend no more than this"),
    click.option("--max-seconds", type=float, metavar="S", help="stop after so many seconds"),
    click.option(
        "--patience", type=float, metavar="S", help="wait so long for a dead endpoint  [300]"
    ),
    click.option("--dry-run", is_flag=True, help="print the plan and its cost; make no call"),
    click.option(
        "--seed", type=int, metavar="N", help="makes choices and sampling repeatable  [0]"
    ),
    click.option("--config", metavar="FILE", help="settings  [agentloop.toml]"),
    click.option("--progress", metavar="MODE", help="auto, rich, plain, json or none  [auto]"),
    click.option("--json", "as_json", is_flag=True, help="end with one JSON object on stdout"),
)


@click.command()
@_what
@_models
@_how
def run(
    recipe: str,
    run_name: str | None,
    mapping: tuple[str, ...],
    generator: tuple[str, ...],
    role: tuple[str, ...],
    attribute: tuple[str, ...],
    as_json: bool,
    dry_run: bool,
    **given: Any,
) -> int:
    """Run RECIPE over seeds; started again with the same store, it goes on.

    RECIPE is a name from `agentloop recipes` or a file of yours: my_graph.py.
    """
    import asyncio

    from agentloop.errors import AgentloopError
    from agentloop.runner import arun, dry_run_of
    from agentloop.seeds import mapping_of

    settings = {
        **given,
        "run": run_name,
        "map": mapping_of(mapping) or None,
        "generator": generator or None,
        "novel_to": given["novel_to"] or None,
        "decontaminate": given["decontaminate"] or None,
        "models": _pairs("role", "ROLE=MODEL", role),
        "attributes": {
            name: [value.strip() for value in listed.split(",")]
            for name, listed in _pairs("attribute", "NAME=VALUE,VALUE", attribute).items()
        }
        or None,
    }
    progress = settings.pop("progress")
    if dry_run:
        expected = dry_run_of(recipe, **settings)
        click.echo(json.dumps(expected.as_dict()) if as_json else expected.told())
        return 0
    try:
        with seldom_collecting():
            result = asyncio.run(arun(recipe, progress=progress or "auto", **settings))
    except AgentloopError as error:
        if as_json and error.counts:
            click.echo(json.dumps(error.counts))
        if progress != "json":
            raise
        _say([str(error)], run_name or "", as_events=True)
        return error.exit_code
    if as_json:
        click.echo(json.dumps(result.as_dict()))
    else:
        said = [str(result), result.trust, *_evidence(result), _next_step(result)]
        _say(said, result.name, as_events=progress == "json")
    return result.exit_code


def _say(lines: list[str], run: str, *, as_events: bool) -> None:
    """Say on stderr what came of a run, to people or to the program that reads its events."""
    with contextlib.suppress(OSError):  # who watched may be gone; the run is done all the same
        if not as_events:
            click.echo("\n".join(map(plain, lines)), err=True)
            return
        from agentloop.progress import progress_for
        from agentloop.records import Event

        view = progress_for("json")
        for line in lines:
            view.event(Event(kind="note", run=run, at=time.time(), data={"text": line}))


def _pairs(option: str, form: str, given: tuple[str, ...]) -> dict[str, str]:
    """Read `NAME=VALUE` options; UserError for anything else."""
    from agentloop.errors import UserError

    found = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        if not (sign and name.strip() and value.strip()):
            raise UserError(f"`--{option} {pair}`: write `--{option} {form}`")
        found[name.strip()] = value.strip()
    return found


_WAY_ON = {
    "seeds": "more seeds, or a higher `--per-seed`,",
    "items": "a higher `--items`",
    "budget": "a higher `--budget-usd`",
    "seconds": "more `--max-seconds`",
    "collapse": "more varied seeds or attributes, or `--on-collapse steer`,",
    "endpoint": "an endpoint that answers, `--retry failed`",
}


def _evidence(result: Run) -> list[str]:
    """Return what speaks for the grades; nothing where no item was settled."""
    settled = result.counts["accepted"] + result.counts["rejected"]
    return result.evidence().lines() if settled else []


def _next_step(result: Any) -> str:
    store, counts = result.store, result.counts
    if result.stopped_by == "interrupt":
        return f"interrupted; the same command goes on where it stopped ({store})"
    if result.exit_code == 3:
        return (
            f"stopped short by {result.stopped_by} with {counts['accepted']} accepted; "
            f"{_WAY_ON[result.stopped_by]} and the same command go on"
        )
    return f"export them: agentloop export {store} --run {result.name} -o FILE.jsonl"
