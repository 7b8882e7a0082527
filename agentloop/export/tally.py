"""What an exported file is made of, counted as its lines go by.

Enters: rows of the view `examples`. Leaves: counts, and an even sample of the texts with its
figures. Refuses to know: shapes, files, what a run was told.

Memory does not grow with the rows: figures of texts, and what texts say about people, are of at most
4,096 rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from agentloop.diversity import bias
from agentloop.diversity.measures import LARGE, measure
from agentloop.diversity.sample import EvenSample
from agentloop.novelty.lineage import depth_of
from agentloop.records import Json, Record

SAMPLE = 4_096  # rows whose texts are looked at: 60,000 tokens of 15 words
OPTIONS = 8  # values that a field may have to count as a label
LABEL = 40  # characters of a label at most
BINS = 10  # of the scores
NAMES = 1000  # different licences or languages that are told apart

NOT_STATED = "not stated"
OTHERS = "others"

Talk = Sequence[Json]
COUNTED = {
    "runs": "run",
    "generators": "generator",
    "critics": "critic",
    "depths": "agentloop.depth",
    "rounds": "round",
    "verdicts": "verdict",
}
"""What is counted by its values, and where the view `examples` has it."""
STATED = ("license", "licence", "language", "lang")
"""What a seed may state of itself."""
GROUPED = (
    *COUNTED.values(),
    "score",
    "self_graded",
    *(
        f"CASE WHEN contains(seed::VARCHAR, '\"{name[:4]}') AND json_type(seed, '$.{name}') = 'VARCHAR' "
        f"THEN seed->>'{name}' END"
        for name in STATED
    ),
    "CASE WHEN agentloop.depth IS DISTINCT FROM 1 THEN seed END",
)
"""What `take` counts rows by."""


class Tally:
    """The counts of one file."""

    def __init__(self) -> None:
        self._rows = 0
        self._counted: dict[str, Counter[Any]] = {name: Counter() for name in COUNTED}
        self._licences: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._good: Counter[bool] = Counter()
        self._scores = [0] * BINS
        self._real = self._self_graded = 0
        self._talks = EvenSample[str | bytes](SAMPLE)
        self._labels: dict[str, Counter[str]] = {}
        self._no_labels: set[str] = set()
        self.columns = ["candidate"]
        """What `take` wants to know of each row besides: its candidate, while a field may be a label.

        Another thread may look at it while rows are counted.
        """

    def add(self, row: Json) -> None:
        """Count a row, and the `label` that an example has which was made of it."""
        if row.get("label") is not None:
            self._good[row["label"]] += 1
        seed, depth = row["seed"], row["agentloop"]["depth"]
        group = (
            *(row[name] for name in ("run", "generator", "critic")),
            depth,
            *(row[name] for name in ("round", "verdict", "score", "self_graded")),
            *(seed[n] if isinstance(seed.get(n), str) else None for n in STATED),
            None if depth == 1 else orjson.dumps(seed),
            1,
        )
        talk = orjson.dumps(row["messages"] or ())
        self.take([group], [talk], [orjson.dumps(row["candidate"])] if self.columns else [])

    def take(
        self,
        groups: Sequence[Sequence[Any]],
        talks: Sequence[str | bytes],
        candidates: Sequence[str | bytes | None],
    ) -> None:
        """Count rows by `GROUPED`, each with how many they are; see their conversations, as JSON.

        A conversation may come as a line that has it as `messages`; candidates come where `columns` ask.
        """
        for values, (score, graded, *stated, seed, rows) in (_parted(group) for group in groups):
            for counts, value in zip(self._counted.values(), values, strict=True):
                counts[value] += rows
            if score is not None:
                self._scores[min(int(score * BINS), BINS - 1)] += rows
            self._self_graded += rows if graded else 0
            _count(self._licences, stated[:2], rows)
            _count(self._languages, stated[2:], rows)
            self._real += rows if seed is None or depth_of(orjson.loads(seed), {}) == 1 else 0
        self._talks.extend(talks)
        before = self._rows
        for candidate in candidates if self.columns else ():
            self._rows += 1
            for name, value in (orjson.loads(candidate or "null") or {}).items():
                self._label(name, value)
            if not self._labels:
                self.columns = []
                break
        self._rows = before + len(talks)

    def as_dict(self) -> Json:
        """Return counts and figures as JSON values."""
        talks = [_talk(orjson.loads(text)) for text in self._talks.kept]
        asked = [_said(talk, "user") for talk in talks]
        answered = [_said(talk, "assistant") for talk in talks]
        return {
            "rows": self._rows,
            **{name: _named(counts) for name, counts in self._counted.items()},
            "labels": {str(good).lower(): n for good, n in sorted(self._good.items())},
            "licences": dict(sorted(self._licences.items())),
            "languages": dict(sorted(self._languages.items())),
            "scores": self._scores,
            "real_seeded": self._real,
            "self_graded": self._self_graded,
            "sample": len(asked),
            "diversity": {
                "prompts": _figures(asked),
                "answers": _figures(answered),
            },
            "bias": self._bias([f"{a}\n{b}" for a, b in zip(asked, answered, strict=True)]),
        }

    def _label(self, name: str, value: object) -> None:
        """Count the values of a field that has few, as labels and places of right answers have."""
        if name in self._no_labels:
            return
        counts = self._labels.setdefault(name, Counter())
        if isinstance(value, str | bool | int) and len(str(value)) <= LABEL:
            counts[str(value)] += 1
        if len(counts) > OPTIONS or counts.total() < self._rows:
            self._no_labels.add(name)
            del self._labels[name]

    def _bias(self, texts: Sequence[str]) -> Json:
        labels = {
            name: counts
            for name, counts in self._labels.items()
            if len(counts) > 1 and counts.total() == self._rows >= 2 * len(counts)
        }
        return {
            "mentions": _plain(bias.mentions(texts)),
            "pronouns": _plain(bias.pronouns_by_occupation(texts)),
            "sentiment": _plain(bias.sentiment_gaps(texts)),
            "balance": {n: _plain(bias.balance(counts.elements())) for n, counts in labels.items()},
        }


def _count(found: Counter[str], names: Sequence[str | None], rows: int) -> None:
    """Count seeds by the first of the names that they state; of many names the first thousand."""
    stated = [text.strip()[:LABEL] for text in names if text and text.strip()]
    name = stated[0] if stated else NOT_STATED
    found[name if name in found or len(found) < NAMES else OTHERS] += rows


def _parted(group: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    return group[: len(COUNTED)], group[len(COUNTED) :]


def _plain(records: Sequence[Record]) -> list[Json]:
    return [record.model_dump(mode="json") for record in records]


def _figures(texts: Sequence[str]) -> Json:
    return measure(texts, budget_tokens=LARGE).model_dump(mode="json")


def _talk(value: Any) -> Talk:
    """Return the conversation that was given, or that a line holds."""
    found: Talk = value["messages"] if isinstance(value, dict) else value
    return found or ()


def _said(talk: Talk, role: str) -> str:
    return "\n".join(str(message["content"]) for message in talk if message["role"] == role)


def _named(counts: Counter[Any]) -> dict[str, int]:
    return dict(sorted((str(name), n) for name, n in counts.items() if name is not None))
