"""A real run against an endpoint that misbehaves, killed twenty times: nothing lost, nothing paid twice.

What "in flight at a kill" means. A run of width W has at most W requests open, and a request is open
until its reply is safe in the journal. At the kill, H of them were being answered; the server knows them
by name. So at most W − H answered ones were still on their way into the journal, and only so many may be
asked again. The same holds for its items, of which there are more, each with one call at a time, open or
waiting to be sent again: each call asked again is the last one of its item in that session.
"""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

from agentloop.store import COUNT_KEYS, Store
from agentloop.store.files import connect
from tests.faults import work
from tests.faults.server import NEVER, UNREAD, Exchange, FaultyEndpoint, Kill

ITEMS, WIDE, KILLS = 500, 64, 20
ON_THEIR_WAY = 96
"""How many items a run of that width works on."""
FAULT_RATE = (0.1, 0.3)
MOST_ANSWERS = 100  # between two kills
VERDICTS = ("accepted", "rejected", "ungradable", "failed")
READABLE = {"", "prose", "fenced"}


def killed_session(server: FaultyEndpoint, folder: Path, answers: int, held: int = 0) -> Kill:
    """Start the run, or go on with it, and kill it after some answers."""
    server.begin()
    wide = held or WIDE
    process = work.start(folder, server.url, "--concurrency", str(wide))
    server.kill(process.pid, answers, held)
    code, out, err = work.ended(process)
    assert code == -signal.SIGKILL, f"it ended before it could be killed: {code} {out} {err}"
    return server.kills[-1]


def last_session(server: FaultyEndpoint, folder: Path, wide: int = WIDE) -> dict[str, Any]:
    """Let the run end; return its counts."""
    server.begin()
    code, out, err = work.ended(work.start(folder, server.url, "--concurrency", str(wide)))
    assert code == 0, err
    assert "Traceback" not in err
    counts: dict[str, Any] = json.loads(out)
    return counts


def asked_again(server: FaultyEndpoint, session: int) -> list[Exchange]:
    """Return what was answered in a session, and asked again in a later one."""
    later = {e.call for e in server.exchanges if e.session > session}
    return [e for e in server.of(session) if e.answered and e.call in later]


def test_twenty_kills_lose_nothing_and_pay_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(3)
    work.prepare(tmp_path, ITEMS)
    with FaultyEndpoint(work.say, seed=3) as server:
        for _ in range(KILLS):
            server.rate = chance.uniform(*FAULT_RATE)
            killed_session(server, tmp_path, chance.randint(0, MOST_ANSWERS))
        counts = last_session(server, tmp_path)
    check_kills(server)
    check_nothing_is_paid_twice(server)
    check_requests(server, counts)
    check_verdicts(server, tmp_path, counts)
    check_store(tmp_path, counts)
    assert {e.fault for e in server.exchanges} == {"", NEVER, UNREAD, *server.faults}


def check_kills(server: FaultyEndpoint) -> None:
    """Every kill hit work: the process was alive, as its exit code said, and more was to be asked."""
    assert [kill.session for kill in server.kills] == list(range(1, KILLS + 1))
    assert all(server.of(session) for session in range(1, KILLS + 2))
    assert sum(bool(kill.waiting) for kill in server.kills) >= KILLS // 2


def check_nothing_is_paid_twice(server: FaultyEndpoint) -> None:
    for session in range(1, server.session + 1):
        answered = [e.call for e in server.of(session) if e.answered]
        assert len(answered) == len(set(answered)), f"paid twice within session {session}"
    for kill in server.kills:
        again = asked_again(server, kill.session)
        assert len(again) <= WIDE - len(kill.at_work)
        assert len(again) <= ON_THEIR_WAY - len(kill.waiting)
        last = {e.item: e.call for e in server.of(kill.session)}
        assert all(last[e.item] == e.call for e in again)
        assert not kill.waiting & {e.call for e in again}


def check_requests(server: FaultyEndpoint, counts: dict[str, Any]) -> None:
    """The run counts what it sent, but for the requests of calls that a kill took out of its hands.

    Those calls are asked again later; a request that was reset unread is nobody's.
    """
    lost = 0
    for session in range(1, server.session):
        later = {e.call for e in server.exchanges if e.session > session}
        lost += sum(not e.call or e.call in later for e in server.of(session))
    assert server.requests - lost <= counts["requests"] <= server.requests
    assert counts["calls"] == len({e.call for e in server.exchanges if e.answered})


def check_verdicts(server: FaultyEndpoint, folder: Path, counts: dict[str, Any]) -> None:
    """Every seed is settled once, and as it should be; who failed was wronged three times."""
    rows = list(Store(folder / work.STORE).examples(verdict="all"))
    numbers = [work.numbered(row) for row in rows]
    assert sorted(numbers) == list(range(ITEMS))
    assert {v: sum(row["verdict"] == v for row in rows) for v in VERDICTS} == {
        v: counts[v] for v in VERDICTS
    }
    wronged = dict.fromkeys(range(ITEMS), 0)
    for exchange in server.exchanges:
        if exchange.fault not in READABLE and exchange.item >= 0:
            wronged[exchange.item] += 1
    for row in rows:
        check_verdict(row, wronged[work.numbered(row)])
    accepted = [row for row in rows if row["verdict"] == "accepted"]
    assert len(accepted) >= 0.9 * ITEMS - ITEMS // 50
    assert sum(work.is_twin(work.numbered(row)) for row in accepted) == 1
    assert len({str(row["messages"]) for row in accepted}) == len(accepted)


def check_verdict(row: dict[str, Any], wronged: int) -> None:
    verdict, reason = row["verdict"], row["reason"]
    if work.numbered(row) in {n for _, n in work.NEVER}:
        assert (verdict, reason) == ("failed", "error")
    elif verdict == "accepted":
        assert row["candidate"]["answer"].startswith("good")
        assert (row["score"], [m["level"] for m in row["grade"]["marks"]]) == (1.0, ["yes", "yes"])
    elif reason == "duplicate":
        assert (verdict, work.is_twin(work.numbered(row))) == ("rejected", True)
    elif reason == "below_threshold":  # the repair was answered with rubbish three times
        assert (row["candidate"]["answer"][:4], row["score"]) == ("weak", 0.5)
        assert wronged >= 3
    else:
        assert (verdict, row["score"]) in {("failed", None), ("ungradable", None)}
        assert reason in {"malformed", "judge_unreadable", "refused", "error"}
        assert wronged >= 3


def check_store(folder: Path, counts: dict[str, Any]) -> None:
    assert list(counts) == [*COUNT_KEYS, "evidence", "calibration"]
    assert Store(folder / work.STORE).counts() == {key: counts[key] for key in COUNT_KEYS}
    assert (counts["seeds"], counts["stopped_by"]) == (ITEMS, "seeds")
    with connect(folder / work.STORE, write=False) as connection:
        ((replies, distinct),) = connection.execute(
            "SELECT count(*), count(DISTINCT (item, key)) FROM calls WHERE answered"
        ).fetchall()
        ((verdicts,),) = connection.execute("SELECT count(*) FROM verdicts").fetchall()
    assert (replies, verdicts) == (counts["calls"], ITEMS)
    assert distinct == replies


def test_a_reply_that_came_home_is_never_asked_for_again(tmp_path: Path) -> None:
    """The server falls silent until every call of the run waits: all answers are home, then it dies."""
    wide, items = 16, 90
    work.prepare(tmp_path, items)
    with FaultyEndpoint(work.say) as server:
        for answers in (0, 40, 70):
            kill = killed_session(server, tmp_path, answers, held=wide)
            assert len(kill.waiting) == wide
        counts = last_session(server, tmp_path, wide)
        assert [asked_again(server, kill.session) for kill in server.kills] == [[], [], []]
        lost = sum(len(kill.waiting) for kill in server.kills)
        assert counts["requests"] == counts["calls"] == server.requests - lost
    assert sum(counts[v] for v in VERDICTS) == items
