"""How many workers a load calls for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.engines.demand import AIM, Load, wanted

LOADS = st.lists(st.builds(Load, st.floats(0, 1.1), st.booleans()), min_size=1, max_size=80)


def loads(count: int, busy: float, *, borne: bool = True) -> list[Load]:
    return [Load(busy, borne)] * count


@pytest.mark.parametrize(("count", "more"), [(1, 2), (2, 3), (4, 6), (9, 13)])
def test_where_all_are_busy_there_are_more(count: int, more: int) -> None:
    assert wanted(loads(count, 0.97), 100) == more
    assert wanted(loads(count, 0.97), count) == count


def test_where_an_endpoint_has_shown_its_limit_there_are_no_more() -> None:
    assert wanted([*loads(3, 0.97), Load(0.97, borne=False)], 100) == 4


@pytest.mark.parametrize(
    ("count", "busy", "fewer"), [(2, 0.1, 1), (8, 0.3, 4), (8, 0.0, 4), (6, 0.4, 4)]
)
def test_where_they_idle_there_are_fewer(count: int, busy: float, fewer: int) -> None:
    assert wanted(loads(count, busy), 100) == fewer


@given(LOADS, st.integers(1, 100))
def test_it_is_never_none_nor_more_than_there_is_room_for(found: list[Load], most: int) -> None:
    assert 1 <= wanted(found, most) <= max(most, len(found))


@given(LOADS)
def test_the_same_work_comes_to_rest(found: list[Load]) -> None:
    """As long as no processor is full, the work of all is what it was, whoever does it."""
    used, count, seen = sum(load.busy for load in found), len(found), list[int]()
    while count not in seen:
        seen.append(count)
        count = wanted(loads(count, min(1.0, used / count)), 100)
    assert count == seen[-1]
    assert count == 1 or used >= AIM * 0.6 * (count - 1)
