"""Checks of form: length, quotes, numbers, dates, words that must not occur.

Enters: settings, given once; then candidate and seed. Leaves: `Check` objects for a recipe.
Refuses to know: whether the content is any good.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentloop.checks import Check, Finding, fail, passed
from agentloop.checks.dates import dates, undated
from agentloop.checks.numerals import numerals, unknown
from agentloop.checks.quotes import normalise, stands
from agentloop.plain import plain
from agentloop.records import Json

SHOWN = 60  # characters of a candidate's number or date that evidence repeats
_WORD = re.compile(r"\w{4,}|\d+")


def length(field: str, *, words: tuple[int, int]) -> Check:
    """A text field has between `words[0]` and `words[1]` words."""
    low, high = _ends(words)

    def run(candidate: Json, seed: Json) -> Finding:
        count = len(str(candidate.get(field, "")).split())
        if low <= count <= high:
            return passed()
        return fail(f"`{field}` has {count} words; it needs {low} to {high}")

    return Check(f"length_{field}", run, {"field": field, "words": list(words)})


def _ends(words: object) -> tuple[int, int]:
    """Return the ends of a range; ValueError for what is none."""
    if isinstance(words, list | tuple) and len(words) == 2:
        low, high = words
        whole = type(low) is int and type(high) is int
        if whole and 0 <= low <= high:
            return low, high
    raise ValueError(f"`words` must be two whole numbers, least and most (got `{words}`)")


def quote_stands(field: str, source: str) -> Check:
    """A quoted field stands in the seed's `source` field, word for word or nearly (`stands`)."""

    def run(candidate: Json, seed: Json) -> Finding:
        if stands(str(candidate.get(field, "")), str(seed.get(source, ""))):
            return passed()
        return fail(f"`{field}` is not copied word for word from the {source}")

    return Check(f"{field}_stands", run, {"field": field, "source": source})


def numbers_stand(field: str, source: str) -> Check:
    """Every number in `field` occurs in the seed's `source`, in digits or in English words.

    Compared are values: 3.50 is 3.5, "2.5 million" is 2,500,000, 25 stands in "twenty-five" and in
    "25th". Numbers below 13 in words, ranks and decades ("two", "19th", "1920s") need not stand; nor
    need the parts of a date that stands (`dates_stand`).
    """

    def run(candidate: Json, seed: Json) -> Finding:
        said, known = str(candidate.get(field, "")), str(seed.get(source, ""))
        written = dates(said)
        strange = {date.start for date in undated(written, known)}
        standing = {at for d in written if d.start not in strange for at in range(d.start, d.end)}
        claims = [number for number in numerals(said) if number.claimed]
        apart = {number.value: number for number in claims if number.start not in standing}
        if missing := unknown(apart.values(), known):
            share = 1 - len(missing) / len({number.value for number in claims})
            given = plain(missing[0].text, SHOWN)
            return fail(f"`{field}` gives {given}, which the {source} does not", share)
        return passed()

    return Check(f"numbers_{field}", run, {"field": field, "source": source})


def dates_stand(field: str, source: str) -> Check:
    """Every date in `field` is given by the seed's `source`, however either writes it.

    A partial date (a month and year, a day and month, a year) stands where a fuller one contains it.
    Which forms are read: `agentloop.checks.dates`.
    """

    def run(candidate: Json, seed: Json) -> Finding:
        written = dates(str(candidate.get(field, "")))
        if missing := undated(written, str(seed.get(source, ""))):
            share = 1 - len(missing) / len(written)
            given = plain(missing[0].text, SHOWN)
            return fail(f"`{field}` gives the date {given}, which the {source} does not", share)
        return passed()

    return Check(f"dates_{field}", run, {"field": field, "source": source})


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


def avoids(field: str, *, phrases: Sequence[str], why: str) -> Check:
    """A field holds none of some phrases, compared as whole words without case."""
    if isinstance(phrases, str):
        raise ValueError("`phrases` must be a list")
    listed = "|".join(re.escape(normalise(phrase)) for phrase in phrases)
    pattern = re.compile(rf"(?<!\w)(?:{listed})(?!\w)" if listed else r"(?!)")

    def run(candidate: Json, seed: Json) -> Finding:
        hit = pattern.search(normalise(str(candidate.get(field, ""))))
        return fail(f'`{field}` says "{hit.group()}": {why}') if hit else passed()

    return Check(f"avoids_{field}", run, {"field": field, "phrases": list(phrases), "why": why})
