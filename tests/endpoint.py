"""A loopback server that speaks OpenAI's chat completions and answers any JSON schema.

Answers depend on the prompt's text alone: texts are sentences of the prompt, choices follow its hash.
It counts requests, keeps their bodies, and can be told to misbehave.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

Misbehave = Callable[[dict[str, Any], int], web.Response | None]
"""Called with the body and the request's number; a response replaces the answer."""
HANG = web.Response(text="never sent")


def text_of(body: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in body["messages"])


def instance(schema: dict[str, Any], prompt: str, h: int) -> Any:
    """Return a value of a schema, made of the prompt's sentences."""
    if "enum" in schema:
        return schema["enum"][h % len(schema["enum"])]
    if schema.get("type") == "object":
        fields = schema["properties"].items()
        return {name: instance(s, prompt, mixed(h, name)) for name, s in fields}
    if schema.get("type") == "array":
        return [instance(schema["items"], prompt, h)]
    if schema.get("type") in ("integer", "number"):
        return 1 + h % 5
    if schema.get("type") == "boolean":
        return bool(h % 2)
    sentences = [s for s in re.findall(r"[A-Z][^.?!\n]{20,}[.?!]", prompt) if '"' not in s]
    return sentences[h % len(sentences)] if sentences else f"text {h}"


def mixed(h: int, name: str) -> int:
    """Return another number for each field, independent of its neighbours'."""
    return int(hashlib.sha1(f"{h}/{name}".encode()).hexdigest()[:12], 16)


class Endpoint:
    """The server, in a thread of its own; use as a context manager."""

    def __init__(self, latency: float = 0.0, misbehave: Misbehave = lambda body, number: None):
        self.latency = latency
        self.misbehave = misbehave
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.peak = 0
        self._busy = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._arrived = threading.Condition()
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def requests(self) -> int:
        return len(self.bodies)

    def wait_for(self, requests: int, seconds: float = 30) -> None:
        """Wait until so many requests have come."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.bodies) >= requests, seconds)

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        with self._arrived:
            self.bodies.append(body)
            self._arrived.notify_all()
        self.headers.append(dict(request.headers))
        self._busy += 1
        self.peak = max(self.peak, self._busy)
        try:
            await asyncio.sleep(self.latency)
            wrong = self.misbehave(body, len(self.bodies))
            if wrong is HANG:
                await asyncio.sleep(3600)
            return wrong if wrong is not None else web.json_response(completion(body))
        finally:
            self._busy -= 1

    async def _anthropic(self, request: web.Request) -> web.Response:
        """Answer Anthropic's protocol, enough of it for litellm: text, or the tool it is given."""
        body = await request.json()
        self.bodies.append(body)
        texts = [m["content"] for m in body["messages"]] + list(body.get("system") or [])
        prompt = "\n".join(t if isinstance(t, str) else json.dumps(t) for t in texts)
        said = prompt.encode().decode("unicode_escape", "replace")
        return web.json_response(anthropic_message(body, said))

    async def _start(self) -> web.AppRunner:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/{before:.*}/messages", self._anthropic)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self._port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        return runner

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


def completion(body: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    """Return a chat completion for a request."""
    prompt = text_of(body)
    h = int(hashlib.sha1(prompt.encode()).hexdigest()[:12], 16)
    if content is None:
        schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
        last = body["messages"][-1]["content"]  # examples in earlier turns are not the item's text
        said = last if re.search(r"[A-Z][^.?!\n]{20,}[.?!]", last) else prompt
        content = json.dumps(instance(schema, said, h)) if schema else instance({}, said, h)
    return {
        "id": f"chatcmpl-{h:x}",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": len(prompt) // 4,
            "completion_tokens": len(content) // 4,
            "total_tokens": len(prompt) // 4 + len(content) // 4,
        },
    }


def anthropic_message(body: dict[str, Any], prompt: str) -> dict[str, Any]:
    """Return an Anthropic message: a tool call for a tool's schema, JSON for an output format."""
    h = int(hashlib.sha1(prompt.encode()).hexdigest()[:12], 16)
    schema = ((body.get("output_format") or {}).get("schema")) or (
        ((body.get("output_config") or {}).get("format") or {}).get("schema")
    )
    block: dict[str, Any]
    if tools := body.get("tools"):
        value = instance(tools[0]["input_schema"], prompt, h)
        block = {"type": "tool_use", "id": "t1", "name": tools[0]["name"], "input": value}
    else:
        text = json.dumps(instance(schema, prompt, h)) if schema else instance({}, prompt, h)
        block = {"type": "text", "text": text}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [block],
        "stop_reason": "tool_use" if block["type"] == "tool_use" else "end_turn",
        "usage": {"input_tokens": len(prompt) // 4, "output_tokens": 20},
    }
