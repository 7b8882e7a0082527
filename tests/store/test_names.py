"""Names and fingerprints as numbers: the same answers as sets and dicts of texts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentloop.store.names import Fingerprints, Names

ITEMS = st.integers(0, 40).map(lambda n: f"{n * 6_700_417_000:012x}")
PRINTS = st.integers(0, 20).map(lambda n: f"{n * 900_719_925_474_099_3:016x}")


@given(st.sets(ITEMS), st.sets(ITEMS))
def test_names_are_a_set(mine: set[str], others: set[str]) -> None:
    names = Names.of(mine)
    asked = sorted(others)
    found = names.has(np.array([int(item, 16) for item in asked], np.uint64))
    assert [item for item, known in zip(asked, found, strict=True) if known] == sorted(
        mine & others
    )
    assert names.without(Names.of(others)).named() == sorted(mine - others)
    assert len(names) == len(mine)


@given(st.lists(st.tuples(PRINTS, ITEMS)), PRINTS)
def test_fingerprints_are_a_dict(pairs: list[tuple[str, str]], asked: str) -> None:
    prints, items = (
        np.array([int(pair[side], 16) for pair in pairs], np.uint64) for side in (0, 1)
    )
    found = Fingerprints(prints, items)
    assert len(found) == len(dict(pairs))
    assert found.get(asked) == dict(pairs).get(asked)
