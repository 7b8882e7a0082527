"""`agentloop recipes` and `init`: what there is, and a copy of it to edit."""

from __future__ import annotations

from pathlib import Path

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
        click.echo(f"{name:<14} {recipe.about}")
        click.echo(f"{'':<14} reads {', '.join(recipe.reads)} · makes {fields}")


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a recipe's graph (Mermaid), rubric and prompts."""
    from agentloop.recipes import find_recipe

    found = find_recipe(name)
    folder = found.recipe.folder()
    click.echo(f"# {name}: {found.recipe.about}\n")
    click.echo(f"```mermaid\n{found.graph.get_graph().draw_mermaid().strip()}\n```")
    for file in ["rubric.yaml", *_prompt_files()]:
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
    for file in ["rubric.yaml", "canaries.jsonl", *_prompt_files()]:
        if (source := folder.find(file)) is not None:
            files[prompts / file] = source  # type: ignore[assignment]  # a packaged file reads alike
    for path in files:
        if path.exists():
            raise UserError(f"`{path}` exists already and is left alone: name another directory")
    for path, source in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    click.echo(f"{len(files)} files in {target}; run yours:", err=True)
    click.echo(
        f"agentloop run {target / found.recipe.name}.py --seeds FILE --store FILE.duckdb", err=True
    )


def _prompt_files() -> list[str]:
    from agentloop.prompting import VARIABLES

    return [f"{prompt}.md" for prompt in VARIABLES]
