"""What an endpoint's answers say of its health: does anybody listen, and how many calls does it bear.

Enters: what became of each request, when, and how many were under way. Leaves: whether calls may go,
how many at once, and when to stop hoping. Refuses to know: who waits, tries, sentences for people.
"""

from __future__ import annotations

from math import inf
from typing import Literal, NamedTuple

FIRST_PAUSE = 0.5  # seconds before the first probe of an endpoint where nobody listens; doubles
LAST_PAUSE = 10.0
IN_A_ROW = 10  # new calls that fail, or calls that are refused, until all are held back …
AT_LEAST = 3  # … fewer where fewer go at once; a mistake costs the first pause
QUIET = 1.0  # seconds without an answer until refusals in a row say that a limit is used up
TICK = 1e-6  # seconds that floats may be off by

WINDOW = 1.0  # seconds that refusals are counted for, at least; or as long as a call takes
ENOUGH = 20  # outcomes, at least, that a window is judged by; fewer where few calls go at once
PLENTY = 200  # outcomes, at most, until a window is judged
HEAVY = 0.2  # share of refusals that is too much …
FEW = 2  # … with so many more, for chance makes them out of one in ten
CALM = 0.15  # share up to which the width grows again
MANY = 8  # refusals that are too much before the window is over, if half of all calls are refused
FIRST_REST = 0.5  # seconds that the place of a refused call stays empty before latency is known
LAST_REST = 30.0
STEPS = 16  # calm windows from nothing to the ceiling

SAMPLES = 20  # latencies to a median
SLOWER = 3.0  # times the median at lower load, twice in a row: clearly more than noise
LOWER = 1.5  # times less load, to compare with
GENTLY = 0.9
HOLD = 30.0  # seconds without growth, at least, once latency has risen
STALE = 600.0  # seconds after which a median is no comparison
KINDS = 32  # kinds of requests whose latencies are kept

Silence = Literal["begins", "lasts", "over"]
Kind = tuple[int | None, int]
"""What makes latencies comparable: the answer's limit in tokens, and the log-probabilities asked for."""


class Breaker:
    """Shut while nobody listens, or every call fails or is refused, but for one probe at a time."""

    def __init__(self, first: float, patience: float):
        self.away = False
        self._first = first
        self._later = patience
        self._heard: float | None = None
        self._since = self._next = 0.0
        self._pause = FIRST_PAUSE
        self._probing = False
        self._in_a_row = 0
        self._row_since = 0.0
        self._by_failures = False

    @property
    def patience(self) -> float:
        """Seconds of silence that are waited for; fewer where nobody ever answered."""
        return self._first if self._heard is None else self._later

    def hear(self) -> None:
        """Take note that somebody has listened before."""
        self._heard = -inf if self._heard is None else self._heard

    def delay(self, now: float) -> float:
        """Return the seconds until a call may go: as a probe while nobody listens."""
        if not self.away:
            return 0.0
        return inf if self._probing else max(0.0, self._next - now)

    def let(self) -> bool:
        """Let a call go; return whether it is a probe."""
        self._probing = self.away
        return self.away

    def left(self) -> None:
        """Take note that the probe is over, however it ended."""
        self._probing = False

    def answered(self, probe: bool, now: float) -> bool:
        """Take note of a reply, or a refusal of what was asked; return whether it ends a silence.

        Where nobody listens only the probe's does: others may have been under way when it was shut.
        """
        self._heard = now
        self._in_a_row = 0
        ends = self.away and (probe or self._by_failures)
        if ends:
            self.away = self._by_failures = False
        return ends

    def failed(
        self, probe: bool, sent: float, now: float, fresh: bool, width: int
    ) -> Silence | None:
        """Take note of a try that somebody took and failed; None while it says nothing of others.

        It does once so many calls in a row, new ones each, have failed at once: one that can never
        succeed fails many times, but is new only once.
        """
        self._heard = now
        if self.away:
            return self._still(probe, now)
        if not (fresh and self._row(sent, width)):
            return None
        self._by_failures = True
        return self._shut(self._row_since, now)

    def limited(
        self, probe: bool, sent: float, now: float, wish: float, usual: float
    ) -> Silence | None:
        """Take note of a try that a limit refused; None while others may have more luck.

        Once many in a row were refused, and no call was answered for twice as long as calls `usual`ly
        take, the limit is used up: what is sent now is sent in vain, and takes the place of those who
        have waited longer. So all wait until the wish is over.
        """
        self._heard = now
        in_vain = self._row(sent, IN_A_ROW) and now - self._row_since >= max(QUIET, 2 * usual)
        if not self.away and not in_vain:
            return None
        silence = self._still(probe, now) if self.away else self._shut(self._row_since, now)
        if wish and silence != "over":
            self._next = now + min(wish, max(0.0, self._since + self.patience - now))
        return silence

    def _row(self, sent: float, width: int) -> bool:
        """Count one more without an answer between them; return whether they are too many."""
        if not self._in_a_row:
            self._row_since = sent
        self._in_a_row += 1
        return self._in_a_row >= min(IN_A_ROW, max(AT_LEAST, width))

    def refused(self, probe: bool, sent: float, now: float) -> Silence:
        """Take note that nobody listened to what was sent then."""
        if not self.away:
            return self._shut(sent if self._heard is None else max(sent, self._heard), now)
        return self._still(probe, now)

    def _shut(self, since: float, now: float) -> Silence:
        self.away = True
        self._in_a_row = 0
        self._since = since
        self._pause = FIRST_PAUSE
        return self._wait(now, "begins")

    def _still(self, probe: bool, now: float) -> Silence:
        if not probe:
            return "lasts"
        self._pause = min(2 * self._pause, LAST_PAUSE)
        return self._wait(now, "lasts")

    def _wait(self, now: float, silence: Silence) -> Silence:
        left = self._since + self.patience - now
        self._next = now + max(0.0, min(self._pause, left))
        return "over" if left <= TICK else silence


class Median(NamedTuple):
    """A median latency, with the load that it was seen at."""

    latency: float
    load: float
    at: float


class Speed:
    """Latencies of one kind of request."""

    def __init__(self) -> None:
        self.best: Median | None = None
        self._latencies: list[float] = []
        self._load = 0
        self._times_slow = 0

    def add(self, latency: float, load: int, now: float) -> bool | None:
        """Add a latency; return whether more load has only made calls slower, None while that is open.

        It has when the median is several times the best seen at lower load, and no more calls are
        answered in a second than then: servers that batch are slower with more load, and better for it.
        """
        self._latencies.append(latency)
        self._load += load
        if len(self._latencies) < SAMPLES:
            return None
        median = Median(sorted(self._latencies)[SAMPLES // 2], self._load / SAMPLES, now)
        self._latencies.clear()
        self._load = 0
        best = self.best
        if best is None or median.latency <= best.latency or now - best.at > STALE:
            self.best = best = median
        slow = (
            median.latency > SLOWER * best.latency
            and median.load > LOWER * best.load
            and median.latency * best.load > GENTLY * best.latency * median.load
        )
        self._times_slow = self._times_slow + 1 if slow else 0
        return None if self._times_slow == 1 else slow


class Width:
    """How many calls at once an endpoint bears: never more than a ceiling, never less than one.

    Refusals are counted in windows and judged once in each. Too many narrow the width by their share,
    which should end them: where it does not, they come whatever the width, it is given back, and as many
    are borne from then on. Few widen it by a step, all the way back to the ceiling.
    """

    def __init__(self, ceiling: int):
        self.calls = ceiling
        """Calls that may be under way."""
        self.rest = 0.0
        """Seconds that the place of a refused call stays empty: as long as a call takes, once refusals
        are frequent. Else its successor is refused at once, and calls use up their tries."""
        self._ceiling = ceiling
        self._width = float(ceiling)
        self.usual: float | None = None
        """Seconds that a call takes, lately."""
        self._served = self._refused = 0
        self._closes = self._narrowed = self._growing_from = 0.0
        self._borne = 0.0  # the share of refusals that has nothing to do with the width
        self._blamed: tuple[float, float] | None = None  # the last width, and its share of refusals
        self._speeds: dict[Kind, Speed] = {}

    def bound(self, ceiling: int) -> None:
        """Have another ceiling; the endpoint is taken to bear as large a part of it as before."""
        part = ceiling / self._ceiling
        if self._blamed is not None:
            self._blamed = (self._blamed[0] * part, self._blamed[1])
        whole = self._width >= self._ceiling
        self._ceiling = ceiling
        self._width = float(ceiling) if whole else self._width * part
        self.calls = max(1, int(self._width))

    @property
    def full(self) -> bool:
        """Whether as many calls may go as ever, and refusals are few."""
        return self._width >= self._ceiling and not self.rest

    def served(self, kind: Kind, latency: float, load: int, now: float) -> None:
        """Take note of a reply, its latency and the most calls that were under way beside it."""
        self._served += 1
        usual = latency if self.usual is None else self.usual
        self.usual = usual + 0.1 * (latency - usual)
        self._judge_when_due(now)
        if now - latency >= self._narrowed:  # sent at this width, or at a lower one
            self._judge_speed(kind, latency, load, now)

    def refused(self, sent: float, load: int, now: float) -> None:
        """Take note of a refusal of what was sent then."""
        if sent < self._narrowed:
            return
        self._refused += 1
        if self._refused >= MANY and self._refused >= self._served + load:
            self._blamed = None
            self._narrow(self._width / 2, now)
        else:
            self._judge_when_due(now)
        if self._refused > FEW + (CALM + self._borne) * (self._served + self._refused):
            self.rest = FIRST_REST if self.usual is None else min(LAST_REST, self.usual)

    def _judge_when_due(self, now: float) -> None:
        outcomes = self._served + self._refused
        if now < self._closes or outcomes < min(ENOUGH, 4 * self.calls):
            return
        share, borne, blamed = self._refused / outcomes, self._borne, self._blamed
        self._blamed = None
        if blamed is not None and share > (borne + blamed[1]) / 2:  # it did not help
            self._borne = min(share, blamed[1])
            self._set(blamed[0])
        elif self._refused >= FEW + (HEAVY + borne) * outcomes:
            excess = share - borne
            self._blamed = (self._width, share) if excess <= 0.5 else None
            self._narrow(self._width * max(0.5, 1.0 - excess), now)
        elif share > CALM + borne and outcomes < PLENTY:
            return  # it may be chance: count on
        else:
            self._borne = min(borne, (borne + share) / 2)
            self.rest = 0.0
            if now >= self._growing_from:
                self._widen(min(1.0, max(0.0, 1.0 - (share - borne) / CALM)))
        self._open(now)

    def _judge_speed(self, kind: Kind, latency: float, load: int, now: float) -> None:
        speed = self._speeds.get(kind)
        if speed is None:
            if len(self._speeds) == KINDS:
                return
            speed = self._speeds[kind] = Speed()
        slow = speed.add(latency, load, now)
        if slow and speed.best is not None:
            self._growing_from = now + max(HOLD, SAMPLES * latency)  # or until calls are faster
            self._narrow(max(GENTLY * self._width, min(speed.best.load, self._width)), now)
        elif slow is False:
            self._growing_from = now

    def _narrow(self, width: float, now: float) -> None:
        self._set(width)
        self._narrowed = now
        self._open(now)

    def _widen(self, pace: float) -> None:
        step = max(1.0, min(self._width / 4, self._ceiling / STEPS))
        self._set(self._width + pace * step)

    def _set(self, width: float) -> None:
        self._width = min(float(self._ceiling), max(1.0, width))
        self.calls = int(self._width)

    def _open(self, now: float) -> None:
        self._served = self._refused = 0
        self._closes = now + max(WINDOW, self.usual or 0.0)
