"""The embedded model: a real one, when it is here."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentloop.errors import UnreachableError
from agentloop.models.base import Request
from agentloop.models.embedded import Address, EmbeddedModel, installed
from agentloop.models.serve import __file__ as server_file
from agentloop.models.weights import SMALL
from tests.builders import python
from tests.endpoint import Endpoint
from tests.models.asking import MESSAGES, REQUEST, ask, one

needs_runtime = pytest.mark.skipif(not installed(), reason="the `local` extra is not installed")
needs_weights = pytest.mark.skipif(
    not (installed() and SMALL.present),
    reason="needs the `local` extra and `agentloop doctor --fetch-model smollm2`",
)
PATIENCE = 60  # seconds until a process that should end is called stuck

PARENT = """
import asyncio, sys
from pathlib import Path
from agentloop.models.base import Request
from agentloop.models.embedded import EmbeddedModel

async def main():
    model = EmbeddedModel("local:smollm2", Path(sys.argv[1]), None)
    await model.complete(Request(({"role": "user", "content": "Hi"},), max_tokens=1), "prompt")
    print("started", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def children(pid: int | str = "self") -> set[int]:
    """Return the processes that a process has started."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            found |= {int(child) for child in (task / "children").read_text().split()}
    return found


def ends(pid: int) -> bool:
    """Wait until a process has ended, woken by the kernel."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], PATIENCE)[0])
    finally:
        os.close(handle)


def small() -> EmbeddedModel:
    return EmbeddedModel("local:smollm2", SMALL.path, SMALL.sha256)


@pytest.mark.embedded
@needs_weights
def test_a_schema_is_obeyed_logprobs_come_and_the_server_goes() -> None:
    before = children()
    short = Request(MESSAGES, temperature=0, max_tokens=1, top_logprobs=20)
    schema = {
        "type": "object",
        "properties": {"level": {"type": "string", "enum": ["no", "yes"]}},
        "required": ["level"],
        "additionalProperties": False,
    }
    asked = Request(MESSAGES, temperature=0, seed=1, max_tokens=32, schema=schema)
    answer, token, again = ask(small(), asked, short, asked)
    assert json.loads(answer.text)["level"] in ("no", "yes")
    assert (answer.finish_reason, answer.cost_usd) == ("stop", 0)
    assert answer.usage.prompt_tokens > 0
    assert again.text == answer.text
    assert token.logprobs is not None
    assert len(token.logprobs[0]) == 20
    assert max(token.logprobs[0].values()) <= 0
    assert not children() - before


@pytest.mark.embedded
@needs_weights
def test_a_closed_model_starts_again_when_asked() -> None:
    model = small()
    request = Request(MESSAGES, temperature=0, max_tokens=4)
    assert one(model, request).text == one(model, request).text


@pytest.mark.embedded
@needs_weights
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_server_ends_when_its_parent_is_killed() -> None:
    with python(PARENT, SMALL.path) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        (server,) = children(parent.pid)
        parent.kill()
        parent.wait()
        assert ends(server)


@pytest.fixture
def served() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the server itself and give its process and address."""
    with subprocess.Popen(
        [sys.executable, server_file, str(SMALL.path), "--slots", "1", "--context", "512"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "AGENTLOOP_SERVE_KEY": "right"},
    ) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["url"]
        process.kill()


def status(url: str, key: str | None, data: bytes | None = None) -> int:
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.embedded
@needs_weights
def test_the_server_answers_its_own_key_on_loopback_only_and_ends_with_stdin(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = served
    assert url.startswith("http://127.0.0.1:")
    body = json.dumps({"messages": list(MESSAGES), "max_tokens": 1}).encode()
    chat = f"{url}/v1/chat/completions"
    assert [status(chat, key, body) for key in (None, "", "wrong", "right")] == [401] * 3 + [200]
    for path in ("/slots", "/props", "/completion", "/v1/embeddings", "/metrics"):
        assert status(url + path, None) in (401, 404), path
    assert status(f"{url}/", None) in (401, 404)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE) == 0


@needs_runtime
@pytest.mark.parametrize("content", [b"GGUF", b"GGUF" + bytes(5000), b"GGUF\x03" + b"\xff" * 5000])
def test_a_file_that_is_no_model_is_an_error_and_leaves_nothing_running(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    model = EmbeddedModel("local:x.gguf", tmp_path / "x.gguf", "")
    with pytest.raises(
        UnreachableError, match=r"^model `local:x\.gguf` does not start: "
    ) as caught:
        one(model, REQUEST)
    assert "\n" not in str(caught.value)


@needs_runtime
def test_a_server_that_runs_already_is_joined_and_not_started(tmp_path: Path) -> None:
    """As worker processes do: the one that drives has started it."""
    model = EmbeddedModel("local:mine.gguf", tmp_path / "mine.gguf", "the weights' hash")
    with Endpoint() as server:
        model.join(Address(server.url, "a key"))
        before = children() if Path("/proc").is_dir() else set()
        assert one(model, REQUEST).text
        assert server.headers[0]["Authorization"] == "Bearer a key"
        assert server.bodies[0]["model"] == "mine.gguf"
    assert not Path("/proc").is_dir() or not children() - before


def test_its_identity_is_the_weights_and_never_a_port(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    known = EmbeddedModel("local", path, "abc")
    assert known.identity == {"model": "local", "weights": "abc"}
