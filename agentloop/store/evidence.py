"""What speaks for a run's grades, and against them: its audits and canaries in numbers.

Enters: an open store and a run's name. Leaves: counts, gains per round, and one line each for a person.
Refuses to know: how a grade came about, what is done about it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentloop.store.costs import Costs, read_costs
from agentloop.store.sums import Sums, read_sums

if TYPE_CHECKING:
    import duckdb

    from agentloop.records import Json

PARTED = 0.06  # of the score: 0.3 on a scale of five, notes on inflation in the loop
PARTED_SHARE = 0.1  # of the items that pass
ENOUGH = 8  # revisions, until a gap or a growth is called one
SHOWN = 8  # values of an attribute in one line
GROWN = 0.2  # longer than the parent: notes on inflation in the loop

_SETTINGS = (
    "SELECT settings FROM sessions WHERE run = $run ORDER BY time DESC, seconds DESC LIMIT 1"
)
_CANARIES = """
SELECT kind, count(*), count(*) FILTER (caught AND score IS NOT NULL),
       count(*) FILTER (error IS NOT NULL), count(*) FILTER (score IS NULL AND error IS NULL)
FROM canaries WHERE run = $run GROUP BY kind ORDER BY kind
"""


@dataclass(frozen=True)
class Agreement:
    """What the auditor said of items that the critic accepted, or refused."""

    audited: int = 0
    readable: int = 0
    agreed: int = 0


@dataclass(frozen=True)
class Gain:
    """What the revisions of one round brought on average, in the eyes of critic and auditor."""

    round: int
    items: int
    critic: float
    auditor: float
    critic_share: float
    auditor_share: float

    @property
    def parted(self) -> bool:
        """Whether revisions please the critic more than the auditor, clearly and often enough."""
        score = self.critic - self.auditor > PARTED
        share = self.critic_share - self.auditor_share > PARTED_SHARE
        return self.items >= ENOUGH and (score or share)

    @property
    def line(self) -> str:
        """The gain for a person; few revisions are called few."""
        few = "" if self.items >= ENOUGH else f"; fewer than {ENOUGH} are too few for an alarm"
        return (
            f"revision {self.round}: critic {self.critic:+.2f}, auditor {self.auditor:+.2f} "
            f"(mean of {self.items} audited{few})"
        )


@dataclass(frozen=True)
class Growth:
    """How much longer the answers of one round are than those they revise; .2 is 20 %."""

    round: int
    items: int
    share: float

    @property
    def watched(self) -> bool:
        """Whether revisions grow, clearly and often enough: judges prefer the longer text."""
        return self.items >= ENOUGH and self.share > GROWN


@dataclass(frozen=True)
class Caught:
    """Canaries of one kind."""

    kind: str
    shown: int
    caught: int
    unreadable: int
    by_checks: int = 0
    """Those that a check refused, so that the critic never saw them."""

    @property
    def judged(self) -> int:
        """Those that the critic decided on."""
        return self.shown - self.unreadable - self.by_checks


@dataclass(frozen=True)
class Watch:
    """How much of a run was to be looked at again, as its last session was told."""

    items: int = 0
    """Items that a critic graded."""
    audit: float = 0.0
    canaries: float = 0.0

    def none_drawn(self, who: str, share: float) -> list[str]:
        """Say that a sample has drawn nothing yet, where there was something to draw."""
        if not (share and self.items):
            return []
        return [f"{who}: 0 of {self.items} items drawn ({100 * share:.3g} %)"]


@dataclass(frozen=True)
class Stratum:
    """What became of the items that were drawn with one value of an attribute."""

    attribute: str
    value: str
    settled: int
    accepted: int

    @property
    def rate(self) -> float:
        """Share that was accepted."""
        return self.accepted / self.settled


def _told(strata: Sequence[Stratum]) -> list[str]:
    """Return a line for each attribute: its values, those that are accepted most rarely first."""
    said = []
    for name in dict.fromkeys(stratum.attribute for stratum in strata):
        mine = sorted((s for s in strata if s.attribute == name), key=lambda s: (s.rate, s.value))
        shown = ", ".join(f"{s.value} {s.accepted}/{s.settled}" for s in mine[:SHOWN])
        more = f", and {len(mine) - SHOWN} more" if len(mine) > SHOWN else ""
        said.append(f"accepted by {name}: {shown}{more}")
    return said


@dataclass(frozen=True)
class Variety:
    """How much accepted texts are alike, batch by batch and as a whole."""

    batches: int = 0
    green: int = 0
    light: str = ""
    """The last batch's."""
    whole: str = ""
    """The light of all accepted texts; empty while the run goes on."""
    reasons: Sequence[str] = ()
    """Why a light is not green; the run's as a whole where it is known."""

    @property
    def lines(self) -> list[str]:
        """Say it for a person."""
        if not self.batches:
            return []
        whole = f", {self.whole} as a whole" if self.whole else ""
        return [f"variety: {self.green} of {self.batches} batches green{whole}"]

    @property
    def alarms(self) -> list[str]:
        """Return what should make one look again."""
        light = self.whole if self.whole in ("", "red", "amber") else ""
        worse = self.light in ("amber", "red") or light in ("amber", "red")
        if not worse:
            return []
        return [
            f"ALARM: accepted texts are too much alike ({light or self.light}): {reason}"
            for reason in self.reasons
        ]


@dataclass(frozen=True)
class Evidence:
    """Audits, canaries, variety and costs of one run."""

    accepted: Agreement = field(default_factory=Agreement)
    rejected: Agreement = field(default_factory=Agreement)
    gains: Sequence[Gain] = ()
    canaries: Sequence[Caught] = ()
    growth: Sequence[Growth] = ()
    watch: Watch = field(default_factory=Watch)
    variety: Variety = field(default_factory=Variety)
    costs: Costs = field(default_factory=Costs)
    strata: Sequence[Stratum] = ()

    @property
    def alarms(self) -> list[str]:
        """Return what should make one look again."""
        said = [
            f"ALARM: revision {gain.round} gains {gain.critic:+.2f} in the critic's eyes and "
            f"{gain.auditor:+.2f} in the auditor's: it learns to please the critic"
            for gain in self.gains
            if gain.parted
        ]
        said += [
            f"ALARM: revision {grown.round} makes answers {grown.share:.0%} longer on average: judges "
            "like length, readers may not"
            for grown in self.growth
            if grown.watched
        ]
        shown = sum(c.judged for c in self.canaries)
        missed = shown - sum(c.caught for c in self.canaries)
        if missed and shown >= ENOUGH and missed / shown > 0.5:
            said.append(f"ALARM: the critic was wrong about {missed} of {shown} canaries")
        return said + self.variety.alarms

    def lines(self) -> list[str]:
        """Return it for a person, the alarms last."""
        return [
            *self._audit_lines(),
            *(gain.line for gain in self.gains),
            *self._canary_lines(),
            *self.variety.lines,
            *_told(self.strata),
            *self.alarms,
        ]

    def _audit_lines(self) -> list[str]:
        audited = self.accepted.audited + self.rejected.audited
        if not audited:
            return self.watch.none_drawn("auditor", self.watch.audit)
        unread = audited - self.accepted.readable - self.rejected.readable
        return [
            f"auditor: agrees on {self.accepted.agreed} of {self.accepted.readable} items that the "
            f"critic accepted and {self.rejected.agreed} of {self.rejected.readable} that it refused"
            + (f", {unread} unreadable" if unread else "")
        ]

    def _canary_lines(self) -> list[str]:
        if not self.canaries:
            return self.watch.none_drawn("canaries", self.watch.canaries)
        caught, judged = (sum(getattr(c, n) for c in self.canaries) for n in ("caught", "judged"))
        parts = []
        if judged:
            kinds = ", ".join(f"{c.kind} {c.caught}/{c.judged}" for c in self.canaries if c.judged)
            parts.append(f"the critic is right about {caught} of {judged} ({kinds})")
        if unread := sum(c.unreadable for c in self.canaries):
            parts.append(f"{unread} unreadable")
        if refused := sum(c.by_checks for c in self.canaries):
            good = sum(c.by_checks for c in self.canaries if c.kind == "good")
            wrongly = f", {good} of them good ones" if good else ""
            parts.append(f"{refused} refused by a check{wrongly}")
        return [f"canaries: {'; '.join(parts)}"]

    def as_dict(self) -> Json:
        """Return it as JSON values."""
        return {
            "audits": {
                "accepted": vars(self.accepted),
                "rejected": vars(self.rejected),
                "gains": [vars(gain) | {"parted": gain.parted} for gain in self.gains],
            },
            "canaries": [vars(kind) | {"judged": kind.judged} for kind in self.canaries],
            "growth": [vars(grown) for grown in self.growth],
            "watch": vars(self.watch),
            "variety": vars(self.variety),
            "costs": self.costs.as_dict(),
            "strata": [vars(stratum) for stratum in self.strata],
            "alarms": self.alarms,
        }


def read_evidence(
    connection: duckdb.DuckDBPyConnection, run: str, sums: Sums | None = None
) -> Evidence:
    """Return a run's audits and canaries from an open store."""
    values = {"run": run}
    sums = sums or read_sums(connection)
    audited = {key: [int(n) for n in numbers] for (key,), numbers in sums.of("audited", run)}
    return Evidence(
        accepted=Agreement(*audited.get(True, ())),
        rejected=Agreement(*audited.get(False, ())),
        gains=[_gain(number, *numbers) for (number,), numbers in sorted(sums.of("gains", run))],
        canaries=[Caught(*row) for row in connection.execute(_CANARIES, values).fetchall()],
        growth=[
            Growth(number, int(items), _figure(ratio / items - 1))
            for (number,), (items, ratio) in sorted(sums.of("growth", run))
        ],
        watch=_watch(connection, values, int(sums.one("graded", run)[0])),
        variety=read_variety(connection, run),
        costs=read_costs(sums, run),
        strata=[
            Stratum(name, value, int(settled), int(accepted))
            for (name, value), (settled, accepted) in sorted(sums.of("strata", run))
            if settled
        ],
    )


def _gain(number: int, items: float, *totals: float) -> Gain:
    """Return a gain by its totals."""
    return Gain(number, int(items), *(_figure(total / items) for total in totals))


def _figure(value: float) -> float:
    return round(value, 6)


def read_variety(connection: duckdb.DuckDBPyConnection, run: str) -> Variety:
    """Return how much the accepted texts of a run are alike."""
    rows = connection.execute(
        "SELECT view, light, reading->'reasons' FROM readings WHERE run = ? ORDER BY time, rid",
        [run],
    ).fetchall()
    lights = [light for view, light, _ in rows if view == "batch"]
    *_, (view, last, _) = [("", "", ""), *rows]
    whole = last if view == "run" else ""
    kind = "run" if whole else "batch"
    bad = [said for view, light, said in rows if view == kind and light != "green"]
    return Variety(
        batches=len(lights),
        green=lights.count("green"),
        light=lights[-1] if lights else "",
        whole=whole,
        reasons=json.loads(bad[-1]) if bad else [],
    )


def _watch(connection: duckdb.DuckDBPyConnection, values: Json, items: int) -> Watch:
    told = connection.execute(_SETTINGS, values).fetchall()
    settings = json.loads(told[0][0] or "{}") if told else {}
    return Watch(items, settings.get("audit", 0.0), settings.get("canaries", 0.0))
