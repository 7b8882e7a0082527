"""What a word is, how a text begins, when two texts are copies.

Enters: any text. Leaves: lower-case words; text without its numbers. Refuses to know: languages,
beyond that Chinese and Japanese write no spaces, so that there each character is a word.
"""

from __future__ import annotations

import re

LONGEST = 20_000  # characters of a text that are read, about 3,500 words: one text is no corpus
OPENING = 3  # words: ‘what is the’, ‘sure here is’

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")


def words(text: str) -> list[str]:
    """Return the words of a text's first 20,000 characters, in lower case, without punctuation."""
    return _WORD.findall(text[:LONGEST].lower())


def masked(text: str) -> str:
    """Return a text's first 20,000 characters with `0` for every number: `1,200`, `3.5`, `10/12`."""
    return _NUMBER.sub("0", text[:LONGEST])


def opening(spoken: list[str], size: int = OPENING) -> str:
    """Return the first words, as one text."""
    return " ".join(spoken[:size])


def fingerprint(spoken: list[str]) -> int | None:
    """Return the same number for the same words, within one process; None for a text without any."""
    return hash(" ".join(spoken)) if spoken else None
