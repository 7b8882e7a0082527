"""What the privacy checks flag in published texts that should hold nothing, by kind.

Texts: GSM8K, LLMBar, self-instruct, where the shared data is there. Prints one JSON object; with
`--show` the finds and their surroundings too, to be judged by eye.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentloop.checks.credentials import find_secrets
from agentloop.checks.personal import find_pii

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("AGENTLOOP_SHARED") or ROOT.parent / "shared") / "data"


def strings(value: Any) -> Iterator[str]:
    """Walk all texts of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def texts(folder: str) -> list[str]:
    found: list[str] = []
    for path in sorted((DATA / folder).glob("*.json*")):
        text = path.read_text()
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        found += (one for line in lines for one in strings(json.loads(line)))
    return found


def measure(folder: str, show: bool) -> dict[str, Any]:
    given = texts(folder)
    kinds: Counter[str] = Counter()
    flagged = 0
    start = time.process_time()
    for text in given:
        finds = [*find_secrets(text), *find_pii(text)]
        flagged += bool(finds)
        kinds.update(find.kind for find in finds)
        for find in finds if show else []:
            at = max(text.find(find.text), 0)
            near = text[max(0, at - 40) : at + len(find.text) + 40]
            print(f"{folder}: {find.kind}: {near!r}", file=sys.stderr)
    seconds = time.process_time() - start
    size = sum(map(len, given)) / 1e6
    counts = {"texts": len(given), "flagged": flagged, "kinds": dict(kinds)}
    return {**counts, "million_characters": round(size, 2), "cpu_s": round(seconds, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", action="store_true")
    show = parser.parse_args().show
    report = {folder: measure(folder, show) for folder in ("gsm8k", "llmbar", "self-instruct")}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
