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
    AccessError,
    ModelError,
    RefusedRequest,
    SettingsError,
    TransientError,
    did_you_mean,
)
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.direct import (
    clean,
    finish_reason,
    openai_parameters,
    read_logprobs,
    read_usage,
    retry_after,
)
from agentloop.models.prices import Price
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
    litellm.drop_params = True
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
    ):
        self.name = name
        self.identity: Json = {"model": name, "endpoint": base_url}
        self._base_url = base_url
        self._api_key = api_key
        self._price = price

    async def complete(self, request: Request, structured: Structured) -> Reply:
        """Send one request."""
        litellm = load()
        start = time.perf_counter()
        try:
            response = await litellm.acompletion(
                model=self.name,
                messages=list(request.messages),
                base_url=self._base_url,
                api_key=self._api_key,
                timeout=request.timeout,
                max_retries=0,
                **{"no-log": True},
                **openai_parameters(request, structured),
                **request.extra,
            )
        except Exception as error:
            raise self._sorted(error) from error
        return self._reply(response.model_dump(), time.perf_counter() - start)

    async def aclose(self) -> None:
        """Close litellm's pooled clients."""
        await load().close_litellm_async_clients()

    def _reply(self, data: Json, latency: float) -> Reply:
        choice = data["choices"][0]
        message = choice["message"]
        usage = read_usage(data.get("usage") or {})
        reasoning = message.get("reasoning_content")
        raw = {"model": data.get("model"), "id": data.get("id"), "reasoning": reasoning}
        return Reply(
            text=clean(message.get("content") or ""),
            finish_reason=finish_reason(choice, message),
            usage=usage,
            cost_usd=self._price.cost(usage) if self._price else None,
            logprobs=read_logprobs(choice.get("logprobs")),
            latency=latency,
            raw={key: value for key, value in raw.items() if value},
        )

    def _sorted(self, error: Exception) -> ModelError:
        """Return the ModelError that says what can be done about litellm's exception."""
        kinds = load().exceptions
        said = " ".join(str(error).split())[:200]
        where = f"`{self.name}`" + (f" at `{self._base_url}`" if self._base_url else "")
        refused = (
            kinds.AuthenticationError,
            kinds.PermissionDeniedError,
            kinds.NotFoundError,
        )
        if isinstance(error, refused):
            return AccessError(f"{where} refuses access: {said}")
        if _no_connection(error):
            return TransientError(
                (self._base_url and f"`{self._base_url}`") or where, connected=False
            )
        never = (kinds.BadRequestError, kinds.UnprocessableEntityError)
        if isinstance(error, never) and not isinstance(error, kinds.RateLimitError):
            return RefusedRequest(f"{where} answered {getattr(error, 'status_code', 400)}: {said}")
        if isinstance(error, ValueError | TypeError):
            return RefusedRequest(f"litellm cannot send this to {where}: {said}")
        headers = getattr(error, "litellm_response_headers", None) or {}
        return TransientError(
            f"{where} failed: {said}", retry_after=retry_after(headers.get("retry-after"))
        )


def _no_connection(error: BaseException | None) -> bool:
    """Whether an exception's chain holds a connection that was never made."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if type(error).__name__ in {
            "ClientConnectorError",
            "ConnectError",
            "ConnectionRefusedError",
        }:
            return True
        error = error.__cause__ or error.__context__
    return False
