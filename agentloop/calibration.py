"""From a judge's scores to what can be promised about them, learnt from people's labels.

Enters: scores, whether people call each item good, and which item each belongs to. Leaves: a map from
score to the chance of being good, its errors out of fold, a threshold with a lower bound on precision
or None, a rate of good items corrected for the judge's errors. Refuses to know: rubrics, files,
stores, how the labelled items were chosen. What it promises holds for items of the same kind, drawn as
the labelled ones were.

Pure Python, as `agreement` is and for the same reason.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from itertools import groupby
from typing import Literal, TypeAlias

from agentloop.agreement import Confusion, Estimate, exact_lower, normal_quantile
from agentloop.errors import CalibrationError
from agentloop.records import Record

ISOTONIC_FROM = 100  # labels; a step function of fewer follows their noise
FOLDS = 5
BINS = 10
TARGET = 0.85
CONFIDENCE = 0.9  # one-sided: of ten promises, one may be missed
LEAST_KEPT = 30  # labels at or above a threshold, before anything is promised there
CANDIDATES = 20  # thresholds tried; more only make an early stop likelier
LEAST_SKILL = 0.1  # sensitivity + specificity of 1.1 or less is refused


class Isotonic(Record):
    """A rising map by points: straight between two, level outside the first and the last."""

    kind: Literal["isotonic"] = "isotonic"
    scores: tuple[float, ...]
    chances: tuple[float, ...]

    def chance(self, score: float) -> float:
        """Return the chance, 0..1, that an item of this score is good."""
        right = bisect_left(self.scores, score)
        if right == 0:
            return self.chances[0]
        if right == len(self.scores):
            return self.chances[-1]
        left_score, right_score = self.scores[right - 1 : right + 1]
        left, right_chance = self.chances[right - 1 : right + 1]
        share = (score - left_score) / (right_score - left_score)
        return left + share * (right_chance - left)


class Platt(Record):
    """A rising map of two numbers: a logistic curve over the score."""

    kind: Literal["platt"] = "platt"
    slope: float
    offset: float

    def chance(self, score: float) -> float:
        """Return the chance, 0..1, that an item of this score is good."""
        return _logistic(self.slope * score + self.offset)


ScoreMap: TypeAlias = Isotonic | Platt


class Threshold(Record):
    """The lowest score to accept at, and what the labels promise there."""

    accept_at: float
    """Accept a score that is at least this."""
    kept: int
    """Labelled items at or above it."""
    good: int
    """Those of them that people call good."""
    labels: int
    """All labelled items."""
    lower: float
    """Lower bound of the precision, one-sided, at `confidence`."""
    target: float
    confidence: float

    @property
    def precision(self) -> float:
        """Share of the kept that is good."""
        return self.good / self.kept

    @property
    def share(self) -> float:
        """Share of all labelled items that is kept."""
        return self.kept / self.labels


def fit_isotonic(scores: Sequence[float], labels: Sequence[bool]) -> Isotonic:
    """Fit a rising step map by pooling adjacent violators (Ayer et al. 1955).

    Equal scores are pooled first. The mean chance over the labels is the share of good ones.
    CalibrationError without labels.
    """
    blocks: list[tuple[float, float, int, int]] = []  # lowest and highest score, good, all
    for score, group in groupby(_sorted_pairs(scores, labels), key=lambda pair: pair[0]):
        members = [label for _, label in group]
        low, high, good, size = score, score, sum(members), len(members)
        while blocks and blocks[-1][2] * size >= good * blocks[-1][3]:
            low, _, more, n = blocks.pop()
            good, size = good + more, size + n
        blocks.append((low, high, good, size))
    points = [
        (score, good / size) for low, high, good, size in blocks for score in sorted({low, high})
    ]
    return Isotonic(scores=tuple(s for s, _ in points), chances=tuple(c for _, c in points))


def fit_platt(scores: Sequence[float], labels: Sequence[bool]) -> Platt:
    """Fit a rising logistic curve with Platt's smoothed targets (1999), by Newton's method.

    A curve that would fall is made level: a higher score never means a lower chance.
    CalibrationError without labels.
    """
    pairs = _sorted_pairs(scores, labels)
    good = sum(label for _, label in pairs)
    high, low = (good + 1) / (good + 2), 1 / (len(pairs) - good + 2)
    targets = [high if label else low for _, label in pairs]
    mean = math.fsum(score for score, _ in pairs) / len(pairs)
    spread = math.sqrt(math.fsum((score - mean) ** 2 for score, _ in pairs) / len(pairs))
    level = math.fsum(targets) / len(targets)
    slope, offset = 0.0, math.log(level / (1 - level))
    if spread:
        steep, start = _newton([(score - mean) / spread for score, _ in pairs], targets, offset)
        if steep > 0:
            slope, offset = steep / spread, start - steep * mean / spread
    return Platt(slope=slope, offset=offset)


def _newton(places: list[float], targets: list[float], offset: float) -> tuple[float, float]:
    """Return slope and offset of least log loss; halving steps until each one helps."""
    slope, loss = 0.0, _log_loss(places, targets, 0.0, offset)
    for _ in range(100):
        chances = [_logistic(slope * x + offset) for x in places]
        errors = [p - t for p, t in zip(chances, targets, strict=True)]
        curves = [p * (1 - p) for p in chances]
        down = math.fsum(e * x for e, x in zip(errors, places, strict=True)), math.fsum(errors)
        xx = math.fsum(c * x * x for c, x in zip(curves, places, strict=True)) + 1e-12
        x1, one = math.fsum(c * x for c, x in zip(curves, places, strict=True)), math.fsum(curves)
        area = xx * (one + 1e-12) - x1 * x1
        steps = (one * down[0] - x1 * down[1]) / area, (xx * down[1] - x1 * down[0]) / area
        length = 1.0
        while length > 1e-10:
            new = slope - length * steps[0], offset - length * steps[1]
            if (found := _log_loss(places, targets, *new)) < loss:
                break
            length /= 2
        else:
            break
        (slope, offset), loss = new, found
    return slope, offset


def _log_loss(places: list[float], targets: list[float], slope: float, offset: float) -> float:
    """Sum the log loss as log(1 + e^v) − t·v, written so that nothing overflows."""
    values = [slope * x + offset for x in places]
    return math.fsum(
        max(v, 0.0) + math.log1p(math.exp(-abs(v))) - t * v
        for v, t in zip(values, targets, strict=True)
    )


def _logistic(value: float) -> float:
    small = math.exp(-abs(value))
    return 1 / (1 + small) if value >= 0 else small / (1 + small)


def _sorted_pairs(scores: Sequence[float], labels: Sequence[bool]) -> list[tuple[float, bool]]:
    pairs = sorted(zip(scores, labels, strict=True))
    if not pairs:
        raise CalibrationError("there are no labels to learn a map from")
    return pairs


def fit_map(scores: Sequence[float], labels: Sequence[bool]) -> ScoreMap:
    """Fit the map that the number of labels can carry: isotonic from 100 on, Platt's below."""
    return _fitter(len(labels))(scores, labels)


def _fitter(labels: int) -> Callable[[Sequence[float], Sequence[bool]], ScoreMap]:
    return fit_isotonic if labels >= ISOTONIC_FROM else fit_platt


def out_of_fold(
    scores: Sequence[float],
    labels: Sequence[bool],
    items: Sequence[Hashable],
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> list[float]:
    """Return for each score the chance by a map that saw no label of its item.

    Items are dealt to folds by a seeded shuffle of the order in which they first stand. The kind of map
    is the one that all labels together carry. CalibrationError with fewer than two items.
    """
    names = list(dict.fromkeys(items))
    if len(names) < 2:
        raise CalibrationError("at least two labelled items are needed, to hold one out")
    random.Random(seed).shuffle(names)
    fold = {name: number % folds for number, name in enumerate(names)}
    fit, chances = _fitter(len(labels)), [0.0] * len(scores)
    for number in range(min(folds, len(names))):
        kept = [place for place, item in enumerate(items) if fold[item] != number]
        learnt = fit([scores[place] for place in kept], [labels[place] for place in kept])
        for place, item in enumerate(items):
            if fold[item] == number:
                chances[place] = learnt.chance(scores[place])
    return chances


def calibration_error(
    chances: Sequence[float], labels: Sequence[bool], bins: int = BINS
) -> float | None:
    """Return the expected calibration error (Naeini et al. 2015); None without labels.

    Bins hold as nearly the same number of items as equal chances allow, which always share a bin: a
    bin that splits them would measure the order of the items. Noise alone, without any miscalibration,
    gives about 0.04 on 800 labels in 10 bins, 0.07 on 200, 0.10 on 100.
    """
    ordered = sorted(zip(chances, labels, strict=True))
    gaps: dict[int, float] = {}
    start = 0
    for chance, group in groupby(ordered, key=lambda pair: pair[0]):
        members = [label for _, label in group]
        middle = start + (len(members) - 1) / 2
        place = int(middle * bins / len(ordered))
        gaps[place] = gaps.get(place, 0.0) + chance * len(members) - sum(members)
        start += len(members)
    return math.fsum(map(abs, gaps.values())) / len(ordered) if ordered else None


def brier(chances: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Return the mean squared distance of chance and truth (Brier 1950); None without labels."""
    squares = [(chance - label) ** 2 for chance, label in zip(chances, labels, strict=True)]
    return math.fsum(squares) / len(squares) if squares else None


def find_threshold(
    scores: Sequence[float],
    labels: Sequence[bool],
    *,
    target: float = TARGET,
    confidence: float = CONFIDENCE,
) -> Threshold | None:
    """Return the lowest threshold whose lower bound of precision reaches the target; None if none.

    Thresholds are tried downwards from the strictest that keeps 30 labels and may keep one bad item,
    and the first that fails ends the search. So a promise is missed no more often than one test of one
    threshold would miss it, however many are tried (fixed-sequence testing; Angelopoulos et al. 2021,
    "Learn then test"). Taking the lowest of all that pass misses the target in up to 33 % of draws
    where 10 % are promised, this search in 6 % at most. The bound is exact, for with Wilson's one
    single test would already miss in 14 % (all by `benchmarks/thresholds.py`).
    """
    kept, good, best = 0, 0, None
    steps: list[tuple[float, int, int]] = []
    ordered = sorted(zip(scores, labels, strict=True), reverse=True)
    for score, group in groupby(ordered, key=lambda pair: pair[0]):
        members = [label for _, label in group]
        kept, good = kept + len(members), good + sum(members)
        if kept >= LEAST_KEPT and _one_may_be_bad(kept, target, confidence):
            steps.append((score, kept, good))
    for score, kept, good in _spaced(steps):
        lower = exact_lower(good, kept, confidence)
        if lower < target:
            break
        best = Threshold(
            accept_at=score,
            kept=kept,
            good=good,
            labels=len(ordered),
            lower=lower,
            target=target,
            confidence=confidence,
        )
    return best


def _one_may_be_bad(kept: int, target: float, confidence: float) -> bool:
    """Whether so many kept reach the target although one is bad: fewer would end most searches."""
    return target ** (kept - 1) * (target + kept * (1 - target)) <= 1 - confidence


def _spaced(steps: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """Choose steps whose numbers kept grow by equal factors; the choice sees no label."""
    if len(steps) <= CANDIDATES:
        return steps
    growth = steps[-1][1] / steps[0][1]
    wanted = [steps[0][1] * growth ** (n / (CANDIDATES - 1)) for n in range(CANDIDATES)]
    counts = [kept for _, kept, _ in steps]
    places = {min(bisect_left(counts, round(want)), len(steps) - 1) for want in wanted}
    return [steps[place] for place in sorted(places)]


def rogan_gladen(rate: float, sensitivity: float, specificity: float) -> float:
    """Return the share of good items behind a judge's acceptance rate (Rogan & Gladen 1978).

    All in 0..1. CalibrationError where sensitivity + specificity ≤ 1.1: such a judge tells next to
    nothing, and the correction would blow up its noise.
    """
    skill = sensitivity + specificity - 1
    if skill <= LEAST_SKILL + 1e-12:
        raise CalibrationError(
            f"sensitivity {sensitivity:.2f} + specificity {specificity:.2f} is "
            f"{sensitivity + specificity:.2f}, and a judge needs more than {1 + LEAST_SKILL:g}: "
            "change its prompt, give it a reference, or take another model"
        )
    return min(1.0, max(0.0, (rate + specificity - 1) / skill))


def corrected_rate(
    accepted: int, judged: int, confusion: Confusion, level: float = 0.95
) -> Estimate:
    """Return the share of good items among all judged, with its two-sided interval.

    The interval of Lang & Reiczigel (2014): it carries the uncertainty of the acceptance rate and of
    the sensitivity and specificity that the labels show. CalibrationError without judged items, without
    good or bad labels, where the judge is too weak (`rogan_gladen`), or where no share of good items
    explains the rate: then the labels are of other items than the judged, or, at a true share near 0
    or 1, it is one of the 2.5 % of draws that the interval misses on that side.
    """
    sensitivity, specificity = confusion.sensitivity, confusion.specificity
    if not judged or sensitivity is None or specificity is None:
        raise CalibrationError(
            "a corrected rate needs judged items, and labels of both kinds: "
            f"there are {judged} judged, {confusion.good} good, {confusion.bad} bad"
        )
    value = rogan_gladen(accepted / judged, sensitivity, specificity)
    low, high = _lang_reiczigel(accepted, judged, confusion, normal_quantile(level))
    if low > 1 or high < 0:
        raise CalibrationError(
            f"the judge accepts {accepted / judged:.0%} of all items, but {sensitivity:.0%} of the good "
            f"and {1 - specificity:.0%} of the bad labelled ones, which no share of good items "
            "explains: label more, and a random draw of what is judged"
        )
    return Estimate(value=value, low=max(0.0, min(low, value)), high=min(1.0, max(high, value)))


def _lang_reiczigel(
    accepted: int, judged: int, confusion: Confusion, z: float
) -> tuple[float, float]:
    """Return the limits, uncut; each share is drawn towards one half, the centre moved, as they say."""
    size, goods, bads = judged + z * z, confusion.good + 2, confusion.bad + 2
    rate = (accepted + z * z / 2) / size
    sensitivity = (confusion.good_accepted + 1) / goods
    specificity = (confusion.bad_refused + 1) / bads
    skill = sensitivity + specificity - 1
    if skill <= 0:
        return 0.0, 1.0
    centre = (rate + specificity - 1) / skill
    of_good = sensitivity * (1 - sensitivity) / goods
    of_bad = specificity * (1 - specificity) / bads
    moved = centre + 2 * z * z * (centre * of_good - (1 - centre) * of_bad)
    variance = rate * (1 - rate) / size + centre**2 * of_good + (1 - centre) ** 2 * of_bad
    half = z * math.sqrt(variance) / skill
    return moved - half, moved + half
