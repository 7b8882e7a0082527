"""agentloop: graphs of generator, critic and reviser that make training data one can ask why.

    import agentloop as al

    run = al.run("grounded_qa", seeds="passages.jsonl", store="qa.duckdb", accept=20)
    run.export("qa.jsonl", shape="messages")

Names are resolved on first use: importing agentloop loads neither litellm nor langgraph.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentloop.agents import Agents
    from agentloop.checks import Check, Finding, fail, passed
    from agentloop.errors import AgentloopError, Filtered, UserError
    from agentloop.loop import after_check, ranked_graph, standard_graph, unless_settled
    from agentloop.models.scripted import ScriptedModel
    from agentloop.nodes import Nodes
    from agentloop.recipe import Recipe
    from agentloop.recipes import find_recipe
    from agentloop.records import Attempt, Candidate, Grade, Item, Mark, Seed, Verdict
    from agentloop.rubric import Rubric
    from agentloop.runner import Run, arun, run
    from agentloop.state import Context, State
    from agentloop.store import Store

__version__ = "0.1.0"

_HOME = {
    "AgentloopError": "errors",
    "Agents": "agents",
    "Attempt": "records",
    "Candidate": "records",
    "Check": "checks",
    "Context": "state",
    "Filtered": "errors",
    "Finding": "checks",
    "Grade": "records",
    "Item": "records",
    "Mark": "records",
    "Nodes": "nodes",
    "Recipe": "recipe",
    "Rubric": "rubric",
    "Run": "runner",
    "ScriptedModel": "models.scripted",
    "Seed": "records",
    "State": "state",
    "Store": "store",
    "UserError": "errors",
    "Verdict": "records",
    "after_check": "loop",
    "arun": "runner",
    "fail": "checks",
    "find_recipe": "recipes",
    "passed": "checks",
    "ranked_graph": "loop",
    "run": "runner",
    "standard_graph": "loop",
    "unless_settled": "loop",
}
__all__ = [
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

# In a bare checkout `agentloop.graphs` and `agentloop.prompts` lie beside the package, not in it.
_checkout = Path(__file__).resolve().parent.parent
if not (Path(__file__).parent / "graphs").is_dir() and (_checkout / "graphs").is_dir():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `agentloop` has no attribute `{name}`")
    value = getattr(import_module(f"agentloop.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
