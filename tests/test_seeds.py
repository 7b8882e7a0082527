"""Seeds: every format, hostile content, renaming, names by content."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import SeedError
from agentloop.readers import MAX_LINE
from agentloop.records import Json, canonical
from agentloop.seeds import Seeds, mapping_of

ROWS: list[Json] = [
    {"passage": "The Elbe rises in the Giant Mountains.", "topic": "rivers"},
    {"passage": "Grüße, 東京, 🙂, “quotes”, a, comma", "topic": "text"},
    {"passage": "Two\nlines\u2028and a separator", "topic": ""},
]


def read(
    source: Any, mapping: dict[str, str] | None = None, reads: tuple[str, ...] = ()
) -> list[Json]:
    seeds = Seeds(source, mapping)
    seeds.check(reads)
    return [seed.fields for seed in seeds]


def refused(
    source: Any, *words: str, reads: tuple[str, ...] = ("passage",), **mapping: str
) -> None:
    """Assert one line that names all of this."""
    with pytest.raises(SeedError) as caught:
        read(source, mapping, reads)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 1000
    assert [word for word in words if word not in said] == []


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def query(folder: Path, sql: str, *before: str) -> str:
    with duckdb.connect(folder / "d.duckdb") as connection:
        for statement in before:
            connection.execute(statement)
    return f"duckdb:{folder / 'd.duckdb'}?{sql}"


class TestFormats:
    @pytest.mark.parametrize("name", ["s.jsonl", "S.JSONL", "s.ndjson"])
    def test_json_lines(self, tmp_path: Path, name: str) -> None:
        assert read(write(tmp_path, name, lines(*ROWS))) == ROWS

    def test_a_json_list(self, tmp_path: Path) -> None:
        assert read(write(tmp_path, "s.json", json.dumps(ROWS))) == ROWS

    def test_csv_with_quoted_commas_and_lines(self, tmp_path: Path) -> None:
        text = 'passage,topic\r\n"a, ""b""\r\nc",x\r\n\r\n"1,2\n3,""4,""""5""""""",nested\r\n'
        assert read(write(tmp_path, "s.csv", text)) == [
            {"passage": 'a, "b"\r\nc', "topic": "x"},
            {"passage": '1,2\n3,"4,""5"""', "topic": "nested"},
        ]

    def test_parquet(self, tmp_path: Path) -> None:
        path = tmp_path / "s.parquet"
        duckdb.execute(
            "COPY (SELECT 'p' AS passage, DATE '2020-01-02' AS day, 1.5::DECIMAL(4, 2) AS price, "
            "{'x': [1, NULL]} AS nested, MAP {1: 'a'} AS map, 'nan'::DOUBLE AS none, true AS yes, "
            "TIMESTAMP '2020-01-02 03:04:05' AS at) "
            f"TO '{path}' (FORMAT parquet)"
        )
        assert read(path) == [
            {
                "passage": "p",
                "day": "2020-01-02",
                "price": "1.50",
                "nested": {"x": [1, None]},
                "map": {"1": "a"},
                "none": None,
                "yes": True,
                "at": "2020-01-02 03:04:05",
            }
        ]

    @pytest.mark.parametrize("name", ["a[1].parquet", "a*.parquet", "it's.parquet"])
    def test_a_parquet_files_name_is_no_pattern(self, tmp_path: Path, name: str) -> None:
        for other, value in (("a1.parquet", "other"), (name, "mine")):
            duckdb.execute(f"COPY (SELECT '{value}' AS passage) TO '{tmp_path}/t' (FORMAT parquet)")
            (tmp_path / "t").rename(tmp_path / other)
        assert read(tmp_path / name) == [{"passage": "mine"}]

    def test_a_duckdb_query(self, tmp_path: Path) -> None:
        table = "CREATE TABLE t AS SELECT range AS n, 'p' || range AS passage FROM range(3)"
        source = query(tmp_path, "SELECT passage, n FROM t WHERE n > 0 ORDER BY n DESC", table)
        assert read(source) == [{"passage": "p2", "n": 2}, {"passage": "p1", "n": 1}]

    def test_a_query_changes_nothing(self, tmp_path: Path) -> None:
        source = query(tmp_path, "DROP TABLE t", "CREATE TABLE t AS SELECT 1 AS passage")
        refused(source, "DROP TABLE t")
        assert read(source.replace("DROP TABLE", "FROM")) == [{"passage": 1}]

    def test_moments_with_a_zone_are_read(self, tmp_path: Path) -> None:
        source = query(tmp_path, "SELECT 'p' AS passage, TIMESTAMPTZ '2020-01-02 00:00:00Z' AS at")
        assert str(read(source)[0]["at"]).startswith("2020-01-0")

    def test_an_iterable_of_mappings(self) -> None:
        assert read(iter(ROWS)) == ROWS

    def test_values_of_python_become_json(self) -> None:
        row = {
            "day": datetime.date(2020, 1, 2),
            "price": decimal.Decimal("1.50"),
            "id": uuid.UUID(int=1),
            "pair": (1, float("inf")),
            3: {4: "x"},
        }
        assert read([row]) == [
            {
                "day": "2020-01-02",
                "price": "1.50",
                "id": "00000000-0000-0000-0000-000000000001",
                "pair": [1, None],
                "3": {"4": "x"},
            }
        ]

    def test_a_byte_order_mark_is_no_content(self, tmp_path: Path) -> None:
        mark = b"\xef\xbb\xbf"
        one = [{"passage": "a"}]
        assert read(write(tmp_path, "s.jsonl", mark + b'{"passage": "a"}')) == one
        assert read(write(tmp_path, "s.json", mark + b'[{"passage": "a"}]')) == one
        assert read(write(tmp_path, "s.csv", mark + b"passage\na\n")) == one


class TestWalk:
    def test_copies_are_counted_and_walked_once(self) -> None:
        seeds = Seeds([ROWS[0], ROWS[1], dict(reversed(ROWS[0].items()))])
        seeds.check(("passage",))
        assert (seeds.count, seeds.duplicates) == (2, 1)
        assert [s.fields for s in seeds] == [s.fields for s in seeds] == ROWS[:2]

    def test_a_generator_can_be_walked_again(self) -> None:
        def rows() -> Iterator[Json]:
            yield from ROWS

        assert read(rows()) == ROWS

    def test_a_source_is_named(self, tmp_path: Path) -> None:
        path = write(tmp_path, "s.jsonl", lines(*ROWS))
        assert Seeds(path).name == str(path)
        assert Seeds(ROWS).name == "the given seeds"

    def test_blank_lines_are_no_seeds_but_count_as_lines(self, tmp_path: Path) -> None:
        path = write(tmp_path, "s.jsonl", '\n{"passage": "a"}\n  \r\n{"passge": "b"}')
        refused(path, "line 4", "no field `passage`")


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("s.jsonl", "", ["holds no seeds"]),
            ("s.json", "[]", ["holds no seeds"]),
            ("s.csv", "passage\n", ["holds no seeds"]),
            ("s.jsonl", '{"passage": "a"}\n{"passage": ', ["line 2", "is not JSON"]),
            ("s.jsonl", '{"passage": NaN}', ["line 1", "is not JSON"]),
            ("s.jsonl", '"words"', ["line 1", "an object with named fields"]),
            ("s.jsonl", "[" * 5000, ["line 1"]),
            ("s.jsonl", '{"passage": ' + "[" * 500 + "]" * 500 + "}", ["line 1"]),
            ("s.jsonl", '{"passage": ' + "[" * 300 + "]" * 300 + "}", ["line 1"]),
            ("s.jsonl", '{"passage": "a\0"}', ["line 1", "NUL"]),
            ("s.jsonl", '{"passage": "a\\u0000"}', ["line 1", "NUL"]),
            ("s.jsonl", '{"passage": "a", "x": {"y": ["\\u0000"]}}', ["line 1", "NUL"]),
            ("s.jsonl", '{"passage": "\\ud800"}', ["line 1", "lone surrogate"]),
            ("s.jsonl", b'{"passage": "\xff"}', ["line 1"]),
            ("s.jsonl", '{"passage": "a"}'.encode("utf-16"), ["line 1"]),
            ("s.jsonl", '{"passage": ""}', ["line 1", "`passage` is empty"]),
            ("s.jsonl", '{"passage": null}', ["line 1", "`passage` is empty"]),
            ("s.jsonl", '{"pasage": "a"}', ["line 1", "--map passage=FIELD", "`pasage`"]),
            ("s.json", '{"passage": "a"}', ["must hold a JSON list", "`.jsonl`"]),
            ("s.json", '[{"passage": "a"}, 5]', ["entry 2"]),
            ("s.json", '[{"passage": "a"}', ["is not JSON"]),
            ("s.csv", "passage,topic\na\n", ["line 2", "not as many fields"]),
            ("s.csv", "passage\na,b\n", ["line 2", "not as many fields"]),
            ("s.csv", 'passage\n"a', ["is not CSV"]),
            ("s.csv", b"passage\n\xff\n", ["is not CSV"]),
            ("s.csv", "passage\na\0\n", ["NUL"]),
            ("s.csv", "passage,passage\na,b\n", ["`passage`"]),
            ("s.csv", "", ["holds no seeds"]),
            ("s.parquet", "PAR1 and so on", ["s.parquet"]),
            ("s.txt", "a", ["`.jsonl`", "`.parquet`", "duckdb:FILE?SELECT"]),
        ],
    )
    def test_the_place_and_the_way_out_are_named(
        self, tmp_path: Path, name: str, content: str | bytes, words: list[str]
    ) -> None:
        path = write(tmp_path, name, content)
        refused(path, str(path), *words)

    def test_a_line_of_more_than_10_mb_is_refused(self, tmp_path: Path) -> None:
        start = b'{"passage": "'
        whole = start + b"x" * (MAX_LINE - len(start) - 2) + b'"}'
        assert len(read(write(tmp_path, "s.jsonl", whole))) == 1
        path = write(tmp_path, "s.jsonl", b'{"passage": "a"}\n' + whole.replace(b"x", b"xx", 1))
        refused(path, "line 2", "10 MB")

    def test_a_csv_field_of_more_than_10_mb_is_refused(self, tmp_path: Path) -> None:
        refused(write(tmp_path, "s.csv", b"passage\n" + b"x" * (MAX_LINE + 1)), "is not CSV")

    @pytest.mark.parametrize("name", ["gone.jsonl", "", "folder.jsonl"])
    def test_a_missing_file_is_named(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "folder.jsonl").mkdir()
        refused(tmp_path / name, "there is no seed file", str(tmp_path / name))

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("duckdb:gone.duckdb?SELECT 1", ["there is no database `gone.duckdb`"]),
            ("duckdb:gone.duckdb", ["write `duckdb:FILE?SELECT …`"]),
            ("duckdb:gone.duckdb? ", ["write `duckdb:FILE?SELECT …`"]),
        ],
    )
    def test_a_wrong_query_is_shown_how(self, source: str, words: list[str]) -> None:
        refused(source, *words)

    @pytest.mark.parametrize("sql", ["SELEC 1", "SELECT * FROM nowhere", "SELECT 1/", "SELECT"])
    def test_a_query_that_fails_says_why(self, tmp_path: Path, sql: str) -> None:
        refused(query(tmp_path, sql), "Error")

    def test_a_query_of_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        path = write(tmp_path, "d.duckdb", "not a database at all")
        refused(f"duckdb:{path}?SELECT 1 AS passage", str(path))

    def test_the_row_is_named(self, tmp_path: Path) -> None:
        refused(query(tmp_path, "SELECT 'blob'::BLOB AS passage"), "row 1", "bytes")


class OddFloat(float):
    pass


HOSTILE: list[Any] = [
    {"passage": "a", "big": 10**30},
    {"passage": "a", "odd": OddFloat(1.5)},
    {"passage": "a", "\ud800": 1},
    {"passage": "a", "\0": 1},
    {"passage": "a", "x": "\udfff"},
    {"passage": "a", "x": object()},
    {"passage": "a", "x": b"bytes"},
    {"passage": "a", "x": {1, 2}},
    ["passage", "a"],
    "passage",
    None,
    5,
]


class TestPython:
    @pytest.mark.parametrize("row", HOSTILE, ids=range(len(HOSTILE)))
    def test_a_hostile_row_is_refused_by_its_number_or_can_be_stored(self, row: Any) -> None:
        try:
            canonical(read([ROWS[0], row], reads=("passage",))[1])
        except SeedError as error:
            assert str(error).startswith("seed 2")  # noqa: PT017

    @pytest.mark.parametrize("depth", [260, 600, 5000])
    def test_a_row_nested_too_deeply_is_refused(self, depth: int) -> None:
        value: Any = "x"
        for _ in range(depth):
            value = [value]
        refused([{"passage": value}], "seed 1")

    def test_a_row_that_holds_itself_is_refused(self) -> None:
        row: Json = {"passage": "a"}
        row["me"] = row
        refused([row], "seed 1")

    @pytest.mark.parametrize("source", [5, None, True, 1.5, object()])
    def test_what_is_no_source_is_refused(self, source: Any) -> None:
        refused(source, "seeds")

    def test_no_seeds_are_refused(self) -> None:
        refused([], "`the given seeds` holds no seeds")


class TestMapping:
    def test_fields_are_renamed_and_others_kept(self) -> None:
        assert read([{"body": "a", "n": 1}], {"passage": "body"}) == [{"n": 1, "passage": "a"}]

    def test_two_fields_may_change_places(self) -> None:
        assert read([{"a": 1, "b": 2}], {"a": "b", "b": "a"}) == [{"a": 2, "b": 1}]

    def test_a_field_that_is_there_is_not_lost_to_a_renamed_one(self) -> None:
        refused([{"body": "a", "passage": "b"}], "seed 1", "`passage`", passage="body")

    def test_a_field_that_is_not_there_is_named(self) -> None:
        refused([{"body": "a"}], "no field `bdy` to map", "did you mean `body`", passage="bdy")

    @pytest.mark.parametrize(
        ("pairs", "mapping"),
        [((), {}), (("a=b", "c=d=e"), {"a": "b", "c": "d=e"})],
    )
    def test_pairs_are_read(self, pairs: tuple[str, ...], mapping: dict[str, str]) -> None:
        assert mapping_of(pairs) == mapping

    @pytest.mark.parametrize("pair", ["a", "a=", "=b", ""])
    def test_half_a_pair_is_refused(self, pair: str) -> None:
        with pytest.raises(SeedError, match="write `--map FIELD_THE_RECIPE_READS=YOUR_FIELD`"):
            mapping_of([pair])


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT
VALUES = st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(TEXT, v), max_leaves=4)
RECORDS = st.lists(st.dictionaries(TEXT, VALUES, max_size=3), min_size=1, max_size=3)


@given(RECORDS)
def test_what_was_written_is_read_from_any_json_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Json]
) -> None:
    folder = tmp_path_factory.mktemp("seeds")
    distinct = list({canonical(row): row for row in rows}.values())
    assert read(rows) == distinct
    assert read(write(folder, "s.jsonl", lines(*rows))) == distinct
    assert read(write(folder, "s.json", json.dumps(rows, ensure_ascii=False))) == distinct


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "replace")))
def test_any_bytes_are_seeds_or_a_seed_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("seeds")
    for name in ("s.jsonl", "s.json", "s.csv"):
        try:
            rows = read(write(folder, name, content))
        except SeedError:
            continue
        assert all(canonical(row) for row in rows)
