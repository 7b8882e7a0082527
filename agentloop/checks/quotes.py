"""Quotes and numbers that must stand in a source text.

Enters: a quote or an answer, and the source. Leaves: whether it stands there, with evidence.
Refuses to know: which field of which record the texts come from.
"""

from __future__ import annotations

import re
import unicodedata

from rapidfuzz import fuzz

QUOTE_RATIO = 95.0  # partial ratio, notes on grounding: normalised, or at least this close
MIN_QUOTE = 8  # characters; a shorter one stands almost anywhere
_MARKS = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})
_NUMBER = re.compile(r"(?<!\w)\d+(?:[.,]\d+)*(?!\w)")


def normalise(text: str) -> str:
    """Return the text with one space between words, plain quotes and dashes, lower case."""
    folded = unicodedata.normalize("NFKC", text).translate(_MARKS)
    return " ".join(folded.casefold().split())


def stands(quote: str, source: str) -> bool:
    """Whether a quote stands in the source, word for word or nearly (partial ratio ≥ 95)."""
    needle, hay = normalise(quote).strip("\"'. "), normalise(source)
    if len(needle) < MIN_QUOTE or len(needle) > len(hay):
        return bool(needle) and needle == hay.strip("\"'. ")
    return needle in hay or fuzz.partial_ratio(needle, hay) >= QUOTE_RATIO


def numbers(text: str) -> set[str]:
    """Return the numbers written with digits, without thousands separators."""
    return {_plain(found) for found in _NUMBER.findall(unicodedata.normalize("NFKC", text))}


def _plain(number: str) -> str:
    whole = re.sub(r",(?=\d{3}(?:\D|$))", "", number).rstrip(".,")
    return whole.replace(",", ".")
