"""Numbers as texts write them: digits, scales, English words; compared by value.

Enters: a text. Leaves: the numbers that it states, each with what it may mean.
Refuses to know: units, currencies, signs, whether a number is right.

A number of any length is kept as its digits, never turned into an `int`, so that a text of a million
digits costs no more than reading it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_RAISED = "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2150-\u215e"  # ² ³ ¹ ¼ ½ …
_BEFORE_RAISED = re.compile(rf"(?<=\d)(?=[{_RAISED}])")
_THIN = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_DASHES = str.maketrans({"‐": "-", "‑": "-", "–": "-", "—": "-", "−": "-", "⁄": "/"})

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_RANKS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
)
_SMALL = {word: number for number, word in enumerate(_UNITS.split())} | {"dozen": 12}
_SMALL |= {word: 10 * number for number, word in enumerate(_TENS.split(), 2)}
_ORDINAL = {word: number for number, word in enumerate(_RANKS.split(), 1)}
_ORDINAL |= {word[:-1] + "ieth": _SMALL[word] for word in _TENS.split()}
_SCALE = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_ATTACHED = {"k": 3, "m": 6, "mn": 6, "bn": 9}
_NO_FIGURE = frozenset({"s", "st", "nd", "rd", "th", "d"})  # the 1920s, 19th, 3D

_SCALES = "|".join(_SCALE)
_WORD = "|".join(sorted([*_SMALL, *_ORDINAL, *_SCALE], key=len, reverse=True))
_WORDS = re.compile(  # not the scale of a number in digits
    rf"\b(?=[bdefhmnostz])(?!(?<=\d )(?:{_SCALES}))(?:{_WORD})\b(?:(?:-| and | )(?:{_WORD})\b){{0,30}}",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"-| and | ")
_DIGITS = re.compile(
    rf"(?<!\w)(?<!\d[.,])(?P<number>\d++(?:[.,]\d++)*)(?![.,]\d)(?:(?P<letters>[^\W\d_]++)(?!\w)"
    rf"|(?!\w)(?: (?P<scale>{_SCALES})\b)?)",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"[1-9]\d?\d?(?:,\d{3})+(?:\.\d++)?")
_DOTTED = re.compile(r"[1-9]\d?\d?(?:\.\d{3}){2,}(?:,\d++)?")
_IDIOM = re.compile(r"10*")  # "one hundred percent", "a thousand thanks"
SMALLEST_CLAIM = 13  # "one of them", "two more": smaller words are rarely figures


class Numeral(NamedTuple):
    """One number that stands in a text."""

    text: str
    """As written, with its scale."""
    start: int
    """Place in `spaced(text)`."""
    end: int
    value: str
    """Its digits in one form: no leading zeros, no separators, scale applied."""
    bare: str
    """The same without the scale: `2.5` of "2.5 million"."""
    claimed: bool
    """Whether a text that writes it gives a figure; not so for "first", "two", "1920s", "3D"."""


def fold(text: str) -> str:
    """Return the text in plain digits, dashes and slashes; `2½` becomes `2 1/2`."""
    apart = _THIN.sub("", _BEFORE_RAISED.sub(" ", text))
    return unicodedata.normalize("NFKC", apart).translate(_DASHES)


def spaced(text: str) -> str:
    """Return the folded text with one space between words; doing it twice changes nothing."""
    return " ".join(fold(text).split())


def numerals(text: str) -> list[Numeral]:
    """Return the numbers of a text, from left to right."""
    plain = spaced(text)
    return sorted([*_in_digits(plain), *_in_words(plain)], key=lambda found: found.start)


def unknown(claims: Iterable[Numeral], source: str) -> list[Numeral]:
    """Return the claims that a source does not state.

    "2.5 million" and "2,500,000" are one number, "2.5 million" and "2.5 billion" are two.
    """
    known = numerals(source)
    values = {number.value for number in known}
    bare = values | {number.bare for number in known}
    unscaled = {number.value for number in known if number.value == number.bare}
    return [
        claim
        for claim in claims
        if claim.value not in (bare if claim.value == claim.bare else values)
        and claim.bare not in unscaled
    ]


def _in_digits(text: str) -> Iterator[Numeral]:
    for match in _DIGITS.finditer(text):
        letters = (match["letters"] or "").lower()
        zeros = _SCALE.get((match["scale"] or "").lower(), _ATTACHED.get(letters, 0))
        bare = _one_form(match["number"])
        claimed = letters not in _NO_FIGURE
        yield Numeral(match.group(), *match.span(), _shifted(bare, zeros), bare, claimed)


def _one_form(number: str) -> str:
    """Return digits without separators; a comma that parts no thousands is a decimal one."""
    if number.isdigit():
        return number.lstrip("0") or "0"
    if _THOUSANDS.fullmatch(number):
        number = number.replace(",", "")
    elif _DOTTED.fullmatch(number):
        number = number.replace(".", "")
    whole, _, fraction = number.replace(",", ".").partition(".")
    fraction = fraction.rstrip("0")
    whole = whole.lstrip("0") or "0"
    return f"{whole}.{fraction}" if fraction else whole


def _shifted(number: str, zeros: int) -> str:
    """Return a number times a power of ten."""
    if not zeros:
        return number
    whole, _, fraction = number.partition(".")
    moved = whole + fraction[:zeros].ljust(zeros, "0")
    return _one_form(f"{moved}.{fraction[zeros:]}")


def _in_words(text: str) -> Iterator[Numeral]:
    for match in _WORDS.finditer(text):
        words = _BETWEEN.split(match.group().lower())
        values = _said(words)
        year = len(values) == 2 and all(10 <= value <= 99 for value in values)
        if year:  # nineteen eighty-four
            digits = str(100 * values[0] + values[1])
            yield Numeral(match.group(), *match.span(), digits, digits, True)
        for value in values:
            digits = str(value)
            figure = value >= SMALLEST_CLAIM and not _IDIOM.fullmatch(digits)
            claimed = figure and not year and words[-1] not in _ORDINAL
            yield Numeral(match.group(), *match.span(), digits, digits, claimed)


def _said(words: list[str]) -> list[int]:
    """Return the numbers that a row of number words says, one after the other."""
    found: list[int] = []
    sayer = _Sayer()
    for word in words:
        if not sayer.takes(word):
            found.append(sayer.value)
            sayer = _Sayer()
            sayer.takes(word)
    return [*found, sayer.value]


class _Sayer:
    """A number in the making: `total` holds closed scales, `open` what the next scale multiplies."""

    def __init__(self) -> None:
        self.total = 0
        self.open = 0
        self.room = 100  # the next small word must be below it
        self.below = 10**15  # the next scale too
        self.begun = False

    @property
    def value(self) -> int:
        return self.total + self.open

    def takes(self, word: str) -> bool:
        """Add a word to the number; False if the word starts another one."""
        fits = self._scale(10 ** _SCALE[word]) if word in _SCALE else self._small(word)
        self.begun |= fits
        return fits

    def _small(self, word: str) -> bool:
        number = _SMALL.get(word, _ORDINAL.get(word, 0))
        if not number < self.room or (self.begun and not number):
            return False
        self.open += number
        tens = number >= 20 and number % 10 == 0
        self.room = 10 if tens and word not in _ORDINAL else 0
        return True

    def _scale(self, scale: int) -> bool:
        if scale == 100:
            if self.open >= 100 or (self.begun and not self.open):
                return False
            self.open = 100 * (self.open or 1)
            self.room = 100
            return True
        if scale >= self.below or (self.begun and not self.open):
            return False
        self.total += scale * (self.open or 1)
        self.open, self.room, self.below = 0, 100, scale
        return True
