"""Calibration: a critic beside people, and what later runs make of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agentloop as al
from agentloop.agreement import Confusion
from agentloop.calibrate import calibrate
from agentloop.calibration_report import (
    CalibrationReport,
    Known,
    corrected_precision,
    load_calibration,
    panel_weights,
    short,
    summary_line,
)
from agentloop.cli import run_cli
from agentloop.errors import (
    AccessError,
    BudgetReached,
    CalibrationError,
    SettingsError,
    StoreError,
    UserError,
)
from agentloop.labels import read_labels
from agentloop.models.family import family
from agentloop.models.prices import Price
from agentloop.store import Store
from agentloop.store.files import connect
from agentloop.store.trust import Judged
from tests.builders import (
    PASSAGE,
    RUBRIC,
    SEEDS,
    agent,
    mark,
    marks,
    play,
    roles,
    serving,
    tiny,
    write_graph,
    write_seeds,
)

LEVELS = """
name: levels
accept_at: 0.5
criteria:
  - {name: right, ask: "Is it right?", levels: [wrong, shaky, fair, right]}
"""
FLOOR = """
name: floor
accept_at: 0.4
criteria:
  - {name: right, ask: "Is it right?"}
  - {name: clear, ask: "Is it clear?", floor: "yes"}
"""


def label(answer: str, good: bool | None = True, **more: Any) -> dict[str, Any]:
    """Return one line of a labels file about a candidate with this answer."""
    candidate = {"question": "Where does it rise?", "answer": answer}
    return {"seed": {"passage": PASSAGE}, "candidate": candidate, "good": good, **more}


def labels_file(folder: Path, lines: Iterable[Any], name: str = "labels.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def judged(verdict: str, count: int, good: bool, **more: Any) -> list[dict[str, Any]]:
    """Return labels whose answers tell the scripted judge what to say."""
    return [label(f"{verdict} answer {n} {good}", good, **more) for n in range(count)]


def by_first_word(prompt: str) -> str:
    """Mark `right` with the level that the answer begins with."""
    level = prompt.split()[1]
    return json.dumps({"right": mark(level, "" if level in ("yes", "right") else "so it is")})


def judge(**scripts: Any) -> al.ScriptedModel:
    return agent(**{"critique": by_first_word, **scripts})


def measure(
    folder: Path, lines: Iterable[Any], model: Any = None, recipe: Any = None, **more: Any
) -> CalibrationReport:
    given = {"store": folder / "cal.duckdb", "critic": model or judge(), "concurrency": 4}
    file = labels_file(folder, lines)
    return calibrate(recipe or tiny(folder), file, **{**given, **more})


TEN = [
    *judged("yes", 4, True, criteria={"right": "yes"}),
    *judged("no", 1, True, criteria={"right": "yes"}),
    *judged("yes", 2, False, criteria={"right": "no"}),
    *judged("no", 3, False, criteria={"right": "no"}),
]


# Figures


def test_the_figures_of_ten_items_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    report = measure(tmp_path, TEN)
    confusion = report.gate.confusion
    assert (confusion.good_accepted, confusion.good_refused) == (4, 1)
    assert (confusion.bad_accepted, confusion.bad_refused) == (2, 3)
    gate = report.gate
    assert gate.sensitivity
    assert gate.specificity
    assert gate.precision
    assert gate.kappa
    assert gate.sensitivity.value == pytest.approx(0.8)
    assert gate.specificity.value == pytest.approx(0.6)
    assert gate.precision.value == pytest.approx(4 / 6)
    assert gate.kappa.value == pytest.approx(0.4)  # (0.7 − 0.5) ÷ (1 − 0.5)
    assert gate.kappa.low < 0.4 < gate.kappa.high
    assert report.auc == pytest.approx(0.7)
    assert report.spearman == pytest.approx(0.408248, abs=1e-6)  # φ of a 2 × 2 table
    assert (report.labels, report.annotations, report.annotators) == (10, 10, 1)
    assert (report.alpha, report.flip_rate, report.vetoed, report.abstained) == (None, None, 0, {})
    assert (report.critic, report.rubric_name) == ("scripted/model", "tiny")


def test_each_criterion_has_figures_of_its_own(tmp_path: Path) -> None:
    (report,) = measure(tmp_path, TEN).criteria
    assert (report.criterion, report.levels, report.labels) == ("right", ("no", "yes"), 10)
    assert report.table == ((3, 2), (1, 4))
    assert report.kappa
    assert report.weighted_kappa
    assert report.sensitivity
    assert report.specificity
    assert report.kappa.value == pytest.approx(0.4)
    assert report.weighted_kappa.value == pytest.approx(0.4)
    assert report.sensitivity.value == pytest.approx(0.8)
    assert report.specificity.value == pytest.approx(0.6)
    assert report.spearman == pytest.approx(0.408248, abs=1e-6)
    assert report.alpha is None


def test_a_criterion_that_nobody_labelled_is_left_out(tmp_path: Path) -> None:
    assert measure(tmp_path, judged("yes", 3, True)).criteria == ()


def test_distance_counts_in_weighted_kappa(tmp_path: Path) -> None:
    lines = [
        *judged("right", 4, True, criteria={"right": "right"}),
        *judged("fair", 4, True, criteria={"right": "right"}),
        *judged("wrong", 4, False, criteria={"right": "wrong"}),
    ]
    (report,) = measure(tmp_path, lines, recipe=tiny(tmp_path, LEVELS)).criteria
    assert report.kappa
    assert report.weighted_kappa
    # agreed 8 ÷ 12, by chance (4 · 4 + 4 · 8) ÷ 144; squared distances 4 ÷ 12 and 528 ÷ 144
    assert report.kappa.value == pytest.approx((8 / 12 - 48 / 144) / (1 - 48 / 144))
    assert report.weighted_kappa.value == pytest.approx(1 - (4 / 12) / (528 / 144))


def test_a_judge_that_likes_length_is_found_out(tmp_path: Path) -> None:
    def critique(prompt: str) -> str:
        return by_first_word(f"CRITIQUE {'yes' if len(prompt.split()) > 40 else 'no'}")

    lines = [label("word " * count + str(n), n % 2 == 0) for n in range(4) for count in (7, 63)]
    report = measure(tmp_path, lines, judge(critique=critique))
    assert report.length_slope == pytest.approx(1 / 3)  # 8 words score 0, 64 score 1: 3 doublings


@pytest.mark.parametrize(
    ("count", "state", "says"),
    [(49, "uncalibrated", "49 labels say too little"), (50, "calibrated", "wide intervals")],
)
def test_fifty_labels_make_a_calibration(tmp_path: Path, count: int, state: str, says: str) -> None:
    lines = [*judged("yes", count - 5, True), *judged("no", 5, False)]
    report = measure(tmp_path, lines)
    assert report.state == state
    assert any(says in warning for warning in report.warnings)
    assert (report.threshold is None) == (state == "uncalibrated")


def test_two_hundred_labels_bring_no_warning(tmp_path: Path) -> None:
    report = measure(tmp_path, [*judged("yes", 100, True), *judged("no", 100, False)])
    assert report.warnings == ()


# Threshold

STEPS = [*judged("right", 40, True), *judged("fair", 10, True), *judged("fair", 10, False)]


def test_the_threshold_is_the_lowest_that_keeps_its_promise(tmp_path: Path) -> None:
    report = measure(tmp_path, STEPS, recipe=tiny(tmp_path, LEVELS))
    assert report.threshold
    assert report.at_threshold
    assert (report.threshold.accept_at, report.threshold.kept, report.threshold.good) == (1, 40, 40)
    assert report.threshold.lower == pytest.approx(0.1 ** (1 / 40))
    assert report.threshold.share == pytest.approx(40 / 60)
    assert report.gate.confusion.specificity == 0
    assert report.at_threshold.confusion.specificity == 1
    assert report.in_force == report.at_threshold
    assert report.score_map
    assert report.score_map.chance(1.0) > 0.9
    assert report.calibration_error is not None
    assert report.brier is not None


def test_a_promise_that_no_threshold_keeps_is_said_plainly(tmp_path: Path) -> None:
    report = measure(tmp_path, STEPS, recipe=tiny(tmp_path, LEVELS), target=0.99)
    assert report.threshold is None
    assert report.in_force == report.gate
    assert any("no threshold reaches a precision of .99" in said for said in report.warnings)


def test_a_floor_refuses_whatever_the_score(tmp_path: Path) -> None:
    def critique(prompt: str) -> str:
        clear = prompt.split()[1]
        return json.dumps({"right": mark("yes"), "clear": mark(clear, "why")})

    lines = [*judged("yes", 50, True), *judged("no", 30, False)]
    report = measure(tmp_path, lines, judge(critique=critique), tiny(tmp_path, FLOOR))
    assert report.gate.confusion.bad_refused == 30
    assert report.threshold
    assert report.threshold.kept == 50
    assert report.threshold.labels == 80


# What is not graded, or cannot be


def test_an_unreadable_judge_abstains_and_stays_out_of_the_confusion(tmp_path: Path) -> None:
    def critique(prompt: str) -> str:
        return "no JSON" if "answer 0" in prompt else by_first_word(prompt)

    model = judge(critique=critique)
    report = measure(tmp_path, judged("yes", 3, True), model)
    assert report.abstained == {"judge_unreadable": 1}
    assert report.labels == 2
    assert len(model.requests) == 2 + 3  # asked twice again


def test_a_failed_veto_refuses_without_a_judge(tmp_path: Path) -> None:
    def short_enough(candidate: Any, seed: Any) -> al.Finding:
        return al.fail("no") if "veto" in candidate["answer"] else al.passed()

    recipe = tiny(tmp_path, checks=(al.Check("short", short_enough),))
    model = judge()
    lines = [*judged("yes", 2, True), *judged("veto", 3, False)]
    report = measure(tmp_path, lines, model, recipe)
    assert len(model.requests) == 2
    assert (report.vetoed, report.gate.confusion.bad_refused) == (3, 3)


def test_a_bug_in_a_check_costs_its_items(tmp_path: Path) -> None:
    def buggy(candidate: Any, seed: Any) -> al.Finding:
        raise ZeroDivisionError

    recipe = tiny(tmp_path, checks=(al.Check("buggy", buggy),))
    report = measure(tmp_path, TEN, recipe=recipe)
    assert (report.labels, report.abstained) == (0, {"error": 10})
    assert report.gate.sensitivity is None


def test_several_people_are_one_item_and_the_split_ones_are_not_graded(tmp_path: Path) -> None:
    people = {"yes 1": [True, True, False], "no 2": [False, False], "yes 3": [True, False]}
    lines = [
        label(answer, good, annotator=f"a{n}")
        for answer, votes in people.items()
        for n, good in enumerate(votes)
    ]
    model = judge()
    report = measure(tmp_path, lines, model)
    assert len(model.requests) == report.labels == 2
    assert (report.disputed, report.annotations, report.annotators) == (1, 7, 3)
    assert report.gate.confusion.good_accepted == report.gate.confusion.bad_refused == 1
    # 3 good and 4 bad ratings: 1 − (7 − 1) · (4 ÷ 2 + 2 ÷ 1) ÷ (2 · 3 · 4)
    assert report.alpha is not None
    assert report.alpha.value == pytest.approx(0)


def test_annotators_agree_by_alpha(tmp_path: Path) -> None:
    lines = [
        label(f"yes {n}", n % 2 == 0, annotator=who, criteria={"right": "yes" if n % 2 else "no"})
        for n in range(20)
        for who in ("anna", "ben")
    ]
    report = measure(tmp_path, lines)
    assert report.alpha
    assert report.alpha.value == 1
    assert report.criteria[0].alpha
    assert report.criteria[0].alpha.value == 1


def test_an_items_own_criteria_are_written_as_in_a_run(tmp_path: Path) -> None:
    model = judge(
        criteria='{"own_1": "Does it name the mountains?"}',
        critique=json.dumps({"right": mark("yes"), "own_1": mark("no", "it does not")}),
    )
    rubric = RUBRIC.replace("0.8", "0.6").replace("criteria:", "per_item: 1\ncriteria:")
    report = measure(tmp_path, judged("yes", 2, True), model, tiny(tmp_path, rubric))
    assert roles(model).count("CRITERIA") == 2
    assert report.gate.confusion.good_refused == 2  # 1 of 2 marks is less than 0.6


# Repeats


def test_flips_are_counted_over_repeats_with_another_sample(tmp_path: Path) -> None:
    turns: dict[str, int] = {}

    def critique(prompt: str) -> str:
        turns[prompt] = turns.get(prompt, -1) + 1
        return marks("no") if "answer 0" in prompt and turns[prompt] == 1 else marks()

    model = judge(critique=critique)
    report = measure(tmp_path, judged("yes", 4, True), model, repeats=2)
    assert (report.repeats, report.repeated, len(model.requests)) == (2, 4, 12)
    assert report.flip_rate == pytest.approx((2 / 3) / 4)  # yes, no, yes: two pairs of three differ
    assert report.gate.confusion.good_accepted == 4
    with connect(tmp_path / "cal.duckdb", write=False) as connection:
        keys = connection.execute("SELECT key, count(*) FROM calls GROUP BY 1").fetchall()
    assert dict(keys) == {f"critic/0/+all/0/{sample}/0": 4 for sample in range(3)}
    again = judge()
    assert measure(tmp_path, judged("yes", 4, True), again, repeats=2).flip_rate == report.flip_rate
    assert again.requests == []


def test_fifty_items_at_most_are_graded_again(tmp_path: Path) -> None:
    model = judge()
    report = measure(tmp_path, judged("yes", 60, True), model, repeats=1)
    assert (report.repeated, len(model.requests)) == (50, 110)


# Money


def test_a_second_start_pays_nothing_and_a_longer_file_only_for_what_is_new(tmp_path: Path) -> None:
    first = measure(tmp_path, TEN)
    again = judge()
    second = measure(tmp_path, TEN, again)
    assert again.requests == []
    assert second.digest == first.digest
    longer = judge()
    measure(tmp_path, [*judged("no", 5, False)[3:], *TEN], longer)
    assert len(longer.requests) == 2
    assert len(Store(tmp_path / "cal.duckdb").calibrations()) == 3
    assert Store(tmp_path / "cal.duckdb").runs() == []


def test_an_interrupted_calibration_goes_on(tmp_path: Path) -> None:
    answers = [marks(), marks(), AccessError("no"), marks()]
    with pytest.raises(AccessError):
        measure(tmp_path, TEN, judge(critique=answers), concurrency=1)
    again = judge()
    assert measure(tmp_path, TEN, again).labels == 10
    assert len(again.requests) == 8


def test_another_threshold_in_the_rubric_costs_nothing(tmp_path: Path) -> None:
    measure(tmp_path, TEN)
    model = judge()
    report = measure(tmp_path, TEN, model, tiny(tmp_path, RUBRIC.replace("0.8", "0.7")))
    assert model.requests == []
    assert report.gate.accept_at == 0.7


def test_an_endpoint_that_never_answers_leaves_no_store(tmp_path: Path) -> None:
    with pytest.raises(AccessError):
        measure(tmp_path, TEN, judge(critique=AccessError("no")))
    assert not (tmp_path / "cal.duckdb").exists()


def test_a_budget_is_kept_over_starts(tmp_path: Path) -> None:
    model = judge()
    model.price = Price(input=1e6, output=1e6)
    with pytest.raises(BudgetReached, match="budget"):
        measure(tmp_path, TEN, model, budget_usd=1200.0, concurrency=1)
    made = len(model.requests)
    assert 0 < made < 10
    with pytest.raises(BudgetReached):
        measure(tmp_path, TEN, model, budget_usd=1200.0, concurrency=1)
    assert len(model.requests) == made


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"target": 1.0}, "`target`"),
        ({"target": 0.0}, "`target`"),
        ({"repeats": -1}, "`repeats`"),
        ({"store": None}, "no store is named"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, wrong: Any, says: str) -> None:
    model = judge()
    with pytest.raises(SettingsError, match=says):
        measure(tmp_path, TEN, model, **wrong)
    assert model.requests == []


# Labels


WRONG = {
    "no object": ([1, 2], "must be an object"),
    "unknown key": (label("a", criterion={}), "did you mean `criteria`"),
    "no verdict": ({k: v for k, v in label("a").items() if k != "good"}, "`good` is missing"),
    "no boolean": (label("a") | {"good": "yes"}, "`good` must be `true` or `false`"),
    "no seed": (label("a") | {"seed": "text"}, "`seed` must be an object"),
    "seed field": (label("a") | {"seed": {"pasage": "x"}}, "did you mean `pasage`"),
    "blank seed": (label("a") | {"seed": {"passage": " "}}, "`seed` needs `passage`"),
    "candidate": (label("a") | {"candidate": {"question": "q"}}, "no `QA`: `answer`"),
    "candidate type": (label("a") | {"candidate": {"question": "q", "answer": 3}}, "no `QA`"),
    "criterion": (label("a", criteria={"rihgt": "yes"}), "did you mean `right`"),
    "level": (label("a", criteria={"right": "yse"}), "`yse` is no level of `right`"),
    "level type": (label("a", criteria={"right": ["yes"]}), "is no level of `right`"),
    "criteria": (label("a", criteria="yes"), "`criteria` must be an object"),
    "annotator": (label("a", annotator=" "), "`annotator` must be a name"),
    "annotator type": (label("a", annotator=7), "`annotator` must be a name"),
    "NUL": (label("a\0b"), "NUL"),
    "twice": (label("fine"), "somebody without a name has labelled this item already"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_label_is_refused_by_its_line_before_any_call(tmp_path: Path, case: str) -> None:
    line, says = WRONG[case]
    model = judge()
    with pytest.raises(UserError, match="line 2") as caught:
        measure(tmp_path, [label("fine"), line], model)
    assert says in str(caught.value)
    assert model.requests == []
    assert not (tmp_path / "cal.duckdb").exists()


def test_the_same_annotator_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CalibrationError, match=r"`anna` has labelled this item already, in .*line 1"
    ):
        measure(tmp_path, [label("a", annotator="anna")] * 2)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "there is no labels file"), (b"\n", "holds no labels")]
)
def test_a_file_without_labels_is_refused(tmp_path: Path, content: Any, says: str) -> None:
    path = tmp_path / "labels.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CalibrationError, match=says):
        calibrate(tiny(tmp_path), path, store=tmp_path / "cal.duckdb", critic=judge())


@lru_cache(maxsize=2)
def kit_in(folder: Path) -> Any:
    return tiny(folder).load()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.just({"passage": PASSAGE}) | JSON,
        "candidate": st.just({"question": "q", "answer": "a"}) | JSON,
        "good": st.booleans() | JSON,
        "criteria": st.dictionaries(st.sampled_from(["right", "wrong"]), JSON) | JSON,
        "annotator": st.text() | JSON,
    },
)
LINES = st.lists(NEARLY.map(lambda line: json.dumps(line).encode()) | st.binary(), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES)
def test_whatever_stands_in_a_file_it_is_read_or_refused(tmp_path: Path, lines: Any) -> None:
    path = tmp_path / "any.jsonl"
    path.write_bytes(b"\n".join(lines))
    with contextlib.suppress(UserError):
        assert all(labelled.annotations for labelled in read_labels(path, kit_in(tmp_path))[0])


VOTES = st.dictionaries(
    st.text("abc", min_size=1), st.dictionaries(st.sampled_from("uvwxyz"), st.booleans(), min_size=1),
    min_size=1, max_size=5,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(votes=VOTES)
def test_every_item_is_what_most_of_its_annotators_say(tmp_path: Path, votes: Any) -> None:
    lines = [
        label(answer, good, annotator=who)
        for who in "uvwxyz"  # people one after the other, so that an item's lines lie apart
        for answer, said in votes.items()
        if (good := said.get(who)) is not None
    ]
    path = labels_file(tmp_path, lines)
    found = {x.candidate["answer"]: x.good for x in read_labels(path, kit_in(tmp_path))[0]}
    for answer, said in votes.items():
        balance = sum(1 if good else -1 for good in said.values())
        assert found.pop(answer) == (None if balance == 0 else balance > 0)
    assert found == {}


# Later runs


def graded_run(folder: Path, **more: Any) -> al.Run:
    """Run three items whose drafts are marked `fair`: 0.67."""
    model = agent(critique=json.dumps({"right": mark("fair", "not quite")}))
    given = {"seeds": SEEDS[:3], "max_rounds": 0}
    return play(folder, model, tiny(folder, LEVELS), **{**given, **more})


def test_a_run_uses_the_calibrated_threshold(tmp_path: Path) -> None:
    report = measure(tmp_path, STEPS, recipe=tiny(tmp_path, LEVELS))
    assert graded_run(tmp_path).counts["accepted"] == 3
    run = graded_run(tmp_path, calibration=str(tmp_path / "cal.duckdb"), run="calibrated")
    assert run.counts["rejected"] == 3
    assert Store(run.store).reasons("calibrated") == {"below_threshold": 3}
    assert run.trust.startswith("calibrated on 60 labels: sensitivity .80, specificity 1.00, kappa")
    assert "of 3 candidates accepted" in run.trust
    kept = Store(run.store).calibration("calibrated")
    assert kept
    assert CalibrationReport.model_validate(kept).digest == report.digest
    assert Store(run.store).calibration("tiny") is None
    rows = {row["run"]: row for name in ("tiny", "calibrated") for row in exported(run, name)}
    assert {name: row["calibrated"] for name, row in rows.items()} == {
        "tiny": False,
        "calibrated": True,
    }
    assert all(row["self_graded"] for row in rows.values())


def exported(run: al.Run, name: str) -> list[dict[str, Any]]:
    from agentloop import export

    content = export.lines(Store(run.store), shape="raw", runs=[name], verdict="all")
    return [json.loads(line) for line in content]


def test_a_calibration_is_part_of_a_runs_identity(tmp_path: Path) -> None:
    measure(tmp_path, STEPS, recipe=tiny(tmp_path, LEVELS))
    run = graded_run(tmp_path, calibration=str(tmp_path / "cal.duckdb"))
    assert graded_run(tmp_path, calibration=str(tmp_path / "cal.duckdb")).counts == {
        **run.counts,
        "seconds": pytest.approx(run.counts["seconds"], abs=60),
    }
    with pytest.raises(UserError, match="another `calibration`"):
        graded_run(tmp_path)


def test_without_a_threshold_the_rubrics_stays_and_the_run_says_so(tmp_path: Path) -> None:
    strict = LEVELS.replace("0.5", "0.7")
    measure(tmp_path, STEPS, recipe=tiny(tmp_path, strict), target=0.99)
    notes: list[Any] = []
    model = agent(critique=json.dumps({"right": mark("right")}))
    given = {"calibration": str(tmp_path / "cal.duckdb"), "progress": notes.append}
    assert play(tmp_path, model, tiny(tmp_path, strict), **given).counts["accepted"] == 1
    assert "no threshold reaches .99, the rubric's stays" in notes[0].data["text"]


def test_a_judge_without_skill_is_refused(tmp_path: Path) -> None:
    measure(tmp_path, STEPS, recipe=tiny(tmp_path, LEVELS), target=0.99)
    with pytest.raises(SettingsError, match=r"tells next to nothing: .* is 1\.00"):
        graded_run(tmp_path, calibration=str(tmp_path / "cal.duckdb"))


def test_labels_of_one_kind_calibrate_nothing(tmp_path: Path) -> None:
    report = measure(tmp_path, judged("right", 60, True), recipe=tiny(tmp_path, LEVELS))
    assert report.state == "uncalibrated"
    notes: list[Any] = []
    given = {"calibration": str(tmp_path / "cal.duckdb"), "progress": notes.append}
    assert [row["calibrated"] for row in exported(graded_run(tmp_path, **given), "tiny")] == [
        False
    ] * 3


def test_too_few_labels_leave_a_run_uncalibrated(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, LEVELS)
    measure(tmp_path, judged("right", 10, True), recipe=recipe)
    notes: list[Any] = []
    run = graded_run(tmp_path, calibration=str(tmp_path / "cal.duckdb"), progress=notes.append)
    assert "uncalibrated (10 labels)" in notes[0].data["text"]
    assert run.trust.startswith("uncalibrated: 10 labels say too little")
    assert [row["calibrated"] for row in exported(run, "tiny")] == [False] * 3


def test_a_run_says_that_nobody_has_checked_and_who_grades_whom(tmp_path: Path) -> None:
    notes: list[Any] = []
    run = play(tmp_path, agent(), progress=notes.append)
    assert notes[0].data["text"].endswith(" · self-graded (model) · uncalibrated")
    assert run.trust == "uncalibrated: nobody has checked this critic against people"
    other = agent()
    other.name = "scripted/judge"
    play(tmp_path, agent(), progress=notes.append, critic=other, run="other")
    started = [note.data["text"] for note in notes if note.kind == "started"]
    assert "self-graded" not in started[1]


@pytest.mark.parametrize(
    ("critic", "panel", "stamp", "told"),
    [
        ("openai/gpt-5-mini", (), True, " by openai/gpt-5-mini, of its author's family,"),
        ("openai/gpt-5", (), True, " by openai/gpt-5, its own author,"),
        (
            "anthropic/claude-x",
            ("openai/o3",),
            True,
            " by anthropic/claude-x with openai/o3, of its author's family,",
        ),
        ("anthropic/claude-x", ("google/gemini-3",), False, " with google/gemini-3, rubric"),
    ],
)
def test_self_graded_is_by_family_over_all_who_judged(
    tmp_path: Path, critic: str, panel: tuple[str, ...], stamp: bool, told: str
) -> None:
    def called(name: str) -> al.ScriptedModel:
        model = agent()
        model.name = name
        return model

    notes: list[Any] = []
    run = play(
        tmp_path,
        called("openai/gpt-5"),
        critic=called(critic),
        panel=tuple(map(called, panel)),
        progress=notes.append,
    )
    (row,) = run.items()
    assert row["self_graded"] is stamp
    assert ("self-graded (openai)" in notes[0].data["text"]) is stamp
    assert told in Store(run.store).item(row["item"]).why()
    assert row["grade"]["judges"] == [critic, *panel]


def written(folder: Path, report: CalibrationReport) -> str:
    path = folder / "report.json"
    path.write_text(report.model_dump_json())
    return str(path)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_calibration_of_another_rubric_or_critic_is_refused_naming_both(
    tmp_path: Path, as_json: bool
) -> None:
    report = measure(tmp_path, STEPS, recipe=tiny(tmp_path, LEVELS))
    source = written(tmp_path, report) if as_json else str(tmp_path / "cal.duckdb")
    assert load_calibration(source, report.rubric, "scripted/model") == report
    with pytest.raises(SettingsError, match=r"critic `scripted/model`.*critic `other`"):
        load_calibration(source, report.rubric, "other")
    model = agent()
    with pytest.raises(SettingsError, match=f"rubric `{report.rubric[:8]}`.*rubric `"):
        play(tmp_path, model, calibration=source)
    assert model.requests == []
    assert not (tmp_path / "qa.duckdb").exists()


def test_a_calibration_with_other_prompts_or_parameters_is_refused_by_name(tmp_path: Path) -> None:
    measure(tmp_path, STEPS, recipe=tiny(tmp_path, LEVELS))
    source = str(tmp_path / "cal.duckdb")
    with pytest.raises(SettingsError, match=r"another `models\.critic`"):
        graded_run(tmp_path, calibration=source, roles={"critic": {"temperature": 0.5}})
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "critique.md").write_text("CRITIQUE anew {{ candidate.answer }}")
    with pytest.raises(SettingsError, match=r"another `prompts\.critique`"):
        graded_run(tmp_path, calibration=source, prompts=str(tmp_path / "own"))


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (None, SettingsError, "there is no calibration"),
        ("{}", SettingsError, "no calibration that can be read"),
        ("{", SettingsError, "no calibration that can be read"),
        ("text", StoreError, "cannot be opened"),
    ],
)
def test_what_is_no_calibration_is_refused(
    tmp_path: Path, content: Any, kind: Any, says: str
) -> None:
    if content is not None:
        (tmp_path / "cal").write_text(content)
    with pytest.raises(kind, match=says):
        play(tmp_path, agent(), calibration=str(tmp_path / "cal"))


def test_a_store_without_calibrations_is_refused(tmp_path: Path) -> None:
    run = play(tmp_path, agent())
    assert load_calibration(run.store, "any", "any") is None
    with pytest.raises(SettingsError, match="holds no calibration"):
        play(tmp_path, agent(), calibration=str(run.store), run="next")


def test_the_latest_of_several_calibrations_counts(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, LEVELS)
    measure(tmp_path, STEPS[:-1], recipe=recipe)
    last = measure(tmp_path, STEPS, recipe=recipe)
    other = measure(tmp_path, TEN)
    found = load_calibration(tmp_path / "cal.duckdb", last.rubric, "scripted/model")
    assert found == last != other


# What follows from it


def confusion(*counts: int) -> Confusion:
    names = ("good_accepted", "good_refused", "bad_accepted", "bad_refused")
    return Confusion(**dict(zip(names, counts, strict=True)))


def test_the_precision_among_accepted_is_bayes_rule_on_the_corrected_rate() -> None:
    # sensitivity 0.9, specificity 0.8, half accepted: θ = 0.3 ÷ 0.7, precision 0.9 θ ÷ 0.5
    found = corrected_precision(500, 1000, confusion(90, 10, 20, 80))
    assert found.value == pytest.approx(0.9 * (0.3 / 0.7) / 0.5)
    assert found.low < found.value < found.high


@given(
    st.tuples(*[st.integers(1, 40)] * 4).filter(
        lambda c: c[0] / (c[0] + c[1]) + c[3] / (c[2] + c[3]) > 1.2
    ),
    st.floats(0, 1),
)
@settings(max_examples=20)
def test_many_labels_leave_a_narrower_interval(counts: Any, good: float) -> None:
    right, missed, wrong, caught = counts
    rate = good * right / (right + missed) + (1 - good) * wrong / (wrong + caught)
    few = corrected_precision(round(200 * rate), 200, confusion(*counts), draws=400)
    assert 0 <= few.low <= few.value <= few.high <= 1
    more = confusion(*(100 * n for n in counts))
    many = corrected_precision(100 * round(200 * rate), 20_000, more, draws=400)
    assert many.high - many.low < few.high - few.low + 0.05


def a_report(folder: Path, good: int, bad: int, misses: int = 0) -> CalibrationReport:
    lines = [*judged("yes", good, True), *judged("no", bad, False), *judged("yes", misses, False)]
    return measure(folder, lines)


def test_judges_of_a_panel_count_by_their_skill(tmp_path: Path) -> None:
    report = a_report(tmp_path, 40, 30, 10)
    assert panel_weights({"critic": report, "critic.2": report}) == pytest.approx(
        {"critic": 0.75, "critic.2": 0.75}
    )


def test_a_run_weighs_its_panel_by_the_calibrations_of_a_store(tmp_path: Path) -> None:
    """A sharp judge says yes, one of half its skill says no: two thirds, not one half."""
    sharp, dull = judge(), judge()
    sharp.name, dull.name = "scripted/sharp", "scripted/dull"
    measure(tmp_path, [*judged("yes", 30, True), *judged("no", 30, False)], sharp)
    lines = [*judged("yes", 30, True), *judged("no", 15, False), *judged("yes", 15, False)]
    measure(tmp_path, lines, dull)

    def says(level: str, name: str) -> al.ScriptedModel:
        model = agent(critique=json.dumps({"right": mark(level, "" if level == "yes" else "no")}))
        model.name = name
        return model

    first, second = says("yes", sharp.name), says("no", dull.name)
    given = {"critic": first, "panel": [second], "max_rounds": 0}
    run = play(tmp_path, agent(), calibration=str(tmp_path / "cal.duckdb"), **given)
    (row,) = run.items("all")
    assert row["grade"]["looks"] == [1.0, 0.0]
    assert row["score"] == pytest.approx(2 / 3)
    weak = agent()
    with pytest.raises(SettingsError, match="scripted/model"):  # nobody has measured it
        play(
            tmp_path,
            agent(),
            calibration=str(tmp_path / "cal.duckdb"),
            run="other",
            critic=first,
            panel=[weak],
        )


@pytest.mark.parametrize(
    ("counts", "says"),
    [((40, 4, 36), r"is 1\.10, and"), ((60, 0), "good and bad ones"), ((10, 9), "19 labels")],
)
def test_a_judge_without_skill_or_labels_is_refused_in_a_panel(
    tmp_path: Path, counts: Any, says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        panel_weights({"critic": a_report(tmp_path, *counts)})


def test_the_summary_stands_in_one_line(tmp_path: Path) -> None:
    line = summary_line(Known(a_report(tmp_path, 100, 75, 25)), Judged(120, 200))
    assert line.startswith(
        "calibrated on 200 labels: sensitivity 1.00, specificity .75, kappa .75 ["
    )
    # θ = (0.6 + 0.75 − 1) ÷ 0.75, precision θ ÷ 0.6
    assert ".60 of 200 candidates accepted, corrected share of good .47 [" in line
    assert "; corrected share of good among accepted .78 [" in line


def test_a_judge_that_tells_nothing_corrects_nothing(tmp_path: Path) -> None:
    report = a_report(tmp_path, 30, 0, 30)
    assert "no correction: sensitivity 1.00 + specificity 0.00" in summary_line(
        Known(report), Judged(1, 2)
    )
    assert any("tells next to nothing" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("share", "text"), [(0.841, ".84"), (1, "1.00"), (0, ".00"), (-0.123, "-.12"), (-0.001, ".00")]
)
def test_shares_are_short(share: float, text: str) -> None:
    assert short(share) == text


@pytest.mark.parametrize(
    ("one", "other", "related"),
    [
        ("openai/gpt-5-mini", "openai/gpt-5", True),
        ("openai/gpt-5", "openrouter/openai/o3", False),
        ("openai/gpt-5", "openai/o3", True),
        ("openai/gpt-5", "anthropic/claude-sonnet-5", False),
        ("anthropic/claude-sonnet-5", "bedrock/us.anthropic.claude-3-5", True),
        ("local", "local", True),
        ("local", "local:/models/qwen2.5-0.5b.gguf", False),
        ("ollama/qwen2.5:7b", "local:/models/qwen2.5-0.5b.gguf", True),
        ("ollama/llama3.2:latest", "groq/llama-3.3-70b-versatile", True),
        ("gemini/gemini-3-pro", "ollama/gemma3", True),
        ("scripted/writer", "scripted/judge", False),
        ("deepseek/deepseek-chat", "xai/grok-4", False),
    ],
)
def test_relatives_are_told_by_their_makers(one: str, other: str, related: bool) -> None:
    assert (family(one) == family(other)) is related


# The command


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    write_graph(tmp_path)
    labels_file(tmp_path, [*judged("yes", 60, True), *TEN])
    words = ["calibrate", "my_graph.py", "--labels", "labels.jsonl", "--store", "s.duckdb"]
    return [*words, "--critic", "openai/judge"]


def test_the_command_measures_and_a_run_uses_it(line: list[str], capsys: Any) -> None:
    Path("labels.jsonl").write_text(
        "".join(json.dumps(x) + "\n" for x in [*judged("yes", 60, True), *judged("no", 60, False)])
    )
    with serving(judge()) as endpoint:
        at = ["--base-url", endpoint.url]
        assert run_cli([*line, *at, "-o", "cal.json", "--json"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out) == json.loads(Path("cal.json").read_text())
        assert "120 of 120 graded" in err
        made = endpoint.requests
        assert run_cli([*line, *at]) == 0
        out, err = capsys.readouterr()
        assert endpoint.requests == made == 120
    assert "calibrated · critic openai/judge · rubric tiny" in out
    assert "120 labels leave wide intervals" in out
    assert "sensitivity                1.00 [.94, 1.00]" in out
    assert "agentloop run my_graph.py --calibration s.duckdb" in err
    seeds = str(write_seeds(Path(), 3))
    with serving(agent()) as endpoint:
        ran = ["run", "my_graph.py", "--seeds", seeds, "--store", "q.duckdb", "--model", "openai/x"]
        ran += ["--critic", "openai/judge", "--base-url", endpoint.url, "--progress", "none"]
        assert run_cli(ran) == 0
        assert "uncalibrated: nobody" in capsys.readouterr().err
        identity = {"model": "openai/judge", "endpoint": endpoint.url}
        moved = json.loads(Path("cal.json").read_text())
        moved["judge"]["models.critic"] |= identity
        Path("cal.json").write_text(json.dumps(moved))
        assert run_cli([*ran, "--run", "two", "--calibration", "cal.json"]) == 0
        assert "calibrated on 120 labels: sensitivity 1.00" in capsys.readouterr().err
    assert run_cli(["status", "q.duckdb"]) == 0
    assert "calibrated on 120 labels: sensitivity 1.00" in capsys.readouterr().out


def test_the_table_of_a_weak_judge_says_so(line: list[str], capsys: Any, golden: Any) -> None:
    people = [
        label(f"{says} answer {n}", good, annotator=who, criteria={"right": level})
        for n, (says, good, level) in enumerate(
            [("yes", True, "yes"), ("yes", False, "no"), ("no", False, "no"), ("huh", False, "no")]
            * 8
        )
        for who in ("anna", "ben")
    ]
    Path("labels.jsonl").write_text("".join(json.dumps(x) + "\n" for x in people))
    with serving(judge()) as endpoint:
        assert run_cli([*line, "--base-url", endpoint.url, "--repeats", "1"]) == 0
    golden("calibration.txt", capsys.readouterr().out)


def test_a_wrong_label_is_one_line_and_exit_2(line: list[str], capsys: Any) -> None:
    labels_file(Path(), [label("a"), label("b") | {"good": 1}])
    with serving(judge()) as endpoint:
        assert run_cli([*line, "--base-url", endpoint.url]) == 2
        assert endpoint.requests == 0
    out, err = capsys.readouterr()
    assert out == ""
    (error,) = err.splitlines()
    assert "line 2: `good` must be `true` or `false`" in error
    assert not list(Path().glob("s.duckdb*"))
