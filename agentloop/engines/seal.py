"""The door between machines: who comes in knows a secret, and so does every frame that passes it.

Enters: a connected socket and a secret that both ends were given in another way. Leaves: the seals of
both directions, or `Stranger`. Refuses to know: what is sent, how the secret came there.

Each end proves by a fresh number of the other's that it knows the secret, and nothing is unpickled
before that. From then on each frame carries a keyed digest of its place and content (RFC 7693), so that
none can be changed, left out or sent again. It is not encrypted, as little as what Ray itself sends.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import secrets
import socket
from dataclasses import dataclass

SIZE = 32  # bytes of a secret, a nonce and a proof
SEAL = 16  # bytes of a frame's digest
PATIENCE = 10.0  # seconds that the other end has to prove itself
GUESTS = 64  # connections that may be about to prove themselves
SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}  # it passes
PAUSE = 0.1  # seconds until it is tried again


class Stranger(Exception):
    """The other end does not know the secret."""


@dataclass
class Seal:
    """The frames of one direction."""

    key: bytes
    frames: int = 0

    def of(self, frame: bytes | memoryview) -> bytes:
        """Return the digest of the next frame."""
        place = self.frames.to_bytes(8, "big")
        self.frames += 1
        return hashlib.blake2b(frame, key=self.key, salt=place, digest_size=SEAL).digest()

    def check(self, frame: memoryview, digest: bytes) -> None:
        """Raise Stranger unless it is the next frame's."""
        if not hmac.compare_digest(self.of(frame), digest):
            raise Stranger("a frame that was not sealed by the other end")


@dataclass
class Seals:
    """The frames of both directions."""

    ours: Seal
    theirs: Seal


def fresh() -> bytes:
    """Return a new secret."""
    return secrets.token_bytes(SIZE)


async def shake(end: socket.socket, secret: bytes, *, driver: bool) -> Seals:
    """Prove oneself to the other end, and have it prove itself, all within `PATIENCE` seconds.

    Raises Stranger or OSError.
    """
    end.setblocking(False)
    loop = asyncio.get_running_loop()
    mine = fresh()
    names = (b"driver", b"worker")
    ours, theirs = names if driver else names[::-1]
    async with asyncio.timeout(PATIENCE):
        await loop.sock_sendall(end, mine)
        nonce = await _exactly(end)
        both = (mine, nonce) if driver else (nonce, mine)
        await loop.sock_sendall(end, _derived(secret, b"proof of " + ours, *both))
        proof = await _exactly(end)
    if not hmac.compare_digest(_derived(secret, b"proof of " + theirs, *both), proof):
        raise Stranger("one who does not know the secret")
    return Seals(
        Seal(_derived(secret, b"from " + ours, *both)),
        Seal(_derived(secret, b"from " + theirs, *both)),
    )


async def welcomed(listener: socket.socket, secret: bytes) -> tuple[socket.socket, Seals]:
    """Return a connection to the first who knows the secret; others keep nobody waiting."""
    first: asyncio.Future[tuple[socket.socket, Seals]] = asyncio.get_running_loop().create_future()
    guests: dict[asyncio.Task[None], None] = {}
    door = asyncio.create_task(_opened(listener, secret, first, guests))
    door.add_done_callback(lambda _: _failed(door, first))
    try:
        return await first
    except BaseException:
        if first.done() and not first.cancelled() and not first.exception():
            first.result()[0].close()
        raise
    finally:
        for task in (door, *guests):
            task.cancel()
        await asyncio.gather(door, *guests, return_exceptions=True)


async def _opened(
    listener: socket.socket,
    secret: bytes,
    first: asyncio.Future[tuple[socket.socket, Seals]],
    guests: dict[asyncio.Task[None], None],
) -> None:
    """Meet whoever comes, each in a task of its own; where they are many, the first has to go."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            end, _ = await loop.sock_accept(listener)
        except OSError as error:
            if error.errno not in SHORT:
                raise
            await asyncio.sleep(PAUSE)
            continue
        if len(guests) >= GUESTS:
            next(iter(guests)).cancel()
        guest = asyncio.create_task(_met(end, secret, first))
        guests[guest] = None
        guest.add_done_callback(guests.pop)
        await asyncio.sleep(0)  # once begun, it closes its end whatever becomes of it


def _failed(door: asyncio.Task[None], first: asyncio.Future[tuple[socket.socket, Seals]]) -> None:
    if not door.cancelled() and (error := door.exception()) and not first.done():
        first.set_exception(error)


async def _met(
    end: socket.socket, secret: bytes, first: asyncio.Future[tuple[socket.socket, Seals]]
) -> None:
    """Keep the connection where its other end is the first who knows the secret."""
    kept = False
    try:
        seals = await shake(end, secret, driver=True)
        if not first.done():
            first.set_result((end, seals))
            kept = True
    except (Stranger, OSError):
        pass
    finally:
        if not kept:
            end.close()


def _derived(secret: bytes, what: bytes, *nonces: bytes) -> bytes:
    return hashlib.blake2b(b"".join((what, *nonces)), key=secret, digest_size=SIZE).digest()


async def _exactly(end: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    got = b""
    while len(got) < SIZE:
        more = await loop.sock_recv(end, SIZE - len(got))
        if not more:
            raise Stranger("one who went away")
        got += more
    return got
