"""What stands in a report of one run, as plain values and charts.

Enters: a store, a run, a grading. Leaves: what the page's template asks for, by its names. Refuses to
know: how the page looks, where it goes.

Every figure is the store's: counts and evidence as `agentloop status` tells them, rounds as `agentloop
rounds`, the facts of a run as the card of an export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from agentloop import __version__
from agentloop.agreement import Estimate, wilson
from agentloop.calibration_report import Gate, Known, known_of
from agentloop.diversity.band import LOSS
from agentloop.export.facts import run_facts
from agentloop.records import Json
from agentloop.report.charts import bar, columns, curve, interval, over_time, stack
from agentloop.report.stories import told
from agentloop.store import VERDICTS, Store
from agentloop.store import figures as read
from agentloop.store.costs import Costs
from agentloop.store.evidence import Evidence
from agentloop.store.files import connect
from agentloop.store.rounds import Round, rounds

ENDED = ("accept", "items", "seeds")
"""What ends a run that got what it was told to get."""
STRATA = 40  # values of an attribute
ITEMS = 20
WORDS = {
    "compression_ratio": "Compression ratio (more is poorer)",
    "distinct_2": "Different word pairs, share (less is poorer)",
    "entropy": "Entropy, bits a word (less is poorer)",
    "self_repetition": "5-word phrases in several texts, share (more is poorer)",
    "opening_share": "Texts with the most frequent opening, share (more is poorer)",
    "neighbour_similarity": "Likeness to the nearest neighbour (more is poorer)",
    "vendi": "Vendi score, different texts (less is poorer)",
    "tail_coverage": "Rare words of the reference reached, share (less is poorer)",
}
SOURCES = {
    "reference": "beside real text of the kind",
    "first batches": "beside this run's own first texts",
    "no band": "compared with nothing: no reference of its kind, too few texts before it",
}


def contents(store: Store, run: str, grading: int = 0) -> Json:
    """Return all that a report of one run shows."""
    facts = run_facts(store, run, grading)
    known = known_of(store, run) if not grading else None
    evidence = store.evidence(run)
    with connect(store.path, write=False) as connection:
        steps = read.read_steps(connection, run, grading)
        endings = read.read_endings(connection, run, grading)
        scores = read.read_scores(connection, run, grading)
        marks = read.read_marks(connection, run, grading)
        several = read.read_several(connection, run, grading)
        at = known.gate.accept_at if known and known.report.state == "calibrated" else None
        threshold = read.read_threshold(connection, run, grading, at)
        lights, series = (
            read.read_lights(connection, run),
            read.read_series(connection, run, [*LOSS]),
        )
        chosen = read.read_chosen(connection, run, grading, threshold.value, ITEMS)
        audits = read.read_audits(connection, run, [one.item for one in chosen])
        items = [store.item(one.item, run, grading).item for one in chosen]
    stories = [
        told(item, one, threshold.value, audits if not grading else {})
        for item, one in zip(items, chosen, strict=True)
    ]
    return {
        "version": __version__,
        "store": store.path.name,
        "run": facts,
        "grading": grading,
        "begun": datetime.fromtimestamp(facts["time"], UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "open": max(0, steps.items - steps.settled),
        "settled": steps.settled,
        "ended": facts["counts"]["stopped_by"] in ENDED,
        "accepted": wilson(facts["counts"]["accepted"], steps.settled),
        "alarms": [] if grading else evidence.alarms,
        "funnel": _funnel(facts, steps, evidence.costs if not grading else None),
        "endings": _endings(endings, steps.settled),
        "threshold": threshold,
        "scores": _scores(scores, threshold.value),
        "marks": [_marked(one) for one in marks],
        "rounds": _rounds(rounds(store, run, grading)),
        "calibration": _calibration(known) if known else None,
        "several": several,
        "evidence": None if grading else evidence,
        "audited": [] if grading else _audited(evidence),
        "lights": lights,
        "light_strip": stack([1.0] * len(lights), [light.worst for light in lights]),
        "series": [_series(one) for one in series],
        "whole": _whole(facts["reading"]),
        "strata": _strata(facts["acceptance"]) if not grading else [],
        "costs": _costs(evidence.costs) if not grading else None,
        "items": stories,
    }


def _funnel(facts: Json, steps: read.Steps, costs: Costs | None) -> list[Json]:
    counts = facts["counts"]
    rows = [
        ("seeds used", counts["seeds"], "real records that items were made from"),
        ("items begun", steps.items, "a seed may start several"),
        ("items settled", steps.settled, "with a verdict"),
        ("with a candidate", steps.written, "the model wrote one that can be read"),
        ("graded", steps.graded, "checks let it pass and the critic's marks could be read"),
    ]
    if costs is not None:
        rows.append(("passed", costs.good, "checks, floors and threshold, before the door"))
    rows.append(("accepted", counts["accepted"], "new, apart from benchmarks, within quotas"))
    most = max(1, *(count for _, count, _ in rows))
    return [
        {"name": name, "count": count, "says": says, "bar": bar(count / most)}
        for name, count, says in rows
    ]


def _endings(endings: Sequence[tuple[str, str | None, int]], settled: int) -> list[Json]:
    ordered = sorted(endings, key=lambda row: VERDICTS.index(row[0]))
    return [
        {
            "verdict": verdict,
            "reason": reason or "",
            "count": count,
            "share": count / settled,
            "bar": bar(count / settled, verdict),
        }
        for verdict, reason, count in ordered
    ]


def _scores(scores: Sequence[tuple[int, int]], threshold: float | None) -> Json:
    return {
        "chart": columns(scores, ("accepted", "rejected"), threshold),
        "count": sum(map(sum, scores)),
        "rows": [
            (place / read.BINS, (place + 1) / read.BINS, accepted, others)
            for place, (accepted, others) in enumerate(scores)
            if accepted or others
        ],
    }


def _marked(found: read.Marked) -> Json:
    first, kept = (sum(getattr(level, at) for level in found.levels) for at in ("first", "kept"))
    return {
        "criterion": found.criterion,
        "mean_first": found.mean_first,
        "mean_kept": found.mean_kept,
        "chart": columns([(count,) for count in found.bins], ("main",)),
        "levels": [
            {
                "level": level.level,
                "first": level.first,
                "first_share": level.first / first if first else 0.0,
                "kept": level.kept,
                "kept_share": level.kept / kept if kept else 0.0,
                "bar": bar(level.kept / kept if kept else 0.0),
            }
            for level in found.levels
        ],
    }


def percent(share: float) -> str:
    """Return a share as a whole number of hundredths."""
    return f"{100 * share:.0f} %"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}"


def _of(line: Round, name: str) -> float | None:
    found: float | None = getattr(line, name)
    return found


Tell = Callable[[float], str]
_WHOLE: Tell = "{:,.0f}".format
ROUNDS: Mapping[str, tuple[str, Tell]] = {
    "attempts": ("attempts", _WHOLE),
    "mean_score": ("mean score", "{:.3f}".format),
    "accepted_share": ("accepted", percent),
    "gained": ("items accepted for the first time", _WHOLE),
    "fixed": ("fixed: the parent was not accepted, the revision is", _WHOLE),
    "broken": ("broken: the parent was accepted, the revision is not", _WHOLE),
    "unchanged_good": ("still good", _WHOLE),
    "unchanged_bad": ("still bad", _WHOLE),
    "growth_chars": ("length beside the parent's, characters, mean", partial(_signed, digits=0)),
    "critic_gain": ("gain in the critic's eyes, mean", partial(_signed, digits=3)),
    "auditor_gain": ("gain in the auditor's eyes, mean", partial(_signed, digits=3)),
    "gap": ("the critic's gain less the auditor's", partial(_signed, digits=3)),
    "audited": ("revisions audited with their parent", _WHOLE),
    "tokens": ("tokens", _WHOLE),
    "cost_usd": ("USD", "{:.4f}".format),
    "tokens_per_gained": ("tokens for each item gained", _WHOLE),
    "cost_per_gained": ("USD for each item gained", "{:.4f}".format),
}


def _several(line: Round) -> str:
    """Return what the attempts of a round are, in the words of `store.story.attempt_name`."""
    if line.revisions:
        return f"revision {line.round}"
    return f"draft {line.round + 1}" if line.round else "first drafts"


def _rounds(found: Sequence[Round]) -> Json:
    rows = [
        (words, ["–" if (value := _of(line, name)) is None else tell(value) for line in found])
        for name, (words, tell) in ROUNDS.items()
        if any(_of(line, name) is not None for line in found)
    ]
    kinds = ("accepted", "rejected", "still-good", "still-bad")
    moves = [
        (line, (line.fixed, line.broken, line.unchanged_good, line.unchanged_bad))
        for line in found
        if line.revisions
    ]
    names = dict.fromkeys(name for line in found for name in line.marks)
    return {
        "names": [_several(line) for line in found],
        "rows": rows,
        "moves": [
            {"name": _several(line), "counts": counts, "bar": stack(counts, kinds)}
            for line, counts in moves
        ],
        "marks": [
            (name, [line.marks.get(name) for line in found]) for name in [*names][: read.CRITERIA]
        ],
    }


def _calibration(known: Known) -> Json:
    report, at = known.report, known.gate.accept_at
    steps = [number / 10 for number in range(11)]
    found = report.score_map
    return {
        "report": report,
        "gates": [
            ("at the rubric's threshold", _gate(report.gate)),
            *(
                [("at the threshold that keeps the promise", _gate(report.at_threshold))]
                if report.at_threshold
                else []
            ),
        ],
        "chart": curve([(n / 50, found.chance(n / 50)) for n in range(51)], at) if found else None,
        "chances": [(score, found.chance(score)) for score in steps] if found else [],
    }


def _gate(gate: Gate) -> Json:
    named: dict[str, Estimate | None] = {
        "sensitivity: good ones that are accepted": gate.sensitivity,
        "specificity: bad ones that are refused": gate.specificity,
        "precision: accepted ones that are good": gate.precision,
        "kappa: agreement beyond chance": gate.kappa,
    }
    return {
        "gate": gate,
        "rows": [
            {"name": name, "estimate": e, "bar": interval(e.value, e.low, e.high)}
            for name, e in named.items()
            if e is not None
        ],
    }


def _audited(evidence: Evidence) -> list[Json]:
    """Return how often the auditor agrees; nothing where nobody was asked."""
    rows = (("accepted", evidence.accepted), ("refused", evidence.rejected))
    if not any(found.audited for _, found in rows):
        return []
    return [
        {
            "name": name,
            "found": found,
            "share": (share := wilson(found.agreed, found.readable)),
            "bar": interval(share.value, share.low, share.high) if share else "",
        }
        for name, found in rows
    ]


def _series(found: read.Series) -> Json:
    points = found.points
    return {
        "name": WORDS[found.figure],
        "source": SOURCES[found.source],
        "banded": found.source != "no band",
        "first": points[0],
        "last": points[-1],
        "outside": sum(_outside(point) for point in points),
        "count": len(points),
        "points": points,
        "chart": over_time(points),
    }


def _outside(point: read.Point) -> bool:
    return (
        point.low is not None
        and point.high is not None
        and not (point.low <= point.value <= point.high)
    )


def _whole(reading: Json | None) -> Json | None:
    """Return the last reading, of the whole run where it has ended."""
    if reading is None:
        return None
    return {
        **reading,
        "rows": [
            {**row, "name": WORDS.get(row["band"]["figure"], row["band"]["figure"])}
            for row in reading["compared"]
        ],
    }


def _strata(acceptance: Json) -> list[Json]:
    return [
        {
            "name": name,
            "left_out": max(0, len(rows) - STRATA),
            "limits": rows[0]["limits"] if rows else "",
            "rows": [
                {**row, "bar": interval(*(row["share"][part] for part in ("value", "low", "high")))}
                for row in rows[:STRATA]
            ],
        }
        for name, rows in acceptance.items()
    ]


def _costs(costs: Costs) -> Json:
    total, usd = sum(costs.tokens.values()), costs.total_usd
    return {
        "total_tokens": total,
        "total_usd": usd,
        "roles": [
            {
                "role": role,
                "tokens": tokens,
                "usd": costs.usd[role],
                "share": tokens / total if total else 0.0,
                "bar": bar(tokens / total if total else 0.0),
            }
            for role, tokens in sorted(costs.tokens.items(), key=lambda pair: -pair[1])
        ],
        "each": [
            {
                "name": name,
                "count": count,
                "tokens": total / count if count else None,
                "usd": usd / count if count and usd is not None else None,
            }
            for name, count in (
                ("generated", costs.made),
                ("accepted by checks and critic", costs.good),
                ("accepted and novel", costs.new),
            )
        ],
    }
