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

from agentloop.attributes import Attributes, read_attributes
from agentloop.calibration_report import (
    CalibrationReport,
    check_judge,
    check_skill,
    load_calibration,
    panel_weights,
)
from agentloop.config import Settings
from agentloop.errors import IdentityError, SettingsError, did_you_mean
from agentloop.models.channel import Endpoint, RoleSettings
from agentloop.recipe import AUDIT_PROMPTS, Kit, Recipe
from agentloop.recipes import FoundRecipe, find_recipe
from agentloop.records import Json
from agentloop.roles import asked_roles, mix_of, open_endpoints, role_identity, role_settings
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

    attributes: Attributes = Attributes({})
    """What items are to differ in."""

    @property
    def mingles(self) -> bool:
        """Whether what became of earlier items matters to later ones."""
        return bool(self.attributes.plan) or self.found.recipe.pool is not None

    @property
    def max_rounds(self) -> int:
        """Revisions of one item."""
        said = self.settings.max_rounds
        return self.found.recipe.max_rounds if said is None else said

    @property
    def mix(self) -> Mapping[str, float]:
        """The share of items that each generator writes, by role; empty where there is but one."""
        shares = [share for _, share in mix_of(self.settings)]
        names = ["generator", *(f"generator.{n}" for n in range(2, len(shares) + 1))]
        return dict(zip(names, shares, strict=False))


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
    asked = asked_roles(settings, found.recipe.roles)
    endpoints, concurrency = open_endpoints(settings, asked)
    if settings.budget_usd is not None:
        for endpoint in endpoints.values():
            endpoint.known_price()
    roles: dict[str, RoleSettings] = {
        role: role_settings(own, role, endpoints[role]) for role, own in asked.items()
    }
    models = {role: role_identity(own, role, endpoints[role]) for role, own in asked.items()}
    attributes = _attributes(found.recipe, settings)
    identity = kit.identity | _identity(settings, kit, models) | {"recipe.source": found.source}
    if attributes.plan:
        identity |= {"attributes": attributes.plan, "prompts.wishes": kit.prompts["wishes"].hash}
    weights = _weights(settings, kit, endpoints, models)
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
        attributes=attributes,
    )


def _identity(settings: Settings, kit: Kit, models: Mapping[str, Json]) -> Json:
    """Return what of the settings makes another run."""
    found: Json = {
        f"models.{role}": model
        for role, model in models.items()
        if role != "auditor" or settings.audit == 1  # else it decides nothing
    }
    prompts = AUDIT_PROMPTS if settings.audit == 1 else ()
    if settings.verbalise:
        found["verbalise"] = settings.verbalise
        prompts = (*prompts, "verbalise")
    if mix := mix_of(settings):
        found["generator.mix"] = [share for _, share in mix]
    return {
        **found,
        **{f"prompts.{name}": kit.prompts[name].hash for name in prompts},
        "seed": settings.seed,
    }


def _attributes(recipe: Recipe, settings: Settings) -> Attributes:
    """Return the plan of a run: the recipe's attributes, under those that the settings name."""
    attributes = read_attributes({**recipe.attributes, **settings.attributes})
    if settings.quota and settings.quota not in attributes.plan:
        raise SettingsError(
            f"`quota`: there is no attribute `{settings.quota}`"
            f"{did_you_mean(settings.quota, attributes.plan)}"
        )
    if settings.verbalise and recipe.steps:
        raise SettingsError(
            f"`verbalise`: recipe `{recipe.name}` writes its drafts step by step; it suits recipes "
            "whose generator writes them at once"
        )
    return attributes


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
    check_skill(report)
    return report


def _weights(
    settings: Settings, kit: Kit, endpoints: Mapping[str, Endpoint], models: Mapping[str, Json]
) -> dict[str, float]:
    """Return what each judge of a panel counts; SettingsError for one without skill."""
    if not (settings.panel and settings.calibration):
        return {}
    reports: dict[str, CalibrationReport] = {}
    for role, model in models.items():
        if role.partition(".")[0] == "critic":
            report = load_calibration(settings.calibration, kit.rubric.hash, endpoints[role].name)
            if report is None:
                raise SettingsError(f"`{settings.calibration}` holds no calibration")
            check_judge(report, judge_identity(kit, model))
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
