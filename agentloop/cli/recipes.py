"""`agentloop recipes` and `init`: what there is, and a copy of it to edit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


@click.group(invoke_without_command=True)
@click.pass_context
def recipes(context: click.Context) -> None:
    """List the recipes; `recipes show NAME` prints one."""
    if context.invoked_subcommand:
        return
    from agentloop.recipes import find_recipe, known

    for name in known():
        recipe = find_recipe(name).recipe
        fields = ", ".join(recipe.candidate.model_fields)
        roles = f" · roles of its own: {', '.join(recipe.roles)}" if recipe.roles else ""
        click.echo(f"{name:<14} {recipe.about}")
        click.echo(
            f"{'':<14} {calls_of(recipe)} · reads {', '.join(recipe.reads)} · makes {fields}{roles}"
        )


def calls_of(recipe: Any) -> str:
    """Return what an item costs in calls, by a critic that writes its marks."""
    said = f"{recipe.calls} calls"
    if not recipe.max_rounds:
        return said
    each = (
        "of a revision"
        if recipe.max_rounds == 1
        else f"of each of up to {recipe.max_rounds} revisions"
    )
    return f"{said} and those {each}"


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a recipe's graph (Mermaid), rubric and prompts."""
    from agentloop.recipes import find_recipe

    found = find_recipe(name)
    folder = found.recipe.folder()
    click.echo(f"# {name}: {found.recipe.about}\n")
    click.echo(f"```mermaid\n{found.graph.get_graph().draw_mermaid().strip()}\n```")
    for file in _files(found.recipe, folder):
        if (path := folder.find(file)) is not None:
            click.echo(f"\n## {file}\n\n{path.read_text(encoding='utf-8').rstrip()}")


@click.command()
@click.argument("directory")
@click.option("--from", "name", required=True, metavar="NAME", help="a recipe to start from")
def init(directory: str, name: str) -> None:
    """Copy a recipe's graph, prompts and rubric into DIRECTORY, ready to edit."""
    from agentloop.errors import UserError
    from agentloop.recipes import find_recipe

    found = find_recipe(name)
    target = Path(directory)
    folder = found.recipe.folder()
    files = {target / f"{found.recipe.name}.py": found.file}
    own = found.recipe.prompts
    if Path(own).is_absolute():
        raise UserError(
            f"recipe `{found.recipe.name}` names its prompts by a whole path: copy `{own}` by hand"
        )
    prompts = target / (own or Path("prompts") / found.recipe.name)
    for file in _files(found.recipe, folder):
        if (source := folder.find(file)) is not None:
            files[prompts / file] = source  # type: ignore[assignment]  # a packaged file reads alike
    for path in files:
        if os.path.lexists(path):
            raise UserError(f"`{path}` exists already and is left alone: name another directory")
    for path, source in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as copied:
            copied.write(source.read_text(encoding="utf-8"))
    click.echo(f"{len(files)} files in {target}; run yours:", err=True)
    click.echo(
        f"agentloop run {target / found.recipe.name}.py --seeds FILE --store FILE.duckdb", err=True
    )


def _files(recipe: Any, folder: Any) -> list[str]:
    """Return the names of a recipe's files: rubric, prompts, and what else lies in its own folder."""
    from agentloop.prompting import VARIABLES

    named = ["rubric.yaml", *(f"{name}.md" for name in (*recipe.asks, *VARIABLES))]
    looks = [f"{name}_{number}.md" for name in ("critique", "ask") for number in (2, 3)]
    others = sorted({entry.name for entry in folder.own if entry.is_file()} - {*named, *looks})
    return [*named, *looks, *others]
