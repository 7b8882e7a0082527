"""Untrusted text, made safe to show.

Enters: what a seed, a model or a person wrote. Leaves: the same with control and direction characters
written out, so that no escape sequence reaches a screen, and no text reads in another order than it has.
Refuses to know: what it is shown in.
"""

from __future__ import annotations

import re
import unicodedata

_ODD = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_LINE = re.compile(r"[^\n\t]+")


def plain(text: object, size: int | None = None) -> str:
    r"""Return text on one line, controls written as `\\x1b`, cut to `size` characters."""
    line = " ".join(harmless(str(text)).split())
    return line if size is None or len(line) <= size else line[: size - 1] + "…"


def harmless(text: str) -> str:
    """Return text with its lines and spaces as they are, and controls written out as by `plain`."""
    if text.isprintable():
        return text
    return _LINE.sub(_written_out, text.replace("\r\n", "\n"))


def shown(value: object) -> object:
    """Return what a template is to show: text harmless, unless it is HTML already; all else as it is."""
    return harmless(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _written_out(line: re.Match[str]) -> str:
    text = line[0]
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _ODD:
        return character
    return character.encode("unicode_escape").decode()
