"""The loop: the standard nodes in a LangGraph graph.

    seed ─ steps ─ check ─ grade ─┬─ accept
                     ▲            ├─ revise ─┐ (new evidence only, keep-best)
                     └────────────┼──────────┘
                                  └─ reject · ungradable · failed

Enters: a recipe. Leaves: its graph, not yet compiled. Refuses to know: what a node does with an
item, the store, other items, caps, progress.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias, cast

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from agentloop.nodes import Nodes
from agentloop.records import Json
from agentloop.state import Context, Served, State

Node: TypeAlias = Callable[[State, Runtime[Context]], Awaitable[State]]
Way: TypeAlias = Callable[[State], Awaitable[str]]


def standard_graph(recipe: Served, *, drafts_to: str = "check") -> StateGraph[Any, Any, Any, Any]:
    """Return the standard loop for a recipe, not yet compiled: its steps, then check, grade, revise.

    `drafts_to` names a node of one's own that every draft goes to, on its way to `check`. The nodes
    only say what they found and the edges say where to go: a wholly different graph is plain LangGraph
    over `State` with the methods of `Nodes(recipe)` and the edges `unless_settled` and `after_check`.
    """
    nodes = Nodes(recipe)
    graph = opening(recipe, nodes, drafts_to)
    add_routed(graph, "check", nodes.check, after_check, "grade", "revise")
    add_routed(graph, "grade", nodes.grade, unless_settled("revise"), "revise")
    add_routed(graph, "revise", nodes.revise, unless_settled(drafts_to), drafts_to)
    return graph


def ranked_graph(recipe: Served) -> StateGraph[Any, Any, Any, Any]:
    """Return a graph whose steps make several `drafts`: all are graded, and the best is kept."""
    nodes = Nodes(recipe)
    graph = opening(recipe, nodes, "rank")
    graph.add_node("rank", nodes.rank)
    graph.add_edge("rank", END)
    return graph


def opening(recipe: Served, nodes: Nodes, then: str) -> StateGraph[Any, Any, Any, Any]:
    """Return a graph of a recipe's steps, in a row; an item that none of them settled goes on."""
    graph = StateGraph(State, context_schema=Context)
    row: dict[str, Any] = {step.__name__: nodes.step(step) for step in recipe.steps}
    if not row:
        row = {"generate": nodes.generate}
    elif then != "rank":
        row["draft"] = nodes.draft
    graph.add_edge(START, next(iter(row)))
    for name, following in itertools.pairwise([*row, then]):
        add_routed(graph, name, row[name], unless_settled(following), following)
    return graph


def add_routed(
    graph: StateGraph[Any, Any, Any, Any], name: str, node: Node, way: Way, *to: str
) -> None:
    """Add a node and the ways that lead from it, to the end and to others.

    It says both at once: a conditional edge would have LangGraph copy the whole state for it, 1.4 of
    the 5.3 ms that an item of five steps takes there (`benchmarks/NOTES.md`).
    """

    async def routed(state: State, runtime: Runtime[Context]) -> Command[str]:
        found = await node(state, runtime)
        return Command(update=found, goto=await way(cast("State", {**state, **found})))

    graph.add_node(name, routed, destinations=(*to, END))


def unless_settled(node: str) -> Way:
    """Return the way of an item: to a node, or to the end once it has a verdict."""

    async def settled_or_on(state: State) -> str:  # LangGraph runs what is not async in a thread
        return END if state.get("verdict") else node

    return settled_or_on


async def after_check(state: State) -> Literal["grade", "revise", "__end__"]:
    """Spare the judge when a veto failed."""
    if state.get("verdict"):
        return "__end__"
    return "revise" if any(_vetoed(c) for c in state["checks"]) else "grade"


def _vetoed(check: Json) -> bool:
    return check["veto"] and not check["passed"]


def recursion_limit(max_rounds: int, steps: int = 0) -> int:
    """Return LangGraph's limit for a number of rounds: three nodes each, and some room."""
    return 3 * (max_rounds + 1) + steps + 8
