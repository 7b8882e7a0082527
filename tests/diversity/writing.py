"""Text for the tests of diversity: made-up prose, damage to it, and real text where it is at hand.

Enters: a number of texts and a seed. Leaves: texts. Refuses to know: measures.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("AGENTLOOP_SHARED") or ROOT.parent / "shared") / "data"
VOCABULARY = ["".join(parts) for parts in itertools.product("bdfgklmnprst", "aeiou", "lmnrst")] + [
    "".join(parts) for parts in itertools.product("bdfgklmnprst", "aeiou", "bdgk", "aeiou")
]


def prose(count: int, seed: int = 0) -> list[str]:
    """Return texts of 12 to 24 words whose frequencies fall as those of a language do (Zipf)."""
    rng = random.Random(seed)
    weights = [1 / (rank + 5) for rank in range(len(VOCABULARY))]
    texts = []
    for _ in range(count):
        spoken = rng.choices(VOCABULARY, weights, k=rng.randint(12, 24))
        texts.append(" ".join(spoken).capitalize() + ".")
    return texts


def with_copies(texts: list[str], share: float, seed: int = 0) -> list[str]:
    """Return texts of which a share is replaced by copies of the others."""
    rng = random.Random(seed)
    struck = set(rng.sample(range(len(texts)), round(share * len(texts))))
    left = [text for at, text in enumerate(texts) if at not in struck]
    return [rng.choice(left) if at in struck else text for at, text in enumerate(texts)]


def with_opening(texts: list[str], share: float = 1.0, seed: int = 0) -> list[str]:
    """Return texts of which a share gets the same beginning."""
    struck = set(random.Random(seed).sample(range(len(texts)), round(share * len(texts))))
    return [f"Sure, here is one: {t}" if at in struck else t for at, t in enumerate(texts)]


def templated(texts: list[str], share: float = 1.0, seed: int = 0) -> list[str]:
    """Return texts of which a share is two words of their own in a frame."""
    struck = set(random.Random(seed).sample(range(len(texts)), round(share * len(texts))))
    return [_framed(text) if at in struck else text for at, text in enumerate(texts)]


def _framed(text: str) -> str:
    longest = sorted(text.split(), key=len)[-2:]
    return f"Write a short story about {longest[0]} in which {longest[-1]} plays a surprising part."


def field(path: str, name: str) -> list[str]:
    """Return one field of a data file's rows."""
    return [json.loads(line)[name] for line in (DATA / path).read_bytes().splitlines()]
