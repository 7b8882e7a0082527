"""Grade by a rubric of your own: copy the recipe's, change a threshold, add a criterion."""

from pathlib import Path

import agentloop as al

RUBRIC = """
name: my_rubric
accept_at: 0.6
criteria:
  - name: supported
    ask: Does the passage support the answer?
    levels: ["no", "yes"]
    floor: "yes"
  - name: beginner
    ask: Would a beginner understand the answer?
    levels: ["no", "partly", "yes"]
"""
Path("my_rubric.yaml").write_text(RUBRIC)
seeds = Path(__file__).parent / "passages.jsonl"
run = al.run("grounded_qa", seeds=seeds, store="rubric.duckdb", rubric="my_rubric.yaml", items=4)
print(run)
