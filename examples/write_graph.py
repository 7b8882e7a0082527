"""A graph of your own: the standard loop, with a node of yours between each draft and its checks."""

from pathlib import Path
from typing import Any

import agentloop as al


class Headline(al.Candidate):
    headline: str
    summary: str


def tidy(state: al.State) -> al.State:
    return {"candidate": {name: text.strip(" .") for name, text in state["candidate"].items()}}


def build(recipe: al.Recipe) -> Any:
    return al.standard_graph(recipe, drafts_to="tidy").add_node(tidy).add_edge("tidy", "check")


recipe = al.Recipe("headline", Headline, prompts="headline_prompts", build=build)
graph = recipe.compile()
if __name__ == "__main__":
    print(al.run(recipe, seeds=Path(__file__).parent / "passages.jsonl", store="h.duckdb", items=4))
