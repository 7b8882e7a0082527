"""Merging: one store of several, the same whatever the order, with twins across shards found."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agentloop as al
from agentloop.cli import run_cli
from agentloop.errors import IdentityError, RecipeError, StoreError, UnreachableError, UserError
from agentloop.filelock import FileLock
from agentloop.merge import Joined, Merged, merge
from agentloop.models.base import Reply
from agentloop.novelty import semantic
from agentloop.records import Json, Usage
from agentloop.regrade import regrade
from agentloop.rows import TOLD
from agentloop.store import Store, joining
from agentloop.store.files import Files, connect
from agentloop.store.labels import Place, candidate_hash, read_labels, say
from agentloop.store.rounds import rounds
from agentloop.store.schema import KEYS, TABLES
from agentloop.store.writer import Writer
from tests.builders import (
    RUBRIC,
    SEEDS,
    agent,
    by_first_letters,
    draft,
    marks,
    play,
    python,
    roles,
    tiny,
    write_graph,
)

WORDS = ("amber", "birch", "cedar", "delta", "ember", "frost", "glade", "heath", "isles", "jetty")


def priced(text: str) -> Reply:
    return Reply(text, usage=Usage(prompt_tokens=10, completion_tokens=2), cost_usd=0.01)


def number_in(prompt: str) -> int:
    return int(prompt.partition("number ")[2].partition(".")[0])


def text_of(number: int) -> str:
    """Return a text that is near none of another number."""
    return " ".join(f"{word}{number * 31 + place}" for place, word in enumerate(WORDS))


def writing(kinds: int) -> al.ScriptedModel:
    """Return a model that says the same for seeds whose numbers are alike modulo `kinds`."""

    def generate(prompt: str) -> Reply:
        kind = number_in(prompt) % kinds
        return priced(draft(text_of(kind), f"What of {text_of(kind + 1000)}?"))

    return agent(generate=generate, critique=lambda _: priced(marks()))


def shard(folder: Path, name: str, seeds: Sequence[Json], kinds: int = 100, **more: Any) -> Path:
    """Run some seeds into a store of their own."""
    given = {"seeds": seeds, "store": folder / f"{name}.duckdb", "novelty": "near", **more}
    model = given.pop("model", None) or writing(kinds)
    play(folder, model, given.pop("recipe", None) or tiny(folder), **given)
    return folder / f"{name}.duckdb"


def rows(store: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with connect(store, write=False) as connection:
        return connection.execute(sql, list(values)).fetchall()


def content(store: Path) -> dict[str, list[str]]:
    """Return every row of a store but its sums, as texts in their order."""
    with connect(store, write=False) as connection:
        return {
            table: sorted(
                map(
                    repr,
                    connection.sql(f"SELECT {', '.join(TABLES[table])} FROM {table}").fetchall(),
                )
            )
            for table in TABLES.keys() - {"sums"}
        }


def accepted(store: Path, run: str = "tiny") -> set[str]:
    sql = "SELECT item FROM examples WHERE run = ? AND verdict = 'accepted' AND grading = 0"
    return {item for (item,) in rows(store, sql, run)}


def copies(folder: Path, stores: Sequence[Path]) -> list[Path]:
    """Return copies of stores, for a test that changes them or what lies beside them."""
    return [Path(shutil.copy(store, folder)) for store in stores]


def joined(folder: Path, *stores: Path, out: str = "out", **more: Any) -> Merged:
    more.setdefault("recipes", [tiny(folder)])
    return merge(folder / f"{out}.duckdb", stores, **more)


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores whose items are copies of each other's; all were audited."""
    folder = tmp_path_factory.mktemp("alike")
    parts = (("a", SEEDS[:4]), ("b", SEEDS[4:10]))  # 4 5 6 7 8 9: copies of 0 1 2 3 0 1
    return [shard(folder, name, seeds, kinds=4, audit=1.0) for name, seeds in parts]


def test_twins_across_shards_fall_with_the_doors_reason(tmp_path: Path, alike: list[Path]) -> None:
    first, then = alike
    assert len(accepted(first)) == 4
    assert len(accepted(then)) == 4
    found = joined(tmp_path, first, then)
    (run,) = found.runs
    assert (run.items, run.accepted, run.refused) == (10, 4, {"duplicate": 4})
    out = found.store
    assert accepted(out) == accepted(first)
    for item in accepted(then):
        verdict = Store(out).item(item).item.verdict
        assert verdict is not None
        assert (verdict.verdict, verdict.reason) == ("rejected", "duplicate")
        assert verdict.detail.removeprefix("the same as item ") in accepted(first)
        assert verdict.score == 1.0


def test_near_twins_fall_too_and_say_how_near(tmp_path: Path) -> None:
    def nearly(prompt: str) -> str:
        return draft(f"{text_of(1)} once{number_in(prompt)}", text_of(2))

    first = shard(tmp_path, "a", SEEDS[:1], model=agent(generate=nearly))
    then = shard(tmp_path, "b", SEEDS[1:2], model=agent(generate=nearly))
    assert joined(tmp_path, first, then).runs[0].refused == {"too_similar": 1}
    (item,) = accepted(then)
    verdict = Store(tmp_path / "out.duckdb").item(item).item.verdict
    assert verdict is not None
    assert verdict.detail.endswith(f"with {accepted(first).pop()}")
    assert verdict.detail.startswith(("rouge_l 0.", "jaccard 0."))


def _asking(question: str) -> al.ScriptedModel:
    return agent(generate=draft("It is.", question))


def test_what_means_the_same_falls_where_any_shard_looked_at_meaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantic, "_embedder", lambda: by_first_letters)
    said = {"semantic": "abcdef one two three", "near": "abcdef four five"}
    first, then = (
        shard(tmp_path, novelty, SEEDS[:4], shard=part, novelty=novelty, model=_asking(question))
        for (novelty, question), part in zip(said.items(), ("1/2", "2/2"), strict=True)
    )
    (kept,), (item,) = accepted(first), accepted(then)
    found = joined(tmp_path, first, then)
    assert (found.runs[0].accepted, found.runs[0].refused) == (1, {"too_similar": 1})
    verdict = Store(found.store).item(item).item.verdict
    assert verdict is not None
    assert (verdict.verdict, verdict.reason) == ("rejected", "too_similar")
    assert verdict.detail.startswith("cosine ")
    assert verdict.detail.endswith(f"with {kept}")
    before = found.store.read_bytes()
    assert joined(tmp_path, then, first, out="turned").runs == found.runs
    assert content(tmp_path / "turned.duckdb") == content(found.store)
    assert not joined(tmp_path, then, first).changed
    assert found.store.read_bytes() == before


def test_exact_novelty_lets_near_twins_stand_and_asks_for_no_recipe(tmp_path: Path) -> None:
    def nearly(prompt: str) -> str:
        return draft(f"{text_of(1)} once{number_in(prompt) % 2}", text_of(2))

    model = agent(generate=nearly)
    first = shard(tmp_path, "a", SEEDS[:2], model=model, novelty="exact")
    then = shard(tmp_path, "b", SEEDS[2:3], model=model, novelty="exact")
    (run,) = joined(tmp_path, first, then, recipes=()).runs
    assert (run.accepted, run.refused) == (2, {"duplicate": 1})


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """Four shards with twins within and among them, and one more that was cut short."""
    folder = tmp_path_factory.mktemp("parts")
    stores = [
        shard(
            folder, f"s{n}", SEEDS[:24], kinds=7, shard=f"{n}/4", **({"items": 3} if n == 3 else {})
        )
        for n in range(1, 5)
    ]
    return folder, stores


@pytest.fixture(scope="module")
def whole(parts: tuple[Path, list[Path]]) -> Path:
    """The store that the four come to."""
    folder, stores = parts
    return joined(folder, *stores, out="whole").store


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two shards of eight seeds that are two and two alike."""
    folder = tmp_path_factory.mktemp("halves")
    return [shard(folder, f"s{n}", SEEDS[:8], kinds=4, shard=f"{n}/2") for n in (1, 2)]


@pytest.fixture(scope="module")
def twos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores of one run, each of two items that are like no other."""
    folder = tmp_path_factory.mktemp("twos")
    return [shard(folder, name, SEEDS[n : n + 2]) for n, name in ((0, "a"), (2, "b"))]


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(4)), st.lists(st.booleans(), min_size=4, max_size=4))
def test_any_order_and_any_grouping_come_to_the_same_rows(
    parts: tuple[Path, list[Path]], whole: Path, order: list[int], apart: list[bool]
) -> None:
    folder, stores = parts
    Files(folder / "out.duckdb").discard()
    groups: list[list[Path]] = [[]]
    for number, begins in zip(order, apart, strict=True):
        if begins and groups[-1]:
            groups.append([])
        groups[-1].append(stores[number])
    for group in groups:
        joined(folder, *group)
    assert content(folder / "out.duckdb") == content(whole)


def test_windows_and_checkpoints_change_nothing(
    parts: tuple[Path, list[Path]], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stores = parts
    monkeypatch.setattr(joining, "WINDOW", 4)
    monkeypatch.setattr(joining, "ROWS", 5)
    monkeypatch.setattr(joining, "FETCHED", 3)
    merge(tmp_path / "many.duckdb", stores, recipes=[tiny(folder)])
    assert content(tmp_path / "many.duckdb") == content(whole)
    times = rows(tmp_path / "many.duckdb", "SELECT time FROM verdicts ORDER BY rowid")
    assert times == sorted(times)


def test_a_merge_of_merges_is_the_same(
    parts: tuple[Path, list[Path]], whole: Path, tmp_path: Path
) -> None:
    folder, (a, b, c, d) = parts
    recipe = tiny(folder)
    merge(tmp_path / "left.duckdb", [c, a], recipes=[recipe])
    merge(tmp_path / "right.duckdb", [d, b], recipes=[recipe])
    left, right = tmp_path / "left.duckdb", tmp_path / "right.duckdb"
    merge(tmp_path / "of.duckdb", [right, left, a], recipes=[recipe])
    assert content(tmp_path / "of.duckdb") == content(whole)


def test_merging_again_leaves_the_very_bytes(
    parts: tuple[Path, list[Path]], whole: Path, tmp_path: Path
) -> None:
    folder, stores = parts
    (out,), recipe = copies(tmp_path, [whole]), tiny(folder)
    before = out.read_bytes()
    again = merge(out, [*reversed(stores), stores[0]], recipes=[recipe])
    assert not again.changed
    assert out.read_bytes() == before
    assert [run.as_dict() for run in again.runs] == [
        run.as_dict() for run in merge(out, stores[:1], recipes=[recipe]).runs
    ]


def test_all_that_was_paid_and_said_is_kept(tmp_path: Path, alike: list[Path]) -> None:
    first, then = copies(tmp_path, alike)
    for store in (first, then):
        (item, *_) = accepted(store)
        kept = Store(store).item(item).item.attempts[0].candidate
        place = Place(item, 0, 0, candidate_hash(kept))
        say(Store(store), "tiny", place, "good", who="ada", blind=True)
    inbox = Files(then).inbox
    assert inbox.stat().st_size
    out = joined(tmp_path, first, then).store
    counts, parts = Store(out).counts(), [Store(s).counts() for s in (first, then)]
    for key in ("calls", "requests", "prompt_tokens", "completion_tokens", "attempts", "audits"):
        assert counts[key] == sum(part[key] for part in parts)
        assert counts[key] > 0
    assert counts["cost_usd"] == pytest.approx(0.01 * 20)
    assert counts["seconds"] == pytest.approx(sum(part["seconds"] for part in parts), abs=0.002)
    assert [label.who for label in read_labels(Store(out), "tiny")] == ["ada", "ada"]
    assert rows(out, "SELECT count(*) FROM grades") == [(10,)]


def test_those_that_are_read_stay_as_they_are(tmp_path: Path, halves: list[Path]) -> None:
    stores = copies(tmp_path, halves)
    before = [content(store) for store in stores]
    joined(tmp_path, *stores)
    assert [content(store) for store in stores] == before


def test_every_command_works_on_what_was_merged(
    tmp_path: Path, halves: list[Path], capsys: Any
) -> None:
    out = joined(tmp_path, *halves).store
    refused = rows(out, "SELECT item, detail FROM verdicts WHERE reason = 'duplicate' LIMIT 1")[0]
    assert run_cli(["status", str(out), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["accepted"], counts["rejected"], counts["seeds"]) == (4, 4, 8)
    assert counts["now"]["reasons"] == {"duplicate": 4}
    assert run_cli(["status", str(out)]) == 0
    assert run_cli(["why", str(out), refused[0]]) == 0
    assert refused[1] in capsys.readouterr().out
    assert run_cli(["export", str(out), "-o", str(tmp_path / "all.jsonl")]) == 0
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 4
    assert run_cli(["rounds", str(out)]) == 0
    assert rounds(Store(out))[0].attempts == 8
    assert run_cli(["report", str(out), "-o", str(tmp_path / "report.html")]) == 0
    assert "duplicate" in (tmp_path / "report.html").read_text()


def test_a_shards_target_is_none_of_the_whole(tmp_path: Path, capsys: Any) -> None:
    first = shard(tmp_path, "a", SEEDS[:9], shard="1/2", items=2)
    for store, target in ((first, 2), (joined(tmp_path, first).store, None)):
        assert run_cli(["status", str(store), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["now"]["target"] == target


def test_a_run_goes_on_with_what_no_shard_did(tmp_path: Path) -> None:
    stores = [shard(tmp_path, f"s{n}", SEEDS[:12], shard=f"{n}/3") for n in (1, 3)]
    found = joined(tmp_path, *stores)
    assert found.runs[0].missing == ["2/3"]
    done = found.runs[0].items
    model = writing(100)
    run = play(tmp_path, model, seeds=SEEDS[:12], store=found.store, novelty="near")
    assert roles(model).count("GENERATE") == 12 - done
    assert run.counts["accepted"] == 12
    again = play(tmp_path, writing(100), seeds=SEEDS[:12], store=found.store, novelty="near")
    assert again.counts["calls"] == run.counts["calls"]


def test_who_goes_on_takes_no_twin_of_what_was_merged(tmp_path: Path, halves: list[Path]) -> None:
    out = joined(tmp_path, *halves).store
    run = play(tmp_path, writing(4), seeds=SEEDS[:12], store=out, novelty="near")
    assert run.counts["accepted"] == 4
    assert rows(out, "SELECT reason, count(*) FROM verdicts GROUP BY 1 ORDER BY 1") == [
        ("duplicate", 8), (None, 4),
    ]  # fmt: skip


def test_what_was_begun_goes_on_from_its_replies(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        shard(tmp_path, "a", SEEDS[:3], model=_dying(after=3), patience=0)
    cut = tmp_path / "a.duckdb"
    begun = rows(cut, "SELECT item FROM items ANTI JOIN verdicts USING (item)")
    assert len(begun) == 1
    out = joined(tmp_path, cut).store
    model = writing(100)
    play(tmp_path, model, seeds=SEEDS[:3], store=out, novelty="near")
    paid = rows(out, "SELECT count(*) FROM calls WHERE answered AND key LIKE 'generator/%'")
    assert paid == [(3,)]


def _dying(after: int) -> al.ScriptedModel:
    calls = itertools.count(1)
    inner = writing(100)

    def says(request: Any) -> Any:
        if next(calls) > after:
            return UnreachableError("nobody answers")
        return inner._answer(request)

    return al.ScriptedModel(says)


def test_another_recipe_is_refused_with_what_differs(tmp_path: Path, halves: list[Path]) -> None:
    first = halves[0]
    other = tiny(tmp_path / "other", RUBRIC.replace("0.8", "0.7"))
    then = shard(tmp_path, "b", SEEDS[:4], shard="2/2", recipe=other)
    with pytest.raises(IdentityError, match="`rubric`") as caught:
        joined(tmp_path, first, then)
    assert str(first) in str(caught.value)
    assert str(then) in str(caught.value)
    assert not (tmp_path / "out.duckdb").exists()


def test_runs_of_other_names_are_kept_apart(tmp_path: Path, twos: list[Path]) -> None:
    then = shard(tmp_path, "b", SEEDS[:3], kinds=2, run="second")
    found = joined(tmp_path, twos[0], then)
    assert {run.run: (run.accepted, run.refused) for run in found.runs} == {
        "tiny": (2, {}),
        "second": (2, {}),
    }
    for run in ("tiny", "second"):
        assert len(list(Store(found.store).examples(run))) == 2


def test_gradings_are_kept_and_one_of_the_same_judge_is_one(
    tmp_path: Path, halves: list[Path]
) -> None:
    stores = copies(tmp_path, halves)
    strict, mild = tmp_path / "strict.yaml", tmp_path / "mild.yaml"
    strict.write_text(RUBRIC.replace("0.8", "0.9"))
    mild.write_text(RUBRIC.replace("0.8", "0.6"))
    model, recipe = writing(4), tiny(tmp_path)
    regrade(stores[0], rubric=strict, recipe=recipe, critic=model)
    regrade(stores[1], rubric=mild, recipe=recipe, critic=model)
    regrade(stores[1], rubric=strict, recipe=recipe, critic=model)
    out = joined(tmp_path, *stores).store
    told = {row["grading"]: row["rubric"]["accept_at"] for row in Store(out).gradings()[1:]}
    assert sorted(told.values()) == [0.6, 0.9]
    (number,) = (grading for grading, at in told.items() if at == 0.9)
    assert Store(out).counts(grading=number)["attempts"] == 8
    assert Store(out).counts(grading=number)["accepted"] == len(accepted(out)) == 4
    borrowed = "SELECT count(*) FROM calls WHERE run = ? AND tries = 0"  # of the run's own replies
    for store, ours in zip(stores, (number, 3 - number), strict=True):
        assert rows(out, borrowed, f"tiny#{ours}") == rows(store, borrowed, "tiny#1") != [(0,)]
    assert not joined(tmp_path, *reversed(stores)).changed


QUOTA: Json = {
    "attributes": {"kind": ["x", "y", "z"]}, "quota": "kind", "per_seed": 20, "novelty": "exact",
}  # fmt: skip


def kinds_of(store: Path) -> dict[str, int]:
    """Return how many items of each kind were accepted."""
    sql = "SELECT inputs->'attributes'->>'kind', count(*) FROM examples "
    return dict(rows(store, sql + "WHERE verdict = 'accepted' GROUP BY 1"))


@pytest.fixture(scope="module")
def quotas(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two shards with a quota of five items each."""
    folder, more = tmp_path_factory.mktemp("quotas"), {"accept": 5, "model": agent(), **QUOTA}
    return [shard(folder, f"s{n}", SEEDS[:20], shard=f"{n}/2", **more) for n in (1, 2)]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores, each with a person's seed and a made one; what people's come to is the same."""

    def made(number: int) -> Json:
        return {**SEEDS[number], "agentloop": {"item": f"{number:012x}", "depth": 1}}

    folder = tmp_path_factory.mktemp("seeded")
    first = shard(folder, "a", [SEEDS[0], made(1)], kinds=6)
    then = shard(folder, "b", [SEEDS[6], made(2)], kinds=6)  # 6 says what 0 says
    return [first, then]


def test_a_quota_is_kept_of_all_targets_together_and_of_the_wholes_where_that_is_more(
    tmp_path: Path, quotas: list[Path]
) -> None:
    assert [*map(kinds_of, quotas)] == [{"x": 2, "y": 2, "z": 1}] * 2
    (run,) = joined(tmp_path, *quotas).runs
    out = tmp_path / "out.duckdb"
    assert kinds_of(out) == {"x": 4, "y": 3, "z": 2}
    assert run.refused == {"over_quota": 1}
    shard(tmp_path, "out", SEEDS[:20], accept=20, model=agent(), **QUOTA)
    assert kinds_of(out) == {"x": 7, "y": 7, "z": 6}
    (run,) = joined(tmp_path, out, out="later").runs
    assert kinds_of(tmp_path / "later.duckdb") == {"x": 7, "y": 7, "z": 6}
    assert run.refused == {"over_quota": 1}  # what the shards' ten had no room for is back


def test_a_quota_is_of_the_shards_targets_where_they_are_more(
    tmp_path: Path, quotas: list[Path]
) -> None:
    less = shard(tmp_path, "less", SEEDS[20:40], accept=2, model=agent(), **QUOTA)
    assert kinds_of(less) == {"x": 1, "y": 1}
    (run,) = joined(tmp_path, less, *quotas).runs
    assert kinds_of(tmp_path / "out.duckdb") == {"x": 4, "y": 3, "z": 2}
    assert run.refused == {"over_quota": 3}


def test_the_share_of_peoples_seeds_is_kept_where_real_ones_fall(
    tmp_path: Path, seeded: list[Path]
) -> None:
    assert [len(accepted(store)) for store in seeded] == [2, 2]
    (run,) = joined(tmp_path, *seeded).runs
    assert (run.accepted, run.refused) == (2, {"duplicate": 1, "over_quota": 1})


def forget(store: Path, *settings: str) -> None:
    """Let a store's sessions say nothing of some settings, as those of earlier versions do."""
    with connect(store, write=True) as connection:
        for rid, told in connection.execute("SELECT rid, settings FROM sessions").fetchall():
            kept = {key: value for key, value in json.loads(told).items() if key not in settings}
            connection.execute(
                "UPDATE sessions SET settings = ? WHERE rid = ?", [json.dumps(kept), rid]
            )


def test_what_sessions_of_earlier_versions_do_not_tell_decides_nothing(
    tmp_path: Path, quotas: list[Path], seeded: list[Path]
) -> None:
    shares, parts = copies(tmp_path, seeded), copies(tmp_path, quotas)
    for store in (*shares, *parts):
        forget(store, "quota", "real_share")
    (run,) = joined(tmp_path, *shares).runs
    assert (run.accepted, run.refused) == (3, {"duplicate": 1})
    told = rows(tmp_path / "out.duckdb", "SELECT settings FROM sessions")
    assert told
    assert not any(json.loads(one).keys() & {"quota", "real_share"} for (one,) in told)
    for out, forgotten in (("kinds", ()), ("nothing", TOLD)):
        for store in parts:
            forget(store, *forgotten)
        (run,) = joined(tmp_path, *parts, out=out).runs
        assert (run.accepted, run.refused) == (10, {})


def test_an_item_of_two_stores_is_taken_whole_from_one(tmp_path: Path) -> None:
    """The first was stopped and copied; both copies went on by themselves."""
    first = shard(tmp_path, "a", SEEDS[:4], items=2)
    then = tmp_path / "b.duckdb"
    shutil.copy(first, then)
    shard(tmp_path, "a", SEEDS[:4], kinds=50)
    shard(tmp_path, "b", SEEDS[:4], kinds=60)
    out = joined(tmp_path, then, first).store
    assert Store(out).counts()["accepted"] == 4
    assert Store(out).counts()["calls"] == 2 * 2 + 2 * 4  # those of both were paid
    assert rows(out, "SELECT count(*) FROM attempts") == [(4,)]
    expected = content(out)
    Files(out).discard()
    assert content(joined(tmp_path, first, then).store) == expected
    assert rows(out, "SELECT count(*) FROM verdicts") == [(4,)]


def test_what_a_shard_did_since_is_joined(tmp_path: Path, halves: list[Path]) -> None:
    first, then = shard(tmp_path, "a", SEEDS[:8], kinds=4, shard="1/2", items=1), halves[1]
    out = joined(tmp_path, first, then).store
    shard(tmp_path, "a", SEEDS[:8], kinds=4, shard="1/2")
    assert joined(tmp_path, first).changed
    expected = content(out)
    Files(out).discard()
    joined(tmp_path, then, first)
    assert content(out) == expected


def test_a_failed_item_that_was_opened_again_counts(tmp_path: Path) -> None:
    failing = agent(generate=lambda _: "no draft at all")
    first = shard(tmp_path, "a", SEEDS[:2], model=failing)
    earlier = tmp_path / "earlier.duckdb"
    shutil.copy(first, earlier)
    shard(tmp_path, "a", SEEDS[:2], retry=("failed",))
    out = joined(tmp_path, earlier, first).store
    assert Store(out).counts()["accepted"] == 2
    assert joined(tmp_path, earlier).changed is False


def test_a_store_that_is_both_read_and_made_is_refused(
    tmp_path: Path, twos: list[Path], capsys: Any
) -> None:
    first, then = twos
    (tmp_path / "link.duckdb").symlink_to(first)
    for out in (first, tmp_path / "link.duckdb"):
        with pytest.raises(StoreError, match="both what is made and what is read"):
            merge(out, [then, first])
    with pytest.raises(StoreError, match="there is no store"):
        merge(tmp_path / "out.duckdb", [first, tmp_path / "nowhere.duckdb"])
    with pytest.raises(UserError, match="no store is named"):
        merge(tmp_path / "out.duckdb", [])
    with pytest.raises(StoreError, match="there is no folder"):
        merge(tmp_path / "no" / "out.duckdb", [first])
    assert run_cli(["merge", str(tmp_path / "out.duckdb"), str(tmp_path / "no.duckdb")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.duckdb").exists()


def test_a_store_that_is_being_written_is_refused(tmp_path: Path, twos: list[Path]) -> None:
    """Under whatever name: shards may be links into a scratch folder."""
    first, then = copies(tmp_path, twos)
    link, out = tmp_path / "link.duckdb", tmp_path / "outlink.duckdb"
    link.symlink_to(then)
    out.symlink_to("out.duckdb")
    for held in (then, tmp_path / "out.duckdb"):
        for stores, name in (((first, then), "out"), ((first, link), "outlink")):
            with Writer(held), pytest.raises(StoreError, match="is being written by process"):
                joined(tmp_path, *stores, out=name)
    assert joined(tmp_path, first, link, out="outlink").changed
    assert out.is_symlink()
    assert len(accepted(tmp_path / "out.duckdb")) == 4


def test_what_waits_beside_a_links_target_is_joined(tmp_path: Path, twos: list[Path]) -> None:
    (first, _), link = copies(tmp_path, twos), tmp_path / "link.duckdb"
    link.symlink_to(first)
    label: Json = {"rid": "r1", "run": "tiny", "item": "abc", "label": "good", "time": 1.0}
    Files(first).journal.write_text(json.dumps({"t": "labels", "r": label}) + "\n")
    assert rows(joined(tmp_path, link).store, "SELECT item FROM labels") == [("abc",)]


def test_a_merge_removes_nothing_that_it_has_not_made(tmp_path: Path, twos: list[Path]) -> None:
    there = Path(shutil.copy(twos[0], tmp_path / "out.duckdb.merging"))
    (tmp_path / "out.duckdb.tmp").mkdir()
    assert joined(tmp_path, there).runs[0].accepted == 2
    assert there.is_file()
    assert (tmp_path / "out.duckdb.tmp").is_dir()
    inside = tmp_path / ".out.duckdb.merging"
    inside.mkdir()
    there.rename(inside / "a.duckdb")
    with pytest.raises(StoreError, match="lies where"):
        joined(tmp_path, inside / "a.duckdb")
    assert (inside / "a.duckdb").is_file()


def test_who_may_read_a_store_may_read_it_merged(tmp_path: Path, twos: list[Path]) -> None:
    out = joined(tmp_path, twos[0]).store
    out.chmod(0o600)
    assert joined(tmp_path, twos[1]).changed
    assert out.stat().st_mode & 0o777 == 0o600


def test_shards_that_lack_are_told_as_spans() -> None:
    assert Joined("r", 0, 0, shards=["2/9", "3/9", "7/9"]).missing == ["1/9", "4/9…6/9", "8/9…9/9"]
    assert Joined("r", 0, 0, shards=["1/2", "2/2", "999999/999999"]).missing == [
        "1/999999…999998/999999"
    ]
    assert Joined("r", 0, 0).missing == []


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.duckdb").write_text("these are notes")
    with pytest.raises(StoreError, match="notes"):
        joined(tmp_path, tmp_path / "notes.duckdb")
    assert not (tmp_path / "out.duckdb").exists()


def test_what_a_killed_run_left_in_its_journal_is_there(tmp_path: Path, twos: list[Path]) -> None:
    first, _ = copies(tmp_path, twos)
    label: Json = {"rid": "r1", "run": "tiny", "item": "abc", "label": "good", "time": 1.0}
    Files(first).journal.write_text(json.dumps({"t": "labels", "r": label}) + "\n")
    out = joined(tmp_path, first).store
    assert rows(out, "SELECT item FROM labels") == [("abc",)]


def test_a_store_that_cannot_be_locked_is_read_where_it_is_at_rest(
    tmp_path: Path, twos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a mount that is for reading only."""
    first, then = copies(tmp_path, twos)
    lock, acquire = FileLock(Files(then).lock), FileLock.acquire

    def refusing(self: FileLock) -> bool:
        if self._path == lock._path:
            raise OSError(errno.EROFS, "Read-only file system")
        return acquire(self)

    monkeypatch.setattr(FileLock, "acquire", refusing)
    assert joined(tmp_path, first, then).runs[0].accepted == 4
    Files(then).journal.write_text("a line\n")
    with pytest.raises(StoreError, match="must be brought up"):
        joined(tmp_path, first, then)
    with pytest.raises(StoreError, match="cannot be written"):
        joined(tmp_path, first, out="b")


def test_a_store_of_an_older_schema_is_brought_up(tmp_path: Path, twos: list[Path]) -> None:
    first, then = copies(tmp_path, twos)
    with connect(then, write=True) as connection:
        connection.execute("DROP TABLE overruled")
        connection.execute("ALTER TABLE labels DROP COLUMN blind")
        connection.execute("DELETE FROM migrations WHERE version > 6")
    assert joined(tmp_path, first, then).runs[0].accepted == 4


def test_a_recipe_that_is_not_found_is_asked_for(tmp_path: Path) -> None:
    graph = write_graph(tmp_path)
    stores = [shard(tmp_path, "a", SEEDS[:3], recipe=str(graph))]
    moved = tmp_path / "elsewhere.py"
    graph.rename(moved)
    with pytest.raises(RecipeError, match="--recipe FILE"):
        merge(tmp_path / "out.duckdb", stores)
    assert merge(tmp_path / "out.duckdb", stores, recipes=[str(moved)]).runs[0].accepted == 3
    graph.write_text(moved.read_text() + "\n# another one\n")
    with pytest.raises(RecipeError, match="not what is found here"):
        merge(tmp_path / "else.duckdb", stores)
    other = graph.read_text().replace("answer: str", "answer: str\n    more: str = ''")
    graph.write_text(other)
    with pytest.raises(IdentityError, match="another candidate"):
        merge(tmp_path / "else.duckdb", stores, recipes=[str(graph)])
    assert not (tmp_path / "else.duckdb").exists()


KILLED = """
import json, os, signal, sys
from pathlib import Path

import duckdb
from agentloop import merge as module
from agentloop.store.joining import Joining

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def play(at, out, *stores):
    signal.alarm(60)
    if at == "rows":
        Joining.copy_rows = die
    elif at == "verdicts":
        Joining.settle = die
    elif at == "place":
        module._Merge._put = die
    else:
        Path.replace = die
    module.merge(out, stores)

for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            play(*json.loads(line))
        finally:
            os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def killing() -> Iterator[Callable[..., int]]:
    """Merge in a process of its own that kills itself at some point; return its exit code.

    All of them are forks of one that has imported what a merge needs, and done nothing with it.
    """
    with python(KILLED) as process:
        assert process.stdin
        assert process.stdout

        def play(*arguments: str | Path) -> int:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps([*map(str, arguments)]) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield play
        process.stdin.close()


@pytest.fixture(scope="module")
def unread(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Path], Path, dict[str, list[str]]]:
    """Two shards that a merge needs no recipe for, what the first comes to, the rows of both."""
    folder = tmp_path_factory.mktemp("unread")
    stores = [
        shard(folder, f"s{n}", SEEDS[:8], kinds=3, shard=f"{n}/2", novelty="exact") for n in (1, 2)
    ]
    half, once = joined(folder, stores[0], out="half"), joined(folder, *stores, out="once")
    return stores, half.store, content(once.store)


@pytest.mark.parametrize("at", ["rows", "verdicts", "place", "renaming"])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_kill_leaves_what_was_there_and_merging_again_ends_it(
    tmp_path: Path,
    killing: Callable[..., int],
    unread: tuple[list[Path], Path, dict[str, list[str]]],
    at: str,
    fresh: bool,
) -> None:
    stores, half, expected = unread
    out = tmp_path / "out.duckdb"
    if not fresh:
        shutil.copy(half, out)
    before = out.read_bytes() if out.exists() else None
    assert killing(at, out, *stores) == -signal.SIGKILL
    assert (out.read_bytes() if out.exists() else None) == before
    assert joined(tmp_path, *stores).changed
    assert content(out) == expected
    left = {path.name for path in tmp_path.iterdir() if "out.duckdb" in path.name}
    assert left <= {"out.duckdb", "out.duckdb.lock", "out.duckdb.near"}


def test_two_merges_at_once_do_not_mix(tmp_path: Path, twos: list[Path]) -> None:
    lock = Files(tmp_path / "out.duckdb").lock
    with Writer(tmp_path / "out.duckdb"):
        assert lock.read_text() == str(os.getpid())
        with pytest.raises(StoreError, match=str(os.getpid())):
            joined(tmp_path, twos[0])


def test_the_command_says_what_became_of_each_run(tmp_path: Path, capsys: Any) -> None:
    graph = write_graph(tmp_path)
    stores = [
        shard(tmp_path, f"s{n}", SEEDS[:9], kinds=3, recipe=str(graph), shard=f"{n}/3")
        for n in (1, 2)
    ]
    line = ["merge", str(tmp_path / "out.duckdb"), *map(str, stores)]
    assert run_cli(line) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "run mine" in captured.err
    assert "shards 1/3, 2/3" in captured.err
    assert "not here: 3/3" in captured.err
    assert run_cli([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["changed"] is False
    assert found["runs"][0]["missing"] == ["3/3"]
    assert run_cli(line) == 0
    assert "holds all of it already" in capsys.readouterr().err


def test_every_table_is_joined_in_one_way() -> None:
    from agentloop.store.joining import BY_ROW, OF_ITEMS

    own = {"runs", "gradings", "sums", "overruled"}
    assert TABLES.keys() == own | set(OF_ITEMS) | set(BY_ROW)
    assert {KEYS[table] for table in BY_ROW} == {"rid"}
