"""Quotes that must stand in a source text.

Enters: a quote and the source. Leaves: whether it stands there.
Refuses to know: which field of which record the texts come from.
"""

from __future__ import annotations

import unicodedata

from rapidfuzz import fuzz

QUOTE_RATIO = 95.0  # partial ratio, notes on grounding: normalised, or at least this close
WORD_RATIO = 80.0  # "colour" and "color" are one word; "Bruhn" and "Brandt" are not
MIN_QUOTE = 8  # characters; a shorter one stands almost anywhere
_MARKS = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})
_EDGES = ".,;:!?()[]\"'-"


def normalise(text: str) -> str:
    """Return the text with one space between words, plain quotes and dashes, lower case."""
    folded = unicodedata.normalize("NFKC", text).translate(_MARKS)
    return " ".join(folded.casefold().split())


def stands(quote: str, source: str) -> bool:
    """Whether a quote stands in the source, word for word or nearly.

    Nearly: partial ratio ≥ 95, and every word is there too, or one spelled much like it; a number
    never is another one.
    """
    needle, hay = normalise(quote).strip("\"'. "), normalise(source)
    if len(needle) < MIN_QUOTE or len(needle) > len(hay):
        return bool(needle) and needle == hay.strip("\"'. ")
    if needle in hay:
        return True
    place = fuzz.partial_ratio_alignment(needle, hay, score_cutoff=QUOTE_RATIO)
    if place is None:
        return False
    room = hay[max(0, place.dest_start - MIN_QUOTE) : place.dest_end + MIN_QUOTE].split()
    return all(_has(room, word) for word in needle.split())


def _has(words: list[str], word: str) -> bool:
    """Whether a word is among others; one without digits may be spelled a little differently."""
    bare, others = word.strip(_EDGES), [other.strip(_EDGES) for other in words]
    if not bare or bare in others:
        return True
    same_kind = not any(sign.isdigit() for sign in bare)
    return same_kind and any(fuzz.ratio(bare, other) >= WORD_RATIO for other in others)
