"""Checks of form: length, quotes, numbers, words that must not occur.

Enters: settings, given once; then candidate and seed. Leaves: `Check` objects for a recipe.
Refuses to know: whether the content is any good.
"""

from __future__ import annotations

import re

from agentloop.checks import Check, Finding, fail, passed
from agentloop.checks.quotes import normalise, numbers, stands
from agentloop.records import Json

_WORD = re.compile(r"\w{4,}|\d+")


def length(field: str, *, words: tuple[int, int]) -> Check:
    """A text field has between `words[0]` and `words[1]` words."""

    def run(candidate: Json, seed: Json) -> Finding:
        low, high = words
        count = len(str(candidate.get(field, "")).split())
        if low <= count <= high:
            return passed()
        return fail(f"`{field}` has {count} words; it needs {low} to {high}")

    return Check(f"length_{field}", run, {"field": field, "words": list(words)})


def quote_stands(field: str, source: str) -> Check:
    """A quoted field stands in the seed's `source` field, word for word or nearly (`stands`)."""

    def run(candidate: Json, seed: Json) -> Finding:
        if stands(str(candidate.get(field, "")), str(seed.get(source, ""))):
            return passed()
        return fail(f"`{field}` is not copied word for word from the {source}")

    return Check(f"{field}_stands", run, {"field": field, "source": source})


def numbers_stand(field: str, source: str) -> Check:
    """Every number written with digits in `field` occurs in the seed's `source`."""

    def run(candidate: Json, seed: Json) -> Finding:
        found = numbers(str(candidate.get(field, "")))
        known = numbers(str(seed.get(source, "")))
        if missing := sorted(found - known):
            share = 1 - len(missing) / len(found)
            return fail(f"`{field}` gives {missing[0]}, which the {source} does not", share)
        return passed()

    return Check(f"numbers_{field}", run, {"field": field, "source": source})


def adds_to(field: str, other: str) -> Check:
    """A field says at least one word of four letters or one number that the `other` field lacks."""

    def run(candidate: Json, seed: Json) -> Finding:
        said, known = (
            set(_WORD.findall(normalise(str(candidate.get(name, ""))))) for name in (field, other)
        )
        if said - known:
            return passed()
        return fail(f"`{field}` only repeats the {other}")

    return Check(f"{field}_adds", run, {"field": field, "other": other})


def avoids(field: str, *, phrases: tuple[str, ...], why: str) -> Check:
    """A field holds none of some phrases, compared as whole words without case."""
    listed = "|".join(re.escape(normalise(phrase)) for phrase in phrases)
    pattern = re.compile(rf"(?<!\w)(?:{listed})(?!\w)" if listed else r"(?!)")

    def run(candidate: Json, seed: Json) -> Finding:
        hit = pattern.search(normalise(str(candidate.get(field, ""))))
        return fail(f'`{field}` says "{hit.group()}": {why}') if hit else passed()

    return Check(f"avoids_{field}", run, {"field": field, "phrases": list(phrases), "why": why})
