"""Untrusted text, made safe to show in a terminal.

Enters: what a seed, a model or a person wrote. Leaves: the same with control and direction characters
written out, so that no escape sequence reaches a screen. Refuses to know: what it is shown in.
"""

from __future__ import annotations

import unicodedata

_SHOWN = {"\n", "\t"}


def plain(text: object, size: int | None = None) -> str:
    r"""Return text on one line, controls written as `\\x1b`, cut to `size` characters."""
    line = " ".join("".join(_visible(c) for c in str(text)).split())
    return line if size is None or len(line) <= size else line[: size - 1] + "…"


def harmless(text: str) -> str:
    """Return text with its lines and spaces as they are, and controls written out as by `plain`."""
    return "".join(_visible(c) for c in text)


def _visible(character: str) -> str:
    if character in _SHOWN or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co"):
        return character
    return character.encode("unicode_escape").decode()
