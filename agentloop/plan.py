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

from agentloop.calibration_report import (
    CalibrationReport,
    check_judge,
    load_calibration,
    panel_weights,
)
from agentloop.config import ROLES, LimitConfig, RoleConfig, Settings
from agentloop.errors import IdentityError, SettingsError
from agentloop.models.base import Traits
from agentloop.models.channel import Endpoint, RoleSettings
from agentloop.models.choose import ModelChoice, default_model, open_model, traits_of
from agentloop.models.limits import Limits
from agentloop.models.rate import Rate
from agentloop.recipe import AUDIT_PROMPTS, Kit, Recipe
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
    calibration: CalibrationReport | None = None
    """What is known of the critic; its threshold, where it has one, is the rubric's in `kit`."""
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """What each judge of a panel counts, by its calibration; all the same without one."""


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
    asked = asked_roles(settings)
    endpoints, concurrency = open_endpoints(settings, asked)
    if settings.budget_usd is not None:
        for endpoint in endpoints.values():
            endpoint.known_price()
    roles: dict[str, RoleSettings] = {
        role: role_settings(own, role, endpoints[role]) for role, own in asked.items()
    }
    models = {role: role_identity(own, role, endpoints[role]) for role, own in asked.items()}
    identity = kit.identity | {
        f"models.{role}": model
        for role, model in models.items()
        if role != "auditor" or settings.audit == 1  # else it decides nothing
    }
    if settings.audit == 1:
        identity |= {f"prompts.{name}": kit.prompts[name].hash for name in AUDIT_PROMPTS}
    identity["seed"] = settings.seed
    identity["recipe.source"] = found.source
    weights = _weights(settings, kit, endpoints)
    identity |= {"panel.weights": weights} if weights else {}
    calibration = None
    if not settings.panel:  # one judge's threshold is not its panel's
        calibration = _calibration(settings, kit, endpoints["critic"].name, models["critic"])
    if calibration is not None and calibration.state == "calibrated":
        identity["calibration"] = calibration.digest
        kit = _calibrated(kit, calibration)
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
        calibration=calibration,
        weights=weights,
    )


def asked_roles(settings: Settings) -> dict[str, RoleConfig]:
    """Return the settings of every role that is asked, the panel's and the auditor's among them."""
    found: dict[str, RoleConfig] = {
        role: settings.role(role) for role in ROLES if role != "auditor" or settings.audit
    }
    for number, model in enumerate(settings.panel, start=2):
        found[f"critic.{number}"] = settings.like_critic(model)
    if settings.escalate is not None:
        found["escalation"] = settings.like_critic(settings.escalate)
    return found


def _calibration(
    settings: Settings, kit: Kit, critic: str, model: Json
) -> CalibrationReport | None:
    """Return the report that the settings name; SettingsError unless it is of this rubric and judge."""
    if not settings.calibration:
        return None
    report = load_calibration(settings.calibration, kit.rubric.hash, critic)
    if report is None:
        raise SettingsError(
            f"`{settings.calibration}` holds no calibration: make one with `agentloop calibrate`"
        )
    check_judge(report, judge_identity(kit, model))
    return report


def _weights(settings: Settings, kit: Kit, endpoints: Mapping[str, Endpoint]) -> dict[str, float]:
    """Return what each judge of a panel counts; SettingsError for one without skill."""
    if not (settings.panel and settings.calibration):
        return {}
    reports: dict[str, CalibrationReport] = {}
    for role, endpoint in endpoints.items():
        if role.partition(".")[0] == "critic":
            report = load_calibration(settings.calibration, kit.rubric.hash, endpoint.name)
            if report is None:
                raise SettingsError(f"`{settings.calibration}` holds no calibration")
            reports[role] = report
    return panel_weights(reports)


def _calibrated(kit: Kit, report: CalibrationReport) -> Kit:
    if report.threshold is None:
        return kit
    return dataclasses.replace(kit, rubric=kit.rubric.accepting_at(report.threshold.accept_at))


def judge_identity(kit: Kit, model: Json) -> Json:
    """Return all that makes another judge: checks, grading prompts, model with its parameters."""
    others = {"recipe", "candidate", "draw", "rubric", "prompts.generate", "prompts.revise"}
    judging = {key: hash for key, hash in kit.identity.items() if key not in others}
    found: Json = orjson.loads(orjson.dumps(judging | {"models.critic": model}))
    return found


def role_settings(own: RoleConfig, role: str, endpoint: Endpoint) -> RoleSettings:
    """Return a role's sampling parameters, those that suit its model filled in."""
    writes = role in ("generator", "reviser")
    temperature, max_tokens = own.temperature, own.max_tokens
    if writes:
        temperature = endpoint.temperature if temperature is None else temperature
        max_tokens = max_tokens or endpoint.max_tokens
    return RoleSettings(temperature, max_tokens, own.timeout, own.extra)


def role_identity(own: RoleConfig, role: str, endpoint: Endpoint) -> Json:
    """Return what of a role makes another run."""
    return {
        **endpoint.identity,
        **role_settings(own, role, endpoint).identity(role),
        "structured": own.structured,
        "logprobs": own.logprobs,
    }


def open_endpoints(
    settings: Settings, roles: Mapping[str, RoleConfig]
) -> tuple[dict[str, Endpoint], int]:
    """Return an endpoint for each role, and how many items may be in flight.

    A model that several roles name is opened once.
    """
    opened: dict[str, tuple[Limits, Traits]] = {}
    asked: dict[str, Endpoint] = {}
    by_role: dict[str, Endpoint] = {}
    for role, own in roles.items():
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
