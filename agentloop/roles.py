"""Roles: which model plays which, with which parameters, behind which limits.

Enters: settings, a recipe's own roles. Leaves: an endpoint for each role that is asked, a model that
several name opened once; what of a role makes another run. Refuses to know: rubrics, seeds, stores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from agentloop.config import ROLES, LimitConfig, RoleConfig, Settings
from agentloop.errors import SettingsError, did_you_mean
from agentloop.models.base import Traits
from agentloop.models.channel import Endpoint, RoleSettings
from agentloop.models.choose import ModelChoice, default_model, open_model, traits_of
from agentloop.models.limits import Limits
from agentloop.models.rate import Rate
from agentloop.records import Json


def asked_roles(settings: Settings, own: Sequence[str] = ()) -> dict[str, RoleConfig]:
    """Return the settings of every role that is asked; `own` are the recipe's.

    Among them are those of a panel, of the auditor and of a mix of generators. Raises SettingsError for
    settings of a role that there is not.
    """
    known = (*ROLES, *own)
    for role in settings.roles:
        if role not in known:
            raise SettingsError(
                f"unknown role `{role}`{did_you_mean(role, known)}; roles are {', '.join(known)}"
            )
    found: dict[str, RoleConfig] = {
        role: settings.role(role) for role in known if role != "auditor" or settings.audit
    }
    for number, (model, _) in enumerate(mix_of(settings)[1:], start=2):
        found[f"generator.{number}"] = settings.like("generator", model)
    for number, model in enumerate(settings.panel, start=2):
        found[f"critic.{number}"] = settings.like("critic", model)
    if settings.escalate is not None:
        found["escalation"] = settings.like("critic", settings.escalate)
    return found


def mix_of(settings: Settings) -> Sequence[tuple[Any, float]]:
    """Return the models that write, with the share of items of each; empty where there is but one."""
    return settings.generator if isinstance(settings.generator, tuple) else ()


def role_settings(own: RoleConfig, role: str, endpoint: Endpoint) -> RoleSettings:
    """Return a role's sampling parameters, those that suit its model filled in."""
    writes = role.partition(".")[0] not in ("critic", "auditor", "escalation")
    temperature, max_tokens = own.temperature, own.max_tokens
    if writes:
        temperature = endpoint.temperature if temperature is None else temperature
        max_tokens = max_tokens or endpoint.max_tokens
    return RoleSettings(temperature, max_tokens, own.timeout or endpoint.timeout, own.extra)


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
