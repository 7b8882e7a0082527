"""An even sample of a stream, in its order, whose size is bounded.

Enters: values, one by one. Leaves: every value, from `most` on every second, then every fourth …
Refuses to know: what they are.
"""

from __future__ import annotations

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
        if self.seen % self._stride == 0:
            self.kept.append(value)
        self.seen += 1
        if len(self.kept) > self._most:
            self.kept = self.kept[::2]
            self._stride *= 2
