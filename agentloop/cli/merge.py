"""`agentloop merge`: the stores of shards joined in one."""

from __future__ import annotations

import json

import click

from agentloop.collecting import seldom_collecting
from agentloop.plain import plain


@click.command()
@click.argument("out")
@click.argument("stores", nargs=-1, required=True, metavar="IN...")
@click.option(
    "--recipe", "recipes", multiple=True, metavar="RECIPE",
    help="name or file  [where the runs found it]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="end with one JSON object on stdout")
def merge(out: str, stores: tuple[str, ...], recipes: tuple[str, ...], as_json: bool) -> None:
    """Join the stores IN into OUT; of twins in two of them one stays accepted.

    What is refused says of what it is a copy. Merging again, or in another order, changes nothing;
    more stores can be joined later. The stores IN stay as they are; calls, grades, labels and costs of
    all are kept. `agentloop run … --store OUT` without `--shard` goes on with what no shard did.
    """
    from agentloop.merge import merge as join

    with seldom_collecting():
        found = join(out, stores, recipes=recipes)
    if as_json:
        click.echo(json.dumps(found.as_dict()))
        return
    if not found.changed:
        click.echo(f"`{out}` holds all of it already", err=True)
    for run in found.runs:
        click.echo(plain(str(run)), err=True)
