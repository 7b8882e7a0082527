"""What a report reads of a store: sums over items as they were last opened, series, items to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pytest

import agentloop as al
from agentloop.store.figures import (
    BINS,
    POINTS,
    Several,
    Threshold,
    read_chosen,
    read_endings,
    read_lights,
    read_marks,
    read_scores,
    read_series,
    read_several,
    read_steps,
    read_threshold,
)
from agentloop.store.files import connect
from tests.builders import SEEDS, agent, draft, mark, marks, play, tiny

T = TypeVar("T")
LEVELS = """
name: levels
accept_at: 0.6
criteria:
  - {name: right, ask: "Is it right?", levels: [wrong, shaky, fair, right]}
"""


def graded(levels: Sequence[str]) -> al.ScriptedModel:
    """Return a model whose critic gives these levels in turn."""
    return agent(
        critique=[json.dumps({"right": mark(level, "so it is")}) for level in levels],
        revise=lambda prompt: draft(f"Another {prompt.partition(' |')[0]}"),
    )


def asked(store: Path, read: Callable[..., T], *more: Any) -> T:
    with connect(store, write=False) as connection:
        return read(connection, "tiny", *more)


def add_reading(
    connection: duckdb.DuckDBPyConnection, number: int, light: str, compared: Sequence[Any]
) -> None:
    reading = json.dumps({"compared": compared, "figures": {"entropy": number / 100}})
    connection.execute(
        "INSERT INTO readings VALUES (?, 'tiny', 'batch', ?, ?, ?, ?)",
        [f"r{number:05}", number, light, reading, float(number)],
    )


def compared(source: str, figure: str, value: float, low: float = 0.2) -> dict[str, Any]:
    return {"source": source, "value": value, "band": {"figure": figure, "low": low, "high": 0.9}}


def test_scores_marks_and_steps_count_kept_attempts(tmp_path: Path) -> None:
    levels = ["right", "fair", "shaky", "right", "wrong", "wrong"]
    store = play(
        tmp_path, graded(levels), tiny(tmp_path, LEVELS), seeds=SEEDS[:4], max_rounds=1
    ).store
    assert asked(store, read_steps, 0) == (4, 4, 4, 4)
    assert asked(store, read_endings, 0) == [
        ("accepted", None, 3),
        ("rejected", "below_threshold", 1),
    ]
    scores = asked(store, read_scores, 0)
    assert len(scores) == BINS
    assert {n: pair for n, pair in enumerate(scores) if any(pair)} == {
        0: (0, 1),
        6: (1, 0),
        9: (2, 0),
    }
    (right,) = asked(store, read_marks, 0)
    assert [(x.level, x.first, x.kept) for x in right.levels] == [
        ("wrong", 1, 1),
        ("shaky", 1, 0),
        ("fair", 1, 1),
        ("right", 1, 2),
    ]
    assert right.mean_first == pytest.approx((0 + 1 / 3 + 2 / 3 + 1) / 4)
    assert right.mean_kept == pytest.approx((0 + 2 / 3 + 1 + 1) / 4)
    assert sum(right.bins) == 4
    assert asked(store, read_several, 0) == Several(0, None, 0, 0, 4)


def test_an_item_that_was_opened_again_counts_once(tmp_path: Path) -> None:
    play(tmp_path, agent(critique="no json"), seeds=SEEDS[:2])
    store = play(tmp_path, agent(), seeds=SEEDS[:2], retry="ungradable").store
    assert asked(store, read_endings, 0) == [("accepted", None, 2)]
    assert asked(store, read_steps, 0) == (2, 2, 2, 2)
    assert sum(asked(store, read_marks, 0)[0].bins) == 2


def test_the_threshold_is_told_by_whoever_knows_it(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, LEVELS)
    store = play(tmp_path, graded(["right", "fair"]), recipe, seeds=SEEDS[:2]).store
    lowest = asked(store, read_threshold, 0, None)
    assert lowest.value == pytest.approx(2 / 3)
    assert not lowest.known
    play(tmp_path, graded(["shaky"]), recipe, seeds=SEEDS[:3], max_rounds=0, items=3)
    assert asked(store, read_threshold, 0, None) == Threshold(0.6, True)
    assert asked(store, read_threshold, 0, 0.7) == Threshold(0.7, True)
    with connect(store, write=True) as connection:
        rubric = json.dumps({"accept_at": 0.25})
        connection.execute("INSERT INTO gradings VALUES ('tiny', 1, ?, 'x', '{}', 1)", [rubric])
    assert asked(store, read_threshold, 1, None) == Threshold(0.25, True)


def test_the_items_to_read_stand_on_both_sides_and_only_once(tmp_path: Path) -> None:
    levels = ["right", "fair", "shaky", "wrong", "shaky", "right"]
    store = play(
        tmp_path, graded(levels), tiny(tmp_path, LEVELS), seeds=SEEDS[:4], max_rounds=1
    ).store
    found = asked(store, read_chosen, 0, 0.6)
    assert len({one.item for one in found}) == len(found) == 4
    near = [one for one in found if one.why == "threshold"]
    assert near[0].by == pytest.approx(1 / 15)
    (gain,) = [one for one in found if one.why == "gain"]
    assert gain.by == pytest.approx(2 / 3)
    assert len(asked(store, read_chosen, 0, 0.6, 2)) == 2
    assert [one.why for one in asked(store, read_chosen, 0, None)] == ["gain"]


def test_a_long_series_is_drawn_by_few_points(tmp_path: Path) -> None:
    store = play(tmp_path, agent(), seeds=SEEDS[:1]).store
    with connect(store, write=True) as connection:
        for number in range(1, 241):
            light = "red" if number == 100 else "amber" if number % 60 == 0 else "green"
            beside = [compared("first batches", "entropy", number / 240)] if number > 8 else []
            beside += [compared("reference", "vendi", 0.5, low=0.1)]
            add_reading(connection, number, light, beside)
    lights = asked(store, read_lights)
    assert len(lights) == POINTS
    assert sum(light.batches for light in lights) == 240
    assert (sum(x.amber for x in lights), sum(x.red for x in lights)) == (4, 1)
    assert [light.worst for light in lights].count("red") == 1
    vendi, entropy = asked(store, read_series, ["vendi", "entropy", "distinct_2"])
    assert (vendi.source, entropy.source) == ("reference", "first batches")
    assert len(vendi.points) == POINTS
    assert vendi.points[0] == (2.5, 0.5, 0.1, 0.9)
    assert entropy.points[-1].value == pytest.approx((237 + 238 + 239 + 240) / 4 / 240)


def test_what_is_compared_with_nothing_has_no_band(tmp_path: Path) -> None:
    store = play(tmp_path, agent(), seeds=SEEDS[:1]).store
    with connect(store, write=True) as connection:
        add_reading(connection, 1, "green", [])
        add_reading(connection, 2, "green", [])
    (entropy,) = asked(store, read_series, ["entropy", "vendi"])
    assert entropy == ("entropy", "no band", [(1, 0.01, None, None), (2, 0.02, None, None)])


def test_a_run_without_items_has_empty_figures(tmp_path: Path) -> None:
    store = play(tmp_path, agent(), seeds=SEEDS[:1], run="other").store
    assert asked(store, read_steps, 0) == (0, 0, 0, 0)
    assert asked(store, read_scores, 0) == [(0, 0)] * BINS
    assert asked(store, read_marks, 0) == []
    assert asked(store, read_threshold, 0, None) == Threshold(None, False)
    assert asked(store, read_chosen, 0, None) == []
    assert asked(store, read_series, ["entropy"]) == []


def test_marks_are_those_of_the_grade(tmp_path: Path) -> None:
    store = play(tmp_path, agent(critique=marks("no")), seeds=SEEDS[:3], max_rounds=0).store
    (right,) = asked(store, read_marks, 0)
    assert (right.criterion, right.mean_kept) == ("right", 0.0)
    assert right.bins == [3] + [0] * (BINS - 1)
