"""A loopback endpoint that misbehaves, and knows what it was asked and what it answered.

What a request gets depends on the endpoint's seed, on the request's own `seed` field and on how often
it came before, never on the order of arrival. The field tells one call from all others.

It also kills: the signal is sent from the loop that answers, so that what was in flight at that moment
is known, and nothing counts as answered after it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.endpoint import Endpoint, completion
from tests.faults.work import number_in

Json = dict[str, Any]
Said = Callable[[Json], Json | None]
"""What is said to a request's body; None refuses it for good, with a 400."""

UNREAD = "reset before it was read"
NEVER = "400"
COME_BACK = "429 and when to come back"
RESET, CUT, HANG = "reset after it was read", "body cut off", "no answer"
LINGER = struct.pack("ii", 1, 0)  # close with a reset


def _choice(content: str | None, finish: str = "stop", **message: str) -> Json:
    said = {"role": "assistant", "content": content, **message}
    return {"index": 0, "message": said, "finish_reason": finish}


def _first_key_twice(good: Json) -> str:
    (first, value), *_ = good.items()
    return f"{{{json.dumps(first)}: {json.dumps(value)}, {json.dumps(good)[1:]}"


REFUSALS: Mapping[str, Callable[[], web.Response]] = {
    "429": lambda: web.Response(status=429),
    "500": lambda: web.json_response({"error": {"message": "oops"}}, status=500),
    "502": lambda: web.Response(status=502, text="<html>Bad Gateway</html>"),
    "503": lambda: web.Response(status=503),
    "empty body": lambda: web.Response(),
    "not JSON": lambda: web.Response(text="<html>Please log in</html>"),
}
"""Nothing was answered: the same call comes again."""

REPLIES: Mapping[str, Callable[[Json], Json]] = {
    "length": lambda good: _choice(json.dumps(good)[:20], "length"),
    "content filter": lambda good: _choice("", "content_filter"),
    "refusal": lambda good: _choice(None, refusal="I cannot help with that."),
    "empty": lambda good: _choice(""),
    "prose": lambda good: _choice(f"Sure! {json.dumps(good)} I hope that helps."),
    "fenced": lambda good: _choice(f"```json\n{json.dumps(good)}\n```"),
    "wrong type": lambda good: _choice(json.dumps(dict.fromkeys(good, 7))),
    "an array": lambda good: _choice(json.dumps([good])),
    "a key twice": lambda good: _choice(_first_key_twice(good)),
    "a key missing": lambda good: _choice(json.dumps(dict(list(good.items())[1:]))),
    "a key too many": lambda good: _choice(json.dumps({**good, "score": 10})),
    "no such level": lambda good: _choice(
        json.dumps(good).replace('"level": "', '"level": "very ')
    ),
}
"""A chat completion, answered and paid for; most of them cannot be used."""

FAULTS = (*REFUSALS, *REPLIES, COME_BACK, RESET, CUT, HANG)


@dataclass
class Exchange:
    """One request, and what became of it."""

    session: int
    call: int = 0
    """The `seed` of its body; 0 for one that was not read."""
    item: int = -1
    fault: str = ""
    answered: bool = False
    """A whole chat completion was sent to a process that lived."""


@dataclass(frozen=True)
class Kill:
    """A process was killed."""

    session: int
    waiting: frozenset[int]
    """Calls that the process had made and that had no answer yet, nor a refusal for good."""
    at_work: frozenset[int]
    """Those of them whose request was being answered; the others were to be sent again, or hung."""


@dataclass
class _Aim:
    pid: int
    answers: int
    held: int


class FaultyEndpoint(Endpoint):
    """Answers by `say`, and goes wrong at `rate`. `begin` tells it that another process comes."""

    def __init__(self, say: Said, *, rate: float = 0.0, seed: int = 0, latency: float = 0.05):
        super().__init__(latency)
        self.say = say
        self.rate = rate
        self.seed = seed
        self.faults: tuple[str, ...] = FAULTS
        self.unread = True
        self.once = False
        """Whether only a call's first request may go wrong."""
        self.come_back = 0.2  # seconds
        self.exchanges: list[Exchange] = []
        self.kills: list[Kill] = []
        self.session = 0
        self._came: Counter[int] = Counter()
        self._open: list[Exchange] = []
        self._ended = asyncio.Event()
        self._aim: _Aim | None = None
        self._holding = self._dead = False

    @property
    def requests(self) -> int:
        return len(self.exchanges)

    def of(self, session: int) -> list[Exchange]:
        return [e for e in self.exchanges if e.session == session]

    def begin(self) -> None:
        """Wait until nothing of the last process is left, and count another one."""
        asyncio.run_coroutine_threadsafe(self._until_quiet(), self._loop).result(60)
        self.session += 1
        self._holding = self._dead = False
        self._aim = None

    def kill(self, pid: int, answers: int, held: int = 0) -> None:
        """Kill a process after that many further answers.

        With `held`, nothing is answered from then on, and it is killed when that many calls wait.
        """
        self._aim = _Aim(pid, answers, held)

    async def _until_quiet(self) -> None:
        while self._open:
            self._ended.clear()
            await self._ended.wait()

    async def _start(self) -> web.AppRunner:
        runner = await super()._start()
        assert runner.server is not None
        runner.server.handler_cancellation = True  # a connection that is gone ends its handler
        return runner

    async def _chat(self, request: web.Request) -> web.Response:
        exchange = Exchange(self.session)
        self.exchanges.append(exchange)
        self._open.append(exchange)
        try:
            return await self._exchange(request, exchange)
        finally:
            self._open.remove(exchange)
            self._ended.set()

    async def _exchange(self, request: web.Request, exchange: Exchange) -> web.Response:
        if self.unread and self._goes_wrong(f"unread {len(self.exchanges)}", len(self.faults) + 1):
            exchange.fault = UNREAD
            return self._reset(request)
        body = await request.json()
        exchange.call = body["seed"]
        exchange.item = number_in(body["messages"][0]["content"])
        exchange.fault = self._fault(exchange.call)
        self._take_aim(0)
        await asyncio.sleep(self.latency)
        if self._holding or exchange.fault == HANG:
            await asyncio.Event().wait()  # until the other side goes away
        return await self._answer(request, body, exchange)

    def _goes_wrong(self, what: str, share: int = 1) -> bool:
        return random.Random(f"{self.seed} {what}").random() < self.rate / share

    def _fault(self, call: int) -> str:
        before = self._came[call]
        self._came[call] += 1
        what = f"{call} {before}"
        if (before and self.once) or not self._goes_wrong(what):
            return ""
        return random.Random(f"{self.seed} {what} which").choice(self.faults)

    async def _answer(self, request: web.Request, body: Json, exchange: Exchange) -> web.Response:
        if exchange.fault == RESET:
            return self._reset(request)
        if exchange.fault == COME_BACK:
            return web.Response(status=429, headers={"Retry-After": str(self.come_back)})
        if refusal := REFUSALS.get(exchange.fault):
            return refusal()
        good = self.say(body)
        if good is None:
            exchange.fault = NEVER
            return web.json_response({"error": {"message": "never"}}, status=400)
        data = completion(body, json.dumps(good))
        if reply := REPLIES.get(exchange.fault):
            data["choices"] = [reply(good)]
        if exchange.fault == CUT:
            return self._cut_off(request, json.dumps(data).encode())
        response = web.json_response(data)
        await response.prepare(request)
        await response.write_eof()
        if not self._dead:
            exchange.answered = True
            self._take_aim(1)
        return response

    def _waiting(self) -> frozenset[int]:
        made = {e.call for e in self.of(self.session) if e.call}
        done = {e.call for e in self.of(self.session) if e.answered or e.fault == NEVER}
        return frozenset(made - done)

    def _reset(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        line: socket.socket = request.transport.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        request.transport.abort()
        return web.Response()

    def _cut_off(self, request: web.Request, data: bytes) -> web.Response:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        assert request.transport is not None
        request.transport.write(head.encode() + b"\r\n\r\n" + data[: len(data) // 2])
        request.transport.close()
        return web.Response()

    def _take_aim(self, answers: int) -> None:
        """Kill when the time has come; called at every request read and every answer sent."""
        aim = self._aim
        if aim is None:
            return
        aim.answers -= answers
        waiting = self._waiting()
        self._holding = aim.answers <= 0 and aim.held > 0
        if aim.answers > 0 or len(waiting) < aim.held:
            return
        os.kill(aim.pid, signal.SIGKILL)
        self._aim, self._dead = None, True
        at_work = frozenset(e.call for e in self._open if e.call in waiting and e.fault != HANG)
        self.kills.append(Kill(self.session, waiting, at_work))
