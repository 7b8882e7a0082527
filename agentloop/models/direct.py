"""The lean client: aiohttp to any endpoint that speaks OpenAI's chat completions.

Enters: a base URL, a model name, perhaps a key. Leaves: replies, or ModelErrors sorted by what can be
done about them. Refuses to know: retries, limits, roles.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson

from agentloop.errors import (
    AccessError,
    MalformedReply,
    ModelError,
    RefusedRequest,
    TransientError,
)
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.prices import Price
from agentloop.records import Json, Usage

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIMEOUT = 10.0  # seconds
TRANSIENT = frozenset({408, 409, 425, 429})


class DirectModel:
    """One model at one OpenAI-compatible endpoint, over one pooled session."""

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        key_variable: str | None = None,
        price: Price | None = None,
        identity: Json | None = None,
    ):
        self.name = name
        self.identity = identity or {"model": name, "endpoint": base_url}
        self._model = model or name.split("/", 1)[-1]
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._key_variable = key_variable
        self._price = price
        self._session: aiohttp.ClientSession | None = None

    async def complete(self, request: Request, structured: Structured) -> Reply:
        """Send one request."""
        import aiohttp

        body = orjson.dumps(self._body(request, structured))
        start = time.perf_counter()
        try:
            async with self._open().post(
                f"{self._base_url}/chat/completions",
                data=body,
                timeout=aiohttp.ClientTimeout(total=request.timeout, sock_connect=CONNECT_TIMEOUT),
            ) as response:
                raw = await response.read()
                status, headers = response.status, response.headers
        except aiohttp.ClientConnectorError as error:
            raise TransientError(f"`{self._base_url}`", connected=False) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise TransientError(f"`{self._base_url}` broke off: {error!r}") from error
        except TimeoutError as error:
            raise TransientError(
                f"`{self._base_url}` did not answer within {request.timeout:g} s"
            ) from error
        if status != 200:
            raise self._failure(status, raw, headers)
        return self._reply(load_json(raw), time.perf_counter() - start)

    async def aclose(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None or self._session.closed:
            headers = {"content-type": "application/json"}
            if self._api_key:
                headers["authorization"] = f"Bearer {self._api_key}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), headers=headers, trust_env=False
            )
        return self._session

    def _body(self, request: Request, structured: Structured) -> Json:
        body: Json = {"model": self._model, "messages": list(request.messages)}
        body |= openai_parameters(request, structured)
        return body | request.extra

    def _failure(self, status: int, raw: bytes, headers: Mapping[str, str]) -> ModelError:
        said = error_message(raw)
        if status in TRANSIENT or status >= 500:
            return TransientError(
                f"`{self._base_url}` answered {status}: {said}",
                retry_after=retry_after(headers.get("retry-after")),
            )
        if status in (401, 403):
            hint = f"; is `{self._key_variable}` set and right?" if self._key_variable else ""
            return AccessError(f"`{self._base_url}` refuses access ({status}): {said}{hint}")
        if status == 404:
            return AccessError(
                f"`{self._base_url}` does not know model `{self._model}` or this path ({said}); "
                "a base URL usually ends in `/v1`"
            )
        return RefusedRequest(f"`{self._base_url}` answered {status}: {said}")

    def _reply(self, data: Any, latency: float) -> Reply:
        try:
            choice = data["choices"][0]
            message = choice["message"]
        except (KeyError, IndexError, TypeError) as error:
            raise TransientError(
                f"`{self._base_url}` answered something that is not a chat completion"
            ) from error
        usage = read_usage(data.get("usage") or {})
        return Reply(
            text=clean(message.get("content") or ""),
            finish_reason=finish_reason(choice, message),
            usage=usage,
            cost_usd=self._price.cost(usage) if self._price else None,
            logprobs=read_logprobs(choice.get("logprobs")),
            latency=latency,
            raw=_raw(data, message),
        )


def openai_parameters(request: Request, structured: Structured) -> Json:
    """Return the request's parameters by OpenAI's names, leaving out what is not set."""
    body: Json = {
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "seed": request.seed,
    }
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.schema is not None and structured == "json_schema":
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": request.schema, "strict": True},
        }
    elif request.schema is not None and structured == "json_object":
        body["response_format"] = {"type": "json_object"}
    return {key: value for key, value in body.items() if value is not None}


def load_json(raw: bytes) -> Any:
    """Parse a response body; TransientError when a 200 carries no JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:  # orjson refuses lone surrogates, which some servers send
            return json.loads(raw.decode("utf-8", "replace"))
        except ValueError as error:
            raise TransientError("the endpoint answered 200 without JSON") from error


def clean(text: str) -> str:
    """Return text that UTF-8 can hold: lone surrogates become the replacement character."""
    if not isinstance(text, str):
        raise MalformedReply("the reply's content is not text")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def finish_reason(choice: Json, message: Json) -> str:
    """Return why the answer ended; a `refusal` field counts as `content_filter`."""
    if message.get("refusal"):
        return "content_filter"
    return str(choice.get("finish_reason") or "stop")


def read_usage(data: Json) -> Usage:
    """Read OpenAI's usage block; what is missing or null counts zero."""
    prompt_details = data.get("prompt_tokens_details") or {}
    completion_details = data.get("completion_tokens_details") or {}
    return Usage(
        prompt_tokens=data.get("prompt_tokens") or 0,
        completion_tokens=data.get("completion_tokens") or 0,
        cached_tokens=prompt_details.get("cached_tokens") or 0,
        reasoning_tokens=completion_details.get("reasoning_tokens") or 0,
    )


def read_logprobs(data: Json | None) -> tuple[dict[str, float], ...] | None:
    """Read the alternatives of each answer token; None when the endpoint gave none."""
    tokens = (data or {}).get("content")
    if not tokens:
        return None
    return tuple(
        {clean(top["token"]): float(top["logprob"]) for top in token.get("top_logprobs") or [token]}
        for token in tokens
    )


def error_message(raw: bytes) -> str:
    """Return the first line of what an endpoint says went wrong, at most 200 characters."""
    try:
        data = orjson.loads(raw)
        error = data.get("error", data) if isinstance(data, dict) else data
        text = error.get("message", error) if isinstance(error, dict) else error
    except orjson.JSONDecodeError:
        text = raw.decode("utf-8", "replace")
    return " ".join(str(text).split())[:200]


def retry_after(value: str | None) -> float | None:
    """Read a Retry-After header, seconds or a date; None when absent or unreadable."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _raw(data: Json, message: Json) -> Json:
    said = {"model": data.get("model"), "id": data.get("id")}
    said["reasoning"] = message.get("reasoning_content") or message.get("reasoning")
    return {key: clean(value) for key, value in said.items() if isinstance(value, str) and value}
