"""A scripted model that plays the packaged recipes: it tells the prompts apart by their first words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import agentloop as al
from agentloop.models.base import Request
from agentloop.recipes import find_recipe

Play = str | Callable[[str, Request], str]


def last(request: Request) -> str:
    """Return what a model was asked last."""
    return request.messages[-1]["content"]


def actor(recipe: str, model: str = "scripted/model", **plays: Play) -> al.ScriptedModel:
    """Return a model with one answer for each prompt: a text, or a function of the last message."""
    kit = find_recipe(recipe).recipe.load()
    opening = {
        name: prompt.text.partition("## user")[0].replace("## system", "").strip()
        for name, prompt in kit.prompts.items()
        if name in plays
    }

    def name_of(request: Request) -> str:
        system = request.messages[0]["content"]
        for name, start in sorted(opening.items(), key=lambda pair: -len(pair[1])):
            if system.startswith(start.partition("{{")[0].strip()):
                return name
        raise AssertionError(f"nobody plays: {system[:80]}")

    def answer(request: Request) -> str:
        play = plays[name_of(request)]
        return play if isinstance(play, str) else play(last(request), request)

    return al.ScriptedModel(answer, name=model)


def marked(**levels: str) -> str:
    """Return a written grade; a level below `yes` has a reason."""
    return json.dumps(
        {
            n: {"reason": "" if v == "yes" else f"{n} is missing", "level": v}
            for n, v in levels.items()
        }
    )


def played(
    folder: Path, recipe: str, model: Any, seeds: Iterable[Mapping[str, Any]], **settings: Any
) -> al.Run:
    """Run a recipe over seeds, one item at a time."""
    return al.run(
        recipe,
        seeds=[dict(seed) for seed in seeds],
        store=folder / f"{recipe}.duckdb",
        model=model,
        **{"concurrency": 1, **settings},
    )


def items(run: al.Run) -> list[al.Item]:
    """Return a run's items with all their attempts."""
    store = al.Store(run.store)
    return [store.item(row["item"]).item for row in run.items("all")]


def exported(run: al.Run, shape: str) -> list[dict[str, Any]]:
    """Return what a run exports in a shape."""
    path = Path(run.store).with_suffix(f".{shape}.jsonl")
    run.export(path, shape=shape)
    return [json.loads(line) for line in path.read_text().splitlines()]
