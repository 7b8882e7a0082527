"""`agentloop rubric lint`: what a judge would stumble over, before it is paid."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from agentloop.rubric import Rubric

FLAGGED = 3
"""The exit code of a rubric with flags: done, and not as one would have it."""


@click.group()
def rubric() -> None:
    """Look at a rubric before a critic is paid for it."""


@rubric.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout")
def lint(file: str, as_json: bool) -> int:
    """Flag compound, negative, overlong, overlapping, length-rewarding criteria.

    FILE is a rubric.yaml, or a recipe, whose own rubric is meant. Exit code 0: no flags; 3: flags;
    2: it cannot be read.
    """
    from agentloop.plain import plain
    from agentloop.rubric_lint import lint as flags_of

    read = _read(file)
    flags = flags_of(read)
    if as_json:
        click.echo(json.dumps([asdict(flag) for flag in flags]))
    for flag in [] if as_json else flags:
        click.echo(plain(f"`{flag.criterion}` {flag.kind}: {flag.what}"))
        click.echo(f"  {flag.way_out}")
    flagged = len({flag.criterion for flag in flags})
    click.echo(
        plain(f"rubric {read.name}: {flagged} of {len(read.criteria)} criteria flagged"), err=True
    )
    return FLAGGED if flags else 0


def _read(file: str) -> Rubric:
    """Return the rubric of a file, or of a recipe by name or by its file."""
    from agentloop.rubric import read_rubric

    path = Path(file)
    if path.suffix != ".py" and (path.suffix or path.exists()):
        return read_rubric(path)
    from agentloop.recipes import find_recipe

    return find_recipe(file).recipe.load().rubric
