"""Votes of several answers to one question: agreement is a confidence that needs no right answer.

Enters: final answers as texts. Leaves: the plurality's members and its share. Refuses to know: who
answered, whether the plurality is right.

Two answers agree when they come to the same number, or say mostly the same words without regard to
case, punctuation, order and articles, with the same numbers and negations. Of 1,319 GSM8K problems
with four answers each, the answer that all four gave is right in 95.7 %, that of three in 83.7 %,
that of two in 51.1 % (own count over four systems' logs).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from agentloop.checks import Check, Finding, fail, passed
from agentloop.checks.answers import final_answer
from agentloop.checks.quotes import normalise
from agentloop.records import Json

ALIKE = 2 / 3  # of the different words of two answers, so many must be in both
_ARTICLES = frozenset({"a", "an", "the"})
_NEGATIONS = frozenset({"no", "not", "never", "none", "cannot", "false", "without"})
_MARK = re.compile(r"\banswer\b[\s*_]{0,3}(?:is\b|:)|####", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9](?:[0-9.,/]*[0-9])?")
_WORD = re.compile(r"\w+")


class Vote(NamedTuple):
    """What several answers come to."""

    members: tuple[int, ...]
    """Places of the answers of the largest group."""
    total: int
    tied: bool = False
    """Whether another group is as large."""

    @property
    def share(self) -> float:
        """The plurality's share of all answers."""
        return len(self.members) / self.total if self.total else 0.0

    @property
    def unanimous(self) -> bool:
        """Whether all agree."""
        return len(self.members) == self.total

    @property
    def scattered(self) -> bool:
        """Whether there is no plurality: no two agree, or two groups are equally large."""
        return len(self.members) < 2 or self.tied


def plurality(answers: Sequence[str]) -> Vote:
    """Return the largest group of answers that agree; one that says nothing agrees with none."""
    groups: list[list[int]] = []
    for place, answer in enumerate(answers):
        home = next((g for g in groups if agree(answers[g[0]], answer)), None)
        if home is None:
            groups.append([place])
        else:
            home.append(place)
    largest = max(groups, key=len) if groups else []
    tied = sum(len(group) == len(largest) for group in groups) > 1
    return Vote(tuple(largest), len(answers), tied)


def agree(one: str, other: str) -> bool:
    """Whether two final answers say the same."""
    here, there = _final(one), _final(other)
    numbers = [_NUMBER.findall(text) for text in (here, there)]
    if any(numbers):
        first, second = final_answer(here), final_answer(there)
        alone = all(len(found) == 1 for found in numbers)
        if alone and first is not None and second is not None:
            return first.same(second)
    said, heard = _said(here), _said(there)
    if numbers[0] != numbers[1] or said & _NEGATIONS != heard & _NEGATIONS:
        return False
    return bool(said) and len(said & heard) >= ALIKE * len(said | heard)


def agrees(field: str, with_field: str) -> Check:
    """A candidate's field comes to the same final answer as another field of it."""

    def run(candidate: Json, seed: Json) -> Finding:
        given, kept = (str(candidate.get(name, "")) for name in (field, with_field))
        if agree(given, kept):
            return passed()
        return fail(f"`{field}` comes to another answer than most of those who answered")

    return Check(f"agrees_{field}", run, {"field": field, "with_field": with_field})


def _final(text: str) -> str:
    """Return what stands after the last mark of an answer, else the last line."""
    marks = list(_MARK.finditer(text))
    return text[marks[-1].end() :] if marks else text.strip().rpartition("\n")[2]


def _said(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(normalise(text))) - _ARTICLES
