"""Scattered 429s: the same verdicts, one more request each, and no collapse.

Both times are printed (`pytest -s`); that they stay near each other is measured, not asserted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentloop.store import Store
from tests.faults import work
from tests.faults.server import COME_BACK, FaultyEndpoint

ITEMS, WIDE, RATE = 200, 32, 0.1


def played(folder: Path, rate: float) -> tuple[dict[str, Any], dict[int, str], FaultyEndpoint]:
    """Return a run's counts, its verdicts by passage, and the server it asked."""
    folder.mkdir()
    work.prepare(folder, ITEMS)
    with FaultyEndpoint(work.say, rate=rate, seed=9, latency=0.05) as server:
        server.faults, server.come_back, server.once, server.unread = (COME_BACK,), 1, True, False
        server.begin()
        process = work.start(folder, server.url, "--concurrency", str(WIDE))
        code, out, err = work.ended(process)
    assert code == 0, err
    rows = Store(folder / work.STORE).examples(verdict="all")
    return json.loads(out), {work.numbered(row): row["verdict"] for row in rows}, server


def test_scattered_429s_cost_one_request_each(tmp_path: Path) -> None:
    plain, as_they_should_be, _ = played(tmp_path / "plain", 0.0)
    counts, verdicts, server = played(tmp_path / "refused", RATE)
    refused = sum(e.fault == COME_BACK for e in server.exchanges)
    print(  # noqa: T201
        f"\n{plain['seconds']:.2f} s without, {counts['seconds']:.2f} s with {refused} refusals"
        f" of {server.requests} requests"
    )
    assert verdicts == as_they_should_be
    assert len(verdicts) == ITEMS
    assert refused > 0.05 * plain["requests"]
    assert counts["calls"] == plain["calls"]
    assert counts["requests"] == server.requests == plain["requests"] + refused
