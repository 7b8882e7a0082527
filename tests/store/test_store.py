"""Looking into a store: whole, read-only, and in words when it is broken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.errors import StoreError
from agentloop.store import COUNT_KEYS, Store
from agentloop.store.files import Files, connect
from agentloop.store.writer import Writer
from tests.builders import SEEDS, agent, marks, play, python

SOURCES = ("items", "attempts", "grades", "calls", "verdicts", "runs", "labels", "sessions")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two runs: six items of `tiny`, half of them accepted, and one of `later`."""
    folder = tmp_path_factory.mktemp("store")
    odd = ("number 1.", "number 3.", "number 5.")
    model = agent(critique=lambda prompt: marks("no" if any(o in prompt for o in odd) else "yes"))
    play(folder, model, seeds=SEEDS[:6], max_rounds=0)
    play(folder, agent(), run="later", seeds=SEEDS[:1])
    return folder / "qa.duckdb"


def ids(path: Path, where: str = "", verdict: str = "all", run: str = "tiny") -> list[str]:
    return [
        row["item"]
        for row in Store(path).examples(*filter(None, [run]), verdict=verdict, where=where)
    ]


def test_a_missing_store_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        Store(tmp_path / "no.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_holds_no_run(tmp_path: Path) -> None:
    Writer(tmp_path / "s.duckdb").close()
    with pytest.raises(StoreError, match="holds no run yet"):
        Store(tmp_path / "s.duckdb").counts()


def test_the_latest_run_is_meant_unless_one_is_named(path: Path) -> None:
    store = Store(path)
    assert store.runs() == ["later", "tiny"]
    assert store.run() == "later"
    assert (store.counts()["run"], store.counts("tiny")["run"]) == ("later", "tiny")
    with pytest.raises(StoreError, match="did you mean `tiny`"):
        store.counts("tini")


def test_counts_have_the_promised_keys_and_values(path: Path) -> None:
    counts = Store(path).counts("tiny")
    assert list(counts) == COUNT_KEYS
    assert {k: counts[k] for k in ("accepted", "rejected", "seeds", "attempts", "calls")} == {
        "accepted": 3,
        "rejected": 3,
        "seeds": 6,
        "attempts": 6,
        "calls": 12,
    }
    assert counts["requests"] == 12
    assert counts["stopped_by"] == "seeds"
    assert Store(path).reasons("tiny") == {"below_threshold": 3}


def test_an_item_is_found_by_the_beginning_of_its_id(path: Path) -> None:
    store = Store(path)
    whole = ids(path)[0]
    assert store.item(whole, "tiny").item.id == whole
    assert store.item(whole[:11].upper(), "tiny").item.id == whole
    with pytest.raises(StoreError, match="has no item `zzz`"):
        store.item("zzz", "tiny")
    with pytest.raises(StoreError, match="beginning of several"):
        store.item("", "tiny")
    with pytest.raises(StoreError, match="has no item `%`"):
        store.item("%", "tiny")


def test_an_item_of_another_run_is_not_found(path: Path) -> None:
    (later,) = ids(path, run="later")
    assert later in ids(path)  # the same seed, in two runs
    assert Store(path).item(later, "later").item.run == "later"
    with pytest.raises(StoreError, match="no item"):
        Store(path).item(next(i for i in ids(path) if i != later), "later")


def test_examples_come_in_the_order_settled_and_can_be_chosen(path: Path) -> None:
    rows = list(Store(path).examples("tiny", verdict="all"))
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert [row["seed"] for row in rows] == SEEDS[:6]
    assert len(ids(path, verdict="accepted")) == 3
    assert len(ids(path, where="score < 0.5")) == 3
    assert ids(path, where="seed->>'passage' LIKE '%number 3.'") == [rows[3]["item"]]
    assert ids(path, where="round = 7") == []


@pytest.mark.parametrize(
    "where",
    [
        "nonsense",
        "score >",
        "score = 'high'",
        "?",
        "$nope = 1",
        "score = ; DROP TABLE items",
        "1 = 1; SELECT 1",
        "cast(item AS INTEGER) > 0",
    ],
)
def test_a_wrong_condition_is_one_line_that_names_it(path: Path, where: str) -> None:
    with pytest.raises(StoreError, match="--where") as caught:
        ids(path, where)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "1 = (SELECT count(*) FROM read_text('{secret}'))",
        "1 = (SELECT count(*) FROM '{secret}')",
        "1 = (SELECT count(*) FROM read_csv('{secret}'))",
        "1 = (SELECT count(*) FROM glob('{folder}/*'))",
        "1 = (SELECT count(*) FROM read_json('/proc/self/environ'))",
        "1 = 1) TO '{folder}/out.csv' --",
        "true); COPY examples TO '{folder}/out.csv'; SELECT (true",
        "true); ATTACH '{folder}/new.duckdb'; SELECT (true",
        "true); SET enable_external_access = true; SELECT (true",
        "true); INSTALL httpfs; SELECT (true",
        "true); DROP VIEW examples; SELECT (true",
        "true); CREATE TABLE store.t (a INT); SELECT (true",
        "true); PRAGMA database_list; SELECT (true",
    ],
)
def test_a_condition_reads_no_file_and_writes_nothing(
    path: Path, tmp_path: Path, where: str
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    before = path.read_bytes()
    with pytest.raises(StoreError):
        ids(path, where.format(secret=secret, folder=tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret.csv"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("table", SOURCES)
def test_a_condition_sees_the_documented_view_and_no_table(path: Path, table: str) -> None:
    with pytest.raises(StoreError):
        ids(path, f"EXISTS (SELECT 1 FROM {table})")


@pytest.mark.parametrize(
    "where", ["true) OR (true", "false) OR (run = 'later'", "true) --", "false) QUALIFY (true"]
)
def test_a_condition_cannot_widen_the_choice_of_run_and_verdict(path: Path, where: str) -> None:
    """No bracket of it closes one that was opened before it."""
    with pytest.raises(StoreError, match="a condition over the view"):
        ids(path, where, verdict="accepted")


@pytest.mark.parametrize("where", ["item <> ')' -- (", "item <> '(' /* ) */", "(true) OR (false)"])
def test_brackets_that_have_their_like_may_stand_in_a_condition(path: Path, where: str) -> None:
    assert ids(path, where) == ids(path)


def test_reading_folds_what_a_dead_writer_left(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    Writer(path).close()
    line = '{"t": "runs", "r": {"run": "a", "recipe": "r", "time": 1.0}}\n'
    Files(path).folding.write_text(line)
    Files(path).journal.write_text(line.replace('"a"', '"b"') + '{"t": "runs", "r"')
    assert sorted(Store(path).runs()) == ["a", "b"]
    assert Files(path).pending == []


def test_a_reader_leaves_the_journal_of_a_living_writer_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with Writer(path) as writer:
        writer.append(("runs", {"run": "a", "recipe": "r", "time": 1.0}))
        Store(path)
        assert Files(path).pending
    assert Store(path).runs() == ["a"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"not a database",
        lambda data: data[:100],
        lambda data: data[: len(data) // 2],
        lambda data: data[:8192] + bytes(len(data) - 8192),
        lambda data: data[:20_000] + bytes(4096) + data[24_096:],
        lambda data: bytes([*data[:-70_000], *(b ^ 0xFF for b in data[-70_000:])]),
    ],
    ids=["empty", "text", "head", "half", "zeros", "hole", "tail"],
)
def test_a_broken_store_is_a_store_error(path: Path, tmp_path: Path, damage: Any) -> None:
    """Whatever is asked of it; in a process of its own, for DuckDB may abort on such a file."""
    broken = tmp_path / "broken.duckdb"
    broken.write_bytes(damage(path.read_bytes()))
    with python(ASK_EVERYTHING, broken) as reader:
        said, wrong = reader.communicate()
    assert (reader.returncode, wrong) == (0, "")
    assert set(said.split()) <= {"fine", "refused"}


ASK_EVERYTHING = """
import sys
from agentloop.errors import StoreError
from agentloop.store import Store
asked = [
    lambda s: s.runs(), lambda s: s.counts("tiny"), lambda s: s.reasons("tiny"),
    lambda s: list(s.examples("tiny", verdict="all")), lambda s: s.reasons("tiny"),
    lambda s: s.item("", "tiny"),
]
for ask in asked:
    try:
        ask(Store(sys.argv[1]))
        print("fine")
    except StoreError as error:
        assert "\\n" not in str(error), str(error)
        print("refused")
"""


def test_another_programs_database_is_no_store(tmp_path: Path) -> None:
    import duckdb

    with duckdb.connect(str(tmp_path / "mine.duckdb")) as connection:
        connection.execute("CREATE TABLE items (a INTEGER)")
    with pytest.raises(StoreError):
        Store(tmp_path / "mine.duckdb").runs()


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Store(tmp_path)


def test_looking_changes_no_byte(path: Path) -> None:
    before = path.read_bytes()
    store = Store(path)
    store.counts("tiny")
    store.item(ids(path)[0], "tiny").why()
    assert path.read_bytes() == before
    assert not Files(path).journal.exists()


def test_a_store_that_another_process_is_writing_can_be_read(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(path.read_bytes())
    with python(
        "import sys\nfrom agentloop.store.writer import Writer\n"
        "with Writer(sys.argv[1]):\n    print('ready', flush=True)\n    sys.stdin.readline()\n",
        copy,
    ) as writer:
        assert writer.stdout
        writer.stdout.readline()
        assert Store(copy).counts("tiny") == Store(path).counts("tiny")
        writer.communicate("\n")


def test_examples_can_be_left_half_read(path: Path) -> None:
    rows = Store(path).examples("tiny", verdict="all")
    assert next(rows)["run"] == "tiny"
    rows.close()  # type: ignore[attr-defined]
    with connect(path, write=True):
        pass


def test_importing_the_store_loads_no_graph() -> None:
    with python("import sys, agentloop.store; print('langgraph' in sys.modules)") as process:
        assert process.communicate()[0] == "False\n"
    assert sys.modules[al.__name__] is al
