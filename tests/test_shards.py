"""Shards: every item is made in one of them, whatever the order of seeds, and a store is one shard's."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agentloop as al
from agentloop.cli import run_cli
from agentloop.config import load_settings
from agentloop.errors import IdentityError, SeedError, SettingsError
from agentloop.records import Json
from agentloop.runner import dry_run_of
from agentloop.seeds import Seeds
from agentloop.shards import Shard
from agentloop.store import Store
from tests.builders import SEEDS, agent, play, roles, tiny, write_graph, write_seeds
from tests.endpoint import Endpoint

ROWS = [{"passage": f"Passage {n}"} for n in range(50)]


def made(rows: list[Json] | Path, shard: str, sample: int = 0) -> set[str]:
    seeds = Seeds(rows, shard=Shard.parse(shard))
    seeds.check(("passage",))
    none = seeds.items(sample, lambda names: np.zeros(len(names), np.bool_))
    return {item for item, _ in none}


def all_made(rows: list[Json] | Path, among: int, sample: int = 0) -> list[set[str]]:
    return [made(rows, f"{number}/{among}", sample) for number in range(1, among + 1)]


@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_item_is_of_one_shard_in_whatever_order(among: int, chance: random.Random) -> None:
    whole, parts = made(ROWS, ""), all_made(ROWS, among)
    assert set.union(*parts) == whole
    assert sum(map(len, parts)) == len(whole)
    shuffled = chance.sample(ROWS, len(ROWS))
    assert all_made(shuffled, among) == parts


def test_a_file_is_divided_as_its_rows_are(tmp_path: Path) -> None:
    file = tmp_path / "seeds.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert all_made(file, 3) == all_made(ROWS, 3)
    assert all_made(file, 3, sample=2) == all_made(ROWS, 3, sample=2)


def test_samples_of_a_seed_stay_together() -> None:
    for shard in ("1/3", "2/3", "3/3"):
        of_shard = [row for row in ROWS if made([row], "") <= made(ROWS, shard)]
        for sample in range(4):
            assert made(of_shard, "", sample) == made(ROWS, shard, sample)


def test_what_was_made_from_a_seed_is_in_its_shard() -> None:
    for row in ROWS[:20]:
        (item,) = made([row], "")
        child = {"passage": "made", "agentloop": {"item": item, "depth": 1}}
        other = {"passage": "made too", "agentloop": {"item": item, "depth": 1}}
        parts = all_made([row, child, other, *ROWS[20:]], 3)
        whole = made([row, child, other], "")
        assert [len(part & whole) for part in parts].count(3) == 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "x/y", "4", "1/0", "-1/4", "1/4/2", "1.5/2", "٢/٤"])
def test_what_is_no_part_of_a_whole_is_refused_in_one_line(
    text: str, tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SettingsError):
        load_settings({"shard": text}, environ={})
    seeds, graph = write_seeds(tmp_path, 2), write_graph(tmp_path)
    store = tmp_path / "s.duckdb"
    line = ["run", str(graph), "--seeds", str(seeds), "--store", str(store), f"--shard={text}"]
    assert run_cli([*line, "--model", "openai/fake"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "`shard`" in said
    assert "I/N" in said
    assert not store.exists()


def test_one_of_one_is_the_whole(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:3], shard="1/1")
    again = play(tmp_path, agent(), seeds=SEEDS[:3])
    assert again.counts["accepted"] == 3


def test_a_shard_without_seeds_says_so(tmp_path: Path) -> None:
    empty = next(f"{n}/7" for n in range(1, 8) if not _holds(f"{n}/7"))
    with pytest.raises(SeedError, match=f"none of the 1 seeds of .* falls to shard {empty}"):
        play(tmp_path, agent(), seeds=SEEDS[:1], shard=empty)
    assert not (tmp_path / "qa.duckdb").exists()


def _holds(shard: str) -> bool:
    try:
        return bool(made(SEEDS[:1], shard))
    except SeedError:
        return False


def test_runs_of_all_shards_settle_every_seed_once(tmp_path: Path) -> None:
    found: list[str] = []
    for shard in ("1/3", "2/3", "3/3"):
        folder = tmp_path / shard[0]
        folder.mkdir()
        run = play(folder, agent(), tiny(tmp_path), seeds=SEEDS[:20], shard=shard)
        found += [row["seed"]["passage"] for row in run.items()]
    assert sorted(found) == sorted(seed["passage"] for seed in SEEDS[:20])


@pytest.mark.parametrize(("first", "then"), [("1/2", "2/2"), ("1/2", ""), ("", "1/2")])
def test_another_shard_of_the_same_name_is_refused(tmp_path: Path, first: str, then: str) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:6], shard=first)
    model = agent()
    with pytest.raises(IdentityError) as caught:
        play(tmp_path, model, seeds=SEEDS[:6], shard=then)
    said = str(caught.value)
    assert "\n" not in said
    assert "agentloop merge" in said
    assert model.requests == []
    for shard in (first, then):
        assert (f"shard {shard}" if shard else "the whole") in said


def test_a_shard_goes_on(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:8], shard="1/2", items=1)
    model = agent()
    again = play(tmp_path, model, seeds=SEEDS[:8], shard="1/2")
    assert again.counts["seeds"] == len(made(SEEDS[:8], "1/2"))
    assert roles(model).count("GENERATE") == again.counts["seeds"] - 1


def test_a_target_is_the_shards_own(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:10], shard="2/2", accept=6, per_seed=3)
    assert run.counts["accepted"] == 6
    assert run.counts["seeds"] <= len(made(SEEDS[:10], "2/2"))


def test_a_dry_run_tells_of_the_shard_alone(tmp_path: Path) -> None:
    given: Json = {"seeds": SEEDS[:20], "store": tmp_path / "s.duckdb", "model": agent()}
    recipe = tiny(tmp_path)
    whole = dry_run_of(recipe, **given)
    parts = [dry_run_of(recipe, **given, shard=f"{n}/4") for n in range(1, 5)]
    assert sum(part.items[0] for part in parts) == whole.items[0] == 20
    for number, part in enumerate(parts, 1):
        mine = made(SEEDS[:20], f"{number}/4")
        assert part.as_dict()["seeds"] == len(mine)
        assert f"of shard {number}/4" in part.told()
        shown = part.first["generate"][0]["content"].removeprefix("GENERATE ").partition(" | ")[0]
        assert made([{"passage": shown}], "") <= mine


def test_workers_know_the_shard(tmp_path: Path, endpoint: Endpoint) -> None:
    store, graph = tmp_path / "s.duckdb", str(write_graph(tmp_path))
    given: Json = {"seeds": SEEDS[:6], "store": store, "model": "openai/fake"}
    run = al.run(graph, **given, base_url=endpoint.url, workers=2, shard="1/2")
    settled = sum(run.counts[verdict] for verdict in ("accepted", "rejected", "failed"))
    assert settled == len(made(SEEDS[:6], "1/2"))


def test_the_shard_stands_with_its_sessions(tmp_path: Path) -> None:
    from agentloop.store.about import read_about

    run = play(tmp_path, agent(), seeds=SEEDS[:8], shard="1/2")
    about = read_about(Store(run.store), run.name)
    assert about["settings"]["shard"] == about["identity"]["shard"] == "1/2"
