"""How a text is asked to be worded: its case, language, punctuation, start, end, repetitions.

Enters: a text and the parameters of one instruction. Leaves: a `Finding`; SettingsError where telling
languages apart needs the `language` extra. Refuses to know: length, form, keywords.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

from agentloop.checks import Finding, fail, passed
from agentloop.checks.instructions.asked import Count, Relation, Text, Word, compared, shown
from agentloop.checks.language import known_code, written_in

_SEPARATOR = "******"
# the pieces that the reference's tokenizer (Penn Treebank's rules) leaves whole
_TOKEN = re.compile(r"[^\s,;:@#$%&?!\"'`‘’“”«»()\[\]{}<>]+")


def english_capital(text: Text) -> Finding:
    """A text is in English and has no small letter."""
    if text.isupper():
        return written_in(text, "en")
    return fail(f"is not all in capital letters{_first(text, str.islower)}")


def english_lowercase(text: Text) -> Finding:
    """A text is in English and has no capital letter."""
    if text.islower():
        return written_in(text, "en")
    return fail(f"is not all in lower-case letters{_first(text, str.isupper)}")


def _first(text: str, wrong: Callable[[str], bool]) -> str:
    """Return the first word that holds a wrong letter, as an example."""
    place = next((place for place, letter in enumerate(text) if wrong(letter)), None)
    if place is None:
        return ": it has no letters with a case"
    start = max(text.rfind(" ", 0, place), text.rfind("\n", 0, place)) + 1
    return f": see {shown((text[start : start + 100].split() or [''])[0])}"


def capital_word_frequency(
    text: Text, *, capital_frequency: Count, capital_relation: Relation
) -> Finding:
    """A text has at least or fewer than some words in capitals; `A` and `I` are such words.

    As in the reference, `AND/OR` and `COVID-19` are one word, `DON'T` and `R&D` are two.
    """
    found = sum(token.isupper() for token in _TOKEN.findall(text))
    return compared(found, capital_relation, capital_frequency, "word in all capitals")


def no_comma(text: Text) -> Finding:
    """A text has no comma."""
    found = text.count(",")
    commas = "1 comma" if found == 1 else f"{found} commas"
    return fail(f"has {commas}; none may be used") if found else passed()


def end_checker(text: Text, *, end_phrase: Word) -> Finding:
    """A text ends with a phrase and nothing after it but a quotation mark."""
    end = text.strip().strip('"').lower()
    if end.endswith(end_phrase.lower()):
        return passed()
    return fail(f"ends with {shown(end[-40:])}; it must end with {shown(end_phrase)}")


def quotation(text: Text) -> Finding:
    """A whole text stands in double quotation marks."""
    bare = text.strip()
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        return passed()
    return fail('is not wrapped as a whole in double quotation marks (")')


def repeat_prompt(text: Text, *, prompt_to_repeat: Word) -> Finding:
    """A text starts with the request, word for word but for case."""
    if text.strip().lower().startswith(prompt_to_repeat.lower()):
        return passed()
    return fail(f"does not start with the request, repeated unchanged: {shown(prompt_to_repeat)}")


def two_responses(text: Text) -> Finding:
    """A text holds two different responses, parted by six asterisks."""
    parts = [part.strip() for part in text.split(_SEPARATOR)]
    if not all(parts[1:-1]):
        return fail(f"has nothing between two `{_SEPARATOR}`")
    found = [part for part in parts if part]
    if len(found) != 2:
        many = "1 response" if len(found) == 1 else f"{len(found)} responses"
        return fail(f"has {many}; exactly 2 are asked, parted by `{_SEPARATOR}`")
    return fail("gives the same response twice") if found[0] == found[1] else passed()


def response_language(
    text: Text, *, language: Annotated[str, AfterValidator(known_code)]
) -> Finding:
    """A text is written in the language of an ISO 639-1 code."""
    return written_in(text, language)


INSTRUCTIONS: dict[str, Callable[..., Finding]] = {
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "combination:repeat_prompt": repeat_prompt,
    "combination:two_responses": two_responses,
    "language:response_language": response_language,
    "punctuation:no_comma": no_comma,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
}
