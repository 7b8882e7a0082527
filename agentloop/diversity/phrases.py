"""What a generator says too often, and the strata that it leaves out: what steering is made of.

Enters: accepted texts one by one, each with the text it was made from; counts by stratum. Leaves: a
few phrases to avoid, names of strata to serve. Refuses to know: prompts, and how they say it.

Memory is bounded by lossy counting (Manku & Motwani 2002): when the table is full, phrases that
only one more text has used than the last time are dropped. A phrase that is in 1 % of the texts
stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from agentloop.diversity.words import OPENING, opening, words

SIZE = 5  # words of a phrase
ROOM = 200_000  # phrases remembered, a choice
LEAST = 3  # texts that use a phrase before it is called overused: two may be chance
PHRASE_SHARE = 0.05  # of texts; in human sets the most frequent 5-gram has 1 to 5 %, in MBPP 26 %
OPENING_SHARE = 0.1  # of texts; in human sets the most frequent opening has 0.5 to 5 %
UNDER = 0.8  # of what was planned: below it a stratum is under-covered, as in the four-fifths rule


class Phrases:
    """Counts in how many texts each 5-gram and each opening stands."""

    def __init__(self) -> None:
        self._texts = 0
        self._phrases: Counter[str] = Counter()
        self._openings: Counter[str] = Counter()

    def add(self, text: str, known: str = "") -> None:
        """Count a text's phrases, without those of the text that it was made from."""
        spoken, source = words(text), f" {' '.join(words(known))} "
        self._texts += 1
        found = {" ".join(spoken[at : at + SIZE]) for at in range(len(spoken) - SIZE + 1)}
        self._phrases.update(phrase for phrase in found if f" {phrase} " not in source)
        if len(spoken) >= OPENING and f" {opening(spoken)} " not in source:
            self._openings[opening(spoken)] += 1
        for table in (self._phrases, self._openings):
            if len(table) > ROOM:
                _thin(table)

    @property
    def size(self) -> int:
        """Phrases remembered in the larger of its two tables."""
        return max(len(self._phrases), len(self._openings))

    def overused(self, most: int = 10) -> list[str]:
        """Return the most frequent openings and 5-grams, worst first; of those that overlap, one."""
        openings = _frequent(self._openings, max(LEAST, OPENING_SHARE * self._texts))
        phrases = _frequent(self._phrases, max(LEAST, PHRASE_SHARE * self._texts))
        chosen: list[str] = []
        for phrase, _ in sorted(openings + phrases, key=lambda pair: (-pair[1], pair[0])):
            if len(chosen) < most and not any(_overlap(phrase, other) for other in chosen):
                chosen.append(phrase)
        return chosen


def under_covered(counts: Mapping[str, int], plan: Mapping[str, float]) -> list[str]:
    """Return the strata with under 80 % of their planned share, at least one item short; worst first."""
    total, weight = sum(counts.get(name, 0) for name in plan), sum(plan.values())
    short = []
    for name, wanted in plan.items():
        due, had = total * wanted / weight if weight else 0.0, counts.get(name, 0)
        if had < UNDER * due and due - had >= 1:
            short.append((had / due, name))
    return [name for _, name in sorted(short)]


def _frequent(table: Counter[str], least: float) -> list[tuple[str, int]]:
    return [(phrase, count) for phrase, count in table.items() if count >= least]


def _overlap(phrase: str, other: str) -> bool:
    """Whether two phrases share three words in a row, so that one is the other moved on."""
    spoken = phrase.split()
    ends = (" ".join(spoken[:OPENING]), " ".join(spoken[-OPENING:]))
    return any(f" {end} " in f" {other} " for end in ends)


def _thin(table: Counter[str]) -> None:
    for phrase in list(table):
        table[phrase] -= 1
        if not table[phrase]:
            del table[phrase]
