"""Ask of any item why it is there, or why not."""

from pathlib import Path

import agentloop as al

seeds = Path(__file__).parent / "passages.jsonl"
run = al.run("grounded_qa", seeds=seeds, store="why.duckdb", items=6)
store = al.Store("why.duckdb")
print(store.reasons())
for row in run.items("rejected"):
    print(store.item(row["item"]).why())
    break
