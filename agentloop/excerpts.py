"""Long texts, cut down to what matters in them: what changed, or what was quoted.

Enters: two texts, or a text and quotes from it. Leaves: parts in the order of reading, far-off ones left
out. Refuses to know: what shows them, colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from agentloop.changes import changes, located
from agentloop.plain import harmless

Kind: TypeAlias = Literal["same", "gone", "new", "quote"]
SHOWN = 600  # characters of a text that are shown as they stand
BESIDE = 80  # characters kept on either side of what matters in a longer one
READ = 200_000  # characters of a text in which quotes are looked for
CUT = "…"

SIGNS: Mapping[Kind, tuple[str, str]] = {
    "same": ("", ""),
    "gone": ("[-", "-]"),
    "new": ("{+", "+}"),
    "quote": ("«", "»"),
}
"""What stands around a part where there are no colours."""


class Part(NamedTuple):
    """A stretch of text."""

    kind: Kind
    text: str


def difference(before: str, after: str) -> list[Part]:
    """Return what became of a text, word by word; of a long one only what is beside a change."""
    return _abridged([Part(kind, text) for kind, text in changes(before, after)])


def with_quotes(text: str, quotes: Iterable[str]) -> list[Part]:
    """Return a text with the places of quotes; of a long one only these and their surroundings.

    Quotes that do not stand there are left out.
    """
    head = text[:READ]
    places = sorted(filter(None, (located(quote, head) for quote in quotes)))
    parts, at = [], 0
    for start, end in places:
        parts += [Part("same", text[at:start]), Part("quote", text[max(at, start) : end])]
        at = max(at, end)
    return _abridged([part for part in [*parts, Part("same", text[at:])] if part.text])


def signed(parts: Iterable[Part]) -> str:
    """Return parts as text without colours: `[-gone-]`, `{+new+}`, `«quoted»`."""
    return "".join(f"{SIGNS[kind][0]}{text}{SIGNS[kind][1]}" for kind, text in parts)


def _abridged(parts: list[Part]) -> list[Part]:
    """Cut long parts, all that matters no longer than three texts; nothing can act on a screen."""
    if sum(len(part.text) for part in parts) > SHOWN:
        last = len(parts) - 1
        parts = [_cut(part, first=n == 0, last=n == last) for n, part in enumerate(parts)]
    found: list[Part] = []
    room = 3 * SHOWN
    for kind, text in parts:
        if room <= 0:
            found.append(Part("same", f" {CUT}"))
            break
        found.append(Part(kind, harmless(text)))
        room -= len(text)
    return found


def _cut(part: Part, *, first: bool, last: bool) -> Part:
    """Keep the ends that lie beside others; of a part that stands alone its beginning."""
    kind, text = part
    if first and last:
        return Part(kind, _beginning(text, SHOWN))
    if kind != "same":
        return Part(kind, _beginning(text, SHOWN // 2))
    if first:
        return Part(kind, text if len(text) <= BESIDE else f"{CUT} {text[-BESIDE:]}")
    if last:
        return Part(kind, _beginning(text, BESIDE))
    if len(text) <= 2 * BESIDE:
        return part
    return Part(kind, f"{text[:BESIDE]} {CUT} {text[-BESIDE:]}")


def _beginning(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + CUT
