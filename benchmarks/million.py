"""A store of 10⁶ settled items: how long one waits to go on with it, to look at it, to export it.

    python benchmarks/million.py --folder FOLDER [--items 1000000] [--only status,resume,why,report]

The first items are those of a real run of `three_calls.py`; the others are made after their pattern by
SQL, with texts, names and times of their own: three calls, two attempts and two grades an item, marks
of sessions, readings of the watch, seeds file and near-duplicate index. The store stays in the folder
for the next time; making one of 10⁶ takes some minutes and 5 GB. Every figure is of a new process, the
files in the kernel's cache. `first_call_s` is from its start until a call reaches the endpoint: once
with seeds that nobody used yet at the end of the file, once with none, so that a seed is used again.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from endpoint import WORDS, Conversation
from items import ROOT

from agentloop.novelty.near import NearIndex
from agentloop.places import item_id
from agentloop.records import Seed, digest
from agentloop.store import Store
from agentloop.store.files import Files, connect
from agentloop.store.writer import Writer

RECIPE = ROOT / "benchmarks" / "three_calls.py"
RUN = "three_calls"
REAL = 64  # items of the real run
MORE = 64  # seeds that nobody used, at the end of the longer file
BATCH = 20_000  # items inserted at once
SHOWN = 500  # characters of a passage
EVERY = 0.01  # seconds between two items: 100 a second
BATCH_READ = 200  # items a reading of the watch

TEXTS = """
CREATE TEMP MACRO said(n, kind, count) AS array_to_string(list_transform(range(count), lambda i:
    getvariable('words')[1 + (hash(n * 7919 + kind * 104729 + i * 1299709)
        % len(getvariable('words')))::INT]), ' ')
"""
BATCH_OF = """
CREATE OR REPLACE TEMP TABLE batch AS
SELECT number AS n, item, seed_id,
       getvariable('patterns')[1 + number % len(getvariable('patterns'))] AS pattern,
       json_object('number', number, 'passage', passage) AS seed, $begun + number * $every AS at,
       said(number, 0, 8) AS question, said(number, 1, 30) AS draft, said(number, 2, 30) AS answer
FROM names WHERE number >= $low AND number < $high ORDER BY number
"""
ITEMS = """
INSERT INTO items BY NAME SELECT p.* REPLACE (b.item AS item, b.seed_id AS seed_id, b.seed AS seed,
    b.at AS time) FROM batch b JOIN items p ON p.item = b.pattern ORDER BY b.n
"""
CALLS = """
INSERT INTO calls BY NAME SELECT p.* REPLACE (
    format('{:x}-{}-{}', (b.at * 1e9)::UBIGINT, b.n, p.key) AS rid, b.item AS item,
    md5(b.item || p.key) AS digest, b.at AS time,
    CASE WHEN starts_with(p.key, 'critic') THEN p.text
         WHEN starts_with(p.key, 'reviser') THEN json_object('question', b.question, 'answer', b.answer)
         ELSE json_object('question', b.question, 'answer', 'draft ' || b.draft) END AS text)
FROM batch b JOIN calls p ON p.item = b.pattern ORDER BY b.n, p.time
"""
ATTEMPTS = """
INSERT INTO attempts BY NAME SELECT p.* REPLACE (b.item AS item,
    json_object('question', b.question, 'answer', b.said) AS candidate,
    json_array(json_object('role', 'user', 'content', b.question),
               json_object('role', 'assistant', 'content', b.said)) AS messages)
FROM (SELECT *, unnest([0, 1]) AS round, unnest(['draft ' || draft, answer]) AS said FROM batch) b
JOIN attempts p ON p.item = b.pattern AND p.round = b.round ORDER BY b.n, p.round
"""
GRADES = """
INSERT INTO grades BY NAME SELECT p.* REPLACE (b.item AS item)
FROM batch b JOIN grades p ON p.item = b.pattern ORDER BY b.n, p.round
"""
VERDICTS = """
INSERT INTO verdicts BY NAME SELECT p.* REPLACE (b.item AS item, b.at AS time,
    left(md5(b.item), 16) AS fingerprint)
FROM batch b JOIN verdicts p ON p.item = b.pattern ORDER BY b.n
"""
SESSIONS = """
INSERT INTO sessions BY NAME SELECT p.* REPLACE ('made-' || m AS rid, $begun + 5 * m AS time,
    5.0 * m AS seconds, NULL AS stopped_by)
FROM (SELECT * FROM sessions LIMIT 1) p, range($marks) t(m)
"""
READINGS = """
INSERT INTO readings BY NAME SELECT p.* REPLACE ('made-' || m AS rid, m + 10 AS number,
    $begun + 2 * m AS time)
FROM (SELECT * FROM readings WHERE view = 'batch' LIMIT 1) p, range($marks) t(m)
"""


def write_seeds(path: Path, count: int) -> Path:
    """Write so many different passages."""
    rows = (ROOT / "examples" / "passages.jsonl").read_text().splitlines()
    passages = [json.loads(row)["passage"][:SHOWN] for row in rows]
    with path.open("w") as file:
        for number in range(count):
            passage = f"{passages[number % len(passages)]} ({number})"
            file.write(json.dumps({"number": number, "passage": passage}) + "\n")
    return path


def write_names(seeds: Path, names: Path) -> None:
    """Write down which item each seed makes."""
    with seeds.open() as file, names.open("w") as out:
        for line in file:
            fields = json.loads(line)
            seed = Seed.of(fields)
            out.write(f"{fields['number']},{item_id(seed.id, 0)},{seed.id}\n")


LAUNCHER = """
import json, os, sys, time
start = time.time()
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(process, 0)
told = {"wall_s": round(time.time() - start, 3), "cpu_s": round(used.ru_utime + used.ru_stime, 3),
        "peak_mb": round(used.ru_maxrss / 1024, 1), "start": start}
print(json.dumps(told), file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measured(command: list[str]) -> dict[str, float]:
    """Run a command; return CPU and wall seconds, peak resident MB, and when it was started.

    A small process starts it: a child's peak counts that of who started it.
    """
    launcher = [sys.executable, "-S", "-c", LAUNCHER, *command]
    done = subprocess.run(launcher, cwd=ROOT, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {lines[:-1]}")
    found: dict[str, float] = json.loads(lines[-1])
    return found


def run(store: Path, seeds: Path, url: str, *more: str) -> list[str]:
    """Return the command that runs the recipe."""
    command = [sys.executable, "-m", "agentloop", "run", str(RECIPE), "--seeds", str(seeds)]
    command += ["--store", str(store), "--model", "openai/fake", "--base-url", url]
    command += ["--audit", "off", "--canaries", "off", "--progress", "none"]
    return [*command, *more]


def make(folder: Path, items: int) -> None:
    """Make store, seeds and index, unless they are there."""
    store, done = folder / f"{items}.duckdb", folder / f"{items}.made"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    seeds = write_seeds(folder / f"{items}.jsonl", items)
    write_seeds(folder / f"{items}-more.jsonl", items + MORE)
    names = folder / f"{items}.names.csv"
    write_names(seeds, names)
    with noting() as url:
        measured(run(store, seeds, url, "--items", str(REAL), "--concurrency", "1"))
    fill(store, seeds, names, items)
    index(store)
    Writer(store).close()  # as a real run ends
    names.unlink()
    done.write_text(url)


def fill(store: Path, seeds: Path, names: Path, items: int) -> None:
    """Add items after the pattern of those that are there."""
    begun = time.time() - EVERY * items
    with connect(store, write=True) as connection:
        execute = connection.execute
        execute("SET memory_limit = '3GB'")
        execute("CREATE TEMP TABLE w AS SELECT unnest($1) AS word", [WORDS])
        execute("SET VARIABLE words = (SELECT list(word) FROM w)")
        execute(TEXTS)
        execute("SET VARIABLE patterns = (SELECT list(item ORDER BY item) FROM items)")
        execute(
            "CREATE TEMP TABLE names AS SELECT n.*, s.passage "
            "FROM read_csv($names, header = false, columns = "
            "{'number': 'BIGINT', 'item': 'VARCHAR', 'seed_id': 'VARCHAR'}) n "
            "JOIN read_json($seeds, format = 'newline_delimited', "
            "columns = {'number': 'BIGINT', 'passage': 'VARCHAR'}) s ON s.number = n.number "
            "WHERE NOT list_contains(getvariable('patterns'), n.item)",
            {"names": str(names), "seeds": str(seeds)},
        )
        execute("UPDATE sessions SET stopped_by = NULL")
        for low in range(0, items, BATCH):
            values = {"low": low, "high": low + BATCH, "begun": begun, "every": EVERY}
            execute(BATCH_OF, values)
            execute("BEGIN")
            for sql in (ITEMS, CALLS, ATTEMPTS, GRADES, VERDICTS):
                execute(sql)
            execute("COMMIT")
            print(f"{low + BATCH:,} items", file=sys.stderr, flush=True)
        execute(SESSIONS, {"begun": begun, "marks": int(EVERY * items / 5)})
        execute(READINGS, {"begun": begun, "marks": items // BATCH_READ})
        execute("CHECKPOINT store")


def index(store: Path) -> None:
    """Add to the near-duplicate index what it lacks."""
    near = NearIndex.open(Files(store).near / digest(RUN, 6))
    held = set(_real_items(store))
    sql = "SELECT v.item, a.candidate->>'question', a.candidate->>'answer' FROM attempts a "
    sql += "JOIN verdicts v USING (run, item, opening, round)"
    with connect(store, write=False) as connection:
        cursor = connection.execute(sql)
        while rows := cursor.fetchmany(BATCH):
            for item, question, answer in rows:
                if item not in held:
                    near.add(item, f"{question}\n{answer}")
    near.close()


def _real_items(store: Path) -> list[str]:
    with connect(store, write=False) as connection:
        sql = f"SELECT item FROM items ORDER BY rowid LIMIT {REAL}"
        return [item for (item,) in connection.execute(sql).fetchall()]


class Noted(Conversation):
    """Notes when the first call of a run came."""

    first: float | None = None

    def data_received(self, data: bytes) -> None:
        Noted.first = Noted.first or time.time()
        super().data_received(data)


@contextmanager
def noting(port: int = 0) -> Iterator[str]:
    """Serve in a thread of this process; yields the base URL, which is part of a run's identity."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Noted, "127.0.0.1", port))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def resumed(store: Path, seeds: Path, url: str, *more: str) -> dict[str, float]:
    """Go on with a run for one item more."""
    Noted.first = None
    found = measured(run(store, seeds, url, *more))
    assert Noted.first is not None
    return {"first_call_s": round(Noted.first - found.pop("start"), 3), **found}


def resume(folder: Path, items: int) -> dict[str, Any]:
    store, found = folder / f"{items}.duckdb", {}
    port = int((folder / f"{items}.made").read_text().split(":")[2].partition("/")[0])
    with noting(port) as url:
        accepted = Store(store).counts()["accepted"]
        for name, seeds in (("new_seeds", f"{items}-more.jsonl"), ("used_again", f"{items}.jsonl")):
            for turn in ("first", "again"):
                accepted += 1
                more = ("--accept", str(accepted), "--concurrency", "1")
                found[f"{name}_{turn}"] = resumed(store, folder / seeds, url, *more)
    return found


def look(folder: Path, items: int, command: str, *more: str) -> dict[str, float]:
    store = folder / f"{items}.duckdb"
    found = measured([sys.executable, "-m", "agentloop", command, str(store), *more])
    return {name: value for name, value in found.items() if name != "start"}


def exported(folder: Path, items: int) -> dict[str, Any]:
    found = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for shape, ending in (("messages", "jsonl"), ("messages", "parquet"), ("raw", "jsonl")):
            target = Path(name) / f"{shape}.{ending}"
            row = look(folder, items, "export", "-o", str(target), "--shape", shape)
            row["rows_a_second"] = int(items / row["wall_s"])
            row["megabytes"] = round(target.stat().st_size / 1e6, 1)
            found[f"{shape}.{ending}"] = row
            target.unlink(missing_ok=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--items", type=int, default=10**6)
    parser.add_argument("--only", default="status,resume,why,export")
    options = parser.parse_args()
    folder, items, only = options.folder, options.items, options.only.split(",")
    make(folder, items)
    with connect(folder / f"{items}.duckdb", write=False) as connection:
        ((item,),) = connection.execute("SELECT max(item) FROM items").fetchall()
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "items": items,
        "store_mb": round((folder / f"{items}.duckdb").stat().st_size / 1e6),
    }
    if "resume" in only:
        report["resume"] = resume(folder, items)
    if "status" in only:
        report["status"] = [look(folder, items, "status") for _ in range(3)]
        report["status_json"] = look(folder, items, "status", "--json")
    if "why" in only:
        report["why"] = look(folder, items, "why", str(item))
    if "export" in only:
        report["export"] = exported(folder, items)
    if "report" in only:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            page = Path(name) / "report.html"
            report["report"] = look(folder, items, "report", "-o", str(page))
            report["report"]["kilobytes"] = round(page.stat().st_size / 1000)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
