"""What a recipe takes along: its file, prompts and rubric, and nothing else that lies about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agentloop.config import load_settings
from agentloop.engines.luggage import MOST, Luggage, put_away
from agentloop.engines.parcel import pack, unpack
from agentloop.errors import IdentityError, SettingsError
from agentloop.plan import Plan, prepare
from tests.builders import GRAPH, RUBRIC, write_graph, write_prompts


def planned(recipe: str, **settings: Any) -> Plan:
    given = {
        "seeds": [{"passage": "x"}],
        "store": "qa.duckdb",
        "model": "openai/x",
        "base_url": "http://127.0.0.1:9/v1",
        "client": "direct",
    }
    return prepare(recipe, load_settings({**given, **settings}, environ={}))


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where a recipe is at hand, and another where what is laid out goes."""
    (tmp_path / "there").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "there"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipes_file_and_prompts_travel_and_nothing_else(away: Path) -> None:
    write_graph(away)
    (away / "secrets.txt").write_text("x")
    (away / "prompts" / ".hidden").write_text("x")
    luggage = Luggage.of(planned("my_graph.py"))
    named = {f"prompts/{file.name}" for file in (away / "prompts").glob("[!.]*")}
    assert {*luggage.files} == named | {"my_graph.py"}
    assert luggage.recipe == "my_graph.py"


def test_a_parcel_opens_where_none_of_its_files_is(away: Path) -> None:
    """Attribute, `--prompts` and `--rubric` too; the same identity, at other places."""
    write_graph(away, GRAPH.replace("graph =", "flow ="))
    write_prompts(away / "mine", critique="CRITIQUE otherwise {{ fence }}")
    (away / "strict.yaml").write_text(RUBRIC.replace("0.8", "0.9"))
    plan = planned("./my_graph.py:flow", prompts="mine", rubric="strict.yaml")
    parcel = pack(plan, Luggage.of(plan))
    os.rename(away / "prompts", away / "gone")
    os.rename(away / "mine", away / "mine too")
    for name in ("my_graph.py", "strict.yaml"):
        (away / name).unlink()
    shop = unpack(parcel)
    assert shop.identity == plan.identity
    assert shop.kit.prompts["critique"].text == "CRITIQUE otherwise {{ fence }}"
    assert shop.kit.rubric.accept_at == 0.9
    assert shop.found.file.is_relative_to(away / "there")
    put_away()
    assert list((away / "there").iterdir()) == []


def test_prompts_above_the_recipes_folder_keep_their_place(away: Path) -> None:
    (away / "graphs").mkdir()
    write_prompts(away / "prompts")
    text = GRAPH.replace('prompts="prompts"', 'prompts="../prompts"')
    (away / "graphs" / "mine.py").write_text(text)
    plan = planned("graphs/mine.py")
    parcel = pack(plan, Luggage.of(plan))
    os.rename(away / "graphs", away / "gone")
    os.rename(away / "prompts", away / "gone too")
    assert unpack(parcel).identity == plan.identity


def test_a_recipe_that_langgraph_json_names_takes_its_graph_along(away: Path) -> None:
    write_graph(away, GRAPH + "other = graph\n")
    (away / "langgraph.json").write_text('{"graphs": {"listed": "./my_graph.py:other"}}')
    assert Luggage.of(planned("listed")).recipe == "my_graph.py:other"


def test_what_is_installed_there_too_takes_nothing(away: Path) -> None:
    plan = planned("grounded_qa")
    luggage = Luggage.of(plan)
    assert (luggage.files, luggage.recipe) == ({}, "")
    assert unpack(pack(plan, luggage)).identity == plan.identity


def test_another_prompt_on_the_way_is_refused(away: Path) -> None:
    write_graph(away)
    plan = planned("my_graph.py")
    luggage = Luggage.of(plan)
    other = {**luggage.files, "prompts/critique.md": b"CRITIQUE {{ fence }}"}
    parcel = pack(plan, Luggage(other, luggage.recipe, luggage.settings))
    with pytest.raises(IdentityError, match=r"another `prompts\.critique`"):
        unpack(parcel)


def test_more_than_anybody_wrote_stays_at_home(away: Path) -> None:
    write_graph(away)
    with (away / "prompts" / "weights.bin").open("wb") as file:
        file.truncate(MOST + 1)
    with pytest.raises(SettingsError, match="16 MiB at most"):
        Luggage.of(planned("my_graph.py"))
