"""How long a text is asked to be: words, sentences, paragraphs.

Enters: a text and the parameters of one instruction. Leaves: a `Finding`.
Refuses to know: what the text says. All counts take time in proportion to the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from agentloop.checks import Finding, fail, passed
from agentloop.checks.instructions.asked import (
    Count,
    Relation,
    Text,
    Word,
    compared,
    exactly,
    shown,
)

_WORD = re.compile(r"\w+")
_WIDE_END = re.compile(r"[。！？।۔؟]+")  # full stops that need no space after them
_CLOSERS = "\"'”’»)]}*_"
_ENDS = (".", "!", "?", "。", "！", "？", "।", "۔", "؟")
_ABBREVIATIONS = {"mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "vs.", "e.g.", "i.e."}
_FIRST_WORD_ENDS = re.compile(r"[.,?!'\"]")


def number_words(text: Text, *, num_words: Count, relation: Relation) -> Finding:
    """A text has at least or fewer than some words; a word is a run of letters, digits and `_`."""
    return compared(len(_WORD.findall(text)), relation, num_words, "word")


def number_sentences(text: Text, *, num_sentences: Count, relation: Relation) -> Finding:
    """A text has at least or fewer than some sentences."""
    return compared(sentences(text), relation, num_sentences, "sentence")


def sentences(text: str) -> int:
    """Count sentences: they end in `.`, `!`, `?` or their like before a space, not at a line's end.

    As in the reference, a list's `1.` ends one too; titles, `e.g.` and initials do not.
    """
    words = _WIDE_END.sub(lambda end: end.group() + " ", text).split()
    ended = sum(_ends_sentence(word) for word in words[:-1])
    return ended + bool(words)


def _ends_sentence(word: str) -> bool:
    bare = word.rstrip(_CLOSERS)
    if not bare.endswith(_ENDS):
        return False
    name = bare.lstrip("\"'“‘«([{*_")
    initial = len(name) == 2 and name[0].isupper() and name[1] == "." and name != "I."
    return not (initial or name.lower() in _ABBREVIATIONS)


def number_paragraphs(text: Text, *, num_paragraphs: Count) -> Finding:
    """A text has a number of paragraphs, parted by `***`; only the first and last may be empty."""
    parts = [part.strip() for part in text.split("***")]
    if not all(parts[1:-1]):
        return fail("has an empty paragraph between two `***`")
    return exactly(sum(map(bool, parts)), num_paragraphs, "paragraph parted by `***`")


def nth_paragraph_first_word(
    text: Text, *, num_paragraphs: Count, nth_paragraph: Count, first_word: Word
) -> Finding:
    """A text has some paragraphs, parted by an empty line, and one of them starts with a word.

    As in the reference, an empty paragraph is not counted, but it takes a place in the order.
    """
    parts = [part.strip() for part in text.split("\n\n")]
    number = exactly(sum(map(bool, parts)), num_paragraphs, "paragraph parted by an empty line")
    if not number.passed:
        return number
    place = parts[nth_paragraph - 1] if 0 < nth_paragraph <= num_paragraphs else ""
    if _first_word(place) == first_word.lower():
        return passed()
    found = f"with {shown(place.split()[0])}" if place else "with nothing"
    return fail(f"starts paragraph {nth_paragraph} {found}; {shown(first_word)} is asked")


def _first_word(paragraph: str) -> str:
    word = (paragraph.split(maxsplit=1) or [""])[0].lstrip("'").lstrip('"')
    return _FIRST_WORD_ENDS.split(word, maxsplit=1)[0].lower()


INSTRUCTIONS: dict[str, Callable[..., Finding]] = {
    "length_constraints:number_words": number_words,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
}
