"""Python's collector in a process that walks many items.

Enters: nothing. Leaves: fewer collections while a block runs. Refuses to know: what runs in it.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

COLLECT = (10_000, 20, 20)
"""Thresholds of Python's collector: what an item leaves behind is mostly gone by itself."""


@contextlib.contextmanager
def seldom_collecting() -> Iterator[None]:
    """Collect less often, and never what is loaded by now; extension modules want it back."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
