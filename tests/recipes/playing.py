"""A model that plays every role of a packaged recipe, by the recipe's own prompts.

Which prompt is asked is told by the beginning of its first message, so the texts of the prompts are
rendered and sent as in a real run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import agentloop as al
from agentloop.models.base import Request
from agentloop.recipe import Kit
from agentloop.recipes import find_recipe

Script = str | Iterable[str] | Callable[[str], str]
"""One answer for good, several in turn, or a function of the last message."""
GRADING = ("critique", "audit")
SHOWN = 60  # characters by which a prompt is known


class Actor(al.ScriptedModel):
    """Answers each prompt by its script, and knows which prompt each request was."""

    def __init__(self, kit: Kit, scripts: dict[str, Script]):
        openings = {name: _opening(prompt.text) for name, prompt in kit.prompts.items()}
        self.openings = {name: opening for name, opening in openings.items() if opening}
        self.turns: dict[str, Iterator[str]] = {}
        self.scripts = {"critique": marks(kit), **scripts}
        super().__init__(self._play)

    def name_of(self, request: Request) -> str:
        first = request.messages[0]["content"]
        found = [n for n, opening in self.openings.items() if first.startswith(opening)]
        assert len(found) == 1 or found == ["generate", "revise"], found
        return found[0]

    @property
    def asked(self) -> list[str]:
        """The names of the prompts that were asked, in order."""
        return [self.name_of(request) for request in self.requests]

    def prompts(self, name: str) -> list[str]:
        """Return the last message of each request by one prompt."""
        return [r.messages[-1]["content"] for r in self.requests if self.name_of(r) == name]

    def _play(self, request: Request) -> str:
        name = self.name_of(request)
        script = self.scripts[name]
        if isinstance(script, str):
            return script
        if callable(script):
            return script(request.messages[-1]["content"])
        return next(self.turns.setdefault(name, iter(script)))


def _opening(text: str) -> str:
    return text.partition("## system\n")[2].partition("{{")[0][:SHOWN]


def actor(recipe: str, **scripts: Script) -> Actor:
    return Actor(find_recipe(recipe).recipe.load(), scripts)


def marks(recipe: str | Kit, own: Iterable[str] = (), **levels: str) -> str:
    """Return a written grade with the best levels, except where `levels` says otherwise."""
    kit = find_recipe(recipe).recipe.load() if isinstance(recipe, str) else recipe
    best = {c.name: c.top for c in kit.rubric.judged} | dict.fromkeys(own, "yes")
    assert levels.keys() <= best.keys()
    given = {name: levels.get(name, top) for name, top in best.items()}
    return json.dumps(
        {
            name: {"reason": "" if level == best[name] else f"{name} is {level}", "level": level}
            for name, level in given.items()
        }
    )


def act(folder: Path, recipe: str, model: Actor, seed: dict[str, Any], **settings: Any) -> al.Run:
    """Run a packaged recipe on one seed, once; `draw` replaces what its inputs are drawn by."""
    found: Any = find_recipe(recipe)
    if draw := settings.pop("draw", None):
        found = dataclasses.replace(found.recipe, draw=draw)
    given = {"store": folder / "s.duckdb", "model": model, "concurrency": 1, "items": 1}
    return al.run(found, seeds=[seed], **{**given, **settings})


def only(run: al.Run) -> al.Item:
    """Return the one item of a run."""
    (row,) = run.items("all")
    return al.Store(run.store).item(row["item"]).item


def exported(run: al.Run, shape: str = "messages") -> list[dict[str, Any]]:
    """Return what an export of the run holds."""
    path = run.store.with_suffix(f".{shape}.jsonl")
    run.export(path, shape=shape)
    return [json.loads(line) for line in path.read_text().splitlines()]
