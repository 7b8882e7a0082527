"""A run's own grades beside the labels that people left in its store; nothing is asked again.

    report = calibrate_store("qa.duckdb").report

Enters: a store whose candidates were labelled. Leaves: a `CalibrationReport`, also as a row of the
store, or the labels as lines that `agentloop calibrate RECIPE --labels FILE` reads. Refuses to know:
models, prompts, how labels were collected.

No recipe is loaded, for a store may come from anywhere and a recipe is code: the rubric is found by its
hash in files that are only read.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentloop.calibration import TARGET
from agentloop.calibration_report import CalibrationReport, judge_of
from agentloop.errors import CalibrationError, RubricError, SettingsError, StoreError
from agentloop.labels import Annotation, Labelled
from agentloop.measures import Outcome, figures
from agentloop.prompting import PromptFolder
from agentloop.records import Json
from agentloop.rows import calibration_line
from agentloop.rubric import Rubric, read_rubric
from agentloop.store import Store
from agentloop.store.counts import one
from agentloop.store.figures import read_threshold
from agentloop.store.files import connect
from agentloop.store.gradings import Company, Source, company_of, identity_at, source_of
from agentloop.store.labelled import Shown, read_shown
from agentloop.store.labels import UNSURE, Label, Place, read_labels
from agentloop.store.writer import Writer

USUAL = 0.5  # the threshold of a run that says nothing of its own


@dataclass(frozen=True)
class Measured:
    """What labels and stored grades say together, and what was left out."""

    report: CalibrationReport
    recipe: str
    """Where the run found it."""
    unsure: int
    """Labels that decide nothing."""
    seen: int
    """Labels that were given when a grade had been shown, or do not say that none was."""
    seen_levels: int
    """Levels of criteria, likewise, in labels that count."""
    lost: int
    """Labels of candidates that the run does not hold."""
    kept: bool
    """Whether the report is in the store; not while a run writes it."""


def calibrate_store(
    store: str | Path,
    run: str | None = None,
    *,
    grading: int = 0,
    rubric: str | Path = "",
    target: float = TARGET,
) -> Measured:
    """Measure the critic of a run, or of a grading, by the labels in its store; no call is made.

    The latest run unless one is named. `rubric` names the file that it was graded by where it is not
    found. Raises UserError: CalibrationError without labels that decide, or for a panel's grades.
    """
    if not 0 < target < 1:
        raise SettingsError(f"`target`: must lie between 0 and 1 (got `{target:g}`)")
    opened = Store(store)
    name = opened.run(run)
    opened.grading(grading, name)
    with connect(opened.path, write=False) as connection:
        source = source_of(connection, name)
        identity = identity_at(connection, name, grading)
    _refuse_panel(identity, name)
    known = find_rubric(opened, name, rubric, grading)
    labels = read_labels(opened, name)
    read = read_shown(opened, name, {label.place.item for label in labels}, grading)
    people = _people(labels, read, known)
    seen = sum(_decides(label) and not label.blind for label in labels)
    if not people:
        aside = f" ({seen:,} were given after the grade was seen)" if seen else ""
        raise CalibrationError(
            f"run `{name}` has no blind labels that say good or bad{aside}: `agentloop label {store}`"
        )
    report = _report(people, read, known, identity, target)
    return Measured(
        report=report,
        recipe=source.recipe_ref,
        unsure=sum(label.said == "unsure" for label in labels),
        seen=seen,
        seen_levels=sum(len(label.seen) for label in labels if _decides(label) and label.blind),
        lost=sum(label.place not in read for label in labels),
        kept=_keep(opened, report),
    )


def find_rubric(store: Store, run: str, given: str | Path = "", grading: int = 0) -> Rubric:
    """Return the rubric that a run, or a grading of it, was graded by, known by its hash.

    Looked for in the file `given`, else beside the run's recipe and among the packaged ones. Raises
    CalibrationError where it is not found, RubricError for a file that holds none.
    """
    if grading:
        return _rubric_of_grading(store, run, grading)
    with connect(store.path, write=False) as connection:
        source = source_of(connection, run)
        recipe = one(connection, "SELECT recipe FROM runs WHERE run = ?", run)
    wanted = source.identity.get("rubric")
    if given:
        rubric = read_rubric(Path(given))
        if rubric.hash != wanted:
            raise CalibrationError(f"run `{run}` was graded by another rubric than `{given}`")
        return rubric
    for file in _rubric_files(source, recipe):
        with contextlib.suppress(RubricError):
            if (rubric := read_rubric(file)).hash == wanted:
                return rubric
    raise CalibrationError(
        f"the rubric that run `{run}` was graded by is not found here: name it, `--rubric FILE`"
    )


def _rubric_of_grading(store: Store, run: str, grading: int) -> Rubric:
    row = next(known["rubric"] for known in store.gradings(run) if known["grading"] == grading)
    return Rubric.model_validate({key: value for key, value in row.items() if key != "hash"})


def _rubric_files(source: Source, recipe: str) -> Iterator[Any]:
    file = Path(source.recipe_ref.partition(":")[0])
    folders = [file.parent / "prompts"] if file.suffix == ".py" else []
    for folder in [folder for folder in (*folders, Path("prompts")) if folder.is_dir()]:
        yield folder / recipe / "rubric.yaml"
        yield folder / "rubric.yaml"
    packaged = PromptFolder.of(recipe).find("rubric.yaml")
    if packaged is not None:
        yield packaged


def threshold_of(store: Store, run: str, rubric: Rubric | None) -> float:
    """Return the threshold that a run's verdicts went by: a calibration's, else the rubric's.

    Without the rubric what refused items were told, or the lowest accepted score; 0.5 without these.
    """
    kept = store.calibration(run)
    known = (kept["threshold"] or {}).get("accept_at") if kept else None
    if known is None and rubric is not None:
        known = rubric.accept_at
    with connect(store.path, write=False) as connection:
        found = read_threshold(connection, run, 0, known).value
    return USUAL if found is None else found


def export_labels(store: Store, run: str) -> Iterator[bytes]:
    """Yield labels that say good or bad as lines of a labels file, in the order first labelled.

    Levels that were given when a grade had been shown are left out.
    """
    labels = [label for label in read_labels(store, run) if _decides(label)]
    read = read_shown(store, run, {label.place.item for label in labels})
    for label in labels:
        if (shown := read.get(label.place)) is not None:
            line: Json = {"seed": shown.seed, "candidate": shown.candidate}
            line["good"] = label.said == "good"
            levels = {n: level for n, level in label.unseen_levels.items() if level != UNSURE}
            line |= {"criteria": levels} if levels else {}
            line["blind"] = label.blind
            line |= {"annotator": label.who} if label.who.strip() else {}
            yield json.dumps(line).encode() + b"\n"  # ASCII: it may hold half a surrogate pair


def _decides(label: Label) -> bool:
    return label.said in ("good", "bad")


def _refuse_panel(identity: Json, run: str) -> None:
    if company_of(identity) != Company():
        raise CalibrationError(
            f"run `{run}` was graded by several judges together, and a calibration is of one: "
            "`agentloop label STORE --export FILE`, then `agentloop calibrate RECIPE --labels FILE` "
            "for each"
        )


def _people(labels: list[Label], read: dict[Place, Shown], rubric: Rubric) -> dict[Place, Labelled]:
    """Return what people say of each candidate, blind to its grade.

    Levels that the rubric does not have are left out.
    """
    levels = {criterion.name: criterion.levels for criterion in rubric.criteria}
    said: dict[Place, list[Annotation]] = {}
    for label in labels:
        if label.place in read and _decides(label) and label.blind:
            given = label.unseen_levels
            known = {n: level for n, level in given.items() if level in levels.get(n, ())}
            annotation = Annotation(annotator=label.who, good=label.said == "good", criteria=known)
            said.setdefault(label.place, []).append(annotation)
    return {
        place: Labelled(
            item=f"{place.item}.{place.opening}.{place.round}",
            seed=read[place].seed,
            candidate=read[place].candidate,
            annotations=tuple(annotations),
        )
        for place, annotations in said.items()
    }


def _report(
    people: dict[Place, Labelled],
    read: dict[Place, Shown],
    rubric: Rubric,
    identity: Json,
    target: float,
) -> CalibrationReport:
    outcomes, abstained = [], Counter[str]()
    for place, label in people.items():
        shown = read[place]
        if label.good is None:
            continue
        if shown.grade is None and shown.reason != "failed_check":
            abstained[shown.reason or "error"] += 1
            continue
        refused = shown.reason in ("under_floor", "failed_check")
        score = shown.grade.score if shown.grade else None
        marks = shown.grade.marks if shown.grade else ()
        outcomes.append(Outcome(label, label.good, score, refused, marks, shown.words))
    labels = list(people.values())
    grades = [shown.grade for place in people if (shown := read[place]).grade]
    critic = grades[0].model if grades else identity.get("models.critic", {}).get("model", "checks")
    return CalibrationReport(
        rubric=rubric.hash,
        rubric_name=rubric.name,
        critic=critic,
        judge=judge_of(identity),
        time=time.time(),
        annotations=sum(len(label.annotations) for label in labels),
        annotators=len({a.annotator for label in labels for a in label.annotations}),
        disputed=sum(label.good is None for label in labels),
        abstained=dict(sorted(abstained.items())),
        repeats=0,
        **figures(outcomes, labels, (), rubric, target),
    )


def _keep(store: Store, report: CalibrationReport) -> bool:
    try:
        with Writer(store.path) as writer:
            writer.append(calibration_line(report, writer.row_id()))
    except StoreError:
        return False
    return True
