"""An even sample of a stream, in its order, whose size is bounded.

Enters: values, one by one. Leaves: every value, from `most` on every second, then every fourth …
Refuses to know: what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

Value = TypeVar("Value")


class EvenSample(Generic[Value]):
    """Keeps at most `most` values of a stream of any length."""

    def __init__(self, most: int):
        self.kept: list[Value] = []
        self.seen = 0
        """Values that have gone by."""
        self._most, self._stride = most, 1

    def add(self, value: Value) -> None:
        """Take the next value."""
        self.extend((value,))

    def extend(self, values: Sequence[Value]) -> None:
        """Take the next values."""
        at = 0
        while at < len(values):
            past = self.seen % self._stride
            if not past:
                self.kept.append(values[at])
            step = min(self._stride - past, len(values) - at)
            self.seen += step
            at += step
            if len(self.kept) > self._most:
                self.kept = self.kept[::2]
                self._stride *= 2
