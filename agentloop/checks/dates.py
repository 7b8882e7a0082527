"""Dates as texts write them, whole or in part; compared as dates.

Enters: a text. Leaves: the dates in it, each with what it may mean.
Refuses to know: times of day, weekdays, eras, other calendars, dates spelled out in words.

Read are ISO dates (1824-05-03, 1824-05), English ones (3 May 1824, May 3rd, Sept. 1824, 3-5 May), dates
in figures (13.5.1824, 5/13/1824), and years alone (1000 to 2099). 5/3/1824 may be two days: it is read
as either. A year is lent along a range: in "3 May to 7 June 1824" both days are of 1824.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from agentloop.checks.numerals import spaced

Day: TypeAlias = tuple[int | None, int | None, int | None]
"""Year, month, day; None where it is not said."""
Readings: TypeAlias = tuple[Day, ...]

_MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"
_NUMBERED = {_MONTHS[at : at + 3]: at // 3 + 1 for at in range(0, 36, 3)}
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_RANK = r"(?:st|nd|rd|th)?"
_TO = r" ?(?:-|/|\bto\b|\band\b|\bor\b) ?"
_YEAR = r"(?P<year>[12]\d{3})(?!\w)"
_CONNECTOR = re.compile(r",? ?(?:-|to|until|till|through|and|or) ?(?:on |the )?", re.IGNORECASE)


class Date(NamedTuple):
    """One date that stands in a text."""

    text: str
    """As written."""
    start: int
    """Place in `spaced(text)`."""
    end: int
    readings: Readings
    """The days, months or years that it may mean."""


def dates(text: str) -> list[Date]:
    """Return the dates of a text, from left to right; a range within a month is two of them."""
    plain = spaced(text)
    taken = bytearray(len(plain))
    found = []
    for pattern, read in _FORMS:
        for match in pattern.finditer(plain):
            meant = [] if any(taken[match.start() : match.end()]) else read(match)
            for readings in meant:
                found.append(Date(match.group().strip(), *match.span(), readings))
                taken[match.start() : match.end()] = b"\1" * len(match.group())
    return _with_lent_years(sorted(found, key=lambda date: date.start), plain)


def undated(claims: Iterable[Date], source: str) -> list[Date]:
    """Return the dates that a source does not give; a partial one stands by a fuller one there."""
    known = {part for date in dates(source) for day in date.readings for part in _parts(*day)}
    return [claim for claim in claims if known.isdisjoint(claim.readings)]


def _parts(year: int | None, month: int | None, day: int | None) -> set[Day]:
    """Return a date and every partial one that it contains."""
    parts: set[Day] = {(year, month, day), (year, month, None), (year, None, None)}
    if day:
        parts.add((None, month, day))
    return parts - {(None, month, None), (None, None, None)}


def _with_lent_years(found: list[Date], text: str) -> list[Date]:
    """Give dates without a year the year of what follows them in a range."""
    for at in range(len(found) - 2, -1, -1):
        date, following = found[at], found[at + 1]
        between = text[date.end : following.start]
        year = following.readings[0][0]
        lacks = date.readings[0][0] is None and following.readings[0][1] is not None
        if lacks and year and len(between) < 16 and _CONNECTOR.fullmatch(between):
            lent = tuple((year, month, day) for _, month, day in date.readings)
            found[at] = date._replace(readings=lent)
    return found


def _day(year: int | None, month: int, day: int | None) -> Iterator[Day]:
    if 1 <= month <= 12 and (day is None or 1 <= day <= 31):
        yield year, month, day


def _number(match: re.Match[str], name: str) -> int | None:
    written = match[name]
    return int(written) if written else None


def _iso(match: re.Match[str]) -> list[Readings]:
    """Read 1824-05-03 and 1824-05; 1905-06 may also be two years, 1887-89 can only be that."""
    year, second, day = int(match["year"]), int(match["second"]), _number(match, "day")
    meant = tuple(_day(year, second, day))
    if day is None and match["sign"] != "-":
        return []
    if day is None and second > year % 100:
        until: Day = (year - year % 100 + second, None, None)
        return [(*meant, until)] if meant else [((year, None, None),), (until,)]
    return [meant] if meant else []


def _figures(match: re.Match[str]) -> list[Readings]:
    first, second, year = int(match["first"]), int(match["second"]), int(match["year"])
    meant = {*_day(year, second, first), *_day(year, first, second)}
    return [tuple(sorted(meant, key=str))] if meant else []


def _in_english(match: re.Match[str]) -> list[Readings]:
    """Read one day, or both days of "3-5 May"."""
    parts = match.groupdict()
    year = _number(match, "year")
    if year is None and match["month"] in ("may", "march", "mar"):
        return []  # "up to 5 may attend"
    month = _NUMBERED[match["month"][:3].lower()]
    days = [int(parts[name]) for name in ("day", "last") if parts.get(name)]
    return [meant for day in days if (meant := tuple(_day(year, month, day)))]


def _month(match: re.Match[str]) -> list[Readings]:
    year = int(match["year"])
    names = [match[name] for name in ("first", "month") if match[name]]
    return [((year, _NUMBERED[name[:3].lower()], None),) for name in names]


def _year(match: re.Match[str]) -> list[Readings]:
    year = int(match["year"])
    return [((year, None, None),)] if 1000 <= year <= 2099 else []


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.ASCII)


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], list[Readings]]], ...] = (
    (
        _form(
            r"(?<![\w.,-])(?P<year>[12]\d{3})(?P<sign>[-/.])(?P<second>\d\d?)"
            r"(?:(?P=sign)(?P<day>\d\d?))?(?!-?\d|[.,]\d)"
        ),
        _iso,
    ),
    (
        _form(
            r"(?<![\w.,/-])(?P<first>\d\d?)(?P<sign>[-/.])(?P<second>\d\d?)(?P=sign)"
            r"(?P<year>[12]\d{3})(?![\w/-]|[.,]\d)"
        ),
        _figures,
    ),
    (
        _form(
            rf"(?<![\w.,])(?P<day>\d\d?){_RANK}(?:{_TO}(?P<last>\d\d?){_RANK})?\.?"
            rf"(?: day)?(?: of)? (?P<month>{_MONTH})(?:,?(?: of)? {_YEAR})?"
        ),
        _in_english,
    ),
    (
        _form(
            rf"\b(?P<month>{_MONTH}) (?:the )?(?P<day>\d\d?){_RANK}(?:{_TO}(?P<last>\d\d?){_RANK})?"
            rf"(?![\w:]|[.,]\d)(?:,? {_YEAR})?"
        ),
        _in_english,
    ),
    (
        _form(rf"\b(?:(?P<first>{_MONTH}){_TO})?(?P<month>{_MONTH}),?(?: of)? {_YEAR}"),
        _month,
    ),
    (_form(rf"(?<![\w.,$€£¥]){_YEAR}(?![.,]\d|%| %)"), _year),
)
