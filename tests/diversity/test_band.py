"""Null bands: the right centre, wide enough for new text, and far enough in their tails."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agentloop.diversity.band import (
    DRAWS,
    FAR,
    LOSS,
    OUTSIDE,
    Band,
    bands,
    common_size,
    compared,
    reach,
)
from agentloop.diversity.corpus import Corpus
from agentloop.diversity.reference import Reference
from tests.diversity.writing import prose, with_copies

KINDS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "share": lambda rng, n: rng.beta(2, 30, size=n),
    "count": lambda rng, n: rng.poisson(3, size=n).astype(float),
    "even": lambda rng, n: rng.uniform(size=n),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chance", [OUTSIDE, FAR])
def test_the_reach_of_200_draws_is_passed_no_more_often_than_it_says(
    kind: str, chance: float
) -> None:
    rng = np.random.default_rng(3)
    new: NDArray[np.float64] = np.sort(KINDS[kind](rng, 400_000))
    passed = []
    for _ in range(300):
        limit = reach(KINDS[kind](rng, DRAWS), chance)
        passed.append(1 - np.searchsorted(new, limit, side="right") / len(new))
    assert np.mean(passed) <= 1.25 * chance  # the count of 300 limits itself varies


def test_a_band_needs_200_texts() -> None:
    batch = Corpus(prose(20, 1))
    few, enough = Reference(prose(199)), Reference(prose(200))
    assert bands(few, common_size(batch, few, 8000)) == {}
    assert bands(enough, common_size(batch, enough, 8000)).keys() == LOSS.keys()


def test_a_band_has_the_size_of_what_is_compared() -> None:
    real, batch = Reference(prose(400)), Corpus(prose(30, 1))
    size = common_size(batch, real, 8000)
    assert size.texts == 30
    assert 0.6 * batch.tokens <= size.tokens <= batch.tokens
    assert all((b.texts, b.tokens) == size for b in bands(real, size).values())
    assert common_size(batch, real, 100).tokens == 100
    short = Corpus(["two words"] * 30)
    assert common_size(short, real, 8000).tokens <= short.tokens
    many = Corpus(prose(1000, 2))
    assert common_size(many, real, 10**6).tokens <= 0.45 * real.corpus.tokens


def test_limits_lie_in_order_around_the_median() -> None:
    real = Reference(prose(300))
    for band in bands(real, common_size(Corpus(prose(25, 1)), real, 8000)).values():
        assert band.lowest <= band.low <= band.median <= band.high <= band.highest


def test_new_text_of_the_kind_stays_inside_and_half_copies_do_not() -> None:
    real = Reference(prose(400))
    size = common_size(Corpus(prose(60, 1)), real, 8000)
    known = bands(real, size)
    outside = 0
    for seed in range(2, 42):
        values = compared(Corpus(prose(60, seed)), real, size)
        outside += any(known[name].loss(value) != "none" for name, value in values.items())
    assert outside <= 4  # of 40; 2.5 % each by the levels
    values = compared(Corpus(with_copies(prose(60, 1), 0.5)), real, size)
    assert known["neighbour_similarity"].loss(values["neighbour_similarity"]) == "far"
    assert known["vendi"].loss(values["vendi"]) == "far"


def test_a_half_of_the_reference_leaves_room_for_new_text() -> None:
    """Halves vary less than new text does, so that their deviations are widened."""
    real = Reference(prose(240))
    size = common_size(Corpus(prose(120, 1)), real, 8000)
    known = bands(real, size)
    far = 0
    for seed in range(2, 42):
        values = compared(Corpus(prose(120, seed)), real, size)
        far += any(known[name].loss(value) == "far" for name, value in values.items())
    assert far == 0


def test_only_less_diversity_is_a_loss() -> None:
    limits = {"low": 2.0, "median": 3.0, "high": 4.0, "lowest": 1.0, "highest": 5.0}
    more = Band(figure="compression_ratio", texts=1, tokens=1, **limits)
    assert [more.loss(v) for v in (0.5, 3, 4.5, 6)] == ["none", "none", "outside", "far"]
    less = Band(figure="entropy", texts=1, tokens=1, **limits)
    assert [less.loss(v) for v in (0.5, 1.5, 3, 6)] == ["far", "outside", "none", "none"]


def test_bands_are_drawn_the_same_each_time() -> None:
    texts = prose(220)
    size = common_size(Corpus(prose(20, 1)), Reference(texts), 8000)
    assert bands(Reference(texts), size) == bands(Reference(texts), size)
