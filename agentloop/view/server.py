"""The server of the live page: one socket on 127.0.0.1, one token, until Ctrl-C.

Enters: a store's path, a port. Leaves: an address for people, pages until it is stopped. Refuses to
know: what the pages show.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import uvicorn

from agentloop.errors import CalibrationError, SettingsError
from agentloop.labelled import find_rubric
from agentloop.store import Store
from agentloop.view.app import Pages
from agentloop.view.guard import Guard

HOST = "127.0.0.1"


def serve(
    store: str | Path,
    run: str | None = None,
    *,
    port: int = 0,
    browser: bool = True,
    annotator: str = "",
    rubric: str = "",
    told: Callable[[str], None] = print,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a store's pages until it is interrupted; `told` gets the address once it is open.

    Port 0 is a free one. `rubric` names the file that the run was graded by; `note` is told where it is
    not found. Raises StoreError, CalibrationError for another rubric than the run's, RubricError, and
    SettingsError where the port is taken.
    """
    opened = Store(store)
    name = opened.run(run)
    try:
        find_rubric(opened, name, rubric)
    except CalibrationError as error:
        if rubric:
            raise
        note(f"{error}; until then no levels of criteria are asked for")
    with closing(_listen(port)) as listening:
        number = listening.getsockname()[1]
        token = secrets.token_urlsafe(32)
        app = Guard(Pages(opened, run, annotator, rubric).app, token, number)
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="error",
            lifespan="off",
            ws="none",
            http="h11",
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        address = f"http://{HOST}:{number}/?token={token}"
        told(address)
        if browser and _has_screen():
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):  # none comes where a shell had SIGINT ignored
            uvicorn.Server(config).run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(64)  # who is told the address may come at once
    except (OSError, OverflowError) as error:
        listening.close()
        raise SettingsError(f"`port`: {port} cannot be used: {error}") from error
    return listening


def _has_screen() -> bool:
    """Whether a browser would open a window, and not take over the terminal."""
    return sys.platform == "darwin" or any(
        os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY")
    )
