"""Mixing: real examples among made ones, so that nobody trains on a model's own kind alone.

Enters: a file of people's examples and the share they are to have; lines of made ones. Leaves: all made
lines, real ones spread evenly among them, each used once. Refuses to know: stores, runs.

Real text beside what was made bounds the error that grows where it is replaced (Gerstgrasser et al.
2024, arXiv 2404.01413); how much is a choice, 30 % by the notes on collapse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from agentloop.errors import UserError
from agentloop.readers import READERS

KEYS = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "preference": ("prompt", "chosen", "rejected"),
}
"""What a real example must have to stand among made ones of a shape."""
_TEXTS = {"prompt_completion": ("prompt", "completion")}
"""What is plain text among them; all else is a list of messages."""


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

    def into(self, made: Iterator[bytes], shape: str) -> Iterator[bytes]:
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

    def _real(self, shape: str) -> Iterator[bytes]:
        for place, row in READERS[self.path.suffix.lower()](self.path):
            missing = [k for k in KEYS[shape] if not isinstance(row, Mapping) or k not in row]
            if missing:
                raise UserError(f"{place} has no `{missing[0]}`, which the shape `{shape}` needs")
            for key in KEYS[shape]:
                if key not in _TEXTS.get(shape, ()) and not _talk(row[key]):
                    raise UserError(
                        f"{place}: `{key}` is no list of messages with role and content"
                    )
            options = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
            yield orjson.dumps({"item": None, "agentloop": None, **row}, option=options)


def _talk(value: object) -> bool:
    """Whether a value is a conversation."""
    return isinstance(value, list) and all(
        isinstance(turn, Mapping) and {"role", "content"} <= turn.keys() for turn in value
    )
