"""How often the instruction checks agree with IFEval's own strict verdicts on stored answers.

Reads `data/ifeval` in $AGENTLOOP_SHARED, or in `shared` beside the checkout: prompts with their ids and
parameters, and models' answers with a verdict for each instruction. Needs the `language` extra.
Prints one JSON object: for each kind the total, the agreements, and each mismatch with both verdicts.
"""

from __future__ import annotations

import argparse
import json
import os
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentloop.checks.instructions import follow
from agentloop.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
# each was looked at; the reference asks langdetect, here 1.0.9 with 20 seeds
SEEN = {
    ("qwen2.5-7b", 3617): "names of invented firms; langdetect says Vietnamese",
    ("qwen2.5-7b", 1843): "two words; langdetect says Romanian with 14 seeds, English with 6",
    ("qwen2.5-0.5b", 3305): "one Hindi word over and over; langdetect says Nepali",
}


def rows(folder: Path) -> Iterator[tuple[str, int, str, dict[str, Any], str, bool]]:
    """Give model, prompt's key, id, parameters, answer and stored verdict of every instruction."""
    asked = lines(folder / "en_input_data.jsonl")
    for path in sorted((folder / "responses").glob("*.jsonl")):
        for prompt, answer in zip(asked, lines(path), strict=True):
            assert prompt["prompt"] == answer["prompt"], f"{path}: {prompt['key']}"
            ids, verdicts = prompt["instruction_id_list"], answer["follow_instruction_list"]
            for id, parameters, verdict in zip(ids, prompt["kwargs"], verdicts, strict=True):
                kind = id.removeprefix("en:")
                yield path.stem, prompt["key"], kind, parameters, answer["response"], verdict


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def why(kind: str, place: tuple[str, int], parameters: dict[str, Any]) -> str | None:
    """Explain a mismatch in a line; None where nobody has looked at it."""
    letter = parameters.get("letter", "a")
    if kind == "keywords:letter_frequency" and letter.lower() not in string.ascii_lowercase:
        return f"the reference counts a random letter, without a seed, where `{letter}` is asked"
    by_language = kind.startswith(("language:", "change_case:english_"))
    return SEEN.get(place) if by_language else None


def compare(folder: Path) -> dict[str, Any]:
    """Judge every stored answer and put the verdicts side by side."""
    kinds: dict[str, dict[str, Any]] = {}
    for model, key, kind, parameters, text, stored in rows(folder):
        found = follow(text, kind, parameters)
        counts = kinds.setdefault(kind, {"total": 0, "agreements": 0, "mismatches": []})
        counts["total"] += 1
        counts["agreements"] += found.passed == stored
        if found.passed != stored:
            reason = why(kind, (model, key), parameters)
            verdicts = {"ours": found.passed, "stored": stored}
            case = {"model": model, "key": key, "parameters": parameters, **verdicts}
            counts["mismatches"].append({**case, "evidence": found.evidence, "why": reason})
    every = [case for counts in kinds.values() for case in counts["mismatches"]]
    total = sum(counts["total"] for counts in kinds.values())
    return {
        "total": total,
        "agreements": total - len(every),
        "mismatches": len(every),
        "unexplained": sum(case["why"] is None for case in every),
        "kinds": dict(sorted(kinds.items())),
    }


def main() -> None:
    shared = Path(os.environ.get("AGENTLOOP_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=shared / "data" / "ifeval")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"there is no `{options.data}`: set AGENTLOOP_SHARED, or pass --data")
    try:
        print(json.dumps(compare(options.data), indent=2, ensure_ascii=False))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
