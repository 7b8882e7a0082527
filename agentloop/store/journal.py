"""The journal of one run: every paid call once, as `models.base.Journal` asks.

Enters: calls of this session; those of earlier ones that belong to items not yet settled. Leaves:
replies that survive `kill -9` before the graph sees them. Refuses to know: prompts, models, verdicts.

`Pages` turns calls into rows and rows into replies, wherever it is; `RunJournal` is the one that writes.
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from agentloop.models.base import Call, CallKey, Reply
from agentloop.records import Json, Usage
from agentloop.store.files import Entry
from agentloop.store.writer import Writer, row_id

if TYPE_CHECKING:
    import duckdb

Line = tuple[str, Json]
OnCall = Callable[[Reply | None, int], None]
"""Called with the reply, or None, and the requests that were sent for it."""

REPLIES = """
SELECT run, item, key, digest, tries, text, finish_reason, logprobs, prompt_tokens, completion_tokens,
       cached_tokens, reasoning_tokens, cost_usd, latency, raw
FROM calls
WHERE run IN (SELECT unnest($runs)) AND item IN (SELECT unnest($items)) AND answered
ORDER BY time
"""


class Known(NamedTuple):
    """A reply of an earlier session, or of a run that this one was forked from."""

    run: str
    digest: str
    reply: Reply


class Memory(NamedTuple):
    """What is known of one item, by the keys of its calls."""

    replies: dict[str, list[Known]]
    borrowed: set[str]
    """Calls that are known to have been answered by an ancestor."""


class Page(NamedTuple):
    """One row about a call, and what it means beside its being there."""

    kind: Literal["reply", "failure", "money", "borrowed"]
    """Answered, sent in vain, set aside for a try, answered by an ancestor."""
    line: Entry
    reply: Reply | None = None
    tries: int = 0


class Pages(ABC):
    """Answers from what it remembers, and makes a page of every call; how that is kept is open."""

    def __init__(self, run: str):
        self.run = run
        self._memory: dict[str, Memory] = {}
        self._asked: dict[str, set[CallKey]] = {}

    @abstractmethod
    async def _keep(self, page: Page) -> None:
        """Return once a page is safe."""

    @abstractmethod
    def _note(self, page: Page) -> None:
        """Write a page down in its turn; nobody waits for it."""

    def memory(self, item: str) -> Memory | None:
        """Return what is known of an item."""
        return self._memory.get(item)

    def remember(self, item: str, memory: Memory | None, lines: Iterable[bytes] = ()) -> None:
        """Take up what is known of an item, and the rows that were written of its calls since."""
        found = memory or Memory({}, set())
        self._memory[item] = Memory({k: [*v] for k, v in found.replies.items()}, {*found.borrowed})
        for line in lines:
            self._take_in(item, orjson.loads(line)["r"])

    def _take_in(self, item: str, row: Json) -> None:
        memory, key = self._of(item), row["key"]
        if not row["tries"]:
            memory.borrowed.add(key)
            return
        reply = Reply(
            text=row["text"],
            finish_reason=row["finish_reason"],
            usage=Usage(**{name: row[name] for name in Usage.model_fields}),
            cost_usd=row["cost_usd"],
            logprobs=tuple(row["logprobs"]) if row["logprobs"] else None,
            tries=row["tries"],
            latency=row["latency"],
            raw=row["raw"],
        )
        memory.replies.setdefault(key, []).append(Known(row["run"], row["digest"], reply))

    def _of(self, item: str) -> Memory:
        return self._memory.setdefault(item, Memory({}, set()))

    def forget(self, item: str) -> None:
        """Drop what was kept for an item."""
        self._memory.pop(item, None)
        self._asked.pop(item, None)

    def recall(self, call: Call) -> Reply | None:
        """Return the journaled reply when key and digest agree."""
        asked = self._asked.setdefault(call.item, set())
        assert call.key not in asked, f"two calls of item {call.item} share the key {call.key}"
        asked.add(call.key)
        memory = self._memory.get(call.item)
        for known in memory.replies.get(str(call.key), ()) if memory else ():
            if known.digest == call.digest:
                if known.run != self.run:
                    self._borrow(call, known)
                return known.reply
        return None

    def _borrow(self, call: Call, known: Known) -> None:
        """Note, once, that an ancestor's reply answered a call: no request, no cost."""
        if str(call.key) in self._of(call.item).borrowed:
            return
        row = self._row(call._replace(model=""), 0)
        line = ("calls", row | {"answered": True, "raw": {"from_run": known.run}})
        self._note(Page("borrowed", line))

    async def announce(self, call: Call, usd: float) -> str:
        """Make safe what a try may cost, before it is sent; return the name of its row."""
        rid = row_id()
        row = {"rid": rid, "run": self.run, "item": call.item, "key": str(call.key), "usd": usd}
        try:
            await self._keep(Page("money", ("reservations", row | {"time": time.time()})))
        except asyncio.CancelledError as error:  # it will not be sent
            self._note(self._failure(call, error, 0, rid))
            raise
        return rid

    async def record(self, call: Call, reply: Reply, row: str = "") -> None:
        """Append a reply, in one write."""
        found = self._row(call, reply.tries, row)
        found |= {
            "answered": True,
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "logprobs": list(reply.logprobs) if reply.logprobs else None,
            **reply.usage.model_dump(),
            "cost_usd": reply.cost_usd,
            "latency": round(reply.latency, 4),
            "raw": reply.raw,
        }
        await self._keep(Page("reply", ("calls", found), reply, reply.tries))

    async def record_failure(
        self, call: Call, error: BaseException, tries: int, row: str = ""
    ) -> None:
        """Append that requests were sent in vain."""
        await self._keep(self._failure(call, error, tries, row))

    def _failure(self, call: Call, error: BaseException, tries: int, row: str) -> Page:
        found = self._row(call, tries, row)
        said = str(error)[:500] or type(error).__name__
        line = ("calls", found | {"answered": False, "error": said})
        return Page("failure", line, None, tries)

    def _row(self, call: Call, tries: int, rid: str = "") -> Json:
        return {
            "rid": rid or row_id(),
            "run": self.run,
            "item": call.item,
            "key": str(call.key),
            "digest": call.digest,
            "model": call.model,
            "tries": tries,
            "time": time.time(),
        }


class RunJournal(Pages):
    """Answers from earlier sessions, writes down this one's calls.

    Nothing at all is written before the first reply or verdict of a new run: an endpoint that never
    answered leaves no trace.
    """

    def __init__(self, writer: Writer, run: str, *, on_call: OnCall = lambda *_: None):
        super().__init__(run)
        self.silent = True
        """Whether nothing was answered, settled or set aside for a call yet."""
        self._writer = writer
        self._on_call = on_call
        self._held: list[Entry] | None = None

    def hold(self, *lines: Line) -> None:
        """Keep lines back until the first reply or verdict."""
        self._held = [*(self._held or []), *lines]

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        items: Sequence[str],
        ancestors: Sequence[str] = (),
    ) -> None:
        """Read the replies that items got in this run, and in those that it was forked from."""
        values = {"runs": [self.run, *ancestors], "items": list(items)}
        for run, item, key, digest, tries, *reply in connection.execute(REPLIES, values).fetchall():
            if not tries:  # answered from an ancestor, whose row holds the reply
                self._of(item).borrowed.add(key)
                continue
            found = Known(run, digest, _reply(tries, *reply))
            self._of(item).replies.setdefault(key, []).append(found)

    def write(self, *lines: Entry) -> None:
        """Make lines safe, or keep them back while nothing was answered yet."""
        if self._held is not None:
            self._held.extend(lines)
        else:
            self._writer.append(*lines)

    def settle(self, item: str, *lines: Entry) -> None:
        """Make an item's attempts, grades and verdict safe, and drop what was kept for it."""
        self._release()
        self.silent = False
        self.write(*lines)
        self.forget(item)

    def _release(self) -> None:
        """Write what was held back."""
        if self._held:
            self._writer.append(*self._held)
        self._held = None

    def commit(self, *pages: Page) -> None:
        """Make pages safe, in one write."""
        for page in pages:
            if page.kind != "failure":
                self._release()
            if page.kind in ("reply", "money"):  # paid, or on its way: what is written must stay
                self.silent = False
        self.write(*[page.line for page in pages])
        for page in pages:
            if page.kind in ("reply", "failure"):
                self._on_call(page.reply, page.tries)

    async def _keep(self, page: Page) -> None:
        self.commit(page)

    def _note(self, page: Page) -> None:
        self.commit(page)


def _reply(tries: int, *row: Any) -> Reply:
    text, finish, logprobs, prompt, completion, cached, reasoning, cost, latency, raw = row
    return Reply(
        text=text,
        finish_reason=finish,
        usage=Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=cached,
            reasoning_tokens=reasoning,
        ),
        cost_usd=cost,
        logprobs=tuple(json.loads(logprobs)) if logprobs and logprobs != "null" else None,
        tries=tries,
        latency=latency,
        raw=json.loads(raw) if raw else {},
    )
