"""The connection between who drives and a worker: messages, both ways, in order.

Enters: messages, any picklable tuples. Leaves: the same at the other end; the connection's end. Refuses
to know: what they say. Both ends are this very program, so that pickle is safe between them.

What is sent in one turn of the event loop travels as one frame: eight bytes that say how long it is,
then a pickled list. Between machines a frame's seal comes before the list, and is looked at first.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any

from agentloop.engines.seal import SEAL, Seals, Stranger

Message = tuple[Any, ...]
"""Its first part names its kind."""
HEAD = struct.Struct(">Q")
CHUNK = 2**18  # bytes that are read at once


class Wire(asyncio.Protocol):
    """One end of a connection."""

    def __init__(
        self,
        received: Callable[[Message], None],
        lost: Callable[[], None],
        seals: Seals | None = None,
    ):
        self._received = received
        self._lost = lost
        self._seals = seals
        self._sealed = SEAL if seals else 0
        self._transport: asyncio.Transport | None = None
        self._end: socket.socket | None = None
        self._in = bytearray()
        self._out: list[Message] = []

    @classmethod
    async def over(
        cls,
        end: socket.socket,
        received: Callable[[Message], None],
        lost: Callable[[], None],
        seals: Seals | None = None,
    ) -> Wire:
        """Return a wire over one end of a connection, which is its own from now on."""
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(lambda: cls(received, lost, seals), sock=end)
        wire._end = end
        return wire

    def send(self, *message: Any) -> None:
        """Send a message; one that nobody is there for any more is dropped."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self.flush)
        self._out.append(message)

    def flush(self) -> None:
        """Hand over what was sent until now."""
        out, self._out = self._out, []
        if out and self._transport is not None and not self._transport.is_closing():
            data = pickle.dumps(out, pickle.HIGHEST_PROTOCOL)
            seal = self._seals.ours.of(data) if self._seals else b""
            self._transport.writelines([HEAD.pack(len(seal) + len(data)), seal, data])

    def close(self) -> None:
        """End the connection, once what was sent is gone."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """End the connection at once; what was under way is lost."""
        if self._transport is not None:
            self._transport.abort()

    def drain(self) -> None:
        """Take what has come and end the connection: who was there is gone, whoever else may hold it."""
        if self._transport is None:
            return
        try:
            while data := self._rest():
                self.data_received(data)
        finally:
            self.cut()

    def _rest(self) -> bytes:
        """Return more of what has come; nothing once there is no more, or the socket is closed."""
        with contextlib.suppress(OSError):
            return self._end.recv(CHUNK) if self._end is not None else b""
        return b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note that it stands."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Tell that the other end is gone."""
        self._lost()

    def data_received(self, data: bytes) -> None:
        """Hand on every message that is whole."""
        self._in += data
        while len(self._in) >= HEAD.size:
            (length,) = HEAD.unpack_from(self._in)
            if len(self._in) < HEAD.size + length:
                return
            with memoryview(self._in) as view, view[HEAD.size : HEAD.size + length] as frame:
                try:
                    messages = self._opened(frame)
                except Stranger:
                    self.cut()
                    return
            del self._in[: HEAD.size + length]
            for message in messages:
                self._received(message)

    def _opened(self, frame: memoryview) -> list[Message]:
        """Return what a frame holds. Raises Stranger for one that nobody sealed."""
        with frame[self._sealed :] as data:
            if self._seals is not None:
                self._seals.theirs.check(data, bytes(frame[: self._sealed]))
            found: list[Message] = pickle.loads(data)  # noqa: S301  # from our own program
            return found
