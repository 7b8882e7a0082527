"""Which client serves a model that a user names.

Enters: `openai/gpt-5-mini`, `local`, `local:file.gguf`, a Model object; a base URL; a client choice.
Leaves: a Model and its traits, or SettingsError with the line to type. Refuses to know: roles, runs.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from agentloop.errors import SettingsError
from agentloop.models.base import Model, Structured, Traits
from agentloop.models.prices import Price, find_price

ClientChoice: TypeAlias = Literal["auto", "direct", "litellm"]

LOCAL_CONCURRENCY = (
    2  # on two cores four streams are hardly faster, and each warms a cache of its own
)


class Provider(NamedTuple):
    """An OpenAI-compatible provider: where its key stands, and its address when it is public."""

    key: str | None
    base_url: str | None = None


OPENAI_COMPATIBLE: dict[str, Provider] = {
    "openai": Provider("OPENAI_API_KEY", "https://api.openai.com/v1"),
    "hosted_vllm": Provider("HOSTED_VLLM_API_KEY"),
    "vllm": Provider("VLLM_API_KEY"),
    "ollama": Provider(None),
    "ollama_chat": Provider(None),
    "lm_studio": Provider("LM_STUDIO_API_KEY"),
    "llamafile": Provider("LLAMAFILE_API_KEY"),
    "openrouter": Provider("OPENROUTER_API_KEY", "https://openrouter.ai/api/v1"),
    "groq": Provider("GROQ_API_KEY", "https://api.groq.com/openai/v1"),
    "deepseek": Provider("DEEPSEEK_API_KEY", "https://api.deepseek.com/v1"),
    "mistral": Provider("MISTRAL_API_KEY", "https://api.mistral.ai/v1"),
    "together_ai": Provider("TOGETHERAI_API_KEY", "https://api.together.xyz/v1"),
    "fireworks_ai": Provider("FIREWORKS_API_KEY", "https://api.fireworks.ai/inference/v1"),
    "xai": Provider("XAI_API_KEY", "https://api.x.ai/v1"),
}
"""The short list that the direct client serves; every other prefix goes to litellm."""


@dataclass(frozen=True)
class ModelChoice:
    """What a user says of one model."""

    spec: str
    base_url: str | None = None
    client: ClientChoice = "auto"
    prices: dict[str, Price] = field(default_factory=dict)


def default_model() -> str:
    """Return `local` when its extra is installed; a paid model is never picked because a key is set."""
    from agentloop.models.embedded import installed

    if installed():
        return "local"
    raise SettingsError(
        "no model is named: `--model openai/gpt-5-mini`, say, or `pip install "
        "'agentloop-data[local]'` for the embedded one"
    )


def open_model(choice: ModelChoice) -> Model:
    """Return the client for a choice; makes no connection and starts no process yet."""
    if choice.spec == "local" or choice.spec.startswith("local:"):
        return _embedded(choice)
    prefix, slash, model = choice.spec.partition("/")
    if slash and not model.strip():
        raise SettingsError(f"`{choice.spec}` names no model: write `{prefix}/MODEL`")
    compatible = prefix in OPENAI_COMPATIBLE and "/" in choice.spec
    if choice.client == "direct" or (choice.client == "auto" and choice.base_url and compatible):
        return _direct(choice, prefix)
    return _litellm(choice)


def traits_of(model: Model) -> Traits:
    """Return what is known of a model before it is asked."""
    spec = model.name
    if spec == "local" or spec.startswith("local:"):
        return Traits(
            timeout=600.0,  # a busy CPU may take minutes for one reply
            structured="json_schema",
            logprobs=True,
            concurrency=LOCAL_CONCURRENCY,
            temperature=0.3,
            max_tokens=600,  # a small model that runs on and on is cut off within a minute
            notice=f"loading `{spec}`; on a CPU the first item takes a minute, later ones half of that",
        )
    if model.identity.get("endpoint") or spec.startswith("scripted/"):
        return Traits()  # an endpoint that refuses a schema says so with a 400, once
    return Traits(structured=_guess(spec))


def _guess(spec: str) -> Structured:
    """Ask litellm what a provider's model can do; unknown ones are told in the prompt."""
    from agentloop.models.via_litellm import load

    if spec.startswith("openai/"):
        return "json_schema"
    known = bool(load().supports_response_schema(model=spec))
    return "json_schema" if known else "prompt"


def _embedded(choice: ModelChoice) -> Model:
    from agentloop.models.embedded import EmbeddedModel, installed
    from agentloop.models.weights import find

    if not installed():
        raise SettingsError(
            f"model `{choice.spec}` needs the local extra: `pip install 'agentloop-data[local]'`"
        )
    return EmbeddedModel(choice.spec, *find(choice.spec))


def _direct(choice: ModelChoice, prefix: str) -> Model:
    from agentloop.models.direct import DirectModel

    provider = OPENAI_COMPATIBLE.get(prefix)
    if provider is None or "/" not in choice.spec:
        raise SettingsError(
            f"the direct client cannot serve `{choice.spec}`: name an OpenAI-compatible one "
            f"(`openai/{choice.spec}` with `--base-url`), or use `--client litellm`"
        )
    base_url = choice.base_url or provider.base_url
    if base_url is None:
        raise SettingsError(
            f"`{choice.spec}` needs its address for the direct client: `--base-url http://…/v1`"
        )
    check_url(base_url)
    key = _key(provider)
    if key is None and provider.key and not choice.base_url:
        raise SettingsError(f"`{choice.spec}` needs its key in `{provider.key}`")
    return DirectModel(
        choice.spec,
        base_url,
        api_key=key,
        key_variable=provider.key,
        price=_price(choice),
    )


def _litellm(choice: ModelChoice) -> Model:
    from agentloop.models.via_litellm import LitellmModel, check_provider

    check_provider(choice.spec)
    if choice.base_url:
        check_url(choice.base_url)
    prefix = choice.spec.partition("/")[0]
    key = _key(OPENAI_COMPATIBLE.get(prefix, Provider(None)))
    if key is None and choice.base_url and is_loopback(choice.base_url):
        key = "none"  # litellm's OpenAI path insists on some key
    return LitellmModel(
        choice.spec,
        base_url=choice.base_url,
        api_key=key,
        price=_price(choice),
        speaks_openai=prefix in OPENAI_COMPATIBLE and choice.base_url is not None,
    )


def _key(provider: Provider) -> str | None:
    """Return the key in the provider's variable; SettingsError when it cannot be sent."""
    key = os.environ.get(provider.key, "").strip() if provider.key else ""
    if any(ord(c) < 33 or ord(c) > 126 for c in key):
        raise SettingsError(f"`{provider.key}` holds characters that no key has")
    return key or None


def _price(choice: ModelChoice) -> Price | None:
    """A public price says nothing about an address of one's own."""
    if choice.base_url:
        return choice.prices.get(choice.spec)
    return find_price(choice.spec, choice.prices)


def check_url(url: str) -> None:
    """Raise SettingsError unless this is an http address."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a broken port or IPv6 address
        raise SettingsError(f"`{url}` is not an address: write `http://HOST:PORT/v1`") from None
    if not usable:
        raise SettingsError(f"`{url}` is not an address: write `http://HOST:PORT/v1`")
    if parts.username or parts.password:
        raise SettingsError("a base URL must not carry a password: use the provider's variable")


def is_loopback(url: str) -> bool:
    """Whether an address stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
