"""What a run will do: everything that is decided, and checked, before the first call.

Enters: a recipe and settings. Leaves: a `Plan` with its seeds, prompts, rubric, models and identity; or
UserError, with nothing written and no call made. Refuses to know: stores, items, progress.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agentloop.config import ROLES, LimitConfig, Role, RoleConfig, Settings
from agentloop.errors import IdentityError, SettingsError
from agentloop.loop import Kit, Recipe
from agentloop.models.base import Traits
from agentloop.models.channel import Endpoint, RoleSettings
from agentloop.models.choose import ModelChoice, default_model, open_model, traits_of
from agentloop.models.limits import Limits
from agentloop.models.rate import Rate
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
    parent: str | None
    """The run that this one is forked from, when it is begun."""
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
    name = settings.run or found.recipe.name
    if settings.fork == name:
        raise SettingsError(f"`--fork {name}` needs a name of its own: it is forked from `{name}`")
    endpoints, concurrency = _endpoints(settings)
    if settings.budget_usd is not None:
        for endpoint in endpoints.values():
            endpoint.known_price()
    roles: dict[str, RoleSettings] = {
        role: _role_settings(settings, role, endpoints[role]) for role in ROLES
    }
    identity = kit.identity | {
        f"models.{role}": {
            **endpoints[role].identity,
            **roles[role].identity(role),
            **{key: getattr(settings.role(role), key) for key in ("structured", "logprobs")},
        }
        for role in ROLES
    }
    identity["seed"] = settings.seed
    identity["recipe.source"] = found.source
    return Plan(
        found=found,
        kit=kit,
        settings=settings,
        seeds=seeds,
        store=settings.store,
        run=settings.fork or name,
        parent=name if settings.fork else None,
        endpoints=endpoints,
        roles=roles,
        identity=orjson.loads(orjson.dumps(identity)),
        concurrency=concurrency,
    )


def _role_settings(settings: Settings, role: Role, endpoint: Endpoint) -> RoleSettings:
    own = settings.role(role)
    writes = role in ("generator", "reviser")
    temperature, max_tokens = own.temperature, own.max_tokens
    if writes:
        temperature = endpoint.temperature if temperature is None else temperature
        max_tokens = max_tokens or endpoint.max_tokens
    return RoleSettings(temperature, max_tokens, own.timeout, own.extra)


def _endpoints(settings: Settings) -> tuple[dict[str, Endpoint], int]:
    """Return an endpoint for each role; a model that several roles name is opened once."""
    opened: dict[str, tuple[Limits, Traits]] = {}
    asked: dict[str, Endpoint] = {}
    by_role: dict[str, Endpoint] = {}
    for role in ROLES:
        own = settings.role(role)
        spec = own.model if own.model is not None else default_model()
        same = f"{spec!r} {own.base_url} {own.client}"
        if same not in opened:
            opened[same] = _open(spec, own, settings)
        limits, traits = opened[same]
        alike = f"{same} {own.structured} {own.logprobs}"
        if alike not in asked:
            traits = dataclasses.replace(
                traits,
                structured=own.structured or traits.structured,
                logprobs=traits.logprobs if own.logprobs == "auto" else own.logprobs == "on",
            )
            asked[alike] = Endpoint(limits, traits)
        by_role[role] = asked[alike]
    return by_role, max(limits.concurrency for limits, _ in opened.values())


def _open(spec: Any, own: RoleConfig, settings: Settings) -> tuple[Limits, Traits]:
    """Open one model; a Model object brings no traits of its own."""
    if isinstance(spec, str):
        choice = ModelChoice(spec, own.base_url, own.client or "auto", settings.prices)
        model = open_model(choice)
        traits = traits_of(model)
    else:
        model, traits = spec, Traits()
    own_limits = settings.limits.get(model.name, LimitConfig())
    width = settings.concurrency or own_limits.concurrency or traits.concurrency
    rate = Rate(own_limits.requests_per_minute, own_limits.tokens_per_minute)
    return Limits(model, width, rate=rate, patience=settings.patience), traits


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
            "start one beside it with `--run NEW`, or `--fork NEW` to take over every reply that is "
            "still good"
        )
