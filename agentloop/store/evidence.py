"""What speaks for a run's grades, and against them: its audits and canaries in numbers.

Enters: an open store and a run's name. Leaves: counts, gains per round, and one line each for a person.
Refuses to know: how a grade came about, what is done about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentloop.records import Json

if TYPE_CHECKING:
    import duckdb

PARTED = 0.06  # of the score: 0.3 on a scale of five, notes on inflation in the loop
PARTED_SHARE = 0.1  # of the items that pass
ENOUGH = 8  # revisions, until a gap or a growth is called one
GROWN = 0.2  # longer than the parent: notes on inflation in the loop

_AUDITED = """
SELECT verdict IN ('accepted') AS kept, count(*), count(*) FILTER (a.accepted IS NOT NULL),
       count(*) FILTER (a.accepted = (verdict = 'accepted'))
FROM audits a JOIN examples e USING (run, item, opening, round)
WHERE a.run = $run AND e.grading = 0 AND (e.verdict = 'accepted' OR e.verdict = 'rejected')
GROUP BY 1
"""
_GAINS = """
SELECT a.round, count(*), avg(g.score - gp.score), avg(a.score - ap.score),
       avg(g.accepted::INT - gp.accepted::INT), avg(a.accepted::INT - ap.accepted::INT)
FROM audits a
JOIN audits ap ON ap.run = a.run AND ap.item = a.item AND ap.opening = a.opening
    AND ap.round = a.round - 1
JOIN (SELECT *, (grade->>'score')::DOUBLE AS score FROM grades WHERE grading = 0) g
    ON g.run = a.run AND g.item = a.item AND g.opening = a.opening AND g.round = a.round
JOIN (SELECT *, (grade->>'score')::DOUBLE AS score FROM grades WHERE grading = 0) gp
    ON gp.run = a.run AND gp.item = a.item AND gp.opening = a.opening AND gp.round = a.round - 1
WHERE a.run = $run AND a.score IS NOT NULL AND ap.score IS NOT NULL
GROUP BY a.round ORDER BY a.round
"""
_CANARIES = """
SELECT kind, count(*), count(*) FILTER (caught), count(*) FILTER (caught IS NULL)
FROM canaries WHERE run = $run GROUP BY kind ORDER BY kind
"""
_GROWTH = """
SELECT a.round, count(*), avg(length(a.said) / length(p.said)::DOUBLE) - 1
FROM (SELECT *, messages->'$[#-1]'->>'content' AS said FROM attempts) a
JOIN (SELECT *, messages->'$[#-1]'->>'content' AS said FROM attempts) p
    ON p.run = a.run AND p.item = a.item AND p.opening = a.opening AND p.round = a.round - 1
WHERE a.run = $run AND length(p.said) > 0
GROUP BY a.round ORDER BY a.round
"""


@dataclass(frozen=True)
class Agreement:
    """What the auditor said of accepted, or of rejected, items."""

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


@dataclass(frozen=True)
class Evidence:
    """Audits and canaries of one run."""

    accepted: Agreement
    rejected: Agreement
    gains: Sequence[Gain]
    canaries: Sequence[Caught]
    growth: Sequence[Growth] = ()

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
        shown = sum(c.shown - c.unreadable for c in self.canaries)
        missed = shown - sum(c.caught for c in self.canaries)
        if missed and shown >= ENOUGH and missed / shown > 0.5:
            said.append(f"ALARM: the critic was wrong about {missed} of {shown} canaries")
        return said

    def lines(self) -> list[str]:
        """Return it for a person, the alarms last."""
        said = []
        audited = self.accepted.audited + self.rejected.audited
        if audited:
            unread = audited - self.accepted.readable - self.rejected.readable
            said.append(
                f"auditor: agrees on {self.accepted.agreed} of {self.accepted.readable} accepted and "
                f"{self.rejected.agreed} of {self.rejected.readable} rejected items"
                + (f", {unread} unreadable" if unread else "")
            )
        said += [
            f"revision {gain.round}: critic {gain.critic:+.2f}, auditor {gain.auditor:+.2f} "
            f"(mean of {gain.items} audited)"
            for gain in self.gains
        ]
        if self.canaries:
            caught = sum(c.caught for c in self.canaries)
            shown = sum(c.shown - c.unreadable for c in self.canaries)
            kinds = ", ".join(
                f"{c.kind} {c.caught}/{c.shown - c.unreadable}" for c in self.canaries
            )
            said.append(f"canaries: the critic is right about {caught} of {shown} ({kinds})")
        return said + self.alarms

    def as_dict(self) -> Json:
        """Return it as JSON values."""
        return {
            "audits": {
                "accepted": vars(self.accepted),
                "rejected": vars(self.rejected),
                "gains": [vars(gain) | {"parted": gain.parted} for gain in self.gains],
            },
            "canaries": [vars(kind) for kind in self.canaries],
            "growth": [vars(grown) for grown in self.growth],
            "alarms": self.alarms,
        }


def read_evidence(connection: duckdb.DuckDBPyConnection, run: str) -> Evidence:
    """Return a run's audits and canaries from an open store."""
    values = {"run": run}
    by_verdict = {
        kept: Agreement(audited, readable, agreed)
        for kept, audited, readable, agreed in connection.execute(_AUDITED, values).fetchall()
    }
    return Evidence(
        accepted=by_verdict.get(True, Agreement()),
        rejected=by_verdict.get(False, Agreement()),
        gains=[Gain(*row) for row in connection.execute(_GAINS, values).fetchall()],
        canaries=[Caught(*row) for row in connection.execute(_CANARIES, values).fetchall()],
        growth=[Growth(*row) for row in connection.execute(_GROWTH, values).fetchall()],
    )
