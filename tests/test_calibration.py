"""Maps, thresholds and corrected rates: values by hand, properties, promises that are kept."""

from __future__ import annotations

import math
import random
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from agentloop.agreement import Confusion, exact_lower
from agentloop.calibration import (
    CANDIDATES,
    ISOTONIC_FROM,
    LEAST_KEPT,
    Isotonic,
    Platt,
    ScoreMap,
    brier,
    calibration_error,
    corrected_rate,
    find_threshold,
    fit_isotonic,
    fit_map,
    fit_platt,
    out_of_fold,
    rogan_gladen,
)
from agentloop.errors import CalibrationError

LABELLED = st.lists(st.tuples(st.integers(0, 12).map(lambda n: n / 12), st.booleans()), min_size=1)
CHANCES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def split(pairs: list[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [score for score, _ in pairs], [label for _, label in pairs]


def drawn(rng: random.Random, size: int, gap: float = 1.5) -> tuple[list[float], list[bool]]:
    labels = [rng.random() < 0.6 for _ in range(size)]
    return [rng.gauss(gap if label else 0.0) for label in labels], labels


def test_violators_are_pooled() -> None:
    learnt = fit_isotonic([4, 1, 3, 2], [True, False, False, True])
    assert [learnt.chance(score) for score in (0, 1, 2, 3, 4, 9)] == [0, 0, 0.5, 0.5, 1, 1]
    assert [learnt.chance(score) for score in (1.5, 2.5, 3.5)] == [0.25, 0.5, 0.75]


def test_an_isotonic_map_is_scikit_learns() -> None:
    """Found with scikit-learn 1.9.1, `IsotonicRegression(out_of_bounds="clip")`."""
    rng = random.Random(11)
    scores = [rng.randrange(10) / 9 for _ in range(60)]
    learnt = fit_isotonic(scores, [rng.random() < score for score in scores])
    theirs = {0: 0, 0.05: 0.45 / 7, 1 / 9: 1 / 7, 0.3: 0.2, 0.5: 0.7, 0.8: 0.92, 0.95: 1}
    assert {score: learnt.chance(score) for score in theirs} == pytest.approx(theirs, abs=1e-12)


@given(LABELLED, st.lists(st.floats(-1, 2), min_size=2))
def test_a_map_never_falls(pairs: list[tuple[float, bool]], asked: list[float]) -> None:
    for learnt in (fit_isotonic(*split(pairs)), fit_platt(*split(pairs))):
        chances = [learnt.chance(score) for score in sorted(asked)]
        assert all(a <= b + 1e-12 for a, b in pairwise(chances))
        assert all(0 <= chance <= 1 for chance in chances)
        assert TypeAdapter(ScoreMap).validate_json(learnt.model_dump_json()) == learnt


@given(LABELLED)
def test_an_isotonic_map_keeps_the_mean_and_fits_best(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = split(pairs)
    chances = [fit_isotonic(scores, labels).chance(score) for score in scores]
    assert math.fsum(chances) == pytest.approx(sum(labels))
    mean = sum(labels) / len(labels)
    fitted, constant = brier(chances, labels), brier([mean] * len(labels), labels)
    assert fitted is not None
    assert constant is not None
    assert fitted <= constant + 1e-12
    again = fit_isotonic(chances, labels)
    assert [again.chance(chance) for chance in chances] == pytest.approx(chances)


def test_a_curve_through_two_points_by_hand() -> None:
    learnt = fit_platt([-1, 1], [False, True])  # one good of one: 2/3; one bad of one: 1/3
    assert (learnt.slope, learnt.offset) == pytest.approx((math.log(2), 0), abs=1e-7)
    assert learnt.chance(1e6) == 1
    assert learnt.chance(-1e6) == 0


@given(LABELLED)
def test_a_curve_is_where_the_loss_is_level(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = split(pairs)
    learnt = fit_platt(scores, labels)
    good, bad = sum(labels), len(labels) - sum(labels)
    targets = [(good + 1) / (good + 2) if label else 1 / (bad + 2) for label in labels]
    errors = [learnt.chance(s) - t for s, t in zip(scores, targets, strict=True)]
    assert math.fsum(errors) == pytest.approx(0, abs=1e-6)
    tilt = math.fsum(e * s for e, s in zip(errors, scores, strict=True))
    assert tilt == pytest.approx(0, abs=1e-6) if learnt.slope else tilt > -1e-6


def test_few_labels_get_a_curve_and_many_get_steps() -> None:
    assert ISOTONIC_FROM == 100
    scores, labels = drawn(random.Random(1), ISOTONIC_FROM)
    assert isinstance(fit_map(scores, labels), Isotonic)
    assert isinstance(fit_map(scores[1:], labels[1:]), Platt)
    items = list(range(ISOTONIC_FROM))  # each map learns from fewer, and is of the kind of all
    assert 0 in out_of_fold(scores, labels, items)
    assert 0 not in out_of_fold(scores[1:], labels[1:], items[1:])


@pytest.mark.parametrize("fit", [fit_isotonic, fit_platt, fit_map])
def test_no_labels_teach_nothing(fit: object) -> None:
    assert callable(fit)
    with pytest.raises(CalibrationError, match="no labels"):
        fit([], [])


@pytest.mark.parametrize("size", [12, 160])
def test_no_items_chance_depends_on_its_own_labels(size: int) -> None:
    scores, labels = drawn(random.Random(2), size)
    items = [place // 2 for place in range(size)]
    before = out_of_fold(scores, labels, items)
    for item in (0, 3, size // 2 - 1):
        turned = [label != (owner == item) for owner, label in zip(items, labels, strict=True)]
        after = out_of_fold(scores, turned, items)
        own = [place for place, owner in enumerate(items) if owner == item]
        assert [after[place] for place in own] == [before[place] for place in own]
        assert after != before


def test_folds_are_seeded_and_need_two_items() -> None:
    scores, labels = drawn(random.Random(3), 40)
    items = list(range(40))
    assert out_of_fold(scores, labels, items) == out_of_fold(scores, labels, items)
    assert out_of_fold(scores, labels, items) != out_of_fold(scores, labels, items, seed=1)
    held_out = out_of_fold(scores[:2], [True, False], ["a", "b"])
    assert held_out == pytest.approx([1 / 3, 2 / 3])  # each is told by the other label alone
    with pytest.raises(CalibrationError, match="two labelled items"):
        out_of_fold(scores, labels, ["one"] * 40)


def test_an_error_of_calibration_by_hand() -> None:
    chances = [0.2, 0.2, 0.2, 0.2, 0.9, 0.9]
    labels = [False, False, False, True, True, False]
    assert calibration_error(chances, labels) == pytest.approx((abs(0.8 - 1) + abs(1.8 - 1)) / 6)
    assert calibration_error(chances, labels, bins=1) == pytest.approx(abs(2.6 - 2) / 6)
    apart = calibration_error([0.2] + [0.6] * 5, [True] * 3 + [False] * 3, bins=2)
    assert apart == pytest.approx((0.8 + 1) / 6)  # five alike lie where their middle lies
    assert brier(chances, labels) == pytest.approx((3 * 0.04 + 0.64 + 0.01 + 0.81) / 6)
    assert calibration_error([], []) is None
    assert brier([], []) is None


@given(CHANCES, st.randoms(), st.integers(1, 12))
def test_an_error_of_calibration_knows_no_order(
    pairs: list[tuple[float, bool]], rng: random.Random, bins: int
) -> None:
    found = calibration_error(*split(pairs), bins=bins)
    assert calibration_error(*split(rng.sample(pairs, len(pairs))), bins=bins) == found
    assert found is not None
    assert 0 <= found <= 1


def test_a_calibrated_map_has_the_error_of_noise_only() -> None:
    rng = random.Random(4)
    chances = [rng.random() for _ in range(8000)]
    labels = [rng.random() < chance for chance in chances]
    error = calibration_error(chances, labels)
    off = calibration_error([chance**2 for chance in chances], labels)
    assert error is not None
    assert off is not None
    assert error < 0.02
    assert off == pytest.approx(1 / 6, abs=0.02)  # the mean of x - x²


def test_a_threshold_promises_by_its_lower_bound() -> None:
    scores = [0.9] * 60 + [0.7] * 60 + [0.2] * 60
    labels = [True] * 58 + [False] * 2 + [True] * 55 + [False] * 5 + [False] * 60
    found = find_threshold(scores, labels)
    assert found is not None
    assert (found.accept_at, found.kept, found.good, found.labels) == (0.7, 120, 113, 180)
    assert found.lower == exact_lower(113, 120, 0.9) >= found.target == 0.85
    assert (found.precision, found.share) == (113 / 120, 2 / 3)
    strict = find_threshold(scores, labels, target=0.92)
    assert strict is None  # 58 of 60 promise 0.914, 113 of 120 promise 0.904
    stricter = find_threshold(scores, labels, target=0.91)
    assert stricter is not None
    assert stricter.accept_at == 0.9


def test_a_search_ends_at_the_first_failure() -> None:
    scores = [0.9] * 40 + [0.8] * 200
    labels = [True] * 32 + [False] * 8 + [True] * 200
    assert exact_lower(232, 240, 0.9) > 0.9  # the lower threshold alone would pass
    assert find_threshold(scores, labels) is None


def test_few_thresholds_are_all_tried_and_many_are_not() -> None:
    scores = [1.0] * 30 + [0.9] + [0.1] * 269
    found = find_threshold(scores, [True] * 31 + [False] * 269)
    assert found is not None
    assert found.accept_at == 0.9  # 30, 31 and 300 kept: by equal factors 31 would be left out
    many = find_threshold([n / 1000 for n in range(1000)], [n > 499 for n in range(1000)])
    assert many is not None
    tried = {round(30 * (1000 / 30) ** (n / (CANDIDATES - 1))) for n in range(CANDIDATES)}
    assert many.kept in tried


@pytest.mark.parametrize("kept", [0, LEAST_KEPT - 1, LEAST_KEPT])
def test_few_kept_promise_nothing(kept: int) -> None:
    found = find_threshold([1.0] * kept, [True] * kept)
    assert (found is None) is (kept < LEAST_KEPT)


@pytest.mark.parametrize(("kept", "promised"), [(76, False), (77, True)])
def test_a_search_starts_where_one_may_be_bad(kept: int, promised: bool) -> None:
    """77 with one bad is the plan of acceptance sampling for 95 % at a confidence of 90 %."""
    assert (find_threshold([1.0] * kept, [True] * kept, target=0.95) is not None) is promised


@pytest.mark.parametrize("target", [0.95, 0.99])
def test_a_high_target_starts_where_it_can_be_reached(target: float) -> None:
    size = 1000
    found = find_threshold(
        [n / size for n in range(size)], [n > 10 for n in range(size)], target=target
    )
    assert found is not None
    assert found.lower >= target
    assert find_threshold([0.5] * size, [True] * size, target=1.0) is None


@given(LABELLED, st.integers(1, 40), st.sampled_from([0.5, 0.7, 0.85]))
def test_a_threshold_keeps_what_it_says(
    pairs: list[tuple[float, bool]], copies: int, target: float
) -> None:
    scores, labels = split(pairs * copies)
    found = find_threshold(scores, labels, target=target)
    if found is not None:
        kept = [label for s, label in zip(scores, labels, strict=True) if s >= found.accept_at]
        assert (found.kept, found.good) == (len(kept), sum(kept))
        assert found.accept_at in scores
        assert found.kept >= LEAST_KEPT
        assert found.target <= found.lower <= found.precision


def test_a_promise_is_missed_as_seldom_as_it_says() -> None:
    """Scores without information, and just too few good items: every threshold is a miss."""
    rng, missed = random.Random(6), 0
    for _ in range(200):
        labels = [rng.random() < 0.845 for _ in range(200)]
        missed += find_threshold([rng.random() for _ in labels], labels) is not None
    assert missed <= 200 * 0.1


def test_a_good_judge_gets_its_threshold() -> None:
    rng, found = random.Random(7), []
    for _ in range(40):
        threshold = find_threshold(*drawn(rng, 300, gap=2.5))
        if threshold is not None:
            found.append(threshold.share)
    assert len(found) >= 38
    assert 0.4 < sum(found) / len(found) < 0.75


def test_the_correction_of_the_notes() -> None:
    assert rogan_gladen(0.579, sensitivity=0.839, specificity=0.68) == pytest.approx(
        0.499, abs=5e-4
    )


@given(st.floats(0, 1), st.floats(0.56, 1), st.floats(0.56, 1))
def test_a_correction_undoes_the_judges_errors(
    truth: float, sensitivity: float, specificity: float
) -> None:
    rate = truth * sensitivity + (1 - truth) * (1 - specificity)
    assert rogan_gladen(rate, sensitivity, specificity) == pytest.approx(truth)


@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.75, 0.23), (0.5, 0.6), (0.0, 0.0)])
def test_a_judge_that_tells_nothing_is_refused(sensitivity: float, specificity: float) -> None:
    with pytest.raises(CalibrationError, match=r"needs more than 1\.1"):
        rogan_gladen(0.5, sensitivity, specificity)


def judged(truths: int, sensitivity: float, specificity: float) -> Confusion:
    kept, refused = round(truths * sensitivity), round(truths * specificity)
    return Confusion(
        good_accepted=kept,
        good_refused=truths - kept,
        bad_accepted=truths - refused,
        bad_refused=refused,
    )


@pytest.mark.parametrize(("labels", "half"), [(25, 0.25), (50, 0.18), (100, 0.13), (200, 0.10)])
def test_the_interval_narrows_with_labels(labels: int, half: float) -> None:
    """485 of 838 accepted; as wide as the project's notes on grading found."""
    found = corrected_rate(485, 838, judged(labels, 0.84, 0.68))
    assert found.low <= found.value <= found.high
    assert (found.high - found.low) / 2 == pytest.approx(half, abs=0.005)


@pytest.mark.parametrize(
    ("accepted", "total", "confusion"),
    [(0, 0, judged(50, 0.8, 0.8)), (5, 9, Confusion(good_accepted=4)), (5, 9, Confusion(bad_refused=4))],
)  # fmt: skip
def test_a_correction_needs_labels_of_both_kinds(
    accepted: int, total: int, confusion: Confusion
) -> None:
    with pytest.raises(CalibrationError, match="both kinds"):
        corrected_rate(accepted, total, confusion)


def test_a_correction_stays_a_share() -> None:
    few, most = (corrected_rate(n, 50, judged(40, 0.9, 0.9)) for n in (4, 46))
    assert (few.value, few.low) == (0, 0)
    assert (most.value, most.high) == (1, 1)
    assert few.high == pytest.approx(1 - most.low)
    lopsided = Confusion(good_accepted=20, good_refused=80, bad_refused=2)
    assert corrected_rate(10, 100, lopsided).high == 1  # two bad labels bound next to nothing
    single = Confusion(good_accepted=98, good_refused=2, bad_refused=1)
    assert corrected_rate(1, 1, single).high == 1  # the interval alone would end below the value


@pytest.mark.parametrize("accepted", [0, 5000])
def test_a_rate_that_no_share_explains_is_refused(accepted: int) -> None:
    with pytest.raises(CalibrationError, match="no share of good items"):
        corrected_rate(accepted, 5000, judged(400, 0.9, 0.9))


@pytest.mark.parametrize(
    ("truth", "sensitivity", "specificity"), [(0.5, 0.84, 0.68), (0.95, 0.9, 0.9), (0.2, 0.9, 0.8)]
)
def test_a_corrected_interval_covers_as_it_says(
    truth: float, sensitivity: float, specificity: float
) -> None:
    rng, covered = random.Random(8), 0

    def successes(trials: int, chance: float) -> int:
        return sum(rng.random() < chance for _ in range(trials))

    rate = truth * sensitivity + (1 - truth) * (1 - specificity)
    for _ in range(300):
        kept, refused = successes(60, sensitivity), successes(60, specificity)
        table = judged(60, kept / 60, refused / 60)
        with suppress(CalibrationError):  # a rate that nothing explains is a miss
            found = corrected_rate(successes(400, rate), 400, table)
            covered += found.low <= truth <= found.high
    assert covered >= 0.92 * 300
