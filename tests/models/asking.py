"""Asking a model in a test: one request, a closed client, an address where nobody listens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from agentloop.models.base import Model, Reply, Request, Structured
from agentloop.models.direct import DirectModel
from tests.endpoint import Misbehave

MESSAGES = ({"role": "user", "content": "Say something about the river Elbe in one sentence."},)
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
REQUEST = Request(MESSAGES, temperature=0.5, max_tokens=64, seed=7, schema=SCHEMA)
PLAIN = Request(MESSAGES, timeout=20)


def ask(model: Model, *requests: Request, structured: Structured = "json_schema") -> list[Reply]:
    """Ask at once and close the model."""

    async def session() -> list[Reply]:
        try:
            return await asyncio.gather(*(model.complete(r, structured) for r in requests))
        finally:
            await model.aclose()

    return asyncio.run(session())


def one(model: Model, request: Request = PLAIN, structured: Structured = "json_schema") -> Reply:
    (reply,) = ask(model, request, structured=structured)
    return reply


def direct(url: str, **more: Any) -> DirectModel:
    return DirectModel("openai/fake", url, **more)


def answering(status: int, body: Any = None, **headers: str) -> Misbehave:
    """Return a misbehaviour that always answers this."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(*_: Any) -> web.Response:
        if isinstance(body, str | bytes):
            raw = body.encode() if isinstance(body, str) else body
            return web.Response(status=status, body=raw, headers=named)
        return web.json_response(body, status=status, headers=named)

    return answer


def failing(status: int, said: str = "no", **headers: str) -> Misbehave:
    return answering(status, {"error": {"message": said}}, **headers)


class HangUp(web.Response):
    """Closes the connection instead of answering."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        assert request.transport is not None
        request.transport.abort()
        return await super().prepare(request)


@contextmanager
def nobody() -> Iterator[str]:
    """Hold a port that refuses every connection."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"
