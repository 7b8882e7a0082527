"""Grading again: the attempts of a run, judged by another rubric or critic, and nothing generated.

    regrading = regrade("qa.duckdb", rubric="strict.yaml", critic="openai/gpt-5-mini")

Enters: a store, a rubric, the settings that concern a critic. Leaves: a new grading beside the old ones,
which stay as they are. Refuses to know: how items are walked (`regrading`), what changed (`diff`).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from agentloop.config import Settings, load_settings
from agentloop.errors import RecipeError, SettingsError, UserError, did_you_mean
from agentloop.models.channel import Endpoint
from agentloop.progress import progress_for
from agentloop.recipe import AUDIT_PROMPTS, Kit, Recipe
from agentloop.recipes import FoundRecipe, find_recipe
from agentloop.records import Json
from agentloop.regrading import Regrader, Regrading, Task
from agentloop.roles import asked_roles, open_endpoints, role_identity
from agentloop.runner import watcher
from agentloop.store import Store
from agentloop.store.files import connect
from agentloop.store.gradings import Source, check_seeds, company_of, source_of

GIVEN = frozenset({
    "prompts", "model", "critic", "panel", "escalate", "base_url", "client", "budget_usd",
    "patience", "concurrency", "seed", "roles", "prices", "limits",
})  # fmt: skip
"""Settings of a run that mean something where nothing is generated."""
NOT_GRADING = ("generate", "revise", *AUDIT_PROMPTS)
NOT_JUDGES = ("generator", "reviser", "auditor")
OF_DRAFTS = ("recipe", "candidate", "draw")
"""Parts of a run's identity that no grade depends on."""


def regrade(
    store: str | Path,
    run: str | None = None,
    *,
    rubric: str | Path,
    recipe: str | Recipe | FoundRecipe | None = None,
    **settings: Any,
) -> Regrading:
    """Grade every attempt of a run's settled items again and return what came of it.

    The latest run unless one is named; its recipe is found as the run found it, unless one is given.
    Settings are those of `run` that concern a critic; without a model it is the run's own critic.
    A panel and an escalation are asked where they are named: the run's own are not taken over.
    Started again with the same rubric and critic, it goes on. Raises like `run`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(aregrade(store, run, rubric=rubric, recipe=recipe, **settings))
    raise UserError("an event loop is running here (a notebook?): use `await aregrade(…)`")


async def aregrade(
    store: str | Path,
    run: str | None = None,
    *,
    rubric: str | Path,
    recipe: str | Recipe | FoundRecipe | None = None,
    config: str | Path | None = None,
    progress: Any = "none",
    **settings: Any,
) -> Regrading:
    """Grade again inside a running event loop; like `regrade`.

    `progress` is a mode, a function of events, or a `Progress`.
    """
    own, mode = watcher(progress)
    if unknown := sorted(settings.keys() - GIVEN):
        hint = did_you_mean(unknown[0], GIVEN)
        raise SettingsError(f"`{unknown[0]}` is no setting of a grading{hint}")
    told = {**settings, "rubric": rubric, "store": store, "progress": mode}
    merged = load_settings(told, file=config)
    task = _prepare(merged, settings, run, recipe)
    return await Regrader(task, own or progress_for(merged.progress)).play()


def _prepare(
    settings: Settings,
    given: Mapping[str, Any],
    run: str | None,
    recipe: str | Recipe | FoundRecipe | None,
) -> Task:
    """Check everything that can be checked without a call. Raises UserError."""
    if not settings.rubric:
        raise SettingsError("no rubric is named: `--rubric FILE`")
    opened = Store(settings.store or "")
    name = opened.run(run)
    with connect(opened.path, write=False) as connection:
        source = source_of(connection, name)
        found = _recipe(recipe, source, name)
        kit = _kit(found.recipe, settings)
        check_seeds(connection, name, kit.reads)
    settings = _for_critic(settings, given, source)
    identity = {k: v for k, v in kit.identity.items() if k not in OF_DRAFTS}
    endpoints: dict[str, Endpoint] = {}
    width, notice = 1, ""
    if kit.prompts:
        judges = {r: own for r, own in asked_roles(settings).items() if r not in NOT_JUDGES}
        endpoints, width = open_endpoints(settings, judges)
        for role, endpoint in endpoints.items():
            identity[f"models.{role}"] = role_identity(judges[role], role, endpoint)
            if settings.budget_usd is not None:
                endpoint.known_price()
        identity["seed"] = settings.seed
        notice = _left_out(source.identity, identity, name)
    exact = orjson.loads(orjson.dumps(identity))
    return Task(opened.path, name, found, kit, settings, endpoints, width, exact, notice)


def _left_out(before: Json, now: Json, run: str) -> str:
    """Say which of the run's judges this grading does not ask."""
    lacking = company_of(before).without(company_of(now))
    if not lacking:
        return ""
    return f"run {run} was judged by {lacking}; this grading is not: name them to ask them again"


def _kit(recipe: Recipe, settings: Settings) -> Kit:
    """Return the recipe with the rubric and those prompts that its judge is asked with."""
    kit = recipe.load(settings.rubric, *([settings.prompts] if settings.prompts else []))
    judged = kit.rubric.judged or kit.rubric.per_item
    prompts = {n: p for n, p in kit.prompts.items() if judged and n not in NOT_GRADING}
    return dataclasses.replace(kit, prompts=prompts)


def _recipe(recipe: str | Recipe | FoundRecipe | None, source: Source, run: str) -> FoundRecipe:
    """Return the recipe that was named, else the run's own."""
    if recipe is not None:
        return find_recipe(recipe)
    try:
        return find_recipe(source.recipe_ref)
    except RecipeError as error:
        raise RecipeError(
            f"the recipe of run `{run}`: {error}; name it: `--recipe FILE`"
        ) from error


def _for_critic(settings: Settings, given: Mapping[str, Any], source: Source) -> Settings:
    """Return settings in which the critic has a model, the run's own where none is named.

    An address that was given is the critic's: no other role is asked.
    """
    named = settings.role("critic").model
    if named is not None:
        told = {"model": named} if given.get("base_url") else {}
        return settings.model_copy(update=told)
    before = source.identity.get("models.critic", {})
    address = settings.base_url or before.get("endpoint")
    return settings.model_copy(update={"model": before.get("model"), "base_url": address})
