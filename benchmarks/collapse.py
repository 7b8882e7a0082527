"""How often the watch is silent on real text and alarms on damaged text, by the strength of the
damage.

Reads `data` in $AGENTLOOP_SHARED, or in `shared` beside the checkout. For each set of human text a
random half is the reference; the other half, whole or damaged, is fed to the watch, once as one
batch and once in batches of 20. For model text there is no reference: one half begins the run, the
other goes on. Where a half holds fewer than 200 texts there is no band, so that 200 texts are the
reference and the rest is fed.

Damage to a share of the texts: `copies` of other texts; `touched` copies, one word in ten left out;
`templated` (a text's longest words in one of three frames); `opening` (nine words before the text).
Prints one JSON object: shares of draws with amber or red, and with red.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agentloop.diversity.reference import Reference
from agentloop.diversity.watch import Watch

ROOT = Path(__file__).resolve().parent.parent
STRENGTHS = (0.1, 0.2, 0.3, 0.5, 1.0)
FRAMES = (
    "Write a short note on {0} and say how it relates to {1} in the end.",
    "Give me three good reasons why {0} matters for {1} these days.",
    "Explain {0} to a friend who only knows about {1} so far.",
)
OPENING = "Here is a new task that you may like:"

Texts = list[str]
Damage = Callable[[Texts, float, random.Random], Texts]


def copies(texts: Texts, share: float, rng: random.Random) -> Texts:
    struck = _struck(texts, share, rng)
    left = [text for at, text in enumerate(texts) if at not in struck] or texts[:1]
    return [rng.choice(left) if at in struck else text for at, text in enumerate(texts)]


def touched(texts: Texts, share: float, rng: random.Random) -> Texts:
    struck = _struck(texts, share, rng)
    left = [text for at, text in enumerate(texts) if at not in struck] or texts[:1]
    return [
        _thinned(rng.choice(left), rng) if at in struck else text for at, text in enumerate(texts)
    ]


def templated(texts: Texts, share: float, rng: random.Random) -> Texts:
    struck = _struck(texts, share, rng)
    return [_framed(text, rng) if at in struck else text for at, text in enumerate(texts)]


def opening(texts: Texts, share: float, rng: random.Random) -> Texts:
    struck = _struck(texts, share, rng)
    return [f"{OPENING} {text}" if at in struck else text for at, text in enumerate(texts)]


DAMAGES: dict[str, Damage] = {
    "copies": copies,
    "touched": touched,
    "templated": templated,
    "opening": opening,
}


def _struck(texts: Texts, share: float, rng: random.Random) -> set[int]:
    return set(rng.sample(range(len(texts)), round(share * len(texts))))


def _thinned(text: str, rng: random.Random) -> str:
    return " ".join(word for word in text.split() if rng.random() > 0.1) or text


def _framed(text: str, rng: random.Random) -> str:
    longest = sorted(text.split(), key=len)[-2:]
    return rng.choice(FRAMES).format(longest[0], longest[-1])


def read_sets(folder: Path) -> dict[str, Texts]:
    """Return human texts by name."""
    return {
        "self-instruct users": _field(
            folder / "self-instruct/user_oriented_instructions.jsonl", "instruction"
        ),
        "gsm8k questions": _field(folder / "gsm8k/test.jsonl", "question"),
        "ifeval prompts": _field(folder / "ifeval/en_input_data.jsonl", "prompt"),
        "gsm8k solutions": _field(folder / "gsm8k/test.jsonl", "answer"),
        "mbpp problems": [
            row["prompt"] for row in json.loads((folder / "mbpp/sanitized-mbpp.json").read_bytes())
        ],
    }


def _field(path: Path, name: str) -> Texts:
    return [json.loads(line)[name] for line in path.read_bytes().splitlines()]


def split(texts: Texts, rng: random.Random) -> tuple[Texts, Texts]:
    """Return a reference that can carry a band, and the other texts."""
    mixed = rng.sample(texts, len(texts))
    middle = max(len(mixed) // 2, min(200, len(mixed) - 40))
    return mixed[:middle], mixed[middle:]


def lights(watch: Watch, texts: Texts) -> set[str]:
    """Feed texts and return the lights of all batches that follow."""
    return {watch.read(batch).light for text in texts if (batch := watch.add(text))}


def human(texts: Texts, draws: int, damaged: int, size: int) -> dict[str, object]:
    """Return the shares of draws that alarm: undamaged, and by damage and strength."""
    seen: dict[str, list[set[str]]] = {}
    for draw in range(draws):
        rng = random.Random(draw)
        reference, fed = split(texts, rng)
        real = Reference(reference)
        cases = {"none": fed}
        if draw < damaged:
            cases |= spoilt(fed, rng)
        for name, case in cases.items():
            watch = Watch(real, same_kind=True, batch=size or len(fed))
            seen.setdefault(name, []).append(lights(watch, case))
    return {name: shares(found) for name, found in seen.items()}


def model(texts: Texts, draws: int, damaged: int, size: int) -> dict[str, object]:
    """Return the shares of draws that alarm when a run goes on with its other half."""
    seen: dict[str, list[set[str]]] = {}
    for draw in range(draws):
        rng = random.Random(draw)
        first, later = split(texts, rng)
        cases = {"none": later}
        if draw < damaged:
            cases |= spoilt(later, rng)
        for name, case in cases.items():
            watch = Watch(None, same_kind=False, batch=size or len(later))
            beginning = lights(watch, first)
            seen.setdefault(name, []).append(lights(watch, case) | beginning)
    return {name: shares(found) for name, found in seen.items()}


def spoilt(texts: Texts, rng: random.Random) -> dict[str, Texts]:
    """Return texts with every damage at every strength."""
    return {
        f"{name} {share:.0%}": damage(texts, share, rng)
        for name, damage in DAMAGES.items()
        for share in STRENGTHS
    }


def shares(found: list[set[str]]) -> dict[str, float]:
    alarms, red = sum(lit != {"green"} for lit in found), sum("red" in lit for lit in found)
    return {"draws": len(found), "alarm": alarms / len(found), "red": red / len(found)}


def main() -> None:
    shared = Path(os.environ.get("AGENTLOOP_SHARED") or ROOT.parent / "shared")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--damaged", type=int, default=40, help="draws that are damaged as well")
    parser.add_argument("--sets", default="", help="only sets whose name holds this")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"there is no `{options.data}`: set AGENTLOOP_SHARED, or pass --data")
    found: dict[str, object] = {}
    started = time.process_time()
    sets = {name: (texts, human) for name, texts in read_sets(options.data).items()}
    replies = _field(options.data / "ifeval/responses/qwen2.5-7b.jsonl", "response")
    sets["qwen2.5-7b replies"] = (replies, model)
    for name, (texts, measured) in sets.items():
        if options.sets in name:
            for size, words in ((0, "one batch"), (20, "batches of 20")):
                found[f"{name}, {words}"] = measured(texts, options.draws, options.damaged, size)
    found["cpu_seconds"] = round(time.process_time() - started, 1)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
