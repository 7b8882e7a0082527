"""Mixing: real examples among made ones, so that nobody trains on a model's own kind alone.

Enters: a file of people's examples and the share they are to have; lines of made ones. Leaves: all made
lines, real ones spread evenly among them, each used once, with the columns of the shape and no others.
Refuses to know: stores, runs.

Real text beside what was made bounds the error that grows where it is replaced (Gerstgrasser et al.
2024, arXiv 2404.01413); how much is a choice, 30 % by the notes on collapse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from agentloop.errors import UserError
from agentloop.novelty.lineage import FIELD
from agentloop.readers import READERS
from agentloop.records import Json, digest

KEYS = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "preference": ("prompt", "chosen", "rejected"),
    "kto": ("prompt", "completion", "label"),
}
"""What a real example must have to stand among made ones of a shape."""

Line = tuple[bytes, str]
"""A line, and the root that decides on which side of a split it is."""


@dataclass
class Mixture:
    """People's examples, and the share of a file that they are to have."""

    path: Path
    share: float
    used: int = field(default=0, init=False)
    """Real examples that were written."""
    short: bool = field(default=False, init=False)
    """Whether the file held too few for the share."""

    @classmethod
    def of(cls, text: str) -> Mixture:
        """Read `FILE:SHARE`; UserError for anything else."""
        path, _, share = text.rpartition(":")
        try:
            found = cls(Path(path), float(share))
        except ValueError:
            found = cls(Path(path), 0.0)
        if not path or not 0 < found.share < 1:
            raise UserError(f"`--mix {text}`: write `--mix FILE:SHARE`, as in `real.jsonl:0.3`")
        if not found.path.is_file() or found.path.suffix.lower() not in READERS:
            known = ", ".join(READERS)
            raise UserError(f"`--mix {text}`: `{path}` is no file of {known}")
        return found

    def into(self, made: Iterable[Line], shape: str) -> Iterator[Line]:
        """Yield made lines with real ones among them; UserError for one of another shape."""
        if shape not in KEYS:
            raise UserError(f"`--mix` suits the shapes {', '.join(KEYS)}, not `{shape}`")
        real = self._real(shape)
        following = next(real, None)
        for count, line in enumerate(made, start=1):
            yield line
            while self.used + 1 <= self.share * (count + self.used + 1):
                if following is None:
                    self.short = True
                    break
                self.used += 1
                yield following
                following = next(real, None)

    def _real(self, shape: str) -> Iterator[Line]:
        for place, row in READERS[self.path.suffix.lower()](self.path):
            missing = [k for k in KEYS[shape] if not isinstance(row, Mapping) or k not in row]
            if missing:
                raise UserError(f"{place} has no `{missing[0]}`, which the shape `{shape}` needs")
            said = {key: _value(key, row[key], place) for key in KEYS[shape]}
            options = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
            yield orjson.dumps({**_mark(row), **said}, option=options), f"by people {digest(said)}"


def _value(key: str, value: Any, place: str) -> Any:
    """Return what stands in a column; text for a list of messages is one turn. Raises UserError."""
    if key == "label":
        if not isinstance(value, bool):
            raise UserError(f"{place}: `label` is neither true nor false")
        return value
    if isinstance(value, str) and key != "messages":
        return [{"role": "user" if key == "prompt" else "assistant", "content": value}]
    if not _talk(value):
        raise UserError(f"{place}: `{key}` is no list of messages with role and content")
    return value


def _mark(row: Mapping[str, Any]) -> Json:
    """Return what tells a row of people's from a made one: nothing, but where it claims to be made."""
    item, own = row.get("item"), row.get(FIELD)
    if isinstance(own, Mapping) and isinstance(own.get("item"), str):
        depth = own.get("depth")
        own = {"item": own["item"], "depth": depth if isinstance(depth, int) else 1}
    else:
        own = None
    return {"item": item if isinstance(item, str) else None, FIELD: own}


def _talk(value: object) -> bool:
    """Whether a value is a conversation."""
    return isinstance(value, list) and all(
        isinstance(turn, Mapping) and {"role", "content"} <= turn.keys() for turn in value
    )
