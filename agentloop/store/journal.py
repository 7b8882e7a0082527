"""The journal of one run: every paid call once, as `models.base.Journal` asks.

Enters: calls of this session; those of earlier ones that belong to items not yet settled. Leaves:
replies that survive `kill -9` before the graph sees them. Refuses to know: prompts, models, verdicts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentloop.models.base import Call, CallKey, Reply
from agentloop.records import Json, Usage
from agentloop.store.writer import Writer

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


class RunJournal:
    """Answers from earlier sessions, writes down this one's calls.

    Nothing at all is written before the first reply or verdict of a new run: an endpoint that never
    answered leaves no trace.
    """

    def __init__(self, writer: Writer, run: str, *, on_call: OnCall = lambda *_: None):
        self.run = run
        self.silent = True
        """Whether nothing was answered, settled or set aside for a call yet."""
        self._writer = writer
        self._on_call = on_call
        self._held: list[Line] | None = None
        self._known: dict[str, dict[str, list[Known]]] = {}
        self._borrowed: dict[str, set[str]] = {}
        self._asked: dict[str, set[CallKey]] = {}

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
                self._borrowed.setdefault(item, set()).add(key)
                continue
            found = Known(run, digest, _reply(tries, *reply))
            self._known.setdefault(item, {}).setdefault(key, []).append(found)

    def write(self, *lines: Line) -> None:
        """Make lines safe, or keep them back while nothing was answered yet."""
        if self._held is not None:
            self._held.extend(lines)
        else:
            self._writer.append(*lines)

    def settle(self, *lines: Line) -> None:
        """Make an item's attempts, grades and verdict safe, and drop what was kept for it."""
        self._release()
        self.silent = False
        self.write(*lines)
        item = lines[-1][1]["item"]
        self._known.pop(item, None)
        self._borrowed.pop(item, None)
        self._asked.pop(item, None)

    def _release(self) -> None:
        """Write what was held back."""
        if self._held:
            self._writer.append(*self._held)
        self._held = None

    def recall(self, call: Call) -> Reply | None:
        """Return the journaled reply when key and digest agree."""
        asked = self._asked.setdefault(call.item, set())
        assert call.key not in asked, f"two calls of item {call.item} share the key {call.key}"
        asked.add(call.key)
        for known in self._known.get(call.item, {}).get(str(call.key), ()):
            if known.digest == call.digest:
                if known.run != self.run:
                    self._borrow(call, known)
                return known.reply
        return None

    def _borrow(self, call: Call, known: Known) -> None:
        """Note, once, that an ancestor's reply answered a call: no request, no cost."""
        if str(call.key) in self._borrowed.get(call.item, ()):
            return
        row = self._row(call._replace(model=""), 0)
        self._release()
        self.write(("calls", row | {"answered": True, "raw": {"from_run": known.run}}))

    def announce(self, call: Call, usd: float) -> str:
        """Make safe what a try may cost, before it is sent; return the name of its row."""
        rid = self._writer.row_id()
        row = {"rid": rid, "run": self.run, "item": call.item, "key": str(call.key), "usd": usd}
        self._release()
        self.silent = False  # money is on its way: what is written must stay
        self.write(("reservations", row | {"time": time.time()}))
        return rid

    def record(self, call: Call, reply: Reply, row: str = "") -> None:
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
        self._release()
        self.silent = False
        self.write(("calls", found))
        self._on_call(reply, reply.tries)

    def record_failure(self, call: Call, error: BaseException, tries: int, row: str = "") -> None:
        """Append that requests were sent in vain."""
        found = self._row(call, tries, row)
        said = str(error)[:500] or type(error).__name__
        self.write(("calls", found | {"answered": False, "error": said}))
        self._on_call(None, tries)

    def _row(self, call: Call, tries: int, rid: str = "") -> Json:
        return {
            "rid": rid or self._writer.row_id(),
            "run": self.run,
            "item": call.item,
            "key": str(call.key),
            "digest": call.digest,
            "model": call.model,
            "tries": tries,
            "time": time.time(),
        }


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
