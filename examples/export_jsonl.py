"""Export what was accepted, in the shapes that trainers read."""

from pathlib import Path

import agentloop as al

seeds = Path(__file__).parent / "tasks.jsonl"
run = al.run("instructions", seeds=seeds, store="instructions.duckdb", items=6)
for shape in ("messages", "prompt_completion", "preference", "critique", "kto", "raw"):
    count = run.export(f"instructions.{shape}.jsonl", shape=shape)
    print(f"{count} lines of {shape}")
run.export("split.jsonl", split="0.2")
best = run.export("best.jsonl", where="score >= 0.9 AND round = 0")
print(f"{best} were good at the first try")
