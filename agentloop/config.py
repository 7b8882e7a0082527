"""Settings: flag > `AGENTLOOP_*` > `agentloop.toml` > default.

Enters: what was typed, the environment, a TOML file. Leaves: one checked `Settings`, or SettingsError
that names the key, what is allowed and a near word. Refuses to know: what the settings do.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from agentloop.errors import SettingsError, did_you_mean
from agentloop.models.base import Structured
from agentloop.models.choose import ClientChoice
from agentloop.models.prices import Price
from agentloop.shards import Shard

PREFIX = "AGENTLOOP_"
FILE = "agentloop.toml"
MOST = 1024  # workers
NOT_SETTINGS = frozenset(
    {"AGENTLOOP_CACHE_DIR", "AGENTLOOP_SERVE_KEY", "AGENTLOOP_CONFIG", "AGENTLOOP_SHARED"}
)

ROLES = ("generator", "critic", "reviser", "auditor")
"""The roles that every recipe has; it may have others of its own."""
ProgressMode: TypeAlias = Literal["auto", "rich", "plain", "json", "none"]


class RoleConfig(BaseModel):
    """What may differ from role to role; None takes the run's value or the default."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    model: Any = None
    """A model's name, or a Model object from Python."""
    base_url: str | None = None
    client: ClientChoice | None = None
    temperature: float | None = Field(default=None, ge=0, le=5)
    max_tokens: int | None = Field(default=None, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    """Seconds that one request may take; 120, and 600 for the embedded model."""
    structured: Structured | None = None
    logprobs: Literal["auto", "on", "off"] = "auto"
    extra: dict[str, Any] = {}

    @field_validator("model")
    @classmethod
    def _model(cls, value: object) -> object:
        return _checked_model(value)


def _checked_model(value: object) -> object:
    if value is None or isinstance(value, str) or hasattr(value, "complete"):
        return value
    raise ValueError("must be a model's name, or a Model object from Python")


def _with_share(entry: object) -> tuple[Any, float]:
    """Read `model@share` of a mix; the share may be left out, all the same then."""
    if isinstance(entry, tuple | list) and len(entry) == 2:
        model, share = entry
    else:
        found = _SHARE.fullmatch(entry) if isinstance(entry, str) else None
        model, share = (found["model"], float(found["share"])) if found else (entry, 1.0)
    if not (isinstance(share, int | float) and 0 < share <= 1):
        raise ValueError("each model of a mix needs a share above 0 and up to 1, as in `a@0.7`")
    return _checked_model(model), float(share)


_SHARE = re.compile(r"(?P<model>.+)@(?P<share>0?\.\d+|1(?:\.0*)?)")


class LimitConfig(BaseModel):
    """What one model's endpoint may be asked; None leaves it unlimited."""

    model_config = ConfigDict(extra="forbid")
    concurrency: int | None = Field(default=None, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    tokens_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Settings(BaseModel):
    """Everything a run can be told besides its recipe."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    seeds: Any = None
    store: Path | None = None
    accept: int | None = Field(default=None, ge=1)
    items: int | None = Field(default=None, ge=1)
    per_seed: int = Field(default=4, ge=1)
    """How often a seed may be used when a target asks for more items than there are seeds."""
    model: Any = None
    generator: Any = None
    critic: Any = None
    reviser: Any = None
    auditor: Any = None
    """Who grades a sample once more, blind; the critic's model, in other words, unless it is named."""
    panel: tuple[Any, ...] = ()
    """More critics beside the first; their marks are averaged."""
    escalate: Any = None
    """A stronger critic, asked where looks are further apart than the rubric allows."""
    audit: float = Field(default=0.1, ge=0, le=1)
    """Share of accepted and of rejected items that are audited; 1 makes the audit a gate."""
    canaries: float = Field(default=0.02, ge=0, le=1)
    """Share of items with which the critic is shown a spoilt one, to see whether it notices."""
    base_url: str | None = None
    client: ClientChoice = "auto"
    rubric: str = ""
    prompts: str = ""
    calibration: str = ""
    """A report by `agentloop calibrate -o`, or the store that it was made in."""
    run: str | None = Field(default=None, min_length=1)
    fork: str | None = Field(default=None, min_length=1)
    """Name of a new run that is answered from `run`'s journal wherever nothing changed."""
    retry: tuple[Literal["failed", "ungradable"], ...] = ()
    """Verdicts whose items are opened again."""
    budget_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What the run may cost over all its resumes."""
    max_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """How long this session may take."""
    patience: float = Field(default=300.0, ge=0, allow_inf_nan=False)
    """Seconds that a dead endpoint is waited for."""
    attributes: dict[str, Any] = {}
    """What items are to differ in; see `agentloop.attributes`."""
    quota: str = ""
    """The attribute whose shares of `accept` are kept, to the item: no value gets more than planned."""
    novelty: Literal["near", "semantic", "exact"] = "near"
    """What makes an accepted item's copy: nearly the same words, the same meaning too, only the same.

    `near` and `semantic` compare with the run's own items, with those of the recipe's other runs in the
    store, and with the texts of `novel_to`; `exact` with the run's own alone. By meaning each of the
    three is compared as far as its newest 20,000 texts.
    """
    novel_to: tuple[str, ...] = ()
    """Files of texts that accepted items must not come near either."""
    decontaminate: tuple[str, ...] = ()
    """Files of texts that a model shall be tested with: no accepted item repeats them."""
    on_collapse: Literal["off", "warn", "steer", "stop"] = "warn"
    """What is done when accepted texts become too much alike."""
    reference: str = ""
    """A file of real texts of the kind that is made, as `FILE` or `FILE#field`, to compare with."""
    max_depth: int = Field(default=2, ge=1)
    """Generations that an item may be away from what people wrote."""
    real_share: float = Field(default=0.5, ge=0, le=1)
    """At least this share of the accepted items is made from a seed that people wrote.

    Made seeds wait until enough of the others were accepted; those left over cost no call.
    """
    verbalise: int = Field(default=0, ge=0, le=20)
    """Drafts that the generator writes at once, with their probabilities; one is taken at random."""
    map: dict[str, str] = {}
    max_rounds: int | None = Field(default=None, ge=0, le=20)
    """Revisions of one item; the recipe's own number unless it is said."""
    concurrency: int | None = Field(default=None, ge=1)
    workers: int | Literal["auto"] | None = None
    """Processes that items are walked in: one, the one that drives the run, unless it is said; on Ray,
    and with `auto`, as many as there are processors."""
    engine: Literal["local", "ray"] = "local"
    """Where items are walked: on this machine, or in actors of a Ray cluster."""
    ray_address: str | None = Field(default=None, min_length=1)
    """A Ray cluster that runs already: HOST:PORT, or `auto`; else one of its own is started here."""
    seed: int = 0
    shard: str = ""
    """The part of the seeds that a run is for, as `2/4`; targets and budget are this part's."""
    progress: ProgressMode = "auto"
    roles: dict[str, RoleConfig] = {}
    prices: dict[str, Price] = {}
    limits: dict[str, LimitConfig] = {}
    """By model name."""

    @field_validator("retry", mode="before")
    @classmethod
    def _retry(cls, value: object) -> object:
        return tuple(value.split(",")) if isinstance(value, str) else value

    @field_validator("novel_to", "decontaminate", mode="before")
    @classmethod
    def _files(cls, value: object) -> object:
        listed = value.split(",") if isinstance(value, str) else value
        listed = [listed] if isinstance(listed, Path) else listed
        if not isinstance(listed, Iterable):
            raise ValueError("must be files, divided by commas")
        return tuple(map(str, listed))

    @field_validator("panel", mode="before")
    @classmethod
    def _panel(cls, value: object) -> object:
        named = value.split(",") if isinstance(value, str) else value
        if not isinstance(named, Iterable):
            raise ValueError("must be models, divided by commas")
        return tuple(_checked_model(model) for model in named)

    @field_validator("workers", mode="before")
    @classmethod
    def _workers(cls, value: object) -> object:
        if value is None or value == "auto":
            return value
        if isinstance(value, int | str) and str(value).isdecimal() and 1 <= int(value) <= MOST:
            return int(value)
        raise ValueError(f"must be auto, or a number from 1 to {MOST}")

    @field_validator("ray_address")
    @classmethod
    def _where(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("engine") != "ray":
            raise ValueError("needs `--engine ray`")
        return value

    @field_validator("audit", "canaries", mode="before")
    @classmethod
    def _share(cls, value: object) -> object:
        """Read `all`, `off`, `10%` or a number from 0 to 1."""
        if not isinstance(value, str):
            return value
        named = {"all": 1.0, "off": 0.0}
        if value.strip() in named:
            return named[value.strip()]
        try:
            percent = value.strip().endswith("%")
            return float(value.strip().removesuffix("%")) / (100 if percent else 1)
        except ValueError:
            raise ValueError("must be all, off, or a share as in 10%") from None

    @field_validator("model", "critic", "reviser", "auditor", "escalate")
    @classmethod
    def _model(cls, value: object) -> object:
        return _checked_model(value)

    @field_validator("generator", mode="before")
    @classmethod
    def _mix(cls, value: object) -> object:
        """Read one model, or several with the share of items that each writes: `a@0.7`, `b@0.3`."""
        listed = value.split(",") if isinstance(value, str) else value
        if isinstance(listed, list | tuple) and len(listed) == 1 and isinstance(listed[0], str):
            (listed,) = listed
        if not isinstance(listed, list | tuple):
            return _checked_model(listed)
        return tuple(_with_share(entry) for entry in listed)

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: object) -> object:
        if value is not None and not isinstance(value, str | Path | Iterable):
            raise ValueError("must be a path, a query or dicts")
        return value

    @field_validator("run", "fork")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and (not value.isprintable() or value != value.strip()):
            raise ValueError("must be printable, without space at its ends")
        return value

    @field_validator("shard")
    @classmethod
    def _part(cls, value: str) -> str:
        return str(Shard.parse(value))

    @field_validator("store")
    @classmethod
    def _file(cls, value: Path | None) -> Path | None:
        try:
            if value is not None and (not value.name or value.is_dir()):
                raise ValueError("must be a file")
        except OSError as error:
            raise ValueError(f"cannot be a file: {error.strerror}") from error
        return value

    @field_validator("rubric", "prompts", "calibration", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    def role(self, role: str) -> RoleConfig:
        """Return one role's settings, the run's own values filled in.

        A role without a model takes the run's, else the generator's. The run's base URL is the address
        of that model's provider: a role whose model has another prefix does not get it, nor a role
        that names an address of its own (an empty one: the provider's).
        """
        own = self.roles.get(role, RoleConfig())
        main = self.model or self.main_generator or self.roles.get("generator", RoleConfig()).model
        if role == "auditor":
            main = self.role("critic").model
        named = self.main_generator if role == "generator" else getattr(self, role, None)
        model = (named if role in ROLES else None) or own.model or main
        base_url = own.base_url
        if base_url is None and _provider(model) == _provider(main):
            base_url = self.role("critic").base_url if role == "auditor" else self.base_url
        return own.model_copy(
            update={
                "model": model,
                "base_url": base_url or None,
                "client": own.client or self.client,
            }
        )

    @property
    def main_generator(self) -> Any:
        """The first of the generators, where there is a mix."""
        return self.generator[0][0] if isinstance(self.generator, tuple) else self.generator

    def like(self, role: str, model: Any) -> RoleConfig:
        """Return a role's settings for another model; its address only for the same provider."""
        own = self.role(role)
        same = _provider(model) == _provider(own.model)
        return own.model_copy(update={"model": model, "base_url": own.base_url if same else None})


def _provider(model: object) -> object:
    return model.partition("/")[0] if isinstance(model, str) else None


def load_settings(
    given: Mapping[str, Any],
    *,
    file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings; `given` (flags, arguments) wins where it is not None."""
    environment = os.environ if environ is None else environ
    named = file or environment.get("AGENTLOOP_CONFIG")
    path = Path(named or FILE)
    merged: dict[str, Any] = {}
    if path.is_file():
        merged = _read(path)
    elif named:
        raise SettingsError(f"there is no settings file `{path}`")
    merged = _over(merged, _from_environment(environment))
    merged = _over(merged, {key: value for key, value in given.items() if value is not None})
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _over(weaker: dict[str, Any], stronger: dict[str, Any]) -> dict[str, Any]:
    """Return settings under stronger ones; a model named there is every role's, also a paid one's."""
    if not all(isinstance(part.get("roles", {}), Mapping) for part in (weaker, stronger)):
        return {**weaker, **stronger}  # to be refused by name
    roles = {role: _plain(own) for role, own in weaker.get("roles", {}).items()}
    if "model" in stronger:
        for own in roles.values():
            if isinstance(own, dict):
                own.pop("model", None)
    for role, own in stronger.get("roles", {}).items():
        below = roles.get(role, {})
        roles[role] = below | _plain(own) if isinstance(below, dict) else own
    kept = {k: v for k, v in weaker.items() if not ("model" in stronger and k in ROLES)}
    return {**kept, **stronger, **({"roles": roles} if roles else {})}


def _plain(value: Any) -> Any:
    """Return a copy of a mapping as a dict, a RoleConfig as what was set in it."""
    if isinstance(value, RoleConfig):
        return value.model_dump(exclude_unset=True)
    return dict(value) if isinstance(value, Mapping) else value


def _read(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"settings file `{path}` cannot be read: {error}") from error
    for key in data:
        if key not in Settings.model_fields:
            raise SettingsError(
                f"`{path}`: unknown key `{key}`{did_you_mean(key, Settings.model_fields)}"
            )
    return data


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    simple = [
        name
        for name in Settings.model_fields
        if name not in ("roles", "prices", "limits", "map", "attributes")
    ]
    found: dict[str, Any] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        key = variable.removeprefix(PREFIX).lower()
        if key not in simple:
            known = [PREFIX + name.upper() for name in simple]
            raise SettingsError(f"unknown variable `{variable}`{did_you_mean(variable, known)}")
        if value:
            found[key] = value
    return found


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    loc = [str(part) for part in first["loc"]]
    place = ".".join(loc)
    if first["type"] == "extra_forbidden":
        kinds: dict[str, type[BaseModel]] = {
            "roles": RoleConfig,
            "prices": Price,
            "limits": LimitConfig,
        }
        kind = kinds.get(loc[0], Settings) if len(loc) > 1 else Settings
        fields = kind.model_fields
        return f"unknown setting `{place}`{did_you_mean(loc[-1], fields)}"
    message = first["msg"].removeprefix("Value error, ")
    return " ".join(f"`{place}`: {message} (got `{first['input']}`)".split())
