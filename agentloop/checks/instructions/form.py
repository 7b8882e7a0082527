"""The form that a text is asked to have: JSON, a title, bullets, sections, placeholders, a postscript.

Enters: a text and the parameters of one instruction. Leaves: a `Finding`.
Refuses to know: what stands in the form. All counts take time in proportion to the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from agentloop.checks import Finding, fail, passed
from agentloop.checks.instructions.asked import Count, Text, Word, compared, exactly, shown

ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCES = ("```json", "```Json", "```JSON", "```")
_EMPHASIS = re.compile(r"\*[^\n*]*+\*")
_STRONG = re.compile(r"\*\*[^\n*]*+\*\*")


def number_placeholders(text: Text, *, num_placeholders: Count) -> Finding:
    """A text has at least some placeholders, as `[name]`, each within a line."""
    found = sum("[" in part for line in text.split("\n") for part in line.split("]")[:-1])
    return compared(found, "at least", num_placeholders, "placeholder in square brackets")


def postscript(text: Text, *, postscript_marker: Word) -> Finding:
    """A text has a postscript; after each full stop of its marker there may be a space."""
    parts = (re.escape(part) for part in postscript_marker.lower().split("."))
    if re.search(r"\.\s?".join(parts), text.lower()):
        return passed()
    return fail(f"has no postscript that starts with {shown(postscript_marker)}")


def constrained_response(text: Text) -> Finding:
    """A text holds one of the three `ANSWERS`."""
    if any(answer in text for answer in ANSWERS):
        return passed()
    return fail("holds none of " + ", ".join(f'"{answer}"' for answer in ANSWERS))


def json_format(text: Text) -> Finding:
    """A whole text is JSON, bare or in one Markdown fence."""
    bare = text.strip()
    for fence in _FENCES:
        bare = bare.removeprefix(fence)
    try:
        json.loads(bare.removesuffix("```").strip())
    except json.JSONDecodeError as error:
        return fail(f"is not JSON as a whole: {error.msg} at line {error.lineno}")
    except (ValueError, RecursionError):
        return fail("is not JSON that can be read: too deep, or a number too long")
    return passed()


def multiple_sections(text: Text, *, section_spliter: Word, num_sections: Count) -> Finding:
    """A text has at least some sections, each headed by a word and a number, as `Section 1`."""
    found = len(re.findall(re.escape(section_spliter) + r"\s?\d+", text))
    heading = shown(section_spliter + " 1")
    return compared(found, "at least", num_sections, f"section headed like {heading}")


def number_bullet_lists(text: Text, *, num_bullets: Count) -> Finding:
    """A text has a number of bullets: lines that start with `-` or with one `*`.

    As in the reference, a rule as `---` counts.
    """
    lines = [line.lstrip() for line in text.split("\n")]
    stars = sum(line[:1] == "*" and line[1:2] not in ("", "*") for line in lines)
    dashes = sum(line.startswith("-") for line in lines)
    return exactly(stars + dashes, num_bullets, "bullet in lines that start with `*` or `-`")


def number_highlighted_sections(text: Text, *, num_highlights: Count) -> Finding:
    """A text has at least some highlights, as `*this*` or `**this**`, each within a line."""
    marked = _EMPHASIS.findall(text) + _STRONG.findall(text)
    found = sum(bool(part.strip("*").strip()) for part in marked)
    return compared(found, "at least", num_highlights, "section highlighted like `*this*`")


def title(text: Text) -> Finding:
    """A text has a title in double angular brackets, as `<<this>>`, within a line."""
    if any(map(_is_title, text.split("\n"))):
        return passed()
    return fail("has no title in double angular brackets, like <<title>>")


def _is_title(line: str) -> bool:
    start, end = line.find("<<"), line.rfind(">>")
    return 0 <= start < end - 2 and bool(line[start:end].lstrip("<").rstrip(">").strip())


INSTRUCTIONS: dict[str, Callable[..., Finding]] = {
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:json_format": json_format,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:title": title,
}
