"""The door before the store: what an item costs there among up to 10⁶, and how many copies are found.

    python benchmarks/admission.py [--sizes 10000 100000 1000000] [--crowd 100000]

Texts are made by rule: 50,000 invented words with Zipf's frequencies, a third of them followed by one
of their eight companions. Each passes `Admission.admit` as a conversation of two turns: fingerprint,
near-duplicates, quota of real seeds, target; no test set is kept apart. Rates are items per second of
CPU over all of them and over the last tenth; memory is what is not backed by a file (`RssAnon`, Linux
only). `open_s` is the time that the index takes to open after a clean end, all its sums verified.

With data in $AGENTLOOP_SHARED, or in `shared` beside the checkout: false hits among human prompts, and
planted near-duplicates found among `--crowd` texts that are chained from the words of the same prompts,
which is harder than invented words: they crowd the same buckets. Planted ones count when they are near
by the definition (Jaccard or ROUGE-L ≥ 0.7), which the shares `near` tell. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentloop.admission import Admission, Applicant, Rules
from agentloop.novelty.near import NearIndex
from agentloop.novelty.sketch import NEAR, likeness, words
from agentloop.records import Verdict

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "self-instruct/seed_tasks.jsonl": "instruction",
    "self-instruct/user_oriented_instructions.jsonl": "instruction",
    "ifeval/en_input_data.jsonl": "prompt",
    "gsm8k/test.jsonl": "question",
}
VOCABULARY, COMPANIONS, CHUNK = 50_000, 8, 10_000
PLANTED = 500  # of each kind
GOOD = Verdict(verdict="accepted", round=0, score=1.0)
Words = list[str]


def invented(count: int, seed: int = 1) -> Iterator[str]:
    """Yield texts of about 20 to 90 words, always the same ones."""
    draw = np.random.default_rng(seed)
    sounds = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    names = np.array(
        ["".join(sounds[(n * p) % 70] for p in (1, 7, 31)) + str(n % 97) for n in range(VOCABULARY)]
    )
    shares = np.cumsum(1 / (np.arange(VOCABULARY) + 2.7))
    companions = draw.integers(0, VOCABULARY, (VOCABULARY, COMPANIONS))
    for start in range(0, count, CHUNK):
        lengths = np.clip(draw.lognormal(3.6, 0.5, min(CHUNK, count - start)), 4, 400).astype(int)
        ranks = np.searchsorted(shares, draw.random(lengths.sum()) * shares[-1])
        follows = np.flatnonzero(draw.random(len(ranks) // 2) < 2 / 3) * 2 + 1
        ranks[follows] = companions[ranks[follows - 1], draw.integers(0, COMPANIONS, len(follows))]
        for text in np.split(names[ranks], np.cumsum(lengths)[:-1]):
            yield " ".join(text)


def anonymous_mb() -> float | None:
    """Return the memory of this process that no file backs."""
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return round(int(found[1]) / 1024, 1) if found else None


def applicant(number: int, text: str) -> Applicant:
    """Return a finished item that asks the first half of a text, and answers with the rest."""
    half = text.find(" ", len(text) // 2)
    turns = ("user", text[:half]), ("assistant", text[half:])
    messages = tuple({"role": role, "content": said} for role, said in turns)
    return Applicant(f"item-{number}", messages, text)


def pass_through(count: int) -> dict[str, Any]:
    """Let `count` items pass the door, then open the index that was left."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.near"
        index, refused, marks, before = NearIndex.open(path), 0, [], anonymous_mb()
        rules = Rules(target=count, real_share=0.5, indexes=(index,), growing=(index,))
        door = Admission(rules)
        spent = 0.0
        began = time.perf_counter()
        for number, text in enumerate(invented(count)):
            if number in (0, count - count // 10):
                marks.append(spent)
            comes = applicant(number, text)
            start = time.process_time()
            verdict, _ = door.admit(comes, GOOD)
            refused += verdict.verdict != "accepted"
            if number % 1000 == 999:
                index.flush()
            spent += time.process_time() - start
        memory, wall = anonymous_mb(), time.perf_counter() - began
        start = time.perf_counter()
        index.close()
        closed = time.perf_counter()
        index = NearIndex.open(path)
        opened = time.perf_counter() - closed
        size = sum(file.stat().st_size for file in path.iterdir())
        assert len(index) == count - refused
        index.close()
    return {
        "items_per_cpu_second": round(count / spent),
        "last_tenth": round(count // 10 / (spent - marks[-1])),
        "wall_s_with_generation": round(wall, 1),
        "anonymous_mb": memory,
        "anonymous_mb_before": before,
        "files_mb": round(size / 1e6, 1),
        "close_s": round(closed - start, 3),
        "open_s": round(opened, 4),
        "refused": refused,
    }


def data_folder() -> Path:
    return Path(os.environ.get("AGENTLOOP_SHARED") or ROOT.parent / "shared") / "data"


def prompts() -> dict[str, list[str]]:
    """Return the human prompts that are here, by file."""
    found = {name: data_folder() / name for name in SOURCES}
    return {
        name: [json.loads(line)[SOURCES[name]] for line in path.read_text().splitlines()]
        for name, path in found.items()
        if path.is_file()
    }


def false_hits(texts: Sequence[str]) -> dict[str, Any]:
    """Count the human prompts that would be refused for one before them, with the first such pairs."""
    index, pairs = NearIndex.open(None), []
    for number, text in enumerate(texts):
        if near := index.nearest(text):
            pairs.append(
                (round(near.similarity, 2), near.measure, text[:80], texts[int(near.item)][:80])
            )
        index.add(str(number), text)
    return {
        "prompts": len(texts),
        "hits": len(pairs),
        "share": len(pairs) / len(texts),
        "first": pairs[:5],
    }


class Planter:
    """Makes near-duplicates of texts."""

    def __init__(self, texts: Sequence[str]):
        self.random = random.Random(5)
        self.split = [text.split() for text in texts]
        self.every = [word for text in self.split for word in text]
        self.after = defaultdict(list)
        for text in self.split:
            for one, other in itertools.pairwise(text):
                self.after[one].append(other)

    def chained(self, count: int) -> Iterator[str]:
        """Yield texts whose neighbours mostly are neighbours in a real one."""
        for _ in range(count):
            length = len(self.random.choice(self.split))
            text = [self.random.choice(self.split)[0]]
            while len(text) < length:
                known = self.after[text[-1]] if self.random.random() < 0.9 else []
                text.append(self.random.choice(known or self.every))
            yield " ".join(text)

    def kinds(self) -> dict[str, Callable[[Words], Words]]:
        return {
            "case and punctuation": self.recased,
            **{f"{n} words replaced": lambda text, n=n: self.replaced(text, n) for n in (1, 2, 3)},
            "1-3 words inserted": self.inserted,
            "1-3 words deleted": self.deleted,
            "1-3 pairs of words exchanged": self.exchanged,
            "polite prefix": lambda text: ["Please", *text],
            "a sentence appended": lambda text: [*text, *next(self.chained(1)).split()[:8]],
            "numbers changed": self.renumbered,
            "halves exchanged": lambda text: text[len(text) // 2 :] + text[: len(text) // 2],
            "a fifth replaced": lambda text: self.replaced(text, len(text) // 5),
        }

    def recased(self, text: Words) -> Words:
        return [f"{word.upper()} !" if self.random.random() < 0.3 else word for word in text]

    def replaced(self, text: Words, count: int) -> Words:
        places = set(self.random.sample(range(len(text)), min(count, len(text))))
        return [self.random.choice(self.every) if n in places else w for n, w in enumerate(text)]

    def inserted(self, text: Words) -> Words:
        text = list(text)
        for _ in range(self.random.randint(1, 3)):
            text.insert(self.random.randrange(len(text) + 1), self.random.choice(self.every))
        return text

    def deleted(self, text: Words) -> Words:
        text = list(text)
        for _ in range(min(self.random.randint(1, 3), len(text) - 1)):
            del text[self.random.randrange(len(text))]
        return text

    def exchanged(self, text: Words) -> Words:
        text = list(text)
        for _ in range(self.random.randint(1, 3)):
            one, other = self.random.randrange(len(text)), self.random.randrange(len(text))
            text[one], text[other] = text[other], text[one]
        return text

    def renumbered(self, text: Words) -> Words:
        return [
            re.sub(r"\d+", lambda _: str(self.random.randrange(1, 1000)), word) for word in text
        ]


def planted(texts: Sequence[str], crowd: int) -> dict[str, Any]:
    """Return the recall by kind; the originals are the oldest, so the first to leave a full bucket."""
    planter, index = Planter(texts), NearIndex.open(None)
    for number, text in enumerate((*texts, *planter.chained(crowd))):
        index.add(str(number), text)
    kinds = {name: recall(index, texts, planter, make) for name, make in planter.kinds().items()}
    near, found = (sum(kind[part] for kind in kinds.values()) for part in ("near", "found"))
    return {
        "texts": len(index),
        "near": near,
        "found": found,
        "recall": found / near,
        "kinds": kinds,
    }


def recall(
    index: NearIndex, texts: Sequence[str], planter: Planter, make: Callable[[Words], Words]
) -> dict[str, Any]:
    near = found = 0
    for text in planter.random.sample(texts, min(PLANTED, len(texts))):
        made = " ".join(make(text.split()))
        if words(made) and likeness(words(made), words(text))[1] >= NEAR:
            near += 1
            found += index.nearest(made) is not None
    return {
        "planted": min(PLANTED, len(texts)),
        "near": near,
        "found": found,
        "recall": found / near,
    }


def distinct(texts: Iterable[str]) -> list[str]:
    return list({tuple(words(text)): text for text in texts}.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--crowd", type=int, default=100_000)
    args = parser.parse_args()
    report: dict[str, Any] = {"sizes": {str(size): pass_through(size) for size in args.sizes}}
    if human := prompts():
        report["false_hits"] = {name: false_hits(texts) for name, texts in human.items()}
        every = [text for texts in human.values() for text in texts]
        report["false_hits"]["all"] = false_hits(every)
        report["planted"] = planted(distinct(every), args.crowd)
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
