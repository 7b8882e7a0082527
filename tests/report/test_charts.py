"""Charts: well-formed, within their picture, as long as what they show."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.report.charts import HEIGHT, WIDTH, bar, columns, curve, interval, over_time, stack
from agentloop.store.figures import Point

shares = st.floats(0, 1)
figures = st.floats(-1e6, 1e6)


def rects(svg: str) -> list[dict[str, float]]:
    names = ("x", "y", "width", "height")
    return [
        {name: float(one.get(name, "0")) for name in names}
        for one in ET.fromstring(svg).iter("rect")
    ]


def test_a_bar_fills_its_share() -> None:
    assert rects(bar(0.25))[0]["width"] == 25
    assert rects(bar(7))[0]["width"] == 100


@given(shares, shares, shares)
def test_an_interval_stays_in_its_cell(a: float, b: float, c: float) -> None:
    low, value, high = sorted((a, b, c))
    for one in rects(interval(value, low, high)):
        assert 0 <= one["x"] <= 100
        assert one["x"] + one["width"] <= 100.5


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6))
def test_a_stack_fills_its_cell_by_shares(parts: list[int]) -> None:
    found = rects(stack(parts, ["main"] * len(parts)))
    assert len(found) == sum(map(bool, parts))
    if found:
        assert sum(one["width"] for one in found) == pytest.approx(100, abs=0.1)


def test_columns_stand_on_each_other() -> None:
    first, upper, other = rects(columns([(1, 1), (4, 0)], ("accepted", "rejected"))[:])[:3]
    assert first["height"] == upper["height"]
    assert upper["y"] + upper["height"] == pytest.approx(first["y"], abs=0.2)
    assert other["height"] == pytest.approx(4 * first["height"], abs=0.3)


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=12), shares)
def test_columns_and_curves_stay_in_the_picture(
    parts: list[tuple[float, float]], at: float
) -> None:
    for one in rects(columns(parts, ("accepted", "rejected"), at)):
        assert -0.1 <= one["y"] <= HEIGHT
        assert one["x"] + one["width"] <= WIDTH
    for line in ET.fromstring(curve(parts, at)).iter("polyline"):
        inside(line.get("points", ""))


def inside(points: str) -> None:
    for pair in points.split():
        x, y = map(float, pair.split(","))
        assert -0.1 <= x <= WIDTH + 0.1
        assert -0.1 <= y <= HEIGHT + 0.1


@given(
    st.lists(st.tuples(figures, st.none() | st.tuples(figures, figures)), min_size=1, max_size=70)
)
def test_a_series_stays_in_the_picture(
    told: list[tuple[float, tuple[float, float] | None]],
) -> None:
    points = [
        Point(number, value, *(sorted(band) if band else (None, None)))
        for number, (value, band) in enumerate(told, start=1)
    ]
    picture = ET.fromstring(over_time(points))
    for shape in [*picture.iter("polyline"), *picture.iter("polygon")]:
        inside(shape.get("points", ""))
    assert len([*picture.iter("circle")]) == len(points)
    assert bool([*picture.iter("polygon")]) == any(band for _, band in told)
