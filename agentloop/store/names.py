"""Items by the numbers that their names spell: a million of them in 8 MB.

Enters: an open store and SQL, or names. Leaves: whether a name is among them; who has a fingerprint.
Refuses to know: why one asks. A name is 12 hex digits and a fingerprint 16: what is neither was not made
here, and is nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import duckdb

    from agentloop.records import Json

Numbers: TypeAlias = NDArray[np.uint64]
NUMBER = "TRY_CAST('0x' || {} AS UBIGINT)"


class Names:
    """A set of items."""

    def __init__(self, numbers: Iterable[int] | Numbers = ()):
        """Raises OverflowError for a number beyond 64 bits."""
        given = numbers if isinstance(numbers, np.ndarray) else np.array([*numbers], np.uint64)
        self._numbers = np.sort(given)

    @classmethod
    def of(cls, items: Iterable[str]) -> Names:
        """Return the set of some names."""
        return cls(int(item, 16) for item in items)

    def __len__(self) -> int:
        return len(self._numbers)

    def has(self, numbers: Numbers) -> NDArray[np.bool_]:
        """Say of each number whether it is among them."""
        found = np.zeros(len(numbers), np.bool_)
        order = np.argsort(
            numbers
        )  # in order, they are found close to each other: a quarter of the time
        asked = numbers[order]
        places = np.searchsorted(self._numbers, asked)
        within = places < len(self._numbers)
        found[order[within]] = self._numbers[places[within]] == asked[within]
        return found

    def without(self, other: Names) -> Names:
        """Return those that are not in another set."""
        return Names(self._numbers[~other.has(self._numbers)])

    def named(self) -> list[str]:
        """Return the names, in their order."""
        return [f"{number:012x}" for number in self._numbers.tolist()]


class Fingerprints:
    """Who was accepted under which fingerprint."""

    def __init__(self, prints: Numbers | None = None, items: Numbers | None = None):
        """Of two with one fingerprint the later one counts."""
        none = np.array([], np.uint64)
        prints, items = none if prints is None else prints, none if items is None else items
        order = np.argsort(prints, kind="stable")
        last = np.append(prints[order][1:] != prints[order][:-1], True)[: len(order)]
        self._prints, self._items = prints[order][last], items[order][last]

    def __len__(self) -> int:
        return len(self._prints)

    def get(self, print_: str) -> str | None:
        """Return the item of a fingerprint."""
        number = np.uint64(int(print_, 16))
        place = int(np.searchsorted(self._prints, number))
        if place < len(self._prints) and self._prints[place] == number:
            return f"{int(self._items[place]):012x}"
        return None


def read_numbers(
    connection: duckdb.DuckDBPyConnection, sql: str, values: Json
) -> dict[str, Numbers]:
    """Return the columns of a query, all of them numbers; rows that lack one are left out."""
    found: dict[str, Any] = connection.execute(sql, values).fetchnumpy()
    lacks = np.zeros(len(next(iter(found.values()))), np.bool_)
    for column in found.values():
        lacks |= np.ma.getmaskarray(column)
    return {name: np.ma.getdata(column)[~lacks] for name, column in found.items()}
