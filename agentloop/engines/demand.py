"""How many workers there should be, by how busy they are.

Enters: what each worker says of itself every few seconds. Leaves: a number. Refuses to know: who they
are, how one comes or goes (`staff`).

Whatever holds the work up shows in one figure, the processors that workers use: an endpoint that bears
fewer calls, a slow one or a rate leave them idle, and then there is one too many. They are too few where
all are busy all the time; where an endpoint has shown its limit, more of them would only share that.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

REPORT = 5.0  # seconds that a worker is watched before it says how busy it was
ROUNDS = 3  # reports of each by which they are judged
FULL = 0.85  # processors that each uses where there are too few
EASY = 0.6  # what each would use if there were one less, where there are too many …
AIM = 0.75  # … and what each is to use then


class Load(NamedTuple):
    """How much one worker had to do."""

    busy: float
    """Processors that it used, with the programs that it ran."""
    borne: bool
    """Whether its endpoints bear all the calls at once that it may make."""


def mean(loads: Sequence[Load]) -> Load:
    """Return one load for several, of equal times."""
    busy = sum(load.busy for load in loads) / len(loads)
    return Load(busy, all(load.borne for load in loads))


def wanted(loads: Sequence[Load], most: int) -> int:
    """Return how many workers such loads call for: `most` at most, or as many as there are."""
    count, used = len(loads), sum(load.busy for load in loads)
    if used >= FULL * count and all(load.borne for load in loads):
        return max(count, min(most, count + max(1, count // 2)))
    if used < EASY * (count - 1):
        return max(count // 2, ceil(used / AIM))
    return count
