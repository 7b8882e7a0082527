"""Lineage: depth through seeds and examples, claims that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.novelty.lineage import depth_of, mark


def test_an_item_of_real_seeds_has_depth_1() -> None:
    assert depth_of({"passage": "The Elbe."}, {"examples": [{"question": "Where?"}]}) == 1


@given(st.integers(1, 50), st.integers(1, 50))
def test_an_item_is_one_deeper_than_the_deepest_that_it_was_made_from(one: int, other: int) -> None:
    seed = {"passage": "x", **mark("i-1", one)}
    inputs = {"draw": {"examples": ["text", {"question": "y", **mark("i-2", other)}]}}
    assert depth_of(seed, {}) == one + 1
    assert depth_of({}, inputs) == other + 1
    assert depth_of(seed, inputs) == max(one, other) + 1


@pytest.mark.parametrize(
    ("claim", "depth"),
    [
        ({"item": "i", "depth": 2}, 3),
        ({"depth": 2}, 3),
        ({"item": "i"}, 2),
        ({"item": "i", "depth": "two"}, 2),
        ({"item": "i", "depth": -9}, 2),
        ({"item": "i", "depth": True}, 2),
        ({"licence": "MIT"}, 1),
        ("a word of the user's", 1),
        (None, 1),
    ],
)
def test_a_claim_without_sense_is_no_way_around(claim: Any, depth: int) -> None:
    assert depth_of({"agentloop": claim}, {}) == depth


def test_depth_is_found_under_any_nesting() -> None:
    value: Any = mark("i", 4)
    for _ in range(5000):
        value = [value]
    assert depth_of({"deep": value}, {}) == 5
