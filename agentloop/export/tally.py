"""What an exported file is made of, counted as its lines go by.

Enters: rows of the view `examples`, one by one. Leaves: counts, and an even sample of the texts with its
figures. Refuses to know: shapes, files, what a run was told.

Memory does not grow with the rows: figures of texts, and what texts say about people, are of at most
4,096 rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agentloop.diversity import bias
from agentloop.diversity.measures import LARGE, measure
from agentloop.diversity.sample import EvenSample
from agentloop.novelty.lineage import depth_of
from agentloop.records import Json, Record

SAMPLE = 4_096  # rows whose texts are looked at: 60,000 tokens of 15 words
OPTIONS = 8  # values that a field may have to count as a label
LABEL = 40  # characters of a label at most
BINS = 10  # of the scores

Talk = Sequence[Json]


class Tally:
    """The counts of one file."""

    def __init__(self) -> None:
        self._rows = 0
        self._counted: dict[str, Counter[str]] = {
            name: Counter()
            for name in (
                "runs",
                "generators",
                "critics",
                "depths",
                "rounds",
                "verdicts",
                "licences",
            )
        }
        self._scores: Counter[int] = Counter()
        self._real = self._self_graded = 0
        self._talks = EvenSample[Talk](SAMPLE)
        self._labels: dict[str, Counter[str]] = {}
        self._no_labels: set[str] = set()

    def add(self, row: Json) -> None:
        """Count a row."""
        self._rows += 1
        seed, candidate = row["seed"], row["candidate"] or {}
        drawn = (
            ("runs", row["run"]),
            ("generators", row["generator"]),
            ("critics", row["critic"]),
            ("depths", row["agentloop"]["depth"]),
            ("rounds", row["round"]),
            ("verdicts", row["verdict"]),
            ("licences", _licence(seed)),
        )
        for name, value in drawn:
            if value is not None:
                self._counted[name][str(value)] += 1
        if row["score"] is not None:
            self._scores[min(int(row["score"] * BINS), BINS - 1)] += 1
        self._real += depth_of(seed, {}) == 1
        self._self_graded += bool(row["self_graded"])
        self._talks.add(row["messages"] or ())
        for name, value in candidate.items():
            self._label(name, value)

    def as_dict(self) -> Json:
        """Return counts and figures as JSON values."""
        asked = [_said(talk, "user") for talk in self._talks.kept]
        answered = [_said(talk, "assistant") for talk in self._talks.kept]
        return {
            "rows": self._rows,
            **{name: dict(sorted(counts.items())) for name, counts in self._counted.items()},
            "scores": [self._scores[number] for number in range(BINS)],
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


def _plain(records: Sequence[Record]) -> list[Json]:
    return [record.model_dump(mode="json") for record in records]


def _figures(texts: Sequence[str]) -> Json:
    return measure(texts, budget_tokens=LARGE).model_dump(mode="json")


def _said(talk: Talk, role: str) -> str:
    return "\n".join(str(message["content"]) for message in talk if message["role"] == role)


def _licence(seed: Json) -> str:
    """Return what a seed says of its licence."""
    for name in ("license", "licence"):
        if isinstance(said := seed.get(name), str) and said.strip():
            return said.strip()[:LABEL]
    return "not stated"
