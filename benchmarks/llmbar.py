"""What recorded judges are worth: the figures of the grading notes, from logs, without a network.

Reads LLMBar's pairs and the ratings that GPT-4 (four prompts) and ChatGPT (one) gave each output, from
`--data`, else $AGENTLOOP_SHARED/data/llmbar, else ../shared/data/llmbar beside the checkout. Prints one
JSON object: each figure of the notes with ours and the difference, those that these logs cannot give and
why, each judge's calibration, and what a calibration of 1,000 labels costs.
"""

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from judge_logs import BEST, CHATGPT, FOUR, PLAIN, TOP, Output, both, data_folder, read_outputs

from agentloop.agreement import (
    Confusion,
    auc,
    bootstrap,
    cohen_kappa,
    krippendorff_alpha,
    length_slope,
    spearman,
    weighted_kappa,
    wilson,
)
from agentloop.calibration import (
    brier,
    calibration_error,
    corrected_rate,
    find_threshold,
    out_of_fold,
    rogan_gladen,
)
from agentloop.errors import CalibrationError

SEEDS = 10  # of the folds, where a figure depends on how they fall

# --- figures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A figure of the notes, as they print it or as the range `low..high`, beside ours."""

    name: str
    notes: str
    ours: float | None
    remark: str = ""

    def row(self) -> dict[str, Any]:
        ours = self.ours if self.ours is not None else float("nan")
        low, _, high = self.notes.partition("..")
        half = 0.5 * 10 ** -len(low.partition(".")[2]) + 1e-9
        nearest = min(max(ours, float(low)), float(high or low))
        found = {"ours": round(ours, 4), "difference": round(ours - nearest, 4)}
        return asdict(self) | found | {"same": abs(ours - nearest) <= half}


def confusion(outputs: Sequence[Output], judge: str, at: int) -> Confusion:
    return Confusion.of((o.good, r >= at) for o in outputs if (r := o.rating(judge)) is not None)


def area(outputs: Sequence[Output], judge: str) -> float | None:
    return auc((r, o.good) for o in outputs if (r := o.rating(judge)) is not None)


def ties(outputs: Sequence[Output], score: Callable[[Output], float | None]) -> float:
    marks = [(score(good), score(bad)) for good, bad in both(outputs)]
    return fmean(a == b for a, b in marks if a is not None and b is not None)


def mean_rating(output: Output) -> float:
    """Mean of the four prompts; a filtered reply is no mark, never a low one."""
    return fmean(output.ratings())


def in_order(good: int | None, bad: int | None) -> float:
    """1 when the good output has the higher mark; a tie, or no mark, is half."""
    return 0.5 if good is None or bad is None else (good > bad) + (good == bad) / 2


def gate_figures(outputs: Sequence[Output], hard: Sequence[Output]) -> list[Figure]:
    plain, weak = confusion(outputs, PLAIN, 7), confusion(outputs, CHATGPT, 7)
    marks = Counter(o.rating(PLAIN) for o in outputs)
    right = [in_order(good.rating(PLAIN), bad.rating(PLAIN)) for good, bad in both(hard)]
    weak_8 = confusion(outputs, CHATGPT, 8)
    return [
        Figure("GPT-4, at >= 7: good accepted", "0.84", plain.sensitivity),
        Figure("GPT-4, at >= 7: bad accepted", "0.32", 1 - (plain.specificity or 0)),
        Figure("GPT-4, at >= 7: precision", "0.72", plain.precision),
        Figure("GPT-4: share of marks that are 9", "0.38", marks[9] / len(outputs)),
        Figure("GPT-4: share that are 3 or 5", "0.026", (marks[3] + marks[5]) / len(outputs)),
        Figure("GPT-4, adversarial: pairs in order, ties half", "0.813", fmean(right)),
        Figure("GPT-4: tied pairs", "0.16..0.21", ties(outputs, lambda o: o.rating(PLAIN))),
        Figure("ChatGPT, adversarial: AUC", "0.43", area(hard, CHATGPT)),
        Figure("ChatGPT, at >= 7: bad accepted", "0.93",
               1 - (weak.specificity or 0), "0.947 on adversarial pairs"),
        Figure("ChatGPT, at >= 8: sensitivity + specificity", "0.98", 1 + (weak_8.skill or 0),
               "the notes do not state their threshold; at >= 7 it is 0.988"),
    ]  # fmt: skip


def prompt_figures(outputs: Sequence[Output], hard: Sequence[Output]) -> list[Figure]:
    best = confusion(outputs, BEST, 8)
    return [
        Figure("criteria and reference: AUC", "0.840", area(outputs, BEST),
               "0.839 is that of the four-prompt mean"),
        Figure("criteria and reference, at >= 8: bad accepted", "0.13", 1 - (best.specificity or 0)),
        Figure("criteria and reference, adversarial: tied pairs", "0.10",
               ties(hard, lambda o: o.rating(BEST)), "0.103 over all pairs"),
    ]  # fmt: skip


def ensemble_figures(outputs: Sequence[Output]) -> list[Figure]:
    rows = [(max(o.ratings()) - min(o.ratings()), o) for o in outputs]

    def right(low: int, high: int) -> float:
        return fmean((mean_rating(o) >= 6.5) == o.good for s, o in rows if low <= s <= high)

    rule = "a mean of 6.5 accepts; the notes do not state their rule"
    return [
        Figure("four prompts: tied pairs by the mean", "0.032", ties(outputs, mean_rating),
               "0.031 over the pairs without a filtered reply"),
        Figure("four prompts: tied pairs by the median", "0.16",
               ties(outputs, lambda o: median(o.ratings())),
               "the plain prompt alone has 0.16; of the two middle marks the lower one ties in 0.115"),
        Figure("spread of four prompts 0-1: right", "0.81", right(0, 1), rule),
        Figure("spread 2-3: right", "0.74", right(2, 3), rule),
        Figure("spread of 4 and more: right", "0.65", right(4, TOP), rule),
    ]  # fmt: skip


def learnt(outputs: Sequence[Output], score: Callable[[Output], float], seed: int) -> list[float]:
    scores, labels = [score(o) for o in outputs], [o.good for o in outputs]
    return out_of_fold(scores, labels, [o.pair for o in outputs], seed=seed)


def calibration_figures(outputs: Sequence[Output]) -> list[Figure]:
    labels = [o.good for o in outputs]
    raw = [mean_rating(o) / TOP for o in outputs]
    maps = [learnt(outputs, mean_rating, seed) for seed in range(SEEDS)]
    single = [o for o in outputs if o.rating(FOUR[1]) is not None]
    truths, marks = [o.good for o in single], [float(o.rating(FOUR[1]) or 0) for o in single]
    alone = [learnt(single, lambda o: float(o.rating(FOUR[1]) or 0), s) for s in range(SEEDS)]
    mapped = fmean(calibration_error(chances, truths) or 0 for chances in alone)
    high = [o.good for o, chance in zip(outputs, maps[0], strict=True) if chance >= 0.8]
    return [
        Figure("four prompts, rating / 9: ECE", "0.154", calibration_error(raw, labels)),
        Figure("four prompts, rating / 9: Brier", "0.188", brier(raw, labels)),
        Figure("four prompts, isotonic out of fold: ECE", "0.061",
               fmean(calibration_error(chances, labels) or 0 for chances in maps),
               "10 bins of like size, ties unsplit, 10 deals of folds; asked: 0.07 at most"),
        Figure("four prompts, isotonic out of fold: Brier", "0.164",
               fmean(brier(chances, labels) or 0 for chances in maps)),
        Figure("one prompt (criteria): ECE", "0.168",
               calibration_error([mark / TOP for mark in marks], truths),
               f"of rating / 9; mapped as the four are it is {mapped:.3f}, so a single prompt is no "
               "worse calibrated: it is less sharp"),
        Figure("four prompts: outputs with P >= 0.8 out of fold", "0", len(high),
               f"{sum(high)} of them are good"),
    ]  # fmt: skip


def correction_figures(outputs: Sequence[Output]) -> list[Figure]:
    table = confusion(outputs, PLAIN, 7)
    accepted, rated = table.accepted, table.labels
    figures = [
        Figure("the correction of (.579, .68, .839)", "0.499", rogan_gladen(0.579, 0.839, 0.68)),
        Figure("GPT-4, at >= 7: acceptance rate", "0.579", accepted / rated),
        Figure("its sensitivity", "0.839", table.sensitivity),
        Figure("its specificity", "0.68", table.specificity),
    ]
    for labels, half in ((25, "0.25"), (50, "0.18"), (100, "0.13"), (200, "0.10")):
        good, bad = (round(labels * share) for share in (0.839, 0.68))
        few = Confusion(
            good_accepted=good,
            good_refused=labels - good,
            bad_refused=bad,
            bad_accepted=labels - bad,
        )
        found = corrected_rate(accepted, rated, few)
        name = f"half width with {labels} + {labels} labels"
        figures.append(Figure(name, half, (found.high - found.low) / 2))
    return figures


def length_figures(outputs: Sequence[Output]) -> list[Figure]:
    pairs = [(g, b) for g, b in both(outputs) if len(g.text) != len(b.text)]
    longer = fmean(len(good.text) > len(bad.text) for good, bad in both(outputs))
    figures = [Figure("the good output is the longer one", "0.27", longer)]
    for judge in (CHATGPT, *FOUR):
        wrong = [
            len(bad.text) > len(good.text)
            for good, bad in pairs
            if (good.rating(judge) or 0) < (bad.rating(judge) or 0)
        ]
        name, remark = f"{judge}: errors that prefer the longer", "the notes mean all their judges"
        figures.append(Figure(name, "0.70..0.89", fmean(wrong), remark))
    return figures


def all_figures(outputs: Sequence[Output]) -> list[Figure]:
    hard = [o for o in outputs if o.adversarial]
    return [
        *gate_figures(outputs, hard),
        *prompt_figures(outputs, hard),
        *ensemble_figures(outputs),
        *calibration_figures(outputs),
        *correction_figures(outputs),
        *length_figures(outputs),
    ]


RULELESS = "the logs of the prompt without rules are not here; in LLMBar's repository they give {}"
PAIRWISE = "logs of pairwise comparison are not here"
NOT_HERE = {
    "no rules: AUC .742": RULELESS.format("0.7423"),
    "no rules, at >= 8: bad accepted .37": RULELESS.format("0.365"),
    "no rules, adversarial: ties .24": RULELESS.format("0.238"),
    "ties up to 21 %": RULELESS.format("0.210"),
    "pairwise adversarial accuracy 71.2 / 81.0 / 83.4 / 84.5 (GPT-4), 58.9 / 70.7 (PaLM2)": PAIRWISE,
    "chain of thought 81.0 -> 77.1 (GPT-4), agreement 41 -> 13 % (Falcon)": PAIRWISE,
    "agreement of both orders 92.8 / 71.6 / 41.5; accuracy 87.1 where both agree": PAIRWISE,
    "unanimity of seven prompts: 74 % of items at 93.3 %": PAIRWISE,
    "panels 81.0 -> 68.8 -> 53.8": PAIRWISE,
    "longer output picked in 66-72 % of verdicts (ChatGPT, LLaMA2)": PAIRWISE,
    "flip rate of repeats 13.6 %": "no prompt was sent twice",
    "two-judge consensus on PandaLM (.476, .435, 68 %, 80.7)": "another data set",
}

# --- calibration --------------------------------------------------------------------------------


def agreement(outputs: Sequence[Output], judge: str, at: int, draws: int = 1000) -> dict[str, Any]:
    """Return what `calibrate` would show of one judge, intervals by pair."""
    rated = [o for o in outputs if o.rating(judge) is not None]
    by_pair: dict[tuple[str, int], list[tuple[int, bool, int]]] = {}
    for o in rated:
        by_pair.setdefault(o.pair, []).append((o.rating(judge) or 0, o.good, len(o.text)))
    found = bootstrap(
        by_pair.values(),
        {
            "kappa": lambda rows: cohen_kappa(columns(rows, lambda row: (row[0] >= at, row[1]))),
            "spearman": lambda rows: spearman(columns(rows, lambda row: row[:2])),
            "auc": lambda rows: auc(columns(rows, lambda row: row[:2])),
            "points_a_doubling": lambda rows: length_slope(
                columns(rows, lambda row: (row[0] / TOP, row[2], row[1]))
            ),
        },
        draws=draws,
    )
    table = confusion(rated, judge, at)
    report: dict[str, Any] = {
        "accept_at": at,
        "confusion": table.model_dump(),
        "sensitivity": interval(wilson(table.good_accepted, table.good)),
        "specificity": interval(wilson(table.bad_refused, table.bad)),
        "precision": interval(wilson(table.good_accepted, table.accepted)),
        "skill": round(table.skill or 0, 3),
        "raw_rate": interval(wilson(table.accepted, table.labels)),
        **{name: interval(estimate) for name, estimate in found.items()},
    }
    try:
        report["corrected_rate"] = interval(corrected_rate(table.accepted, table.labels, table))
    except CalibrationError as error:
        report["refused"] = str(error)
    return report


def columns(rows: Counter[Any], choose: Callable[[Any], Any]) -> Counter[Any]:
    table: Counter[Any] = Counter()
    for row, n in rows.items():
        table[choose(row)] += n
    return table


def interval(estimate: Any) -> list[float] | None:
    """Return value, low, high."""
    return estimate and [round(x, 3) for x in (estimate.value, estimate.low, estimate.high)]


def thresholds(outputs: Sequence[Output]) -> dict[str, Any]:
    scores, labels = [mean_rating(o) for o in outputs], [o.good for o in outputs]
    found: dict[str, Any] = {}
    for target in (0.85, 0.8, 0.75):
        threshold = find_threshold(scores, labels, target=target)
        found[f"target {target:g}"] = threshold.model_dump() if threshold else "no threshold does"
    return found


def label_counts(outputs: Sequence[Output], draws: int = 300) -> dict[str, Any]:
    """Return the true precision where 0.85 was asked, by number of labels, on all outputs as truth."""
    rng, rows = random.Random(0), [(mean_rating(o), o.good) for o in outputs]
    truth = {score: fmean(g for s, g in rows if s >= score) for score, _ in rows}
    stated = {
        20: (0.68, 0.88),
        50: (0.73, 0.88),
        100: (0.76, 0.88),
        200: (0.79, 0.88),
        400: (0.82, 0.88),
    }
    report: dict[str, Any] = {}
    for size, notes in stated.items():
        plain, promised = [], []
        for _ in range(draws):
            scores, labels = zip(*rng.sample(rows, size), strict=True)
            if (at := lowest(scores, labels, 0.85)) is not None:
                plain.append(truth[at])
            if threshold := find_threshold(scores, labels):
                promised.append(truth[threshold.accept_at])
        plain.sort()
        report[f"{size} labels"] = {
            "notes": notes,
            "lowest whose share is 0.85, central 90 %": [
                round(plain[int(len(plain) * share)], 3) for share in (0.05, 0.95)
            ],
            "find_threshold returns one": round(len(promised) / draws, 3),
            "and misses 0.85": round(sum(p < 0.85 for p in promised) / draws, 3),
        }
    return report


def lowest(scores: Sequence[float], labels: Sequence[bool], target: float) -> float | None:
    """The lowest threshold whose observed precision reaches the target: what must not be done."""
    reached = [
        at
        for at in set(scores)
        if fmean(good for score, good in zip(scores, labels, strict=True) if score >= at) >= target
    ]
    return min(reached, default=None)


def cost(outputs: Sequence[Output]) -> dict[str, Any]:
    """Time what `calibrate` does with 1,000 labels on four criteria and 1,000 draws."""
    rng = random.Random(1)
    pairs = [pair for pair in both(outputs) if all(len(o.ratings()) == len(FOUR) for o in pair)]
    chosen = [o for number in range(500) for o in rng.choice(pairs)]
    items, labels = [n // 2 for n in range(1000)], [o.good for o in chosen]
    clock, cpu = time.perf_counter(), time.process_time()
    for judge in FOUR:
        rows = [((o.rating(judge) or 0) // 2, 4 * o.good) for o in chosen]
        statistics: dict[str, Callable[[Counter[tuple[int, int]]], float | None]] = {
            "kappa": cohen_kappa,
            "linear": partial(weighted_kappa, weights="linear"),
            "quadratic": partial(weighted_kappa, weights="quadratic"),
            "alpha": partial(krippendorff_alpha, scale="ordinal"),
            "spearman": spearman,
        }
        bootstrap([rows[n : n + 2] for n in range(0, 1000, 2)], statistics)
    scored = [(mean_rating(o) / TOP, len(o.text), o.good) for o in chosen]
    bootstrap([scored[n : n + 2] for n in range(0, 1000, 2)], {"slope": length_slope})
    scores = [score for score, *_ in scored]
    calibration_error(out_of_fold(scores, labels, items), labels)
    find_threshold(scores, labels)
    corrected_rate(500, 1000, Confusion.of((g, s > 0.7) for s, _, g in scored))
    return {
        "labels": 1000,
        "draws": 1000,
        "criteria": len(FOUR),
        "wall_s": round(time.perf_counter() - clock, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with LLMBar's pairs and `judge_logs`")
    folder = data_folder(parser.parse_args().data)
    if not folder.is_dir():
        parser.error(f"`{folder}` is no folder: name LLMBar's with `--data`")
    outputs = read_outputs(folder)
    rows = [figure.row() for figure in all_figures(outputs)]
    report = {
        "pairs": len(outputs) // 2,
        "filtered_replies": sum(not r.strip() for o in outputs for r in o.replies.values()),
        "same": sum(row["same"] for row in rows),
        "different": sum(not row["same"] for row in rows),
        "figures": rows,
        "not_reproducible_from_these_logs": NOT_HERE,
        "judges": {j: agreement(outputs, j, 8 if j == CHATGPT else 7) for j in (CHATGPT, *FOUR)},
        "thresholds_of_the_four_prompt_mean": thresholds(outputs),
        "labels_and_true_precision": label_counts(outputs),
        "cost": cost(outputs),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
