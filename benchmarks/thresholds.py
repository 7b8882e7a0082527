"""How often a promised precision is missed: three rules for a threshold, over judges that are known.

Each world draws scores and labels from two normal curves, so that the true precision above any score is
known. A rule misses when it returns a threshold whose true precision lies below the target. Prints one
JSON object with the worst world of each rule, and each world's figures.
"""

import argparse
import json
import random
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from statistics import NormalDist

from agentloop.agreement import exact_lower, wilson
from agentloop.calibration import CONFIDENCE, LEAST_KEPT, TARGET, find_threshold

Rule = Callable[[Sequence[float], Sequence[bool]], float | None]
NORMAL = NormalDist()
TWO_SIDED = 2 * CONFIDENCE - 1


@dataclass(frozen=True)
class World:
    """A judge whose scores of good items stand `gap` standard deviations above those of bad ones."""

    gap: float
    good: float
    levels: int = 0
    """0 is a continuous score."""

    def cuts(self) -> list[float]:
        quantiles = (NORMAL.inv_cdf(n / self.levels) for n in range(1, self.levels))
        return [1.1 * q + self.gap / 2 for q in quantiles] if self.levels else []

    def draw(self, rng: random.Random, size: int) -> tuple[list[float], list[bool]]:
        labels = [rng.random() < self.good for _ in range(size)]
        scores = [rng.gauss(self.gap if label else 0.0) for label in labels]
        if self.levels:
            cuts = self.cuts()
            scores = [float(bisect_right(cuts, score)) for score in scores]
        return scores, labels

    def precision(self, threshold: float) -> float:
        if self.levels:
            cuts = self.cuts()
            threshold = cuts[int(threshold) - 1] if threshold >= 1 else float("-inf")
        good = self.good * (1 - NORMAL.cdf(threshold - self.gap))
        bad = (1 - self.good) * (1 - NORMAL.cdf(threshold))
        return good / (good + bad) if good + bad else 1.0


WORLDS = [
    *(World(gap, 0.5) for gap in (1.0, 1.5, 2.5)),
    *(World(1.5, good) for good in (0.3, 0.7)),
    World(1.0, 0.8),
    *(World(1.5, 0.5, levels) for levels in (5, 10)),
    World(1.5, 0.7, 10),
    *(World(0.0, good) for good in (0.8, 0.845)),
    World(0.2, 0.8, 20),
]


@cache
def exact(good: int, kept: int) -> float:
    return exact_lower(good, kept, CONFIDENCE)


@cache
def score_bound(good: int, kept: int) -> float:
    found = wilson(good, kept, TWO_SIDED)
    return found.low if found else 0.0


def lowest(bound: Callable[[int, int], float]) -> Rule:
    """The lowest threshold that passes, however many were tried: what must not be done."""

    def rule(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
        passing = [
            score
            for score, good, kept in steps(scores, labels)
            if kept >= LEAST_KEPT and good >= TARGET * kept and bound(good, kept) >= TARGET
        ]
        return min(passing, default=None)

    return rule


def steps(scores: Sequence[float], labels: Sequence[bool]) -> Iterator[tuple[float, int, int]]:
    kept = good = 0
    ordered = sorted(zip(scores, labels, strict=True), reverse=True)
    for score, group in groupby(ordered, key=lambda pair: pair[0]):
        members = [label for _, label in group]
        kept, good = kept + len(members), good + sum(members)
        yield score, good, kept


def ours(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    found = find_threshold(scores, labels)
    return found.accept_at if found else None


RULES: dict[str, Rule] = {
    "lowest whose precision reaches the target": lowest(lambda good, kept: good / kept),
    "lowest whose Wilson bound does": lowest(score_bound),
    "lowest whose exact bound does": lowest(exact),
    "find_threshold": ours,
}


def play(world: World, size: int, draws: int) -> dict[str, dict[str, float]]:
    """Return, for each rule, how often it returns a threshold and how often a wrong one."""
    rng = random.Random(f"{world}/{size}")
    returned, missed = dict.fromkeys(RULES, 0), dict.fromkeys(RULES, 0)
    for _ in range(draws):
        scores, labels = world.draw(rng, size)
        for name, rule in RULES.items():
            threshold = rule(scores, labels)
            if threshold is not None:
                returned[name] += 1
                missed[name] += world.precision(threshold) < TARGET
    return {
        name: {"returned": returned[name] / draws, "missed": missed[name] / draws} for name in RULES
    }


def size_of_one_test(bound: Callable[[int, int], float]) -> float:
    """Return the worst chance, over 30 to 400 kept, that one test passes at the very target."""
    worst = 0.0
    for kept in range(LEAST_KEPT, 401):
        chance, good = TARGET**kept, kept
        total = 0.0
        while good and bound(good, kept) >= TARGET:
            total += chance
            chance *= good / (kept - good + 1) * (1 - TARGET) / TARGET
            good -= 1
        worst = max(worst, total)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200, 400, 800])
    options = parser.parse_args()
    start = time.perf_counter()
    worlds = {
        f"gap {w.gap:g}, good {w.good:g}, levels {w.levels or 'any'}, labels {size}": play(
            w, size, options.draws
        )
        for w in WORLDS
        for size in options.sizes
    }
    report = {
        "target": TARGET,
        "promised_to_miss_at_most": round(1 - CONFIDENCE, 3),
        "draws_a_world": options.draws,
        "one_test_passes_at_the_target": {
            "exact": round(size_of_one_test(exact), 4),
            "wilson": round(size_of_one_test(score_bound), 4),
        },
        "worst_miss": {
            name: max(found[name]["missed"] for found in worlds.values()) for name in RULES
        },
        "worlds_missing_too_often": {
            name: sum(found[name]["missed"] > 1 - CONFIDENCE for found in worlds.values())
            for name in RULES
        },
        "worlds": worlds,
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
