"""`make demo`: the loop on the embedded model, over real passages; what it kept, and what not."""

import os
from pathlib import Path

import agentloop as al

Path("demo").mkdir(exist_ok=True)
seeds = Path(__file__).parent / "passages.jsonl"
want = {"accept": int(os.environ.get("ACCEPT", "5")), "max_rounds": 1, "progress": "auto"}
try:
    run = al.run("grounded_qa", seeds=seeds, store="demo/qa.duckdb", **want)
except al.AgentloopError as error:
    raise SystemExit(f"{error}; or start anew: rm -r demo") from None
for verdict in ("accepted", "rejected"):
    print(f"\n=== {verdict} ===")
    for row in run.items(verdict):
        why = row["detail"] or f"score {row['score']:.2f}"
        print(f"\n[{row['item'][:6]}] {why}")
        print(f"  Q {row['candidate']['question']}\n  A {row['candidate']['answer']}")
count = run.export("demo/qa.jsonl", shape="messages")
print(f"\n{run}\n{count} examples in demo/qa.jsonl, for instance:")
print(Path("demo/qa.jsonl").read_text().splitlines()[0])
print("\nAsk why of any: .venv/bin/agentloop why demo/qa.duckdb ITEM")
