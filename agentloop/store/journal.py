"""The journal of one run: every paid call once, as `models.base.Journal` asks.

Enters: calls of this session; those of earlier ones that belong to items not yet settled. Leaves:
replies that survive `kill -9` before the graph sees them. Refuses to know: prompts, models, verdicts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentloop.models.base import CallKey, Reply
from agentloop.records import Json, Usage
from agentloop.store.writer import Writer

if TYPE_CHECKING:
    import duckdb

Line = tuple[str, Json]
OnCall = Callable[[Reply | None, int], None]
"""Called with the reply, or None, and the requests that were sent for it."""

UNSETTLED = """
SELECT c.item, c.key, c.digest, c.text, c.finish_reason, c.logprobs, c.prompt_tokens,
       c.completion_tokens, c.cached_tokens, c.reasoning_tokens, c.cost_usd, c.tries, c.latency, c.raw
FROM calls c
WHERE c.run = ? AND c.answered
  AND NOT EXISTS (SELECT 1 FROM examples e WHERE e.run = c.run AND e.item = c.item AND e.grading = 0)
ORDER BY c.time
"""


class RunJournal:
    """Answers from earlier sessions, writes down this one's calls.

    Nothing at all is written before the first reply or verdict of a new run: an endpoint that never
    answered leaves no trace.
    """

    def __init__(self, writer: Writer, run: str, *, on_call: OnCall = lambda *_: None):
        self.run = run
        self.silent = True
        self._writer = writer
        self._on_call = on_call
        self._held: list[Line] | None = None
        self._known: dict[tuple[str, str], tuple[str, Reply]] = {}
        self._asked: dict[str, set[CallKey]] = {}

    def hold(self, *lines: Line) -> None:
        """Keep lines back until the first reply or verdict."""
        self._held = [*(self._held or []), *lines]

    def load(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Read the replies of items that have no verdict."""
        for row in connection.execute(UNSETTLED, [self.run]).fetchall():
            self._known[row[0], row[1]] = (row[2], _reply(row[3:]))

    def write(self, *lines: Line) -> None:
        """Make lines safe, or keep them back while nothing was answered yet."""
        if self._held is not None:
            self._held.extend(lines)
        else:
            self.silent = False
            self._writer.append(*lines)

    def settle(self, *lines: Line) -> None:
        """Make an item's attempts, grades and verdict safe, and drop what was kept for it."""
        self._release()
        self.write(*lines)
        item = lines[-1][1]["item"]
        for key in self._asked.pop(item, ()):
            self._known.pop((item, str(key)), None)

    def _release(self) -> None:
        """Write what was held back."""
        if self._held:
            self._writer.append(*self._held)
            self.silent = False
        self._held = None

    def recall(self, item: str, key: CallKey, digest: str) -> Reply | None:
        """Return the journaled reply when key and digest agree."""
        asked = self._asked.setdefault(item, set())
        assert key not in asked, f"two calls of item {item} share the key {key}"
        asked.add(key)
        known = self._known.get((item, str(key)))
        return known[1] if known and known[0] == digest else None

    def record(self, item: str, key: CallKey, digest: str, model: str, reply: Reply) -> None:
        """Append a reply, in one write."""
        row = self._row(item, key, digest, model, reply.tries)
        row |= {
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
        self.write(("calls", row))
        self._on_call(reply, reply.tries)

    def record_failure(
        self, item: str, key: CallKey, digest: str, model: str, error: Exception, tries: int
    ) -> None:
        """Append that requests were sent in vain."""
        row = self._row(item, key, digest, model, tries)
        self.write(("calls", row | {"answered": False, "error": str(error)[:500]}))
        self._on_call(None, tries)

    def _row(self, item: str, key: CallKey, digest: str, model: str, tries: int) -> Json:
        return {
            "rid": self._writer.row_id(),
            "run": self.run,
            "item": item,
            "key": str(key),
            "digest": digest,
            "model": model,
            "tries": tries,
            "time": time.time(),
        }


def _reply(row: tuple[Any, ...]) -> Reply:
    text, finish, logprobs, prompt, completion, cached, reasoning, cost, tries, latency, raw = row
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
