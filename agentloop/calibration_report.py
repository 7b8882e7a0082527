"""What was measured of a judge, kept for later runs: a record, where it is found, what follows from it.

Enters: a report as JSON or as a row of a store. Leaves: the report of this rubric and critic; a judge's
weight in a panel; the corrected quality of a run; one line for people. Refuses to know: how items are
graded, what a run does next.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import orjson
from pydantic import ValidationError

from agentloop.agreement import Confusion, Estimate
from agentloop.calibration import (
    CONFIDENCE,
    LEAST_SKILL,
    ScoreMap,
    Threshold,
    corrected_rate,
)
from agentloop.errors import CalibrationError, SettingsError
from agentloop.recipe import AUDIT_PROMPTS, WISHES
from agentloop.records import Json, Record, digest
from agentloop.store import Store
from agentloop.store.files import connect
from agentloop.store.gradings import Company, company_of, source_of
from agentloop.store.trust import UNTESTED, Judged, untested

LEAST_LABELS = 50
GOOD_LABELS = 200
"""A threshold learnt from 50 labels leaves the true precision anywhere in 0.73 to 0.88 where 0.85 was
asked, one from 200 in 0.79 to 0.88 (300 draws from GPT-4's grades of LLMBar)."""
DRAWS = 2000
JUDGING = ("prompts.", "checks.", "lists.", "steps.")
NOT_JUDGING = frozenset(f"prompts.{n}" for n in ("generate", "revise", *AUDIT_PROMPTS, *WISHES))

State: TypeAlias = Literal["uncalibrated", "calibrated"]


class Gate(Record):
    """How checks, floors and threshold decide together, beside people."""

    accept_at: float
    confusion: Confusion
    sensitivity: Estimate | None
    """Share of the good that is accepted (Wilson's interval)."""
    specificity: Estimate | None
    """Share of the bad that is refused (Wilson's interval)."""
    precision: Estimate | None
    """Share of the accepted that is good, where as many are good as of the labelled ones."""
    kappa: Estimate | None
    """Cohen's, with a bootstrap interval."""


class CriterionReport(Record):
    """How the judge marks one criterion, beside people."""

    criterion: str
    levels: tuple[str, ...]
    labels: int
    table: tuple[tuple[int, ...], ...]
    """A row for each level that people give, a column for each that the judge gives."""
    sensitivity: Estimate | None
    """Share that the judge puts at the floor or above (without a floor: at the top), of those that
    people put there."""
    specificity: Estimate | None
    kappa: Estimate | None
    weighted_kappa: Estimate | None
    """With quadratic weights."""
    spearman: float | None
    """Between people's level and the judge's value."""
    alpha: Estimate | None
    """Krippendorff's among the annotators, on ordered levels; None for one annotator."""


class CalibrationReport(Record):
    """A critic beside people, by one rubric."""

    rubric: str
    """The rubric's content hash."""
    rubric_name: str
    critic: str
    """The judge as the user named it."""
    judge: Json
    """All that makes another judge: model with parameters, grading prompts, checks, by name."""
    time: float
    """Seconds since the epoch."""
    annotations: int
    """Lines of the labels file."""
    annotators: int
    disputed: int
    """Items that people are split on; they were not graded."""
    abstained: dict[str, int]
    """Items that got no grade, by reason; they count for nothing else."""
    vetoed: int
    """Items that a check refused, so that no judge was asked; they have no score."""
    gate: Gate
    """At the rubric's own threshold."""
    target: float
    """Precision that the threshold is to promise."""
    threshold: Threshold | None
    """None where no threshold promises it."""
    at_threshold: Gate | None
    """Measured on the labels that the threshold was chosen by, and so a little too good."""
    spearman: float | None
    """Between score and good or bad."""
    auc: float | None
    alpha: Estimate | None
    """Krippendorff's among the annotators' good and bad; None for one annotator."""
    length_slope: float | None
    """Points of score that a doubling of the answer's words brings, at equal quality."""
    repeats: int
    """How often items were graded again,"""
    repeated: int
    """and how many items were."""
    flip_rate: float | None
    """Chance that two gradings of one item decide differently."""
    calibration_error: float | None
    """Of the map's chances, out of fold (Naeini et al. 2015)."""
    brier: float | None
    score_map: ScoreMap | None
    """From a score to the chance of being good, of items that neither floor nor check refuses."""
    criteria: tuple[CriterionReport, ...]

    @property
    def labels(self) -> int:
        """Items that people and judge both decided on."""
        return self.gate.confusion.labels

    @property
    def state(self) -> State:
        """Whether there are enough labels, good and bad ones, to speak of a calibration."""
        both = self.gate.confusion.skill is not None
        return "calibrated" if both and self.labels >= LEAST_LABELS else "uncalibrated"

    @property
    def in_force(self) -> Gate:
        """The gate of a run that uses this calibration."""
        return self.at_threshold or self.gate

    @property
    def digest(self) -> str:
        """Content hash, whatever the date."""
        return digest(self.model_dump(mode="json", exclude={"time"}), 8)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its reader must not overlook, in plain sentences."""
        said = []
        if self.state == "uncalibrated":
            said.append(
                f"uncalibrated: {self.labels} labels say too little, {LEAST_LABELS} of both kinds are "
                f"the least and {GOOD_LABELS} are good"
            )
        elif self.labels < GOOD_LABELS:
            said.append(
                f"{self.labels} labels leave wide intervals: {GOOD_LABELS} are good; a repeated "
                "calibration pays for the new ones only"
            )
        skill = self.gate.confusion.skill
        if skill is None:
            said.append("labels of both kinds, good and bad, are needed")
        elif not _has_skill(skill):
            said.append(
                f"this judge tells next to nothing: sensitivity + specificity is {1 + skill:.2f}, and "
                f"more than {1 + LEAST_SKILL:g} is needed"
            )
        if self.state == "calibrated" and self.threshold is None:
            said.append(
                f"no threshold reaches a precision of {short(self.target)} with "
                f"{CONFIDENCE:.0%} confidence: add a check, give the judge a reference, or take "
                "another judge"
            )
        return tuple(said)

    def standing(self) -> str:
        """Return what a run says of it when it starts."""
        if self.state == "uncalibrated":
            return f"uncalibrated ({self.labels} labels)"
        if self.threshold is None:
            kept = f"no threshold reaches {short(self.target)}, the rubric's stays"
        else:
            kept = f"accepting at {short(self.threshold.accept_at)}"
        return f"calibrated on {self.labels} labels, {kept}"


class Known(NamedTuple):
    """What is known of the critic of a run that is in a store."""

    report: CalibrationReport
    afterwards: bool = False
    """Whether it was measured when the run had begun, and so decided nothing in it."""

    @property
    def gate(self) -> Gate:
        """The gate that the run went by."""
        return self.report.gate if self.afterwards else self.report.in_force


def known_of(store: Store, run: str) -> Known | None:
    """Return the calibration that a run used; else the store's latest of its rubric and judge.

    None where there is neither, and for a panel's grades, which are of no one judge.
    """
    if kept := store.calibration(run):
        return Known(CalibrationReport.model_validate(kept))
    if not (kept_since := store.calibrations()):
        return None
    with connect(store.path, write=False) as connection:
        identity = source_of(connection, run).identity
    if company_of(identity) != Company():
        return None
    wanted = (identity.get("rubric"), judge_of(identity))
    for report in map(CalibrationReport.model_validate, kept_since):
        if (report.rubric, report.judge) == wanted:
            return Known(report, afterwards=True)
    return None


def judge_of(identity: Json) -> Json:
    """Return all that makes another judge, as `plan.judge_identity` does of a recipe."""
    found = {
        key: value
        for key, value in identity.items()
        if (key.startswith(JUDGING) or key == "refuse") and key not in NOT_JUDGING
    }
    return found | {"models.critic": identity.get("models.critic")}


def standing(report: CalibrationReport | None) -> str:
    """Return what a run says of its judge when it starts."""
    return report.standing() if report else "uncalibrated"


def _has_skill(skill: float) -> bool:
    return skill > LEAST_SKILL + 1e-12


def load_calibration(source: str | Path, rubric: str, critic: str) -> CalibrationReport | None:
    """Return the report for a rubric (its hash) and a critic (its name); a store's latest.

    `source` is a report as JSON, or a store; None when a store holds no report at all. Raises
    SettingsError when there are only others, naming them, StoreError for what is no store.
    """
    reports = _reports(Path(source))
    for report in reports:
        if (report.rubric, report.critic) == (rubric, critic):
            return report
    if not reports:
        return None
    latest = reports[0]
    raise SettingsError(
        f"calibration `{source}` is of critic `{latest.critic}` by rubric `{latest.rubric[:8]}` "
        f"({latest.rubric_name}), and the run's are critic `{critic}` and rubric `{rubric[:8]}`: "
        "calibrate this pair with `agentloop calibrate`, or leave `--calibration` out"
    )


def _reports(path: Path) -> list[CalibrationReport]:
    """Return all reports of a file, the latest first."""
    if not path.is_file():
        raise SettingsError(f"there is no calibration `{path}`")
    with path.open("rb") as file:
        begins = file.read(64)
    is_store = begins[8:12] == b"DUCK"  # behind a checksum, which may begin with a brace
    try:
        if begins.lstrip().startswith(b"{") and not is_store:
            return [CalibrationReport.model_validate(orjson.loads(path.read_bytes()))]
        return [CalibrationReport.model_validate(row) for row in Store(path).calibrations()]
    except (orjson.JSONDecodeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise SettingsError(f"`{path}` holds no calibration that can be read: {first}") from error


def check_judge(report: CalibrationReport, judge: Json) -> None:
    """Raise SettingsError, naming the differing keys, unless a report is of this very judge."""
    keys = sorted(
        key for key in report.judge.keys() | judge.keys() if report.judge.get(key) != judge.get(key)
    )
    if keys:
        listed = ", ".join(f"`{key}`" for key in keys)
        raise SettingsError(
            f"the calibration of `{report.critic}` was made with another {listed}: calibrate this "
            "judge with `agentloop calibrate`, or leave `--calibration` out"
        )


def check_skill(report: CalibrationReport) -> None:
    """Raise SettingsError for a calibrated judge that tells next to nothing."""
    skill = report.in_force.confusion.skill
    if report.state == "calibrated" and skill is not None and not _has_skill(skill):
        raise SettingsError(
            f"judge `{report.critic}` tells next to nothing: sensitivity + specificity is "
            f"{1 + skill:.2f}, and more than {1 + LEAST_SKILL:g} is needed: take another judge, or "
            "another rubric"
        )


def panel_weights(reports: Mapping[str, CalibrationReport]) -> dict[str, float]:
    """Return what each judge of a panel counts: sensitivity + specificity − 1, by role.

    Raises SettingsError for a judge that tells next to nothing, or was measured on too few labels:
    weak members make a panel worse than its best judge (GPT-4 alone 81.0 on LLMBar, with two weaker
    ones 68.8).
    """
    weights: dict[str, float] = {}
    for role, report in reports.items():
        skill = report.gate.confusion.skill
        if report.state == "uncalibrated" or skill is None:
            raise SettingsError(
                f"judge `{report.critic}` (`{role}`) is uncalibrated on {report.labels} labels: a "
                f"panel needs {LEAST_LABELS}, good and bad ones, of each of its judges"
            )
        if not _has_skill(skill):
            raise SettingsError(
                f"judge `{report.critic}` (`{role}`) tells next to nothing: sensitivity + specificity "
                f"is {1 + skill:.2f}, and a panel needs more than {1 + LEAST_SKILL:g} of each judge"
            )
        weights[role] = skill
    return weights


def corrected_precision(
    accepted: int, judged: int, confusion: Confusion, *, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """Return the share of good ones among a run's accepted, with its 95 % interval.

    By Bayes' rule from θ, the corrected share of good ones among all judged (Rogan & Gladen 1978):

        precision = sensitivity · θ ÷ (sensitivity · θ + (1 − specificity) · (1 − θ))

    The interval is that of draws of acceptance rate, sensitivity and specificity, each from its beta
    distribution with a uniform prior; a draw of a judge without skill knows nothing of θ.
    CalibrationError as `corrected_rate`.
    """
    value = corrected_rate(accepted, judged, confusion).value
    sensitivity, specificity = confusion.sensitivity or 0.0, confusion.specificity or 0.0
    chance = random.Random(seed)
    found = sorted(_drawn_precision(accepted, judged, confusion, chance) for _ in range(draws))
    low, high = found[int(0.025 * draws)], found[int(0.975 * draws)]
    best = _precision(value, sensitivity, specificity)
    return Estimate(value=best, low=min(low, best), high=max(high, best))


def _drawn_precision(
    accepted: int, judged: int, confusion: Confusion, chance: random.Random
) -> float:
    def share(hits: int, misses: int) -> float:
        return chance.betavariate(hits + 1, misses + 1)

    rate = share(accepted, judged - accepted)
    sensitivity = share(confusion.good_accepted, confusion.good_refused)
    specificity = share(confusion.bad_refused, confusion.bad_accepted)
    skill = sensitivity + specificity - 1
    good = (rate + specificity - 1) / skill if skill > 0 else chance.random()
    return _precision(min(1.0, max(0.0, good)), sensitivity, specificity)


def _precision(good: float, sensitivity: float, specificity: float) -> float:
    right = sensitivity * good
    accepted = right + (1 - specificity) * (1 - good)
    return right / accepted if accepted else 0.0


def summary_line(known: Known | None, judged: Judged) -> str:
    """Return one line on what a run's verdicts are worth: raw rate and corrected quality.

    The correction is of what the gate has judged, revisions too: the item-wise share of accepted ones
    says more of the number of tries. It holds as far as a run's candidates are like the labelled ones.
    """
    if known is None:
        return UNTESTED
    report, gate = known.report, known.gate
    if report.state == "uncalibrated":
        return report.warnings[0]
    when = "measured afterwards" if known.afterwards else "calibrated"
    figures = [
        f"sensitivity {_value(gate.sensitivity)}",
        f"specificity {_value(gate.specificity)}",
        f"kappa {told(gate.kappa)}",
    ]
    return f"{when} on {report.labels} labels: {', '.join(figures)}; {_corrected(gate, judged)}"


def _corrected(gate: Gate, judged: Judged) -> str:
    accepted, all_, audited = judged
    try:
        good = corrected_rate(accepted, all_, gate.confusion)
        precision = corrected_precision(accepted, all_, gate.confusion)
    except CalibrationError as error:
        return f"no correction: {error}"
    among = f"; corrected share of good among accepted {told(precision)}" if accepted else ""
    before = " before the audit" if audited else ""
    return (
        f"{short(accepted / all_)} of {all_} candidates accepted{before}, corrected share of good "
        f"{told(good)}{among}"
    )


def trust_in(known: Known | None, judged: Judged) -> Json:
    """Return what a run's verdicts are worth as JSON values; `line` is the one for people."""
    if known is None:
        return untested(judged)
    report = known.report
    gate = known.gate.model_dump(mode="json", include={"sensitivity", "specificity", "kappa"})
    return {
        "state": report.state,
        "afterwards": known.afterwards,
        "labels": report.labels,
        "critic": report.critic,
        "rubric": report.rubric,
        **gate,
        **judged._asdict(),
        "line": summary_line(known, judged),
    }


def short(share: float) -> str:
    """Return a share without its zero, as in `.84`."""
    text = f"{round(share, 2) + 0.0:.2f}"  # no minus before a zero
    return text.replace("0.", ".", 1) if abs(share) < 0.995 else text


def told(estimate: Estimate | None) -> str:
    """Return a figure with its interval, as in `.52 [.41, .63]`."""
    if estimate is None:
        return "undefined"
    return f"{short(estimate.value)} [{short(estimate.low)}, {short(estimate.high)}]"


def _value(estimate: Estimate | None) -> str:
    return "undefined" if estimate is None else short(estimate.value)
