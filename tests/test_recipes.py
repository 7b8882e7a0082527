"""Recipes: found by name, by path, by langgraph.json; run with and without the runner."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.cli import run_cli
from agentloop.errors import RecipeError, RubricError, UserError
from agentloop.recipe import Recipe
from agentloop.recipes import find_recipe, known, packaged
from agentloop.state import Context
from tests.builders import (
    GRAPH,
    PASSAGE,
    SEEDS,
    agent,
    asked,
    marks,
    play,
    python,
    serving,
    tiny,
    write_graph,
)

ROOT = Path(__file__).parent.parent

CUSTOM = (
    GRAPH.replace("graph = recipe.compile()", "")
    + """
from agentloop.state import Context, State, agents_of

async def polish(state, runtime):
    async with agents_of(runtime, recipe, state) as agents:
        assert agents.item == state["item"]
    return {"inputs": {**state["inputs"], "polished": True}}

graph = al.standard_graph(recipe)
graph.add_node("polish", polish)
graph.add_edge("polish", "generate")
graph.edges.discard(("__start__", "generate"))
graph.add_edge("__start__", "polish")
mine = graph.compile()
graph = mine
"""
)


def write_listing(folder: Path, content: Any) -> None:
    (folder / "langgraph.json").write_text(json.dumps(content))


def test_the_packaged_recipes_are_found() -> None:
    assert set(packaged()) == {
        "agentinstruct", "best_of_n", "constitution", "dialogue", "evol_instruct", "grounded_qa",
        "instructions", "llama3_exec", "phi4_reverse", "phi4_revise", "self_instruct", "solver_gap",
        "star",
    }  # fmt: skip
    for name in packaged():
        found = find_recipe(name)
        assert found.recipe.name == name
        kit = found.recipe.load()
        assert kit.identity["recipe"] == name
        assert set(found.recipe.reads) <= set(kit.reads)


def test_an_unknown_name_names_a_near_one() -> None:
    with pytest.raises(RecipeError, match="did you mean `grounded_qa`"):
        find_recipe("grounded_ga")


@pytest.mark.parametrize("attribute", ["", ":graph"])
def test_a_file_of_ones_own_is_found_by_its_path(tmp_path: Path, attribute: str) -> None:
    ref = f"{write_graph(tmp_path)}{attribute}"
    found = find_recipe(ref)
    assert (found.recipe.name, found.ref) == ("mine", ref)
    run = play(tmp_path, agent(), found)
    assert (run.counts["recipe"], run.counts["accepted"]) == ("mine", 1)


def test_a_relative_path_works_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_graph(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert al.run("my_graph.py", seeds=SEEDS[:1], store="qa.duckdb", model=agent()).exit_code == 0
    run = al.run("./my_graph.py:graph", seeds=SEEDS[:1], store="b.duckdb", model=agent())
    assert run.exit_code == 0


def test_a_graph_of_ones_own_runs_its_own_nodes(tmp_path: Path) -> None:
    graph = write_graph(tmp_path, CUSTOM)
    (tmp_path / "prompts" / "generate.md").write_text("GENERATE {{ inputs }}")
    model = agent()
    for attribute in ("mine", "graph"):
        run = play(tmp_path, model, f"{graph}:{attribute}", run=attribute)
        assert run.counts["accepted"] == 1
        assert "polished" in asked(model, "GENERATE")[-1].messages[0]["content"]


def test_langgraph_json_lists_recipes_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    write_graph(tmp_path / "sub")
    write_listing(
        tmp_path,
        {"graphs": {"a": "./sub/my_graph.py:graph", "b": {"path": "sub/my_graph.py:graph"}}},
    )
    monkeypatch.chdir(tmp_path)
    assert {"a", "b", "grounded_qa"} <= set(known())
    for name in ("a", "b"):
        assert find_recipe(name).recipe.name == "mine"
    assert al.run("a", seeds=SEEDS[:1], store="qa.duckdb", model=agent()).counts["accepted"] == 1


def test_yours_goes_before_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_graph(tmp_path)
    write_listing(tmp_path, {"graphs": {"grounded_qa": "./my_graph.py:graph"}})
    monkeypatch.chdir(tmp_path)
    assert find_recipe("grounded_qa").recipe.name == "mine"


@pytest.mark.parametrize(
    "content",
    [
        [],
        7,
        {"graphs": []},
        {"graphs": {"a": 7}},
        {"graphs": {"a": {"graph": "x"}}},
        {"graphs": {"a": None}},
        {"graphs": {"a": "nowhere.py:graph"}},
        {"graphs": {"a": "some.module:graph"}},
    ],
)
def test_a_wrong_langgraph_json_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    write_listing(tmp_path, content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError):
        find_recipe("a")


def test_a_langgraph_json_that_is_no_json_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "langgraph.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"langgraph\.json"):
        known()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("import no_such_module_here", "no_such_module_here"),
        ("raise SystemExit(3)", "SystemExit"),
        ("graph = 1", "must define `recipe"),
        ("recipe = 1", "must define `recipe"),
        (GRAPH.replace("graph = recipe.compile()", ""), "must define `graph`"),
        (GRAPH.replace("recipe.compile()", "al.standard_graph(recipe)"), "must define `graph`"),
    ],
)
def test_a_file_that_is_no_recipe_says_why(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        find_recipe(str(write_graph(tmp_path, text)))


def test_a_missing_file_or_attribute_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no recipe file"):
        find_recipe(str(tmp_path / "no.py"))
    with pytest.raises(RecipeError, match="must define `other`"):
        find_recipe(f"{write_graph(tmp_path)}:other")


def test_two_files_of_one_name_are_two_recipes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_graph(tmp_path / name, GRAPH.replace('"mine"', f'"{name}"'))
    found = [find_recipe(str(tmp_path / name / "my_graph.py")).recipe.name for name in ("a", "b")]
    assert found == ["a", "b"]


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    graph = write_graph(tmp_path)
    assert find_recipe(str(graph)).recipe.name == "mine"
    graph.write_text(GRAPH.replace('"mine"', '"edited"'))
    assert find_recipe(str(graph)).recipe.name == "edited"


def test_a_recipe_with_a_builder_compiles_its_own_graph(tmp_path: Path) -> None:
    text = GRAPH.replace("candidate=QA,", "candidate=QA, build=lambda r: al.standard_graph(r),")
    run = play(tmp_path, agent(), str(write_graph(tmp_path, text)))
    assert run.counts["accepted"] == 1


def test_a_missing_rubric_or_prompt_is_said_before_the_run(tmp_path: Path) -> None:
    graph = write_graph(tmp_path)
    (tmp_path / "prompts" / "generate.md").unlink()
    with pytest.raises(UserError, match=r"no prompt `generate\.md`"):
        find_recipe(str(graph)).recipe.load()
    (tmp_path / "prompts" / "rubric.yaml").write_text("name: x\naccept_at: 2\ncriteria: []\n")
    with pytest.raises(RubricError, match="accept_at"):
        find_recipe(str(graph)).recipe.load()
    (tmp_path / "prompts" / "rubric.yaml").unlink()
    with pytest.raises(UserError, match=r"rubric"):
        find_recipe(str(graph)).recipe.load()


def test_a_kit_knows_what_it_reads_and_what_makes_it_another_run(tmp_path: Path) -> None:
    kit = find_recipe(str(write_graph(tmp_path))).recipe.load()
    assert kit.reads == ("passage",)
    assert {"recipe", "candidate", "rubric", "prompts.generate"} <= kit.identity.keys()


def listing(folder: Path, text: str) -> Recipe:
    """Return a tiny recipe with a list beside its prompts."""
    recipe = tiny(folder, lists=("colours.txt",))
    (folder / "prompts" / "colours.txt").write_text(text)
    return recipe


def test_a_list_is_read_line_by_line_and_belongs_to_the_identity(tmp_path: Path) -> None:
    recipe = listing(tmp_path, "red\n\n  green, as grass \n")
    assert recipe.listed("colours.txt") == ("red", "green, as grass")
    before = recipe.load().identity
    listing(tmp_path, "red\nblue\n")
    after = recipe.load().identity
    assert [name for name in before if before[name] != after[name]] == ["lists.colours.txt"]


@pytest.mark.parametrize(("text", "says"), [(None, "has no `colours.txt`"), (" \n", "no entry")])
def test_a_list_that_is_missing_or_empty_is_said_before_the_run(
    tmp_path: Path, text: str | None, says: str
) -> None:
    recipe = listing(tmp_path, text or "")
    if text is None:
        (tmp_path / "prompts" / "colours.txt").unlink()
    with pytest.raises(RecipeError, match=says):
        recipe.load()


# As in LangGraph Studio: settings in the context, no runner


def in_studio(graph: Any, context: Context | None, state: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = asyncio.run(graph.ainvoke(state, context=context))
    return result


@pytest.mark.parametrize("state", [{}, {"item": "x"}, {"inputs": {"sample": 3}}])
def test_a_graph_runs_without_a_runner(tmp_path: Path, state: dict[str, Any]) -> None:
    graph = find_recipe(str(write_graph(tmp_path))).graph
    (tmp_path / "prompts" / "generate.md").write_text("GENERATE {{ seed.passage }}")
    scripted = agent(critique=[marks("no"), marks()], revise='{"question": "q", "answer": "b"}')
    with serving(scripted) as server:
        context = Context(model="openai/x", base_url=server.url, prompts=str(tmp_path / "prompts"))
        done = in_studio(graph, context, {"seed": {"passage": PASSAGE}, **state})
        assert server.requests == 4
    assert done["verdict"]["verdict"] == "accepted"
    assert [a["round"] for a in done["attempts"]] == [0, 1]
    json.dumps(done)


def test_max_rounds_and_rubric_come_from_the_context(tmp_path: Path) -> None:
    graph = find_recipe(str(write_graph(tmp_path))).graph
    (tmp_path / "prompts" / "generate.md").write_text("GENERATE {{ seed.passage }}")
    easy = tmp_path / "easy.yaml"
    easy.write_text(
        "name: e\naccept_at: 0.1\ncriteria: [{name: right, ask: '?', levels: ['no', a, 'yes']}]\n"
    )
    with serving(agent(critique=marks("no"))) as server:
        context = Context(model="openai/x", base_url=server.url, max_rounds=0, rubric=str(easy))
        done = in_studio(graph, context, {"seed": {"passage": PASSAGE}})
        assert server.requests == 2
    assert done["verdict"]["verdict"] == "rejected"
    assert len(done["attempts"]) == 1


def test_a_graph_without_a_runner_leaves_no_connection_open(tmp_path: Path) -> None:
    graph = write_graph(tmp_path)
    (tmp_path / "prompts" / "generate.md").write_text("GENERATE {{ seed.passage }}")
    code = """
import asyncio, gc, sys, warnings
warnings.simplefilter("error")
from agentloop.state import Context
from agentloop.recipes import find_recipe
graph = find_recipe(sys.argv[1]).graph
context = Context(model="openai/x", base_url=sys.argv[2], prompts=sys.argv[3])
done = asyncio.run(graph.ainvoke({"seed": {"passage": "p"}}, context=context))
gc.collect()
print(done["verdict"]["verdict"])
"""
    with (
        serving(agent()) as server,
        python(code, graph, server.url, tmp_path / "prompts") as process,
    ):
        assert process.communicate() == ("accepted\n", "")


def test_a_graph_runs_twice_without_a_runner_each_time_in_a_loop_of_its_own(tmp_path: Path) -> None:
    graph = find_recipe(str(write_graph(tmp_path))).graph
    (tmp_path / "prompts" / "generate.md").write_text("GENERATE {{ seed.passage }}")
    with serving(agent()) as server:
        context = Context(model="openai/x", base_url=server.url, prompts=str(tmp_path / "prompts"))
        for _ in range(2):
            done = in_studio(graph, context, {"seed": {"passage": PASSAGE}})
            assert done["verdict"]["verdict"] == "accepted"
        assert server.requests == 4


def nodes_of(recipe: al.Recipe) -> list[str]:
    """Return the nodes that a recipe's graph must show."""
    steps = [step.__name__ for step in recipe.steps] or ["generate"]
    ranked = recipe.build is al.ranked_graph
    return [*steps, *(["rank"] if ranked else ["check", "grade", "revise"])]


def test_the_graph_can_be_drawn_and_its_schema_read() -> None:
    for name in packaged():
        graph = find_recipe(name).graph
        drawn = graph.get_graph().draw_mermaid()
        for node in nodes_of(find_recipe(name).recipe):
            assert node in drawn
        assert "seed" in json.dumps(graph.get_input_jsonschema())
        assert "max_rounds" in json.dumps(graph.get_context_jsonschema())


def test_importing_agentloop_loads_neither_litellm_nor_langgraph() -> None:
    code = "import sys, agentloop; print([m for m in ('litellm', 'langgraph') if m in sys.modules])"
    with python(code) as process:
        assert process.communicate() == ("[]\n", "")


def test_grounded_qa_takes_no_sentence_twice_before_all_were_taken() -> None:
    recipe = find_recipe("grounded_qa").recipe
    for line in (ROOT / "examples" / "passages.jsonl").read_text().splitlines():
        seed = json.loads(line)
        drawn = [recipe.inputs(seed, sample)["sentence"] for sample in range(12)]
        different = len(set(drawn))
        assert len(set(drawn[:different])) == different
        assert all(sentence in seed["passage"] for sentence in drawn)


@pytest.mark.parametrize("name", packaged())
def test_a_packaged_recipe_is_shown_and_copied_with_all_its_prompts(
    tmp_path: Path, name: str, capsys: Any
) -> None:
    recipe = find_recipe(name).recipe
    assert run_cli(["recipes", "show", name]) == 0
    shown = capsys.readouterr().out
    assert run_cli(["init", str(tmp_path / "mine"), "--from", name]) == 0
    for prompt in recipe.asks:
        assert f"## {prompt}.md" in shown
        assert (tmp_path / "mine" / "prompts" / name / f"{prompt}.md").is_file()
    copied = find_recipe(str(tmp_path / "mine" / f"{name}.py")).recipe
    assert copied.load().identity == recipe.load().identity
