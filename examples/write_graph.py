"""A recipe of your own: a candidate type, a check, and the standard loop as its graph."""

from pathlib import Path

import agentloop as al


class Headline(al.Candidate):
    headline: str
    summary: str


def short(candidate: dict[str, str], seed: dict[str, str]) -> al.Finding:
    words = len(candidate["headline"].split())
    return al.passed() if words <= 12 else al.fail(f"the headline has {words} words, at most 12")


PROMPTS = Path(__file__).parent / "headline_prompts"
checks = (al.Check("short", short),)
recipe = al.Recipe("headline", Headline, reads=("passage",), checks=checks, prompts=PROMPTS)
graph = recipe.compile()  # or: nodes of your own on al.standard_graph(recipe), then .compile()

if __name__ == "__main__":
    seeds = Path(__file__).parent / "passages.jsonl"
    print(al.run(recipe, seeds=seeds, store="headline.duckdb", items=4))
