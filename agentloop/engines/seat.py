"""A worker's seat in an actor of a Ray cluster: what runs there, in a process that Ray started.

Enters: where who drives listens, and the secret that both know. Leaves: items walked, until the driver
has had enough. Refuses to know: Ray (it only starts and watches this process), seeds, the store.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from agentloop import __version__
from agentloop.engines.luggage import put_away
from agentloop.engines.seal import PATIENCE, shake
from agentloop.engines.worker import serve


class Seat:
    """One worker; it walks many items at once."""

    def serve(
        self, address: tuple[str, int], secret: bytes, version: str, path: Sequence[str]
    ) -> None:
        """Walk what comes from who listens at an address. Raises RuntimeError, Stranger or OSError.

        `path` is where the driver finds modules: what of it is here too is looked at last.
        """
        if version != __version__:
            raise RuntimeError(f"agentloop {__version__} is installed there, and {version} here")
        sys.path += [entry for entry in path if entry not in sys.path and Path(entry).exists()]
        os.dup2(2, 1)  # what a recipe prints is no data
        end = socket.create_connection(address, PATIENCE)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            asyncio.run(_served(end, secret))
        finally:
            put_away()


async def _served(end: socket.socket, secret: bytes) -> None:
    await serve(end, await shake(end, secret, driver=False))
