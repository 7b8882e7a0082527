"""The embedded model: a small real model on the CPU, served to this process alone.

Enters: a GGUF file. Leaves: replies, through the same direct client as any endpoint. The server is a
child process on an ephemeral loopback port with a key of its own, started on first use, shared by the
run and by its worker processes, stopped with it; it ends by itself when this process dies, for its
stdin closes then.
Refuses to know: where weights come from, prompts, roles.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from agentloop.errors import UnreachableError
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.direct import DirectModel
from agentloop.models.prices import FREE
from agentloop.records import Json

SLOTS = 8  # more than calls, so that each kind of prompt keeps its beginning cached in a slot
CONTEXT = 2560  # tokens a slot
SPINCOUNT = "5000"  # libgomp's default barrier collapses beside any other work


def installed() -> bool:
    """Whether the runtime of the `local` extra is there."""
    return importlib.util.find_spec("xllamacpp") is not None


class Address(NamedTuple):
    """Where a server listens, and to whom."""

    url: str
    key: str


class EmbeddedModel:
    """llama.cpp in a child process."""

    def __init__(self, name: str, path: Path, sha256: str):
        self.name = name
        self.identity: Json = {"model": name, "weights": sha256}
        self.price = FREE
        self._path = path
        self._server: subprocess.Popen[bytes] | None = None
        self._client: DirectModel | None = None
        self._starting = asyncio.Lock()

    async def complete(self, request: Request, structured: Structured) -> Reply:
        """Send one request, starting the server before the first."""
        async with self._starting:
            if self._client is None:
                self.join(await self._start())
        assert self._client is not None
        return await self._client.complete(request, structured)

    async def serve(self) -> Address:
        """Start the server and say where it is: others may `join` it as long as this process lives."""
        async with self._starting:
            address = await self._start()
            self.join(address)
        return address

    def join(self, address: Address) -> None:
        """Use a server that runs already."""
        self._client = DirectModel(
            self.name,
            address.url,
            model=self._path.name,
            api_key=address.key,
            price=FREE,
            identity=self.identity,
        )

    async def aclose(self) -> None:
        """Stop the server."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.to_thread(_stop, server)

    async def _start(self) -> Address:
        key = secrets.token_hex(16)
        self._server = _spawn(self._path, key)
        line = await asyncio.to_thread(_first_line, self._server)
        try:
            said = json.loads(line)
        except ValueError:
            said = {"error": "the embedded model's server ended without a word"}
        if "url" not in said:
            await self.aclose()
            raise UnreachableError(f"model `{self.name}` does not start: {said['error']}")
        return Address(said["url"] + "/v1", key)


def _spawn(path: Path, key: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "AGENTLOOP_SERVE_KEY": key}
    environment.setdefault("GOMP_SPINCOUNT", SPINCOUNT)
    server = Path(__file__).with_name("serve.py")
    command = [sys.executable, str(server), str(path)]
    command += ["--slots", str(SLOTS), "--context", str(CONTEXT)]
    with tempfile.TemporaryFile(prefix="agentloop-serve-") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is the run's: it stops the server when it is done
        )


def _first_line(server: subprocess.Popen[bytes]) -> bytes:
    assert server.stdout is not None
    return server.stdout.readline()


def _stop(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.close()
    try:
        server.wait(timeout=5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    server.stdout.close()
