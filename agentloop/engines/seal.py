"""The door between machines: who comes in knows a secret, and so does every frame that passes it.

Enters: a connected socket and a secret that both ends were given in another way. Leaves: the seals of
both directions, or `Stranger`. Refuses to know: what is sent, how the secret came there.

Each end proves by a fresh number of the other's that it knows the secret, and nothing is unpickled
before that. From then on each frame carries a keyed digest of its place and content (RFC 7693), so that
none can be changed, left out or sent again. It is not encrypted, as little as what Ray itself sends.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
from dataclasses import dataclass

SIZE = 32  # bytes of a secret, a nonce and a proof
SEAL = 16  # bytes of a frame's digest
PATIENCE = 10.0  # seconds that the other end has to prove itself


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


def shake(end: socket.socket, secret: bytes, *, driver: bool) -> Seals:
    """Prove oneself to the other end, and have it prove itself. Raises Stranger or OSError."""
    end.settimeout(PATIENCE)
    mine = fresh()
    end.sendall(mine)
    both = (mine, _exactly(end)) if driver else (_exactly(end), mine)
    names = (b"driver", b"worker")
    ours, theirs = names if driver else names[::-1]
    end.sendall(_derived(secret, b"proof of " + ours, *both))
    if not hmac.compare_digest(_derived(secret, b"proof of " + theirs, *both), _exactly(end)):
        raise Stranger("one who does not know the secret")
    return Seals(
        Seal(_derived(secret, b"from " + ours, *both)),
        Seal(_derived(secret, b"from " + theirs, *both)),
    )


def _derived(secret: bytes, what: bytes, *nonces: bytes) -> bytes:
    return hashlib.blake2b(b"".join((what, *nonces)), key=secret, digest_size=SIZE).digest()


def _exactly(end: socket.socket) -> bytes:
    got = b""
    while len(got) < SIZE:
        more = end.recv(SIZE - len(got))
        if not more:
            raise Stranger("one who went away")
        got += more
    return got
