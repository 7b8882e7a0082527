"""Run a recipe over real passages and say what came of it."""

from pathlib import Path

import agentloop as al

run = al.run(
    "grounded_qa",
    seeds=Path(__file__).parent / "passages.jsonl",
    store="run_recipe.duckdb",
    items=6,
)
print(run)
print("stopped by", run.stopped_by)
