"""Small charts as SVG that stands in the page: bars, columns, intervals, lines with a band.

Enters: numbers. Leaves: markup whose colours are the page's own, by class; no script, no style, no
address, no text but numbers. Refuses to know: what is shown, who reads it: words and the table that
says the same belong to the page.

Written here, for what the kept library (pygal 3.1.3) renders has a script in every chart, which a strict
policy refuses aloud, 7 kB of style a chart, its date, no band, and text that shrinks with the picture.
Bars are stretched to their cell; columns and lines are 360 wide, a telephone's width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from agentloop.store.figures import Point

WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 8, 20

Place = tuple[float, float]


def bar(share: float, kind: str = "main") -> Markup:
    """Return a bar that fills a share of its cell, 0..1."""
    return _strip(f'<rect class="{kind}" width="{_at(share)}" height="10"/>')


def interval(value: float, low: float, high: float) -> Markup:
    """Return a share with its interval, all in 0..1."""
    line = f'<rect class="wide" x="{_at(low)}" y="3" width="{_at(max(high - low, 0.004))}" height="4"/>'
    return _strip(f'{line}<rect class="main" x="{_at(min(value, 0.99))}" width="1" height="10"/>')


def stack(parts: Sequence[float], kinds: Sequence[str]) -> Markup:
    """Return one bar of parts beside each other, which together fill their cell."""
    total, drawn, left = sum(parts) or 1, [], 0.0
    for kind, size in zip(kinds, parts, strict=True):
        wide = f'x="{_at(left)}" width="{_at(size / total)}"'
        drawn += [f'<rect class="{kind}" {wide} height="10"/>'] if size else []
        left += size / total
    return _strip("".join(drawn))


def columns(
    parts: Sequence[Sequence[float]], kinds: Sequence[str], mark: float | None = None
) -> Markup:
    """Return columns over 0..1, the parts of each one upon the other; `mark` is a place among them."""
    most = max((sum(part) for part in parts), default=0) or 1
    step = (WIDTH - LEFT - RIGHT) / max(1, len(parts))
    drawn = []
    for number, part in enumerate(parts):
        below = 0.0
        for kind, size in zip(kinds, part, strict=True):
            height = size / most * (HEIGHT - TOP - BOTTOM)
            top = HEIGHT - BOTTOM - below - height
            below += height
            left = LEFT + number * step + 1
            drawn.append(
                f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{step - 2:.1f}" '
                f'height="{height:.1f}"/>'
            )
    drawn += [_label(LEFT + share * step * len(parts), f"{share:.1f}") for share in (0, 0.5, 1)]
    drawn += [_number(TOP, most), _number(HEIGHT - BOTTOM, 0)]
    if mark is not None:
        drawn.append(_upright(LEFT + mark * step * len(parts)))
    return _picture(drawn)


def over_time(points: Sequence[Point]) -> Markup:
    """Return a line over batches, with the band that each value is compared with."""
    values = [v for p in points for v in (p.value, p.low, p.high) if v is not None]
    bottom, top = _around(values)
    first, last = points[0].batch, points[-1].batch

    def place(batch: float, value: float) -> Place:
        across = (batch - first) / (last - first) if last > first else 0.5
        return _within(across, (value - bottom) / (top - bottom))

    drawn = []
    banded = [(p.batch, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    if banded:
        edge = [place(b, high) for b, _, high in banded]
        edge += [place(b, low) for b, low, _ in reversed(banded)]
        edge = edge if len(banded) > 1 else _square(edge)
        drawn.append(f'<polygon class="band" points="{_listed(edge)}"/>')
    line = [place(p.batch, p.value) for p in points]
    drawn.append(f'<polyline class="line" points="{_listed(line)}"/>')
    drawn += [f'<circle class="main" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in line]
    drawn += [_number(place(first, value)[1], value) for value in _ticks(bottom, top)]
    drawn += [_label(LEFT, f"{first:,.0f}"), _label(WIDTH - RIGHT, f"{last:,.0f}")]
    return _picture(drawn)


def curve(places: Sequence[Place], mark: float | None = None) -> Markup:
    """Return a line over 0..1 by 0..1; `mark` is a place across."""
    line = [_within(*place) for place in places]
    drawn = [f'<polyline class="line" points="{_listed(line)}"/>']
    for share in (0, 0.5, 1):
        drawn += [
            _label(_within(share, 0)[0], f"{share:.1f}"),
            _number(_within(0, share)[1], share),
        ]
    drawn += [_upright(_within(mark, 0)[0])] if mark is not None else []
    return _picture(drawn)


def _within(across: float, up: float) -> Place:
    return (
        LEFT + across * (WIDTH - LEFT - RIGHT),
        HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
    )


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return limits with some room around values."""
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 0.1
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _ticks(bottom: float, top: float) -> list[float]:
    """Return round numbers between two limits, three to seven of them."""
    power = 10 ** math.floor(math.log10((top - bottom) / 2))
    step = next(n * power for n in (5, 2, 1) if n * power <= (top - bottom) / 2.5 or n == 1)
    first = math.ceil(bottom / step)
    return [n * step for n in range(first, math.floor(top / step) + 1)]


def _square(edge: Sequence[Place]) -> list[Place]:
    """Return the band of one batch, as wide as the picture."""
    (_, high), (_, low) = edge
    return [(LEFT, high), (WIDTH - RIGHT, high), (WIDTH - RIGHT, low), (LEFT, low)]


def _listed(places: Sequence[Place]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _number(y: float, value: float) -> str:
    told = f"{value:,.0f}" if value == 0 or abs(value) >= 100 else f"{value:.3g}"
    across = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
    return f'<line class="guide" {across}/><text class="up" x="{LEFT - 4}" y="{y + 4:.1f}">{told}</text>'


def _label(x: float, told: str) -> str:
    return f'<text class="along" x="{x:.1f}" y="{HEIGHT - 5}">{told}</text>'


def _upright(x: float) -> str:
    return f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'


def _picture(drawn: Sequence[str]) -> Markup:
    box = f'class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true" focusable="false"'
    return Markup(f"<svg {box}>{''.join(drawn)}</svg>")  # noqa: S704  # numbers of our own


def _strip(drawn: str) -> Markup:
    box = 'class="strip" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"'
    return Markup(f"<svg {box}>{drawn}</svg>")  # noqa: S704  # numbers of our own


def _at(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.2f}"
