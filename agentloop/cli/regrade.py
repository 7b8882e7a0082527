"""`agentloop regrade`: stored attempts graded by another rubric or critic."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click

from agentloop.cli.look import RUN


@click.command()
@click.argument("store")
@click.option("--rubric", required=True, metavar="FILE", help="the rubric.yaml to grade by")
@click.option("--critic", metavar="SPEC", help="who grades  [the run's critic]")
@click.option("--panel", metavar="LIST", help="more critics; their marks are averaged")
@click.option("--escalate", metavar="SPEC", help="decides where looks are far apart")
@RUN
@click.option("--recipe", metavar="RECIPE", help="name or file  [where the run found it]")
@click.option("--prompts", metavar="DIR", help="your prompts, before the recipe's")
@click.option("--base-url", metavar="URL", help="an OpenAI-compatible endpoint")
@click.option("--client", metavar="NAME", help="auto, direct or litellm  [auto]")
@click.option("--concurrency", type=int, metavar="K", help="items in flight  [16; local: 2]")
@click.option("--budget-usd", type=float, metavar="USD", help="spend no more on this grading")
@click.option("--patience", type=float, metavar="S", help="wait so long for a dead endpoint  [300]")
@click.option("--seed", type=int, metavar="N", help="another one asks for other samples  [0]")
@click.option("--config", metavar="FILE", help="settings  [agentloop.toml]")
@click.option("--progress", metavar="MODE", help="auto, rich, plain, json or none  [auto]")
@click.option("--json", "as_json", is_flag=True, help="end with one JSON object on stdout")
def regrade(store: str, run_name: str | None, as_json: bool, **given: Any) -> int:
    """Grade a run's attempts again, without generating: a new grading beside the old.

    Started again with the same rubric and critic, it goes on. What the run or another grading has
    asked already is not paid again.
    """
    import asyncio

    from agentloop.errors import AgentloopError
    from agentloop.regrade import aregrade

    given["progress"] = given["progress"] or "auto"
    try:
        done = asyncio.run(aregrade(store, run_name, **given))
    except AgentloopError as error:
        if as_json and error.counts:
            click.echo(json.dumps(error.counts))
        raise
    if as_json:
        click.echo(json.dumps(done.counts))
        return done.exit_code
    way_on = f"what changed: agentloop diff {store} 0 {done.grading} --run {done.run}"
    if done.exit_code:
        way_on = f"stopped short by {done.counts['stopped_by']}; the same command goes on"
    with contextlib.suppress(OSError):  # who watched may be gone; the grades are in the store
        click.echo(f"{done}\n{way_on}", err=True)
    return done.exit_code
