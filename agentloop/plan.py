"""What a run will do: everything that is decided, and checked, before the first call.

Enters: a recipe and settings. Leaves: a `Plan` with its seeds, prompts, rubric, models and identity; or
UserError, with nothing written and no call made. Refuses to know: stores, items, progress.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from agentloop.config import ROLES, Role, Settings
from agentloop.errors import IdentityError, SettingsError
from agentloop.loop import Kit, Recipe
from agentloop.models.base import Model
from agentloop.models.channel import Endpoint, RoleSettings
from agentloop.models.choose import ModelChoice, default_model, open_model, traits_of
from agentloop.models.limits import Limits
from agentloop.recipes import FoundRecipe, find_recipe
from agentloop.records import Json
from agentloop.seeds import Seeds, Source


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first call; nothing is written yet."""

    found: FoundRecipe
    kit: Kit
    settings: Settings
    seeds: Seeds
    store: Path
    run: str
    endpoints: Mapping[str, Endpoint]
    roles: Mapping[str, RoleSettings]
    identity: Json
    concurrency: int


def prepare(recipe: str | Recipe | FoundRecipe, settings: Settings) -> Plan:
    """Check everything that can be checked without a call. Raises UserError."""
    found = find_recipe(recipe)
    kit = found.recipe.load(settings.rubric, *([settings.prompts] if settings.prompts else []))
    if settings.store is None:
        raise SettingsError("no store is named: `--store FILE.duckdb`")
    if settings.seeds is None:
        raise SettingsError("no seeds are named: `--seeds FILE.jsonl`")
    source: Source = settings.seeds
    seeds = Seeds(source, settings.map)
    seeds.check(kit.reads)
    endpoints, concurrency = _endpoints(settings)
    roles: dict[str, RoleSettings] = {
        role: _role_settings(settings, role, endpoints[role]) for role in ROLES
    }
    identity = kit.identity | {
        f"models.{role}": {**endpoints[role].identity, **roles[role].identity(role)}
        for role in ROLES
    }
    identity["seed"] = settings.seed
    return Plan(
        found=found,
        kit=kit,
        settings=settings,
        seeds=seeds,
        store=settings.store,
        run=settings.run or found.recipe.name,
        endpoints=endpoints,
        roles=roles,
        identity=orjson.loads(orjson.dumps(identity)),
        concurrency=concurrency,
    )


def _role_settings(settings: Settings, role: Role, endpoint: Endpoint) -> RoleSettings:
    own = settings.role(role)
    writes = role in ("generator", "reviser")
    temperature = endpoint.temperature if own.temperature is None and writes else own.temperature
    return RoleSettings(temperature, own.max_tokens, own.timeout, own.extra)


def _endpoints(settings: Settings) -> tuple[dict[str, Endpoint], int]:
    """Return an endpoint for each role, shared where the same model is meant."""
    opened: dict[str, Endpoint] = {}
    by_role: dict[str, Endpoint] = {}
    widest = 0
    for role in ROLES:
        own = settings.role(role)
        spec = own.model if own.model is not None else default_model()
        same = f"{spec!r} {own.base_url} {own.client} {own.structured} {own.logprobs}"
        if same not in opened:
            model: Model = (
                spec
                if not isinstance(spec, str)
                else open_model(
                    ModelChoice(spec, own.base_url, own.client or "auto", settings.prices)
                )
            )
            traits = traits_of(model)
            traits = dataclasses.replace(
                traits,
                structured=own.structured or traits.structured,
                logprobs=traits.logprobs if own.logprobs == "auto" else own.logprobs == "on",
            )
            width = settings.concurrency or traits.concurrency
            opened[same] = Endpoint(Limits(model, width), traits)
            widest = max(widest, width)
        by_role[role] = opened[same]
    return by_role, widest


def check_identity(stored: Json, plan: Plan) -> None:
    """Raise IdentityError, naming the differing keys, unless a stored run is the planned one."""
    keys = sorted(
        key
        for key in stored.keys() | plan.identity.keys()
        if stored.get(key) != plan.identity.get(key)
    )
    if keys:
        listed = ", ".join(f"`{key}`" for key in keys)
        raise IdentityError(
            f"run `{plan.run}` in `{plan.store}` was made with another {listed}: "
            "start one beside it with `--run NEW`, or go back to the old settings"
        )
