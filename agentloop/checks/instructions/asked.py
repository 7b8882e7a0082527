"""What instructions share: the types of their parameters, and counts compared with what is asked.

Enters: a count and what was asked. Leaves: a `Finding`. Refuses to know: how anything is counted.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, SkipValidation, StringConstraints

from agentloop.checks import Finding, fail, passed
from agentloop.plain import plain

Text: TypeAlias = Annotated[str, SkipValidation]
"""The text that is looked at: any, also what pydantic takes for no text."""
Word: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A word or phrase, without space at its ends."""
Words: TypeAlias = Annotated[list[Word], Field(min_length=1)]
Count: TypeAlias = Annotated[int, Field(ge=0)]
Relation: TypeAlias = Literal["at least", "less than"]

_SHOWN = 80  # characters of a phrase in evidence


def shown(phrase: str) -> str:
    """Return a phrase in quotes, cut, as evidence shows it."""
    return f'"{plain(phrase, _SHOWN)}"'


def compared(found: int, relation: Relation, wanted: int, thing: str) -> Finding:
    """Compare a count with a bound."""
    if found >= wanted if relation == "at least" else found < wanted:
        return passed()
    return fail(f"has {_many(found, thing)}; {relation} {wanted} {_are(wanted)} asked")


def exactly(found: int, wanted: int, thing: str) -> Finding:
    """Compare a count with the one that is asked."""
    if found == wanted:
        return passed()
    return fail(f"has {_many(found, thing)}; exactly {wanted} {_are(wanted)} asked")


def _many(number: int, thing: str) -> str:
    first, *rest = thing.split(" ", 1)
    return " ".join([f"{number} {first}{'' if number == 1 else 's'}", *rest])


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
