"""From labelled items and a judge's grades of them to a calibration report.

Enters: outcomes: what people say of an item beside what checks and judge say. Leaves: the figures of a
`CalibrationReport`. Refuses to know: files, stores, models, how anything was graded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentloop.agreement import (
    Confusion,
    Estimate,
    auc,
    bootstrap,
    cohen_kappa,
    flip_rate,
    krippendorff_alpha,
    length_slope,
    spearman,
    weighted_kappa,
    wilson,
)
from agentloop.calibration import (
    Threshold,
    brier,
    calibration_error,
    find_threshold,
    fit_map,
    out_of_fold,
)
from agentloop.calibration_report import LEAST_LABELS, CriterionReport, Gate
from agentloop.labels import Labelled
from agentloop.records import Json, Mark
from agentloop.rubric import Criterion, Rubric


@dataclass(frozen=True)
class Outcome:
    """What the gate made of one labelled item."""

    label: Labelled
    good: bool
    """What most people say."""
    score: float | None = None
    """None where a failed check spared the judge."""
    refused: bool = False
    """Whether a failed check or a mark under its floor refuses it, whatever the score."""
    marks: tuple[Mark, ...] = ()
    words: int = 0
    """Of the answer."""

    def accepted(self, accept_at: float) -> bool:
        """Whether it is accepted at a threshold."""
        return not self.refused and self.score is not None and self.score >= accept_at


def figures(
    outcomes: Sequence[Outcome],
    labels: Sequence[Labelled],
    repeats: Sequence[tuple[bool, ...]],
    rubric: Rubric,
    target: float,
) -> Json:
    """Return the measured fields of a `CalibrationReport`.

    `labels` are all items, also those that people are split on; `repeats` holds the decisions of each
    item that was graded several times. The threshold and the map are learnt where the score decides.
    """
    threshold = _threshold(outcomes, target)
    graded = [(o.score, o.good, o.words) for o in outcomes if o.score is not None]
    return {
        "vetoed": sum(o.score is None for o in outcomes),
        "gate": gate(outcomes, rubric.accept_at),
        "target": target,
        "threshold": threshold,
        "at_threshold": gate(outcomes, threshold.accept_at) if threshold else None,
        "spearman": spearman((score, float(good)) for score, good, _ in graded),
        "auc": auc((score, good) for score, good, _ in graded),
        "alpha": _alpha([[float(a.good) for a in label.annotations] for label in labels]),
        "length_slope": length_slope((score, words, good) for score, good, words in graded),
        "repeated": len(repeats),
        "flip_rate": flip_rate(repeats),
        **_mapped([o for o in outcomes if not o.refused]),
        "criteria": tuple(
            report
            for criterion in rubric.criteria
            if (report := _criterion(criterion, outcomes, labels)) is not None
        ),
    }


def gate(outcomes: Sequence[Outcome], accept_at: float) -> Gate:
    """Return how the gate decides at a threshold, beside people."""
    pairs = Counter((o.good, o.accepted(accept_at)) for o in outcomes)
    confusion = Confusion.of(pairs)
    return Gate(
        accept_at=accept_at,
        confusion=confusion,
        sensitivity=wilson(confusion.good_accepted, confusion.good),
        specificity=wilson(confusion.bad_refused, confusion.bad),
        precision=wilson(confusion.good_accepted, confusion.accepted),
        kappa=bootstrap(([pair] for pair in pairs.elements()), {"kappa": cohen_kappa})["kappa"],
    )


def _threshold(outcomes: Sequence[Outcome], target: float) -> Threshold | None:
    """Return the threshold, as a share of all; none below a score of 0, nor on too few labels."""
    if len(outcomes) < LEAST_LABELS:
        return None
    scored = [(o.score, o.good) for o in outcomes if not o.refused and o.score]
    found = find_threshold([s for s, _ in scored], [good for _, good in scored], target=target)
    return found.model_copy(update={"labels": len(outcomes)}) if found else None


def _mapped(outcomes: Sequence[Outcome]) -> Json:
    scores = [o.score for o in outcomes if o.score is not None]
    labels = [o.good for o in outcomes if o.score is not None]
    chances: list[float] = []
    if len(scores) > 1:
        chances = out_of_fold(scores, labels, range(len(scores)))
    return {
        "calibration_error": calibration_error(chances, labels) if chances else None,
        "brier": brier(chances, labels) if chances else None,
        "score_map": fit_map(scores, labels) if scores else None,
    }


def _alpha(units: Sequence[Sequence[float]], *, ordered: bool = False) -> Estimate | None:
    """Return the annotators' reliability with its bootstrap interval over items."""
    if all(len(unit) < 2 for unit in units):
        return None

    def alpha(drawn: Counter[tuple[float, ...]]) -> float | None:
        return krippendorff_alpha(drawn, "ordinal" if ordered else "nominal")

    return bootstrap(([tuple(sorted(unit))] for unit in units), {"alpha": alpha})["alpha"]


def _criterion(
    criterion: Criterion, outcomes: Sequence[Outcome], labels: Sequence[Labelled]
) -> CriterionReport | None:
    """Return how the judge marks one criterion; None where no one labelled it."""
    name, size = criterion.name, len(criterion.levels)
    said = [
        [
            float(criterion.levels.index(a.criteria[name]))
            for a in label.annotations
            if name in a.criteria
        ]
        for label in labels
    ]
    if not any(said):
        return None
    pairs: Counter[tuple[int, int]] = Counter()
    ranks: Counter[tuple[float, float]] = Counter()
    for outcome in outcomes:
        level = outcome.label.level(name)
        mark = next((m for m in outcome.marks if m.criterion == name), None)
        if level is not None and mark is not None:
            people = criterion.levels.index(level)
            pairs[people, criterion.levels.index(mark.level)] += 1
            ranks[people, mark.value] += 1
    bar = criterion.levels.index(criterion.floor or criterion.top)
    confusion = Confusion.of(_at_or_above(pairs, bar))
    kappas: dict[str, Any] = {"kappa": cohen_kappa, "weighted_kappa": weighted_kappa}
    return CriterionReport(
        criterion=name,
        levels=criterion.levels,
        labels=pairs.total(),
        table=tuple(tuple(pairs[row, column] for column in range(size)) for row in range(size)),
        sensitivity=wilson(confusion.good_accepted, confusion.good),
        specificity=wilson(confusion.bad_refused, confusion.bad),
        spearman=spearman(ranks),
        alpha=_alpha(said, ordered=True),
        **bootstrap(([pair] for pair in pairs.elements()), kappas),
    )


def _at_or_above(pairs: Counter[tuple[int, int]], bar: int) -> Counter[tuple[bool, bool]]:
    """Return pairs of levels as pairs of (people, judge) putting an item at the bar or above."""
    counts: Counter[tuple[bool, bool]] = Counter()
    for (people, judge), number in pairs.items():
        counts[people >= bar, judge >= bar] += number
    return counts
