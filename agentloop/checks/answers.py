r"""Final answers as texts give them: one number, exact.

Enters: a solution. Leaves: the number that it ends in, as a fraction.
Refuses to know: the problem, whether the steps are right, algebra.

Looked for, the last one first: `#### 72`, `\boxed{72}`, "The answer is 72", "A: 72"; else the last
number. Numbers are English: 1,234.50 has a thousands separator. Read are currency signs, percent, 3/4,
2 1/2, ½, \frac{3}{4}, 1.2e5, 1.2 × 10^5, "1.5 million".
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from agentloop.checks.numerals import fold

LONGEST = 400  # characters of a number: beyond it nobody wrote an answer
REACH = 1000  # characters after a mark in which the answer stands
MARKS = 20  # marks looked at, from the end

_SCALE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_HARD = re.compile(r"####|\\(?:boxed|fbox)\s?\{")
_SOFT = re.compile(r"\banswer\b[\s*_]{0,3}(?:is|:|=)|^[ \t]{0,8}A:", re.IGNORECASE | re.MULTILINE)
_MINUS = re.compile(r"\A\s*-\s+(?=[\d.$\\])")
_FURTHER = re.compile(r"[\\^_{}\d]|\b[xyzn]\b")  # what makes a number part of an expression
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s?\{[^{}]{0,200}\}")
_SPACING = re.compile(r"\\(?:left|right|quad|[ ,;:!])|\{,\}(?=\d)")
_NOTES = re.compile(r"<<[^<>]{0,200}>>")  # GSM8K's calculator
_NUMBER = re.compile(
    r"""
    (?<![\w.,^])
    (?P<sign>(?:(?<![\w)\]}]) [-+])?) (?:\\?[$€£¥]\ ?)? (?P<inner>[-+]?)
    (?:
        \\[dt]?frac\ ?\{ (?P<over>-?[0-9]{1,99}) \} \ ?\{ (?P<under>[0-9]{1,99}) \}
      | (?P<whole>[0-9]{1,9})\ (?P<top>[0-9]{1,9})/(?P<bottom>[0-9]{1,9}) (?![0-9/])
      | (?P<digits> (?:[0-9]{1,3}(?:,[0-9]{3})+(?!,[0-9]{3}) | [0-9]++) (?:\.[0-9]++)? | \.[0-9]++ )
        (?: [eE](?P<exponent>[-+]?[0-9]{1,3}) (?!\w)
          | \ ?(?:×|x|\*|\\times|\\cdot)\ ?10\ ?\^\ ?\{?(?P<power>[-+]?[0-9]{1,3})(?![0-9])\}?
          | \ ?/\ ?(?P<divisor>[0-9]{1,99})(?![0-9.,/][0-9]) )?
    )
    (?!\^|[0-9])
    (?: \ ?\\?(?P<percent>%|percent\b) | \ (?P<scale>thousand|million|billion|trillion)\b )?
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Answer(NamedTuple):
    """A number and what its percent sign or scale word multiplies it by."""

    value: Fraction
    factor: Fraction = Fraction(1)

    def same(self, other: Answer) -> bool:
        """Whether two answers are equal; 25% is 0.25, and 25 to a problem that asks for percent."""
        if self.value * self.factor == other.value * other.factor:
            return True
        return 1 in (self.factor, other.factor) and self.value == other.value


def final_answer(text: str) -> Answer | None:
    """Return the number that a solution ends in; None when it gives none, or several at once."""
    plain = _SPACING.sub(_spacing, fold(text).replace("\0", " "))
    marks = sorted(
        [(m.end(), True) for m in _HARD.finditer(plain)]
        + [(m.end(), False) for m in _SOFT.finditer(plain)]
    )
    for start, hard in reversed(marks[-MARKS:]):
        held = plain[start : start + REACH]
        if hard:
            return _only(_braced(held) if plain[start - 1] == "{" else held.partition("\n")[0])
        line = held.lstrip().partition("\n")[0]
        if found := _numbers(line.rpartition("=")[2]) or _numbers(line):
            return found[0]
    found = _numbers(_NOTES.sub("", _tail(plain)))
    return found[-1] if found else None


def _tail(text: str) -> str:
    """Return the end of a text, from well before its last digit on."""
    last = max(text.rfind(digit) for digit in "0123456789")
    return text[max(0, last - 3 * LONGEST) : last + 20]


def _spacing(match: re.Match[str]) -> str:
    return {"{,}": ",", "\\ ": " ", "\\!": "", "\\,": ""}.get(match.group(), " ")


def _braced(text: str) -> str:
    """Return what stands before the brace that closes; nothing where none does."""
    depth = 1
    for at, sign in enumerate(text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if not depth:
            return text[:at]
    return ""


def _only(content: str) -> Answer | None:
    r"""Return the one number of a marked answer; `2\sqrt{3}` and `3, 4` are no single number."""
    last = _MINUS.sub("-", _WORDS.sub(" ", content).rpartition("=")[2])
    found = _numbers(last)
    alone = len(found) == 1 and not _FURTHER.search(_NUMBER.sub("", last))
    return found[0] if alone else None


def _numbers(text: str) -> list[Answer]:
    read = (_read(match) for match in _NUMBER.finditer(text) if len(match.group()) <= LONGEST)
    return [answer for answer in read if answer is not None]


def _read(match: re.Match[str]) -> Answer | None:
    """Return a match as a fraction; None for a division by nothing."""
    part = match.groupdict()
    divisor = int(part["under"] or part["bottom"] or part["divisor"] or 1)
    if not divisor:
        return None
    if part["over"]:
        value = Fraction(int(part["over"]), divisor)
    elif part["whole"]:
        value = int(part["whole"]) + Fraction(int(part["top"]), divisor)
    else:
        power = int(part["exponent"] or part["power"] or 0)
        value = Fraction(part["digits"].replace(",", "")) * Fraction(10) ** power / divisor
    if "-" in (part["sign"], part["inner"]):
        value = -value
    if part["percent"]:
        return Answer(value, Fraction(1, 100))
    return Answer(value, Fraction(_SCALE.get((part["scale"] or "").lower(), 1)))
