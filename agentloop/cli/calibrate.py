"""`agentloop calibrate`: a critic beside people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentloop.cli.look import RUN
from agentloop.plain import plain

if TYPE_CHECKING:
    from agentloop.agreement import Confusion
    from agentloop.calibration_report import CalibrationReport, CriterionReport, Gate

WIDTH = 26  # of a figure's name
CELL = 20  # characters of a level's name in a table


@click.command()
@click.argument("recipe", metavar="RECIPE|STORE")
@click.option("--labels", metavar="FILE", help="JSONL: seed, candidate, good, …")
@click.option("--store", metavar="FILE", help="DuckDB file, made if it is not there")
@click.option("--model", metavar="SPEC", help="the critic, where --critic names none  [local]")
@click.option("--critic", metavar="SPEC", help="openai/…, anthropic/…, ollama/…, local")
@click.option("--base-url", metavar="URL", help="an OpenAI-compatible endpoint")
@click.option("--rubric", metavar="FILE", help="your rubric.yaml")
@click.option("--prompts", metavar="DIR", help="your prompts, before the recipe's")
@click.option("--target", type=float, default=0.85, show_default=True, metavar="P",
              help="precision that the threshold is to promise")  # fmt: skip
@click.option("--repeats", type=click.IntRange(0), default=0, show_default=True, metavar="N",
              help="grade up to 50 items N times more, to see how the critic varies")  # fmt: skip
@RUN
@click.option("--grading", type=int, metavar="N", help="of that run  [0, its own]")
@click.option("-o", "--output", metavar="FILE", help="the report, for `run --calibration FILE`")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout")
def calibrate(recipe: str, output: str | None, as_json: bool, **given: Any) -> None:
    """Measure a critic by what people say of the same candidates.

    Each line of the labels is an object {"seed": {…}, "candidate": {…}, "good": true}, with perhaps
    "criteria": {"faithful": "supported"} and "annotator": "anna"; more lines for the same seed and
    candidate are more people's words. Started again, it pays for new items only.

    Of a STORE whose items were labelled (`agentloop label`) the run's own grades are measured: no call.
    """
    import orjson

    from agentloop import export

    if output is not None:
        export.refuse_store(Path(output).resolve())  # before anything is paid
    report, use = _labelled(recipe, given) if given["labels"] is None else _asked(recipe, given)
    data = orjson.dumps(report.model_dump(mode="json"))
    if output is not None:
        export.write(output, iter([data + b"\n"]))
    click.echo(data.decode() if as_json else "\n".join(told(report)))
    if output is None and use:
        click.echo(plain(use), err=True)


def _asked(recipe: str, given: dict[str, Any]) -> tuple[CalibrationReport, str]:
    """Let the critic grade the labels of a file; return how to use what came of it, too."""
    from agentloop.calibrate import calibrate as measure
    from agentloop.errors import UserError

    if given.pop("run_name") is not None or given.pop("grading") is not None:
        raise UserError("`--run` and `--grading` choose among grades of a store, not of `--labels`")
    report = measure(recipe, note=_note, **given)
    return report, f"use it: agentloop run {recipe} --calibration {given['store']} …"


def _labelled(store: str, given: dict[str, Any]) -> tuple[CalibrationReport, str]:
    """Measure the stored grades of labelled items; return how to use what came of it, too."""
    from agentloop.errors import UserError
    from agentloop.labelled import calibrate_store

    if not Path(store).is_file() or store.endswith(".py"):
        raise UserError("no labels are named: `--labels FILE`, or a store that was labelled")
    for name in ("store", "model", "critic", "base_url", "prompts", "repeats"):
        if given[name]:
            option = name.replace("_", "-")
            raise UserError(
                f"`--{option}` goes with `--labels FILE`: of a store the run's own grades are measured. "
                f"`agentloop label {store} --export FILE` makes that file"
            )
    found = calibrate_store(
        store,
        given["run_name"],
        grading=given["grading"] or 0,
        rubric=given["rubric"] or "",
        target=given["target"],
    )
    for number, what in (
        (found.unsure, "unsure"),
        (found.seen, "given after the grade was seen, or by a tool that does not say"),
        (found.lost, "of candidates that are not there"),
    ):
        if number:
            _note(f"{number:,} labels left out: {what}")
    if found.seen_levels:
        _note(f"{found.seen_levels:,} levels of criteria left out: given after the grade was seen")
    if not found.kept:
        _note(
            "the report is not in the store, for it cannot be written now: keep it with `-o FILE`"
        )
        return found.report, ""
    return found.report, f"use it: agentloop run {found.recipe} --calibration {store} …"


def _note(text: str) -> None:
    click.echo(plain(text), err=True)


def told(report: CalibrationReport) -> Iterator[str]:
    """Yield the report as lines for a person."""
    from agentloop.calibration_report import told as shown

    yield plain(
        f"{report.state} · critic {report.critic} · rubric {report.rubric_name} "
        f"{report.rubric[:8]} · {report.labels} labels"
    )
    for warning in report.warnings:
        yield f"  ! {plain(warning)}"
    yield from _counted(report)
    yield ""
    yield from _gate(report.gate, "at the rubric's threshold")
    if report.at_threshold is not None:
        yield ""
        yield from _gate(report.at_threshold, "at the threshold that keeps the promise")
    yield ""
    yield from _threshold(report)
    figures = {
        "score and label, Spearman": report.spearman,
        "score and label, AUC": report.auc,
        "calibration error (ECE)": report.calibration_error,
        "Brier score": report.brier,
        "slope by doubled length": report.length_slope,
    }
    for name, value in figures.items():
        yield _line(name, _figure(value))
    if report.annotators > 1:
        yield _line("annotators, alpha", shown(report.alpha))
    if report.repeats:
        yield _line(
            "flips when graded again", f"{_figure(report.flip_rate)} of {report.repeated} items"
        )
    yield from _map(report)
    for criterion in report.criteria:
        yield ""
        yield from _criterion(criterion)


def _counted(report: CalibrationReport) -> Iterator[str]:
    counts = {
        "items that people are split on, not graded": report.disputed,
        "items refused by a check, without a judge": report.vetoed,
        **{f"items without a grade: {why}": n for why, n in report.abstained.items()},
    }
    for name, number in counts.items():
        if number:
            yield f"  {number:,} {name}"


def _gate(gate: Gate, where: str) -> Iterator[str]:
    from agentloop.calibration_report import told as shown

    yield f"accepting from {gate.accept_at:.3f}, {where}"
    yield from _confusion(gate.confusion)
    for name in ("sensitivity", "specificity", "precision", "kappa"):
        yield _line(name, shown(getattr(gate, name)))


def _confusion(confusion: Confusion) -> Iterator[str]:
    yield from _table(
        "people \\ judge",
        ("accepted", "refused"),
        [
            ("good", (confusion.good_accepted, confusion.good_refused)),
            ("bad", (confusion.bad_accepted, confusion.bad_refused)),
        ],
    )


def _threshold(report: CalibrationReport) -> Iterator[str]:
    found = report.threshold
    target = f"a precision of {report.target:.2f}"
    if found is None:
        yield f"no threshold promises {target}"
        return
    yield (
        f"from {found.accept_at:.3f} on, {target} is promised: at least {found.lower:.3f} with "
        f"{found.confidence:.0%} confidence ({found.good} of {found.kept} good)"
    )
    yield _line("share kept", _figure(found.share))


def _map(report: CalibrationReport) -> Iterator[str]:
    found = report.score_map
    if found is None:
        return
    yield f"  chance of being good by score ({found.kind})"
    for tenth in range(0, 11, 2):
        yield _line(f"  score {tenth / 10:.1f}", _figure(found.chance(tenth / 10)))


def _criterion(report: CriterionReport) -> Iterator[str]:
    from agentloop.calibration_report import told as shown

    yield f"criterion {report.criterion}, {report.labels} labels"
    names = [plain(level, CELL) for level in report.levels]
    yield from _table("people \\ judge", names, list(zip(names, report.table, strict=True)))
    for name in ("sensitivity", "specificity", "kappa", "weighted_kappa"):
        yield _line(name.replace("_", " "), shown(getattr(report, name)))
    yield _line("Spearman", _figure(report.spearman))
    if report.alpha is not None:
        yield _line("annotators, alpha", shown(report.alpha))


def _table(
    corner: str, columns: Sequence[str], rows: Sequence[tuple[str, tuple[int, ...]]]
) -> Iterator[str]:
    first = max(len(name) for name, _ in [(corner, ()), *rows])
    widths = [max(len(name), 6) for name in columns]
    heads = "  ".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))
    yield f"  {corner:<{first}}  {heads}"
    for name, numbers in rows:
        cells = "  ".join(f"{n:>{width},}" for n, width in zip(numbers, widths, strict=True))
        yield f"  {name:<{first}}  {cells}"


def _line(name: str, value: str) -> str:
    return f"  {name:<{WIDTH}} {value}"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
