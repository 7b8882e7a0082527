"""The store: every item, attempt, grade and call of a run, in one DuckDB file.

    store = Store("qa.duckdb")
    store.runs(); store.counts("grounded_qa"); store.item("7f3a").why()

Enters: a path; questions. Leaves: records and counts; nothing is changed, except that records which a
killed run left in the journal are folded in first. Refuses to know: models, graphs, prompts.
While a run writes, readers get in between its folds and see what was folded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentloop.errors import StoreError, boundary, did_you_mean
from agentloop.filelock import FileLock
from agentloop.store.counts import COUNT_KEYS, VERDICTS, calls_name, one, read_counts, read_spending
from agentloop.store.evidence import Evidence, read_evidence
from agentloop.store.files import Files, StoreBusy, StoreCutOff, connect, fold, prepare
from agentloop.store.schema import EXAMPLES, MIGRATIONS, check_version
from agentloop.store.sums import Sums, read_sums
from agentloop.store.windows import Asked, Block, Chosen, read_windows

if TYPE_CHECKING:
    import duckdb

    from agentloop.records import Attempt, Item, Json
    from agentloop.store.story import Story

__all__ = [
    "COUNT_KEYS",
    "EXAMPLES",
    "VERDICTS",
    "Store",
    "calls_name",
    "read_counts",
    "read_spending",
]

BATCH = 1000  # rows fetched at a time
ATTEMPT = """json_object(
    'round', a.round, 'parent', a.parent, 'candidate', a.candidate,
    'messages', a.messages, 'checks', a.checks, 'critique', a.critique,
    'model', a.model, 'prompt', a.prompt, 'grade', g.grade,
    'accepted', g.accepted, 'reason', g.reason, 'detail', g.detail)"""

ONCE = (
    "messages IS NULL "
    "OR row_number() OVER (PARTITION BY messages, verdict ORDER BY time, run, item) = 1"
)
"""Of rows that say the same, the first."""


class Store:
    """Reads a store. Raises StoreError when there is none, or it cannot be read within 3 s."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._known: Sums | None = None
        if not self.path.is_file():
            raise StoreError(f"there is no store `{self.path}`")
        with connect(self.path, write=False) as connection:
            version = check_version(connection, str(self.path))
        files = Files(self.path)
        if files.pending or version < len(MIGRATIONS):
            self._catch_up(files)

    def _catch_up(self, files: Files) -> None:
        """Bring up an old store, and fold what a dead run left; a living run folds by itself."""
        import duckdb

        lock = FileLock(files.lock)
        try:
            if lock.acquire():
                prepare(self.path)
                fold(files, last=True)
        except (OSError, StoreBusy, StoreCutOff):
            return  # a read-only folder, say: what was committed is readable
        except StoreError as error:
            if isinstance(error.__cause__, duckdb.Error):
                return  # a full disk: likewise
            raise
        finally:
            lock.release()

    def runs(self) -> list[str]:
        """Return the runs' names, latest first."""
        return [row[0] for row in self._rows("SELECT run FROM runs ORDER BY time DESC, run")]

    def run(self, name: str | None = None) -> str:
        """Return a run's name: the one asked for, else the latest."""
        runs = self.runs()
        if not runs:
            raise StoreError(f"store `{self.path}` holds no run yet")
        if name is None:
            return runs[0]
        if name not in runs:
            raise StoreError(f"store `{self.path}` has no run `{name}`{did_you_mean(name, runs)}")
        return name

    def gradings(self, run: str | None = None) -> list[Json]:
        """Return the run's gradings: `grading, critic, rubric, time`; the first is the run's own."""
        name = self.run(run)
        rows = self._rows(
            "SELECT grading, critic, rubric, time FROM gradings WHERE run = ? AND grading > 0 "
            "ORDER BY grading",
            name,
        )
        own: Json = {"grading": 0, "critic": None, "rubric": None, "time": None}
        keys = own.keys()
        found = [dict(zip(keys, row, strict=True)) for row in rows]
        return [own, *({**row, "rubric": json.loads(row["rubric"])} for row in found)]

    def grading(self, grading: int, run: str | None = None) -> int:
        """Return a grading's number; StoreError when the run has no such grading."""
        known = [row["grading"] for row in self.gradings(run)]
        if grading not in known:
            listed = ", ".join(str(number) for number in known)
            raise StoreError(f"run `{self.run(run)}` has no grading {grading} (known: {listed})")
        return grading

    def counts(self, run: str | None = None, grading: int = 0) -> Json:
        """Return the run's counts over all its resumes, with the keys of `COUNT_KEYS`.

        Verdicts, calls, cost and seconds of another grading are its own; it has no audits.
        """
        name = self.run(run)  # a second look within one would give up its lock on the file
        with connect(self.path, write=False) as connection:
            return read_counts(connection, name, grading, self._sums(connection))

    def evidence(self, run: str | None = None) -> Evidence:
        """Return what audits and canaries say of the run's grades."""
        name = self.run(run)
        with connect(self.path, write=False) as connection:
            return read_evidence(connection, name, self._sums(connection))

    def reasons(self, run: str | None = None, grading: int = 0) -> dict[str, int]:
        """Return how often each reason was given."""
        name = self.run(run)
        with connect(self.path, write=False) as connection:
            sums = self._sums(connection)
        found: dict[str, int] = {}
        for (_, reason), count in sums.verdicts(name, grading).items():
            if reason is not None:
                found[reason] = found.get(reason, 0) + count
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    def judged(self, run: str | None = None) -> tuple[int, int, bool]:
        """Return how many attempts of a run checks and critic accepted, and how many they decided.

        The third says whether an audit of all decided after them.
        """
        name = self.run(run)
        with connect(self.path, write=False) as connection:
            _, accepted, judged = self._sums(connection).one("grades", name, 0, size=3)
            sql = "SELECT (identity->'models.auditor') IS NOT NULL FROM runs WHERE run = ?"
            return int(accepted), int(judged), one(connection, sql, name)

    def calibrations(self) -> list[Json]:
        """Return the reports of all calibrations in the store, latest first."""
        sql = "SELECT report FROM calibrations ORDER BY time DESC, rid DESC"
        return [json.loads(report) for (report,) in self._rows(sql)]

    def calibration(self, run: str | None = None) -> Json | None:
        """Return the report of the calibration that a run used; None for an uncalibrated run.

        What was measured since is in `calibrations`; `calibration_report.known_of` looks there, too.
        """
        sql = (
            "SELECT c.report FROM runs r JOIN calibrations c ON c.rid = r.identity->>'calibration' "
            "WHERE r.run = ?"
        )
        rows = self._rows(sql, self.run(run))
        return json.loads(rows[0][0]) if rows else None

    def item(self, item: str, run: str | None = None, grading: int = 0) -> Story:
        """Return one item's story by its id or the beginning of it."""
        name = self.run(run)
        found = self._rows(
            "SELECT item FROM items WHERE run = ? AND starts_with(item, ?) ORDER BY item LIMIT 5",
            name,
            item.lower(),
        )
        if not found:
            raise StoreError(f"run `{name}` has no item `{item}`")
        if len(found) > 1:
            listed = ", ".join(f"`{row[0]}`" for row in found)
            raise StoreError(f"`{item}` is the beginning of several items: {listed}")
        return self._story(name, found[0][0], grading)

    def examples(
        self,
        *runs: str,
        verdict: str = "accepted",
        where: str = "",
        grading: int = 0,
    ) -> Iterator[Json]:
        """Yield rows of the view `examples` as dicts, JSON columns parsed, in the order settled.

        Those of the latest run, or of the named ones: of several, what two say alike stands once.
        `where` is a SQL condition over that view; it can read nothing else.
        """
        if len(runs) > 1:
            with self._chosen(runs, verdict, where, grading) as (connection, sql, values):
                yield from _stream(connection, sql, values, where)
            return
        run = self.run(*runs)
        with connect(self.path, write=False) as connection:
            names, parsed = _columns(connection)
        asked = Asked([f'"{name}"' for name in names])
        chosen = Chosen(run, grading, verdict, where)
        for block in self.blocks(chosen, lambda: asked):
            for row in block.rows:
                yield _parsed(row, names, parsed)

    def blocks(self, chosen: Chosen, asked: Callable[[], Asked]) -> Iterator[Block]:
        """Yield rows of `examples` of one run, some thousand at a time, in the order settled.

        JSON columns are text. What is `asked` may change from block to block.
        """
        where = chosen.where
        with connect(self.path, write=False) as connection:
            if where:
                _check_condition(connection, where)
            with _refusing(where):
                yield from read_windows(connection, chosen, asked)

    def examples_with_attempts(
        self,
        *runs: str,
        verdict: str = "accepted",
        where: str = "",
        grading: int = 0,
        least: int = 2,
    ) -> Iterator[tuple[Json, list[Attempt]]]:
        """Yield rows of `examples` that have `least` attempts, each with all of them, by round."""
        with self._chosen(runs, verdict, where, grading) as (connection, chosen, values):
            sql = f"""
            SELECT e.*, t.attempts FROM ({chosen}) e JOIN (
                SELECT a.run, a.item, a.opening, list({ATTEMPT} ORDER BY a.round) AS attempts
                FROM attempts a
                LEFT JOIN grades g ON g.run = a.run AND g.item = a.item AND g.opening = a.opening
                    AND g.round = a.round AND g.grading = $grading
                WHERE list_contains($runs, a.run) GROUP BY ALL HAVING count(*) >= {least}
            ) t USING (run, item, opening) ORDER BY e.time, e.item
            """
            for row in _stream(connection, sql, values, where):
                yield row, [read_attempt(json.loads(a)) for a in row.pop("attempts")]

    @contextmanager
    def _chosen(
        self, runs: Sequence[str], verdict: str, where: str, grading: int
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, str, Json]]:
        """Open the store for a query over `examples`: the connection, SQL and its values."""
        conditions = ["list_contains($runs, run)", "grading = $grading"]
        chosen = [self.run(name) for name in runs] or [self.run()]
        values: Json = {"runs": chosen, "grading": grading}
        if verdict != "all":
            conditions.append("verdict = $verdict")
            values["verdict"] = verdict
        sql = f"SELECT * FROM examples WHERE {' AND '.join(conditions)}"
        sql = f"SELECT * FROM ({sql}) WHERE (\n{where or 'true'}\n)"
        if len(chosen) > 1:
            sql += f" QUALIFY {ONCE}"
        with connect(self.path, write=False) as connection:
            if where:
                _check_condition(connection, where)
            yield connection, f"{sql} ORDER BY time, item", values

    def _sums(self, connection: duckdb.DuckDBPyConnection) -> Sums:
        self._known = read_sums(connection, self._known)
        return self._known

    def _story(self, run: str, item: str, grading: int) -> Story:
        from agentloop.store.story import Story

        with connect(self.path, write=False) as connection:
            return Story(
                item=_read_item(connection, run, item, grading),
                recipe=one(connection, "SELECT recipe FROM runs WHERE run = ?", run),
                calls=_dicts(
                    connection,
                    "SELECT key, model, answered, finish_reason, prompt_tokens, completion_tokens, "
                    "cost_usd, latency, tries, error, digest, raw->>'from_run' AS from_run FROM calls "
                    "WHERE run IN (?, ?) AND item = ? ORDER BY time, key",
                    run,
                    calls_name(run, grading),
                    item,
                ),
            )

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with connect(self.path, write=False) as connection:
            return connection.execute(sql, list(values)).fetchall()


def _read_item(connection: duckdb.DuckDBPyConnection, run: str, item: str, grading: int) -> Item:
    from agentloop.records import Item, Seed, Verdict

    place = (run, item)
    (row,) = _dicts(connection, "SELECT * FROM items WHERE run = ? AND item = ?", *place)
    attempts = _dicts(
        connection,
        "SELECT a.*, g.grade, g.accepted, g.reason, g.detail FROM attempts a "
        "LEFT JOIN grades g ON g.run = a.run AND g.item = a.item AND g.opening = a.opening "
        "AND g.round = a.round AND g.grading = ? WHERE a.run = ? AND a.item = ? "
        "AND a.opening = (SELECT max(opening) FROM attempts WHERE run = ? AND item = ?) "
        "ORDER BY a.round",
        grading,
        *place,
        *place,
    )
    verdicts = _dicts(
        connection,
        "SELECT verdict, reason, detail, round, score, grading FROM verdicts "
        "WHERE run = ? AND item = ? AND grading = ? ORDER BY opening DESC LIMIT 1",
        *place,
        grading,
    )
    return Item(
        run=run,
        id=item,
        seed=Seed(id=row["seed_id"], fields=row["seed"]),
        inputs=row["inputs"],
        attempts=tuple(read_attempt(a) for a in attempts),
        verdict=Verdict.model_validate(verdicts[0]) if verdicts else None,
    )


def read_attempt(row: Json) -> Attempt:
    """Return an attempt from columns of `attempts` and `grades`."""
    from agentloop.records import Attempt, CheckResult

    fields = {key: row[key] for key in Attempt.model_fields if row.get(key) is not None}
    fields["checks"] = [CheckResult.model_validate(c) for c in row["checks"] or []]
    return Attempt.model_validate(fields)


def _dicts(connection: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> list[Json]:
    return list(_as_dicts(connection.execute(sql, list(values))))


def _stream(
    connection: duckdb.DuckDBPyConnection, sql: str, values: Json, where: str
) -> Iterator[Json]:
    with _refusing(where):
        yield from _as_dicts(connection.execute(sql, values))


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    """Turn what DuckDB says of a condition, or of a store, into a StoreError."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        line = str(error).strip().splitlines()[0]
        if where:
            raise StoreError(f"`--where {where}`: {line}") from error
        raise StoreError(f"the store cannot be read: {line}") from error


def _check_condition(connection: duckdb.DuckDBPyConnection, where: str) -> None:
    """Raise StoreError for what is not one condition over the view `examples` alone.

    It is tried on an empty table of the view's columns, in a database that holds nothing else.
    """
    import duckdb

    columns = connection.execute("DESCRIBE examples").fetchall()
    listed = ", ".join(f'"{name}" {kind}' for name, kind, *_ in columns)
    probe = f"SELECT 1 FROM examples WHERE (\n{where}\n)"
    refusal = f"`--where {where}`: a condition over the view `examples`, nothing else"
    with duckdb.connect() as empty, boundary(StoreError, refusal, duckdb.Error):
        empty.execute(f"CREATE TABLE examples ({listed})")
        empty.execute("SET enable_external_access = false")
        empty.execute("SET lock_configuration = true")
        bare = f"SELECT 1 WHERE\n{where}\n"  # no bracket of it may close one of ours
        if any(len(duckdb.extract_statements(sql)) != 1 for sql in (bare, probe)):
            raise StoreError(refusal)
        empty.execute(probe)


def _columns(connection: duckdb.DuckDBPyConnection) -> tuple[list[str], list[bool]]:
    """Return the columns of the view `examples`, and which of them are JSON."""
    found = connection.execute("DESCRIBE examples").fetchall()
    return [name for name, *_ in found], [kind == "JSON" for _, kind, *_ in found]


def _as_dicts(cursor: duckdb.DuckDBPyConnection) -> Iterator[Json]:
    names = [column[0] for column in cursor.description or []]
    parsed = [str(column[1]) == "JSON" for column in cursor.description or []]
    while rows := cursor.fetchmany(BATCH):
        for row in rows:
            yield _parsed(row, names, parsed)


def _parsed(row: Sequence[Any], names: Sequence[str], parsed: Sequence[bool]) -> Json:
    return {
        name: json.loads(value) if is_json and value is not None else value
        for name, value, is_json in zip(names, row, parsed, strict=True)
    }
