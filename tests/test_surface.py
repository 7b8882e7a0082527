"""What stands outside: public names, what an import costs, how the layers lie."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from langgraph.graph.state import CompiledStateGraph

import agentloop

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("litellm", "langgraph", "langchain_core", "duckdb", "rich", "aiohttp", "xllamacpp")


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout


def test_the_public_names_are_pinned() -> None:
    assert agentloop.__all__ == [
        "AgentloopError",
        "Agents",
        "Attempt",
        "Candidate",
        "Check",
        "Context",
        "Filtered",
        "Finding",
        "Grade",
        "Item",
        "Mark",
        "Nodes",
        "Recipe",
        "Rubric",
        "Run",
        "ScriptedModel",
        "Seed",
        "State",
        "Store",
        "UserError",
        "Verdict",
        "after_check",
        "arun",
        "fail",
        "find_recipe",
        "passed",
        "ranked_graph",
        "run",
        "standard_graph",
        "unless_settled",
    ]
    for name in agentloop.__all__:
        assert getattr(agentloop, name) is not None
    assert dir(agentloop) == agentloop.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute `nonsense`"):
        _ = agentloop.nonsense


def test_importing_agentloop_loads_nothing_heavy() -> None:
    code = f"import agentloop, sys; print([m for m in {HEAVY} if m in sys.modules])"
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from agentloop.cli import run_cli\n"
        f"code = run_cli({arguments!r}); assert code == 0\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert run_python(code).strip().splitlines()[-1] == "[]"


def test_a_direct_run_loads_no_litellm(tmp_path: Path) -> None:
    code = (
        "import sys; from agentloop import ScriptedModel, run\n"
        f"r = run('instructions', seeds=[{{'task': 'x y z'}}], store={str(tmp_path / 'a.duckdb')!r},"
        " model=ScriptedModel(lambda request: 'no json'))\n"
        "assert r.counts['failed'] == 1, r\n"
        "print('litellm' in sys.modules)"
    )
    assert run_python(code).strip().splitlines()[-1] == "False"


def test_langgraph_json_names_compiled_graphs_that_draw_and_describe_themselves() -> None:
    from agentloop.recipes import find_recipe

    listing = json.loads((ROOT / "langgraph.json").read_text())
    assert {"grounded_qa", "instructions"} <= set(listing["graphs"])
    for entry in listing["graphs"].values():
        found = find_recipe(str(ROOT / entry))
        assert isinstance(found.graph, CompiledStateGraph)
        assert found.graph.checkpointer is None
        drawing = found.graph.get_graph().draw_mermaid()
        first = [step.__name__ for step in found.recipe.steps] or ["generate"]
        ranked = found.recipe.build is agentloop.ranked_graph
        for node in (*first, *(("rank",) if ranked else ("check", "grade", "revise"))):
            assert node in drawing
        assert "seed" in found.graph.get_input_jsonschema()["properties"]
        assert found.graph.get_context_jsonschema() is not None


def test_langgraph_takes_its_own_file() -> None:
    from langgraph_cli.config import validate_config_file

    assert validate_config_file(ROOT / "langgraph.json")["graphs"]


def test_every_packaged_recipe_stands_in_langgraph_json() -> None:
    from agentloop.recipes import packaged

    assert set(json.loads((ROOT / "langgraph.json").read_text())["graphs"]) == set(packaged())


def test_recipe_files_stay_short() -> None:
    for path in (ROOT / "graphs").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 80, path


def test_lock_file_names_no_host() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text()
