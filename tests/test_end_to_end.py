"""The main job, through the command line, against a real loopback server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentloop.store import COUNT_KEYS, Store
from tests.endpoint import Endpoint

ROOT = Path(__file__).resolve().parent.parent
PASSAGES = ROOT / "examples" / "passages.jsonl"
TASKS = ROOT / "examples" / "tasks.jsonl"


def agentloop(
    *arguments: object, cwd: Path, check: bool = True
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agentloop", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)
    assert not check or done.returncode == 0, done.stderr
    return done


def run_counts(
    tmp_path: Path, endpoint: Endpoint, client: str, recipe: str = "grounded_qa"
) -> dict[str, Any]:
    seeds = PASSAGES if recipe == "grounded_qa" else TASKS
    done = agentloop(
        *("run", recipe, "--seeds", seeds, "--store", f"{client}.duckdb", "--items", 200),
        *("--model", "openai/fake", "--base-url", endpoint.url, "--client", client),
        *("--concurrency", 32, "--json", "--progress", "none"),
        cwd=tmp_path,
    )
    counts: dict[str, Any] = json.loads(done.stdout)
    return counts


@pytest.mark.parametrize("recipe", ["grounded_qa", "instructions"])
def test_200_items_settle_and_every_request_is_counted(recipe: str, tmp_path: Path) -> None:
    with Endpoint(latency=0.02) as endpoint:
        counts = run_counts(tmp_path, endpoint, "direct", recipe)
    assert list(counts) == [*COUNT_KEYS, "evidence", "calibration"]
    settled = sum(counts[v] for v in ("accepted", "rejected", "ungradable", "failed"))
    assert settled == 200
    assert counts["stopped_by"] == "items"
    assert counts["accepted"] > 0
    assert counts["rejected"] > 0
    assert counts["requests"] == counts["calls"] == endpoint.requests
    assert endpoint.peak <= 32
    status = agentloop("status", "direct.duckdb", "--json", cwd=tmp_path)
    told = json.loads(status.stdout)
    assert told.pop("now")["ended"] is True
    assert told == counts


def test_litellm_gives_the_same_counts_as_the_direct_client(tmp_path: Path) -> None:
    found = {}
    for client in ("direct", "litellm"):
        with Endpoint() as endpoint:
            found[client] = run_counts(tmp_path, endpoint, client)
            assert found[client]["requests"] == endpoint.requests
        found[client].pop("seconds")
    assert found["direct"] == found["litellm"]
    rows = [
        [(r["item"], r["candidate"], r["verdict"], r["score"]) for r in sorted(
            Store(tmp_path / f"{client}.duckdb").examples(verdict="all"), key=lambda r: r["item"]
        )]
        for client in ("direct", "litellm")
    ]  # fmt: skip
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("client", "model"),
    [
        ("direct", "openai/fake"),
        ("litellm", "openai/fake"),
        ("litellm", "anthropic/claude-sonnet-4-5"),
    ],
)
def test_a_run_touches_no_socket_but_its_endpoint(client: str, model: str, tmp_path: Path) -> None:
    """Every connection and look-up of the process is written down by an audit hook."""
    code = (
        "import sys, json\n"
        "seen = []\n"
        "def hook(event, args):\n"
        "    if event == 'socket.connect': seen.append(str(args[1]))\n"
        "    if event == 'socket.getaddrinfo': seen.append(str(args[0]))\n"
        "sys.addaudithook(hook)\n"
        "from agentloop.cli import run_cli\n"
        "code = run_cli(sys.argv[1:])\n"
        "print(json.dumps([code, sorted(set(seen))]))\n"
    )
    with Endpoint() as endpoint:
        done = subprocess.run(
            [sys.executable, "-c", code, "run", "instructions", "--seeds", str(TASKS)]
            + ["--store", "s.duckdb", "--items", "3", "--model", model]
            + ["--base-url", endpoint.url, "--client", client, "--progress", "none"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
            env={**os.environ, "ANTHROPIC_API_KEY": "none", "PYTHONPATH": str(ROOT)},
        )
        port = endpoint.url.split(":")[2].split("/")[0]
    exit_code, seen = json.loads(done.stdout.splitlines()[-1])
    assert exit_code == 0, done.stderr
    assert seen, "the hook saw nothing"
    assert set(seen) <= {f"('127.0.0.1', {port})", "127.0.0.1"}


def test_keys_never_reach_the_store_or_an_error(tmp_path: Path) -> None:
    secret = "sk-very-secret-0123456789"
    with Endpoint() as endpoint:
        done = subprocess.run(
            [sys.executable, "-m", "agentloop", "run", "instructions", "--seeds", str(TASKS)]
            + ["--store", "s.duckdb", "--items", "2", "--model", "openai/fake"]
            + ["--base-url", endpoint.url, "--progress", "json"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PATH": "", "OPENAI_API_KEY": secret},
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert endpoint.headers[0]["Authorization"] == f"Bearer {secret}"
    assert secret not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3  # the store, its lock, its index of near-copies
    for path in files:
        assert secret.encode() not in path.read_bytes()
