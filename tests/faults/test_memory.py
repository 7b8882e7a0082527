"""Memory stays flat: what a run keeps of an item that is settled is a few names, not the item.

Folds come and go (tens of megabytes), so lows are compared with lows. Measured over 20,000 items:
1 kB and 3 objects an item. By hand, for the long run: `python -m tests.faults.memory 20000`.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.builders import python
from tests.faults import work

ROOT = Path(__file__).resolve().parent.parent.parent
ITEMS, EVERY = 2000, 100
KB_PER_ITEM = 30
OBJECTS_PER_ITEM = 10  # the lines that are written of an item have more than thirty
FOLD_KB = 64_000
MEASURE = "import runpy; runpy.run_module('tests.faults.memory', run_name='__main__')"


def test_1000_further_items_cost_hardly_any_memory() -> None:
    told = work.ended(python(MEASURE, str(ITEMS), str(EVERY), cwd=ROOT))
    assert told.code == 0, told.err
    seen = [json.loads(line) for line in told.out.splitlines()]
    assert [s["items"] for s in seen] == list(range(EVERY, ITEMS + 1, EVERY))
    half = len(seen) // 2
    kept = {
        what: min(s[what] for s in seen[half:]) - min(s[what] for s in seen[half // 2 : half])
        for what in ("now_kb", "blocks")
    }
    further = ITEMS // 2
    assert kept["now_kb"] <= KB_PER_ITEM * further
    assert kept["blocks"] <= OBJECTS_PER_ITEM * further
    assert seen[-1]["peak_kb"] - seen[half // 2]["peak_kb"] <= KB_PER_ITEM * further + FOLD_KB
