"""Words and letters that a text is asked to hold, to repeat, or to avoid.

Enters: a text and the parameters of one instruction. Leaves: a `Finding`. Words are compared without
case, letter by letter: no word is read as a pattern. Refuses to know: grammatical forms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import StringConstraints

from agentloop.checks import Finding, fail, passed
from agentloop.checks.instructions.asked import Count, Relation, Text, Word, Words, compared, shown

_NAMED = 5  # words that evidence names


def existence(text: Text, *, keywords: Words) -> Finding:
    """A text holds every keyword, also as a part of a longer word."""
    low = text.lower()
    missing = [word for word in keywords if word.lower() not in low]
    return fail(f"does not contain {_listed(missing)}") if missing else passed()


def forbidden_words(text: Text, *, forbidden_words: Words) -> Finding:
    """A text holds none of some words; as a part of a longer word they may stand."""
    held = [word for word in forbidden_words if _whole(word).search(text)]
    return fail(f"contains the forbidden {_listed(held)}") if held else passed()


def frequency(text: Text, *, keyword: Word, frequency: Count, relation: Relation) -> Finding:
    """A keyword occurs at least or fewer than some times, also as a part of longer words."""
    found = text.lower().count(keyword.lower())
    return compared(found, relation, frequency, f"occurrence of {shown(keyword)}")


def letter_frequency(
    text: Text,
    *,
    letter: Annotated[str, StringConstraints(min_length=1, max_length=1)],
    let_frequency: Count,
    let_relation: Relation,
) -> Finding:
    """A letter, or any other character, occurs at least or fewer than some times, in either case.

    The reference counts a random letter where none of a–z is asked; here `#` is `#`.
    """
    found = text.lower().count(letter.lower())
    return compared(found, let_relation, let_frequency, f"occurrence of the letter {shown(letter)}")


def _whole(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


def _listed(words: list[str]) -> str:
    named = ", ".join(shown(word) for word in words[:_NAMED])
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return f"word{'s' if len(words) > 1 else ''} {named}{more}"


INSTRUCTIONS: dict[str, Callable[..., Finding]] = {
    "keywords:existence": existence,
    "keywords:forbidden_words": forbidden_words,
    "keywords:frequency": frequency,
    "keywords:letter_frequency": letter_frequency,
}
