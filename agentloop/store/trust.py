"""What a run's verdicts are worth where nobody has measured its critic.

Enters: what the run's gate has judged. Leaves: JSON values and words for people. Refuses to know:
calibrations; `calibration_report` tells the same of a critic that has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agentloop.records import Json

UNTESTED = "uncalibrated: nobody has checked this critic against people"
NO_EVIDENCE = "this grading was not audited or calibrated"


class Judged(NamedTuple):
    """How many candidates a run's gate has judged, revisions too, and how many it accepted."""

    accepted: int
    judged: int
    audited: bool = False
    """Whether an audit of all decides after it."""


def untested(judged: Judged) -> Json:
    """Return as JSON values what the verdicts of an uncalibrated run are worth."""
    return {
        "state": "uncalibrated",
        "labels": 0,
        "afterwards": False,
        **judged._asdict(),
        "line": UNTESTED,
    }
