"""What a run will do: everything that is decided, and checked, before the first call.

Enters: a recipe and settings. Leaves: a `Plan` with its seeds, prompts, rubric, models and identity; or
UserError, with nothing written and no call made. Refuses to know: stores, items, progress.

What walks an item is apart from what items are there: a `Workshop` knows neither seeds nor a store, so
that another process can have one of its own and tell by its identity whether it is the same.
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
from agentloop.shards import Shard
from agentloop.store.files import Files


@dataclass(frozen=True)
class Judged:
    """What is known of the judges."""

    calibration: CalibrationReport | None = None
    """Of the critic, where it is the only one; its threshold, if any, is the rubric's in the `kit`."""
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """What each judge of a panel counts, by its calibration; all the same without one."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What an item is walked with: recipe, prompts, rubric, models; and what makes another run."""

    found: FoundRecipe
    kit: Kit
    settings: Settings
    endpoints: Mapping[str, Endpoint]
    roles: Mapping[str, RoleSettings]
    identity: Json
    concurrency: int
    """Items that may be in flight."""
    judged: Judged = Judged()
    attributes: Attributes = Attributes({})
    """What items are to differ in."""

    @property
    def mingles(self) -> bool:
        """Whether what became of earlier items matters to later ones."""
        return bool(self.attributes.plan) or self.found.recipe.pool is not None

    @property
    def calibration(self) -> CalibrationReport | None:
        """What is known of the critic."""
        return self.judged.calibration

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


@dataclass(frozen=True, kw_only=True)
class Plan(Workshop):
    """Everything that is decided before the first call; nothing is written yet."""

    seeds: Seeds
    store: Path
    run: str
    parent: str | None
    """The run that this one is forked from, when it is begun."""


def prepare(recipe: str | Recipe | FoundRecipe, settings: Settings) -> Plan:
    """Check everything that can be checked without a call. Raises UserError."""
    found = find_recipe(recipe)
    kit = _kit(found, settings)
    if settings.store is None:
        raise SettingsError("no store is named: `--store FILE.duckdb`")
    if settings.seeds is None:
        raise SettingsError("no seeds are named: `--seeds FILE.jsonl`")
    source: Source = settings.seeds
    shard = Shard.parse(settings.shard)
    seeds = Seeds(source, settings.map, Files(settings.store).seeds, shard)
    seeds.check(kit.reads)
    name = settings.run or found.recipe.name
    if settings.fork == name:
        raise SettingsError(f"`--fork {name}` needs a name of its own: it is forked from `{name}`")
    return Plan(
        **vars(_workshop(found, kit, settings)),
        seeds=seeds,
        store=settings.store,
        run=settings.fork or name,
        parent=name if settings.fork else None,
    )


def equip(found: FoundRecipe, settings: Settings, judged: Judged) -> Workshop:
    """Return what walks items of a run that was planned elsewhere, where the judges were looked up.

    Raises UserError.
    """
    return _workshop(found, _kit(found, settings), settings, judged)


def _kit(found: FoundRecipe, settings: Settings) -> Kit:
    return found.recipe.load(settings.rubric, *([settings.prompts] if settings.prompts else []))


def _workshop(
    found: FoundRecipe, kit: Kit, settings: Settings, judged: Judged | None = None
) -> Workshop:
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
    judged = judged or _judged(settings, kit, endpoints, models)
    identity |= {"panel.weights": judged.weights} if judged.weights else {}
    if judged.calibration is not None and judged.calibration.state == "calibrated":
        identity["calibration"] = judged.calibration.digest
        kit = _calibrated(kit, judged.calibration)
    return Workshop(
        found=found,
        kit=kit,
        settings=settings,
        endpoints=endpoints,
        roles=roles,
        identity=orjson.loads(orjson.dumps(identity)),
        concurrency=concurrency,
        judged=judged,
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
    if settings.shard:
        found["shard"] = settings.shard
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


def _judged(
    settings: Settings, kit: Kit, endpoints: Mapping[str, Endpoint], models: Mapping[str, Json]
) -> Judged:
    """Look up what is known of the judges; one judge's threshold is not its panel's."""
    if settings.panel:
        return Judged(None, _weights(settings, kit, endpoints, models))
    return Judged(_calibration(settings, kit, endpoints["critic"].name, models["critic"]))


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


def shard_of(identity: Json) -> str:
    """Return which shard a run is, as `2/4`; nothing for a whole one."""
    return str(identity.get("shard", ""))


def differing(one: Json, other: Json) -> str:
    """Return the keys in which two identities differ, in backticks; nothing where they are the same."""
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return ", ".join(f"`{key}`" for key in keys)


def check_identity(stored: Json, plan: Plan) -> None:
    """Raise IdentityError, naming the differing keys, unless a stored run is the planned one."""
    shards = shard_of(stored), shard_of(plan.identity)
    if shards[0] != shards[1]:
        was, now = (f"shard {one}" if one else "the whole" for one in shards)
        raise IdentityError(
            f"run `{plan.run}` in `{plan.store}` is {was}, and this would be {now}: give each shard a "
            "`--store` of its own, and join them with `agentloop merge`"
        )
    if listed := differing(stored, plan.identity):
        raise IdentityError(
            f"run `{plan.run}` in `{plan.store}` was made with another {listed}: "
            "start one beside it with `--run NEW`, or `--fork NEW` to take over every reply that is "
            "still good"
        )
