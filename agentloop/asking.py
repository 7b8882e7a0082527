"""Asking a role until its reply can be read.

Enters: a call's key, messages, a function that reads the reply. Leaves: what it read; or the error that
becomes the item's verdict. Refuses to know: what is asked for, who decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from typing_extensions import TypedDict, Unpack

from agentloop.errors import ReplyError
from agentloop.models.base import CallKey, Reply
from agentloop.models.channel import Channel
from agentloop.prompting import Message
from agentloop.records import Json

MAX_REPAIRS = 2

T = TypeVar("T")


class How(TypedDict, total=False):
    """How a channel is asked, besides the messages."""

    schema: Json
    max_tokens: int
    temperature: float
    logprobs: bool


@dataclass(frozen=True)
class Asker:
    """The roles of one item."""

    item: str
    channels: Mapping[str, Channel]
    opening: int = 0
    """How often the item was opened again: replies that could not be read are asked for anew."""
    sample: int = 0
    """Which time the same is asked: another number is another question to model and journal."""

    async def ask(
        self,
        key: CallKey,
        messages: tuple[Message, ...],
        read: Callable[[Reply], T],
        **how: Unpack[How],
    ) -> T:
        """Ask until the reply can be read, at most twice again with what was wrong with it.

        In an item that was opened again, another sample is asked of what could not be read; what could
        be read is answered by the journal, as everything is asked as before.
        """
        last = self.sample + self.opening
        for sample in range(self.sample, last):
            try:
                return await self._repaired(key._replace(sample=sample), messages, read, how)
            except ReplyError:
                continue
        return await self._repaired(key._replace(sample=last), messages, read, how)

    async def _repaired(
        self, place: CallKey, messages: tuple[Message, ...], read: Callable[[Reply], T], how: How
    ) -> T:
        told = messages
        while True:
            reply = await self.channels[place.role].ask(self.item, place, told, **how)
            try:
                return read(reply)
            except ReplyError as error:
                error.text = error.text or reply.text
                if place.repair == MAX_REPAIRS:
                    raise
                told = (*told, *_complaint(reply, error, as_json="schema" in how))
                place = place._replace(repair=place.repair + 1)


def _complaint(reply: Reply, error: ReplyError, *, as_json: bool) -> tuple[Message, Message]:
    said = {"role": "assistant", "content": reply.text or "(nothing)"}
    wrong = f"This cannot be used: {error}. Answer again"
    wrong += ", with the JSON object only." if as_json else ", as asked above."
    return said, {"role": "user", "content": wrong}


async def all_of(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all; raise the first failure only when every paid call has come home."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
