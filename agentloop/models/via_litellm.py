"""Every provider, by LiteLLM's own names.

Enters: `anthropic/…`, `gemini/…`, `bedrock/…`, `ollama/…`. Leaves: replies and sorted ModelErrors, as
from the direct client. Refuses to know: retries (litellm's are off: they multiply), budgets, caches.

litellm is imported on the first use: it costs 3 s and 165 MB.
"""

from __future__ import annotations

import os
import time
import warnings
from functools import lru_cache
from typing import Any

from agentloop.errors import (
    ModelError,
    RefusedRequest,
    SettingsError,
    TransientError,
    did_you_mean,
)
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.prices import Price
from agentloop.models.wire import failure, openai_parameters, read_completion, redact
from agentloop.records import Json

LOCAL_TABLES = ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "BLOG_POSTS")
"""What litellm would otherwise fetch from GitHub, at import or at a provider's first call."""


@lru_cache(maxsize=1)
def load() -> Any:
    """Import litellm without its network access, debug output and telemetry."""
    for table in LOCAL_TABLES:
        os.environ[f"LITELLM_LOCAL_{table}"] = "True"
    import litellm

    warnings.filterwarnings("ignore", message=".*ReadOnly.*")  # pydantic, about litellm's types
    litellm.suppress_debug_info = True
    return litellm


def check_provider(name: str) -> None:
    """Raise SettingsError unless litellm knows the provider before the first `/`."""
    prefix, slash, _ = name.partition("/")
    providers = {getattr(p, "value", str(p)) for p in load().provider_list}
    if slash and prefix in providers:
        return
    if not slash:
        raise SettingsError(f"model `{name}` needs its provider: write `openai/{name}`, say")
    raise SettingsError(
        f"unknown model prefix `{prefix}/` in `{name}`{_suggest(prefix, providers)}; "
        f"an OpenAI-compatible server's model is `openai/{name}` with `--base-url`"
    )


def _suggest(prefix: str, providers: set[str]) -> str:
    hint = did_you_mean(prefix, providers)
    return hint if "did you mean" in hint else ""


class LitellmModel:
    """One model reached through litellm."""

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        price: Price | None = None,
        speaks_openai: bool = False,
    ):
        self.name = name
        self.identity: Json = {"model": name, "endpoint": base_url}
        self._base_url = base_url
        self._api_key = api_key
        self.price = price
        self._speaks_openai = speaks_openai

    async def complete(self, request: Request, structured: Structured) -> Reply:
        """Send one request."""
        litellm = load()
        start = time.perf_counter()
        options: Json = {
            "model": self.name,
            "messages": list(request.messages),
            "base_url": self._base_url,
            "api_key": self._api_key,
            "timeout": request.timeout,
            "max_retries": 0,
            "drop_params": not self._speaks_openai,  # else a 422 is sent twice
            "no-log": True,
        }
        try:
            response = await litellm.acompletion(**options | openai_parameters(request, structured))
        except Exception as error:
            raise self._sorted(error) from error
        data = response.model_dump() if response is not None else None
        return read_completion(data, self._where, self.price, time.perf_counter() - start)

    async def aclose(self) -> None:
        """Close litellm's pooled clients."""
        await load().close_litellm_async_clients()

    @property
    def _where(self) -> str:
        return f"`{self.name}`" + (f" at `{self._base_url}`" if self._base_url else "")

    def _sorted(self, error: Exception) -> ModelError:
        """Return the ModelError that says what can be done about litellm's exception."""
        said = " ".join(str(error).split())
        if self._api_key:
            said = said.replace(self._api_key, "[key]")
        if _no_connection(error):
            return TransientError(f"`{self._base_url or self.name}`", connected=False)
        if isinstance(error, load().exceptions.Timeout):
            return TransientError(f"{self._where} did not answer in time", billed=True)
        status = getattr(error, "status_code", None)
        if not isinstance(status, int):
            return RefusedRequest(
                f"litellm cannot send this to {self._where}: {redact(said[:200])}"
            )
        headers = getattr(error, "litellm_response_headers", None) or {}
        sorted_ = failure(
            status, said, self._where, model=self.name, wish=headers.get("retry-after")
        )
        if isinstance(sorted_, TransientError) and _broke_off(error):
            sorted_.billed = True
        return sorted_


def _no_connection(error: BaseException) -> bool:
    """Whether an exception's chain holds a connection that was never made."""
    return bool(_chain(error) & {"ClientConnectorError", "ConnectError", "ConnectionRefusedError"})


def _broke_off(error: BaseException) -> bool:
    """Whether litellm made up a status for a reply that broke off or is no completion.

    A status that an endpoint sent stands as `APIStatusError` in the exception's chain.
    """
    return not _chain(error) & {"APIStatusError", "HTTPStatusError"}


def _chain(error: BaseException | None) -> set[str]:
    """Return the names of the classes of what led to an exception, save litellm's own."""
    names: set[str] = set()
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if not type(error).__module__.startswith("litellm"):
            names |= {kind.__name__ for kind in type(error).__mro__}
        error = error.__cause__ or error.__context__
    return names
