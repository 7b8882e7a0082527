"""Agreement of judge and people: textbook values, properties, intervals that cover."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.agreement import (
    Confusion,
    Scale,
    auc,
    bootstrap,
    cohen_kappa,
    exact_lower,
    flip_rate,
    krippendorff_alpha,
    length_slope,
    spearman,
    weighted_kappa,
    wilson,
)

LEVELS = st.integers(0, 4)
PAIRS = st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=60)
SCORED = st.lists(st.tuples(st.floats(-9, 9), st.booleans()), min_size=1, max_size=40)
UNITS = st.lists(st.lists(LEVELS | st.none(), max_size=4).map(tuple), max_size=30)
# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: four observers, 12 units
OBSERVERS = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
PUBLISHED: list[tuple[Scale, float]] = [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]


def test_a_confusion_counts_and_divides() -> None:
    pairs = [(True, True)] * 8 + [(True, False)] * 2 + [(False, True)] * 3 + [(False, False)] * 7
    table = Confusion.of(pairs)
    assert (table.good, table.bad, table.accepted, table.labels) == (10, 10, 11, 20)
    assert (table.sensitivity, table.specificity, table.precision) == (0.8, 0.7, 8 / 11)
    assert table.skill == pytest.approx(0.5)
    assert Confusion.of(Counter(pairs)) == table


def test_a_rate_of_nothing_is_none() -> None:
    table = Confusion.of([(True, False)])
    assert (table.sensitivity, table.specificity, table.precision, table.skill) == (0, *[None] * 3)


@pytest.mark.parametrize(
    ("successes", "trials", "score", "exact"),
    [
        (81, 263, (0.2553, 0.3662), 0.2527),
        (15, 148, (0.0624, 0.1605), 0.0578),
        (0, 20, (0.0, 0.1611), 0.0),
        (1, 29, (0.0061, 0.1718), 0.0009),
    ],
)
def test_limits_of_shares_are_newcombes(
    successes: int, trials: int, score: tuple[float, float], exact: float
) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I: methods 3 and 5, two-sided 95 %."""
    found = wilson(successes, trials)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(score, abs=6e-5)
    assert exact_lower(successes, trials, 0.975) == pytest.approx(exact, abs=6e-5)


def test_no_trials_have_no_limits() -> None:
    assert wilson(0, 0) is None
    assert exact_lower(0, 0) == 0


@given(st.integers(1, 60), st.integers(0, 60), st.sampled_from([0.8, 0.9, 0.975]))
def test_the_exact_bound_leaves_the_promised_tail(good: int, bad: int, confidence: float) -> None:
    trials, bound = good + bad, exact_lower(good, good + bad, confidence)
    chances = (
        math.comb(trials, k) * bound**k * (1 - bound) ** (trials - k)
        for k in range(good, trials + 1)
    )
    assert math.fsum(chances) == pytest.approx(1 - confidence, abs=1e-8)
    interval = wilson(good, trials)
    assert interval is not None
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_kappas_of_tables_worked_by_hand() -> None:
    square = {("y", "y"): 20, ("y", "n"): 5, ("n", "y"): 10, ("n", "n"): 15}
    assert cohen_kappa(square) == pytest.approx(0.4)  # (0.7 - 0.5) / (1 - 0.5)
    table = {(0, 0): 4, (1, 1): 3, (2, 2): 3, (0, 1): 1, (2, 0): 1}
    # margins 5 3 4 and 5 4 3; distance seen 1 + 2, expected (5·4 + 3·5 + 3·3 + 4·4 + 2·(5·3 + 4·5))/12
    assert weighted_kappa(table, "linear") == pytest.approx(1 - 12 * 3 / 130)
    # squared: seen 1 + 4, expected (60 + 4·35)/12
    assert weighted_kappa(table, "quadratic") == pytest.approx(1 - 12 * 5 / 200)


@given(PAIRS)
def test_kappas_are_symmetric_and_one_for_equal_raters(pairs: list[tuple[int, int]]) -> None:
    turned = [(b, a) for a, b in pairs]
    assert cohen_kappa(pairs) == pytest.approx(cohen_kappa(turned))
    assert weighted_kappa(pairs) == pytest.approx(weighted_kappa(turned))
    same = [(a, a) for a, _ in pairs]
    expected = 1 if len(set(same)) > 1 else None
    assert (cohen_kappa(same), weighted_kappa(same), weighted_kappa(same, "linear")) == (
        (expected,) * 3
    )


@given(PAIRS)
def test_on_two_levels_the_weights_do_not_matter(pairs: list[tuple[int, int]]) -> None:
    two = [(int(a > 2), int(b > 2)) for a, b in pairs]
    plain = cohen_kappa(two)
    assert weighted_kappa(two, "linear") == pytest.approx(plain)
    assert weighted_kappa(two, "quadratic") == pytest.approx(plain)
    assert weighted_kappa(Counter(two)) == pytest.approx(plain)


def units_of_krippendorff() -> list[tuple[float | None, ...]]:
    columns = zip(*OBSERVERS, strict=True)
    return [tuple(None if v == "." else float(v) for v in column) for column in columns]


@pytest.mark.parametrize(("scale", "alpha"), PUBLISHED)
def test_alpha_is_krippendorffs_own(scale: Scale, alpha: float) -> None:
    assert krippendorff_alpha(units_of_krippendorff(), scale) == pytest.approx(alpha, abs=5e-4)


@given(UNITS, st.sampled_from(["nominal", "ordinal", "interval"]), st.randoms())
def test_alpha_knows_neither_order_nor_lonely_ratings(
    units: list[tuple[int | None, ...]], scale: Scale, rng: random.Random
) -> None:
    alpha = krippendorff_alpha(units, scale)
    mixed = [(*rng.sample(unit, len(unit)), None) for unit in units]
    assert krippendorff_alpha([*mixed, (3, None), (None,), ()], scale) == pytest.approx(alpha)
    agreed = [(rating, rating) for unit in units for rating in unit if rating is not None]
    assert krippendorff_alpha(agreed, scale) == (1 if len(set(agreed)) > 1 else None)


@given(PAIRS)
def test_alpha_of_two_raters_is_scotts_pi_for_small_samples(pairs: list[tuple[int, int]]) -> None:
    pooled = Counter(value for pair in pairs for value in pair)
    size = len(pairs)
    chance = sum(Fraction(n, 2 * size) ** 2 for n in pooled.values())
    agreed = Fraction(sum(a == b for a, b in pairs), size)
    if chance == 1:
        assert krippendorff_alpha(pairs, "nominal") is None
        return
    pi = (agreed - chance) / (1 - chance)
    assert krippendorff_alpha(pairs, "nominal") == pytest.approx(float(pi + (1 - pi) / (2 * size)))


@given(UNITS)
def test_alpha_keeps_what_its_scale_keeps(units: list[tuple[int | None, ...]]) -> None:
    def moved(power: int) -> list[tuple[float | None, ...]]:
        return [tuple(None if v is None else 7 + 2 * v**power for v in unit) for unit in units]

    interval, ordinal = (krippendorff_alpha(units, scale) for scale in ("interval", "ordinal"))
    assert krippendorff_alpha(moved(1), "interval") == pytest.approx(interval)
    assert krippendorff_alpha(moved(3), "ordinal") == pytest.approx(ordinal)


def test_spearman_with_ties_by_hand() -> None:
    pairs = [(1, 1), (2, 3), (2, 2), (3, 4)]  # ranks 1 2½ 2½ 4 and 1 3 2 4
    assert spearman(pairs) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert spearman([(1, 2), (1, 3)]) is None


@given(PAIRS)
def test_spearman_knows_ranks_only(pairs: list[tuple[int, int]]) -> None:
    rho = spearman(pairs)
    assert spearman([(b, a) for a, b in pairs]) == pytest.approx(rho)
    assert spearman([(math.exp(a), -(b**3)) for a, b in pairs]) == pytest.approx(
        None if rho is None else -rho
    )
    assert spearman([(a, a) for a, _ in pairs]) in (None, pytest.approx(1))


@given(SCORED)
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[float, bool]]) -> None:
    good = [score for score, label in pairs if label]
    bad = [score for score, label in pairs if not label]
    if not good or not bad:
        assert auc(pairs) is None
        return
    won = sum((g > b) + (g == b) / 2 for g in good for b in bad)
    assert auc(pairs) == pytest.approx(won / (len(good) * len(bad)))


def test_a_flip_rate_is_the_mean_over_items() -> None:
    repeats = [("a", "a", "b"), ("a", "a"), ("b",), ()]  # two of three pairs differ; none; no pair
    assert flip_rate(repeats) == pytest.approx((2 / 3 + 0) / 2)
    assert flip_rate({("x", "y"): 3, ("x", "x"): 1}) == pytest.approx(0.75)
    assert flip_rate([("a",)]) is None


def test_a_length_slope_is_points_a_doubling() -> None:
    rows = [(0.1 * math.log2(length), length, None) for length in (10, 20, 80, 300)]
    assert length_slope(rows) == pytest.approx(0.1)
    assert length_slope([(0.5, 0, None), (0.75, 2, None)]) == pytest.approx(0.25)
    assert length_slope([(0.5, 10, True), (0.7, 20, False)]) is None


def test_good_items_that_are_longer_are_no_bias() -> None:
    good = [(0.9, length, True) for length in (80, 100, 160)]
    bad = [(0.2, length, False) for length in (10, 20, 30)]
    assert length_slope([*good, *bad]) == pytest.approx(0)
    unknown = length_slope([(score, length, None) for score, length, _ in [*good, *bad]])
    assert unknown is not None
    assert unknown > 0.2


STATISTICS = {"kappa": cohen_kappa, "linear": lambda t: weighted_kappa(t, "linear")}


@given(PAIRS, st.randoms())
def test_a_bootstrap_repeats_itself_in_any_order(
    pairs: list[tuple[int, int]], rng: random.Random
) -> None:
    items = [[pair] for pair in pairs]
    found = bootstrap(items, STATISTICS, draws=20, seed=3)
    assert bootstrap(rng.sample(items, len(items)), STATISTICS, draws=20, seed=3) == found
    for name, statistic in (("kappa", cohen_kappa(pairs)), ("linear", None)):
        estimate = found[name]
        if estimate is not None:
            assert estimate.low <= estimate.value <= estimate.high
            assert statistic in (None, estimate.value)


def share(table: Counter[bool]) -> float:
    return table[True] / table.total()


def test_a_bootstrap_of_a_share_has_the_width_of_a_binomial() -> None:
    found = bootstrap([[n < 60] for n in range(200)], {"share": share}, draws=4000)["share"]
    assert found is not None
    assert found.value == 0.3
    error = math.sqrt(0.3 * 0.7 / 200)
    assert found.low == pytest.approx(0.3 - 1.96 * error, abs=0.006)
    assert found.high == pytest.approx(0.3 + 1.96 * error, abs=0.006)


def test_labels_of_one_item_are_drawn_together() -> None:
    single = bootstrap([[n < 120] for n in range(400)], {"share": share})["share"]
    fours = bootstrap([[n < 30] * 4 for n in range(100)], {"share": share})["share"]
    assert single is not None
    assert fours is not None
    assert (fours.high - fours.low) / (single.high - single.low) == pytest.approx(2, rel=0.15)


def test_what_is_often_undefined_has_no_interval() -> None:
    rare = [[(0, 0)]] * 29 + [[(1, 0)]]
    assert (
        bootstrap(rare, {"kappa": cohen_kappa})["kappa"] is None
    )  # 36 % of draws lack the odd one
    assert bootstrap([], {"kappa": cohen_kappa})["kappa"] is None


def test_an_interval_of_kappa_covers_as_it_says() -> None:
    cells, chances = [(1, 1), (1, 0), (0, 1), (0, 0)], [0.42, 0.08, 0.16, 0.34]
    rng, covered = random.Random(5), 0
    for draw in range(150):
        items = [[pair] for pair in rng.choices(cells, chances, k=100)]
        found = bootstrap(items, {"kappa": cohen_kappa}, draws=200, seed=draw)["kappa"]
        assert found is not None
        covered += found.low <= 0.52 <= found.high  # (0.76 - 0.5) / (1 - 0.5)
    assert 0.9 <= covered / 150 <= 0.99
