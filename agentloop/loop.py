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
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, Literal, TypeAlias

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from agentloop.nodes import Nodes
from agentloop.records import Json
from agentloop.state import Context, Served, State, has_runner, joined

Node: TypeAlias = Callable[[State, Runtime[Context]], Awaitable[State]]
Way: TypeAlias = Callable[[State], Awaitable[str]]


def standard_graph(recipe: Served, *, drafts_to: str = "check") -> StateGraph[Any, Any, Any, Any]:
    """Return the standard loop for a recipe, not yet compiled: its steps, then check, grade, revise.

    `drafts_to` names a node of one's own that every draft goes to, on its way to `check`. The nodes
    only say what they found and the edges say where to go: a wholly different graph is plain LangGraph
    over `State` with the methods of `Nodes(recipe)` and the edges `unless_settled` and `after_check`.
    """
    nodes = Nodes(recipe)
    walk = _opening(recipe, nodes, drafts_to)
    walk.add("check", nodes.check, after_check, "grade", "revise")
    walk.add("grade", nodes.grade, unless_settled("revise"), "revise")
    walk.add("revise", nodes.revise, unless_settled(drafts_to), drafts_to)
    return walk.graph


def ranked_graph(recipe: Served) -> StateGraph[Any, Any, Any, Any]:
    """Return a graph whose steps make several `drafts`: all are graded, and the best is kept."""
    nodes = Nodes(recipe)
    walk = _opening(recipe, nodes, "rank")
    walk.add("rank", nodes.rank, _to_the_end)
    return walk.graph


def _opening(recipe: Served, nodes: Nodes, then: str) -> Walk:
    """Return a graph of a recipe's steps, in a row; an item that none of them settled goes on."""
    row: dict[str, Any] = {step.__name__: nodes.step(step) for step in recipe.steps}
    if not row:
        row = {"generate": nodes.generate}
    elif then != "rank":
        row["draft"] = nodes.draft
    walk = Walk(StateGraph(State, context_schema=Context))
    walk.graph.add_edge(START, next(iter(row)))
    for name, following in itertools.pairwise([*row, then]):
        walk.add(name, row[name], unless_settled(following), following)
    return walk


class Walk:
    """A graph of nodes that say themselves where an item goes next.

    In a run, an item goes on from node to node within one step of LangGraph, for a step costs more
    than most nodes do (`benchmarks/NOTES.md`): as far as there are standard nodes, unless the graph
    has ways side by side, and until a node writes to a channel that is not ours, which LangGraph
    reduces. LangGraph Studio, where no runner is, shows each node as a step.
    """

    def __init__(self, graph: StateGraph[Any, Any, Any, Any]):
        self.graph = graph
        self._stations: dict[str, tuple[Node, Way]] = {}

    def add(self, name: str, node: Node, way: Way, *to: str) -> None:
        """Add a node and the ways that lead from it, to the end and to others."""

        async def routed(state: State, runtime: Runtime[Context]) -> Command[str]:
            return await self._from(name, state, runtime)

        self._stations[name] = node, way
        self.graph.add_node(name, routed, destinations=(*to, END))

    async def _from(self, name: str, state: State, runtime: Runtime[Context]) -> Command[str]:
        """Walk an item from a node to where LangGraph has to lead it on."""
        found: State = {}
        while True:
            node, way = self._stations[name]
            update = await node(state, runtime)
            state, found = joined(state, update), joined(found, update)
            name = await way(state)
            own = update.keys() - State.__annotations__.keys()
            if own or name not in self._stations or not self._one_way or not has_runner(runtime):
                return Command(update=found, goto=name)

    @cached_property
    def _one_way(self) -> bool:
        """Whether an item is at one node at a time: LangGraph walks what leads from a node side by side.

        A node of one's own has one edge at most, a standard one none but its own ways; what a
        conditional edge does is not known.
        """
        edges = Counter(start for start, _ in self.graph.edges)
        tied = edges.keys() & self._stations.keys()
        return max(edges.values()) == 1 and not (
            tied or self.graph.branches or self.graph.waiting_edges
        )


async def _to_the_end(_: State) -> str:
    return END


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
