"""OpenAI's chat-completion format: parameters out, completions and failures in.

Enters: a request; a response body or a status. Leaves: JSON parameters; a `Reply`, or the ModelError
that says what can be done. Refuses to know: how bytes travel. An endpoint is untrusted: whatever
it says gives a reply or a ModelError, and no key that it repeats is ever shown.
"""

from __future__ import annotations

import json
import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from agentloop.errors import AccessError, ModelError, RefusedRequest, TransientError
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.prices import FREE, Price
from agentloop.records import Json, Usage

TRANSIENT = frozenset({408, 409, 425, 429})
BUSY = frozenset({429, 503, 529})
BILLED = frozenset({408, 504, 524})  # a proxy gave up waiting; the server behind it may have worked
_KEY = re.compile(r"\b(?:sk|key|pk|rk|gsk|xai)-[\w*.-]{4,}")


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
    return {key: value for key, value in body.items() if value is not None} | request.extra


def load_json(raw: bytes, where: str) -> Any:
    """Parse a response body; TransientError when a 200 carries no JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:  # orjson refuses lone surrogates, which some servers send
            return json.loads(raw.decode("utf-8", "replace"))
        except (ValueError, RecursionError) as error:
            raise TransientError(f"{where} answered 200 without JSON", billed=True) from error


def read_completion(data: Any, where: str, price: Price | None, latency: float) -> Reply:
    """Return the reply in a chat completion; TransientError for anything else.

    Its cost is unknown, never zero, when the endpoint does not say what was used.
    """
    try:
        choice = data["choices"][0]
        message = choice["message"]
        text = read_content(message.get("content"))
        ended = "content_filter" if message.get("refusal") else choice.get("finish_reason")
        usage = read_usage(data.get("usage"))
        logprobs = read_logprobs(choice.get("logprobs"))
        raw = _raw(data, message)
    except (LookupError, TypeError, AttributeError) as error:
        said = redact(str(data.get("error"))[:200]) if isinstance(data, dict) else ""
        raise TransientError(
            f"{where} answered 200 without a chat completion" + (f": {said}" if said else ""),
            billed=True,
        ) from error
    return Reply(
        text=text,
        finish_reason=str(ended or "stop"),
        usage=usage,
        cost_usd=price.cost(usage) if price and (usage != Usage() or price == FREE) else None,
        logprobs=logprobs,
        latency=latency,
        raw=raw,
    )


def read_content(content: Any) -> str:
    """Return a message's text; parts are joined. TypeError for another shape."""
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(read_content(part.get("text")) for part in content)
    if not isinstance(content, str):
        raise TypeError("content is not text")
    return clean(content)


def clean(text: str) -> str:
    """Return text that UTF-8 can hold: lone surrogates become the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_usage(data: Any) -> Usage:
    """Read OpenAI's usage block; what is missing or no count is zero."""
    return Usage(
        prompt_tokens=_count(data, "prompt_tokens"),
        completion_tokens=_count(data, "completion_tokens"),
        cached_tokens=_count(_part(data, "prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(_part(data, "completion_tokens_details"), "reasoning_tokens"),
    )


def _part(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, dict) else None


def _count(data: Any, name: str) -> int:
    value = _part(data, name)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**53 else 0


LEAST = -10_000.0  # a log-probability of -inf could not be stored, and replayed, as JSON


def read_logprobs(data: Any) -> tuple[dict[str, float], ...] | None:
    """Read the alternatives of each answer token; None when the endpoint gave none that can be read."""
    try:
        tokens = (data or {}).get("content") or []
        found = tuple(
            {
                clean(top["token"]): max(float(top["logprob"]), LEAST)
                for top in token.get("top_logprobs") or [token]
            }
            for token in tokens
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    finite = all(not math.isnan(p) and p < math.inf for top in found for p in top.values())
    return found if found and finite else None


def failure(
    status: int, said: str, where: str, *, model: str = "", wish: str | None = None
) -> ModelError:
    """Return the error for a status other than 200; `wish` is the Retry-After header."""
    said = redact(" ".join(said.split())[:200])
    if status in TRANSIENT or status >= 500:
        return TransientError(
            f"{where} answered {status}: {said}",
            retry_after=retry_after(wish),
            busy=status in BUSY,
            billed=status in BILLED,
        )
    if status in (401, 403):
        return AccessError(f"{where} refuses access ({status}): {said}")
    if status == 404:
        return AccessError(
            f"{where} does not know model `{model}` or this path ({said}); "
            "a base URL usually ends in `/v1`"
        )
    if 300 <= status < 400:
        return AccessError(
            f"{where} sends us elsewhere ({status}): name the right address yourself"
        )
    return RefusedRequest(f"{where} answered {status}: {said}")


def error_message(raw: bytes) -> str:
    """Return what an endpoint's error body says, in one line of at most 200 characters."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        text: object = raw.decode("utf-8", "replace")
    else:
        error = data.get("error", data) if isinstance(data, dict) else data
        text = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(text).split())[:200]


def redact(text: str) -> str:
    """Return the text without anything that looks like a key: some endpoints repeat it."""
    return _KEY.sub("[key]", text)


def retry_after(value: str | None) -> float | None:
    """Read a Retry-After header, seconds or a date; None when absent or unreadable."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _raw(data: Json, message: Json) -> Json:
    said = {"model": data.get("model"), "id": data.get("id")}
    said["reasoning"] = message.get("reasoning_content") or message.get("reasoning")
    return {key: clean(value) for key, value in said.items() if isinstance(value, str) and value}
