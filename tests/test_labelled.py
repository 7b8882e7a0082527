"""Labels in a store: chosen to be told apart, given in a terminal, measured beside the run's grades."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.calibrate import calibrate
from agentloop.calibration_report import known_of, load_calibration
from agentloop.cli import run_cli
from agentloop.errors import CalibrationError
from agentloop.export.facts import run_facts
from agentloop.labelled import calibrate_store, export_labels, find_rubric, threshold_of
from agentloop.plan import judge_identity
from agentloop.store import Store
from agentloop.store.inbox import read_inbox
from agentloop.store.labelled import read_shown, to_label
from agentloop.store.labels import Place, read_labels, say, say_level
from agentloop.store.writer import Writer
from tests.builders import SEEDS, agent, draft, environment, mark, play, tiny
from tests.view.stores import (
    RUN,
    attempt,
    begin,
    fill,
    grade_again,
    graded,
    item_id,
    rubric_in,
    settle,
)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def drafted(prompt: str) -> str:
    """Write an answer that tells the judge what to say."""
    found = re.search(r"number (\d+)", prompt)
    assert found
    number = int(found[1])
    return draft(f"{'yes' if number % 3 else 'no'} answer {number}")


def judged(prompt: str) -> str:
    level = prompt.split()[1]
    return json.dumps({"right": mark(level, "" if level == "yes" else "so it is")})


MODEL = agent(generate=drafted, critique=judged)


def a_run(folder: Path, **more: Any) -> al.Run:
    return play(folder, MODEL, seeds=SEEDS[:12], max_rounds=0, **more)


def label_all(run: al.Run, who: str = "", blind: bool = True) -> Store:
    """Label every item: good where the number is odd, unsure for one."""
    store = Store(run.store)
    items = [row["item"] for row in run.items("all")]
    for place, shown in read_shown(store, run.name, items).items():
        number = int(shown.candidate["answer"].rsplit(" ", 1)[1])
        say(
            store,
            run.name,
            place,
            "unsure" if number == 7 else "good" if number % 2 else "bad",
            who=who,
            blind=blind,
        )
        level = "yes" if number % 2 else "no"
        say_level(store, run.name, place, "right", level, who=who, blind=blind)
    return store


# Calibrating by them


def test_the_report_is_the_one_that_asking_the_critic_again_gives(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    label_all(run)
    found = calibrate_store(run.store)
    (tmp_path / "labels.jsonl").write_bytes(b"".join(export_labels(Store(run.store), run.name)))
    asked = calibrate(tiny(tmp_path), tmp_path / "labels.jsonl", store="cal.duckdb", critic=MODEL)
    ours, theirs = (r.model_dump(exclude={"time"}) for r in (found.report, asked))
    assert ours == theirs
    assert (found.report.labels, found.unsure, found.lost) == (11, 1, 0)
    assert found.report.gate.confusion.bad_accepted


def test_a_judge_is_told_from_a_run_as_a_recipe_tells_it(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    label_all(run)
    kit = tiny(tmp_path).load()
    report = calibrate_store(run.store).report
    assert report.judge == judge_identity(kit, report.judge["models.critic"])


def test_a_later_run_goes_by_the_report_that_stays_in_the_store(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    label_all(run)
    found = calibrate_store(run.store)
    assert found.kept
    assert load_calibration(run.store, found.report.rubric, found.report.critic) == found.report
    again = a_run(tmp_path, run="again", calibration=run.store)
    assert again.counts["accepted"] + again.counts["rejected"] == 12


def test_while_a_run_writes_the_report_is_not_kept(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    label_all(run)
    with Writer(run.store):
        assert not calibrate_store(run.store).kept


def test_two_people_are_two_annotators_and_what_they_are_split_on_is_left_out(
    tmp_path: Path,
) -> None:
    run = a_run(tmp_path)
    store = label_all(run, who="anna")
    label_all(run, who="ben")
    place = read_labels(store, run.name)[0].place
    say(store, run.name, place, "good", who="anna", blind=True)
    say(store, run.name, place, "bad", who="ben", blind=True)
    report = calibrate_store(run.store).report
    assert (report.annotators, report.disputed, report.annotations) == (2, 1, 22)


def test_labels_of_what_is_not_there_are_counted_and_left_out(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    store = label_all(run)
    say(store, run.name, Place("nowhere", 0, 0, "c"), "good")
    say(store, run.name, read_labels(store, run.name)[0].place._replace(candidate="other"), "good")
    found = calibrate_store(run.store)
    assert (found.lost, found.report.labels) == (2, 11)


def test_without_labels_or_rubric_there_is_a_line_that_says_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path)
    with pytest.raises(CalibrationError, match="agentloop label"):
        calibrate_store(run.store)
    label_all(run)
    rubric = tmp_path / "prompts" / "rubric.yaml"
    moved = rubric.rename(tmp_path / "mine.yaml")
    with pytest.raises(CalibrationError, match="--rubric FILE"):
        calibrate_store(run.store)
    assert calibrate_store(run.store, rubric=moved).report.labels == 11
    moved.write_text(moved.read_text().replace("0.8", "0.9"))
    with pytest.raises(CalibrationError, match="another rubric"):
        calibrate_store(run.store, rubric=moved)


def test_labels_that_are_not_blind_are_counted_and_left_out(tmp_path: Path, capsys: Any) -> None:
    run = a_run(tmp_path)
    store = label_all(run, blind=False)
    with pytest.raises(CalibrationError, match=r"no blind labels .*11 were given after"):
        calibrate_store(run.store)
    label_all(run, who="anna")
    for label in read_labels(store, run.name, who="anna")[:2]:
        say(store, run.name, label.place, "good", who="anna")
    decided = [
        x for x in read_labels(store, run.name, who="anna") if x.blind and x.said != "unsure"
    ]
    for label in decided[:3]:
        say_level(store, run.name, label.place, "right", "no", who="anna")
    found = calibrate_store(run.store)
    assert (found.seen, found.seen_levels, found.report.annotations) == (13, 3, 9)
    assert sum(criterion.labels for criterion in found.report.criteria) == 6
    assert run_cli(["calibrate", str(run.store)]) == 0
    err = capsys.readouterr().err
    assert "13 labels left out: given after the grade was seen" in err
    assert "3 levels of criteria left out: given after the grade was seen" in err


def test_what_is_exported_says_whether_it_is_blind_and_is_measured_alike(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    store = label_all(run)
    for label in read_labels(store, run.name)[:3]:
        say(store, run.name, label.place, "good")
        say_level(store, run.name, label.place, "right", "unsure", blind=True)
    lines = [*export_labels(store, run.name)]
    told = [json.loads(line) for line in lines]
    assert [line["blind"] for line in told] == [False] * 3 + [True] * (len(told) - 3)
    assert ["criteria" in line for line in told] == [False] * 3 + [True] * (len(told) - 3)
    (tmp_path / "labels.jsonl").write_bytes(b"".join(lines))
    notes: list[str] = []
    given: dict[str, Any] = {"store": "cal.duckdb", "critic": MODEL, "note": notes.append}
    asked = calibrate(tiny(tmp_path), tmp_path / "labels.jsonl", **given)
    ours, theirs = (
        r.model_dump(exclude={"time"}) for r in (calibrate_store(run.store).report, asked)
    )
    assert ours == theirs
    assert "3 labels left out: given after the grade was seen" in notes


# What a run is said to be worth once it was measured


def test_what_was_measured_afterwards_is_told_wherever_the_run_is(
    tmp_path: Path, capsys: Any
) -> None:
    run = play(
        tmp_path, MODEL, seeds=[{"passage": f"Seed number {n}."} for n in range(60)], max_rounds=0
    )
    store = Store(run.store)
    assert known_of(store, run.name) is None
    assert run_facts(store, run.name)["calibration"]["state"] == "uncalibrated"
    for place, shown in read_shown(store, run.name, [x["item"] for x in run.items("all")]).items():
        number = int(shown.candidate["answer"].rsplit(" ", 1)[1])
        say(store, run.name, place, "good" if number % 3 and number % 7 else "bad", blind=True)
    report = calibrate_store(run.store).report
    assert (report.state, report.labels) == ("calibrated", 60)
    trust = run_facts(store, run.name)["calibration"]
    assert (trust["state"], trust["afterwards"], trust["labels"]) == ("calibrated", True, 60)
    assert trust["line"].startswith("measured afterwards on 60 labels: sensitivity")
    assert "corrected share of good" in trust["line"]
    told = run_facts(store, run.name)["not_measured"]
    assert not any("was not calibrated" in line for line in told)
    assert run_cli(["status", str(run.store)]) == 0
    assert trust["line"] in capsys.readouterr().out
    assert run.trust == trust["line"]
    for name in ("x.jsonl", "report.html"):
        verb = "export" if name == "x.jsonl" else "report"
        assert run_cli([verb, str(run.store), "-o", name]) == 0
    card, page = (tmp_path / n for n in ("x.card.md", "report.html"))
    assert "measured afterwards on 60 labels" in card.read_text()
    assert "Calibration curve" in page.read_text()
    assert "nobody has compared" not in page.read_text()
    assert {row["calibrated"] for row in run.items("all")} == {False}
    assert store.calibration(run.name) is None


def test_what_was_measured_of_another_judge_says_nothing_of_a_run(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    label_all(run)
    calibrate_store(run.store)
    assert known_of(Store(run.store), run.name)
    other = a_run(tmp_path, run="other", roles={"critic": {"temperature": 0.5}})
    panel = a_run(tmp_path, panel=[agent(critique=judged)], run="panel")
    for name in (other.name, panel.name):
        assert known_of(Store(run.store), name) is None


def test_a_run_is_measured_at_the_threshold_that_it_went_by(tmp_path: Path) -> None:
    """What promises more was not in force in a run that came before it."""
    run = play(
        tmp_path, MODEL, seeds=[{"passage": f"Seed number {n}."} for n in range(60)], max_rounds=0
    )
    store = label_all(run)
    for label in read_labels(store, run.name)[1:]:
        for who in ("kind", "kinder"):
            say(store, run.name, label.place, "good", who=who, blind=True)
    report = calibrate_store(run.store, target=0.5).report
    assert report.threshold
    known = known_of(store, run.name)
    assert known
    assert known.gate == report.gate
    assert threshold_of(store, run.name, None) == report.gate.accept_at


def test_grades_of_a_panel_are_of_no_one_judge(tmp_path: Path) -> None:
    run = a_run(tmp_path, panel=[agent(critique=judged)])
    label_all(run)
    with pytest.raises(CalibrationError, match="--export"):
        calibrate_store(run.store)


def test_the_grades_of_another_grading_are_measured_by_its_rubric(tmp_path: Path) -> None:
    path = fill(tmp_path, range(8))
    strict = rubric_in(tmp_path).accepting_at(0.9)
    grade_again(path, strict, 6)
    store = Store(path)
    (place,) = [place for place in read_shown(store, RUN, [item_id(6)]) if place.round == 1]
    say(store, RUN, place, "good", blind=True)
    report = calibrate_store(path, grading=1).report
    assert (report.critic, report.rubric, report.gate.accept_at) == ("critic/two", strict.hash, 0.9)
    assert report.gate.confusion.good_refused == 1
    assert calibrate_store(path).report.critic == "critic/one"


def test_the_command_measures_a_store(tmp_path: Path, capsys: Any) -> None:
    run = a_run(tmp_path)
    label_all(run)
    assert run_cli(["calibrate", str(run.store), "-o", "judge.json"]) == 0
    out, err = capsys.readouterr()
    assert "11 labels" in out
    assert "1 labels left out: unsure" in err
    assert json.loads((tmp_path / "judge.json").read_text())["annotations"] == 11
    assert run_cli(["calibrate", str(run.store), "--critic", "openai/x"]) == 2
    assert "agentloop label" in capsys.readouterr().err
    assert run_cli(["calibrate", "tiny"]) == 2
    assert "no labels are named" in capsys.readouterr().err
    assert run_cli(["calibrate", "tiny", "--labels", "x.jsonl", "--run", "a"]) == 2
    assert "`--run`" in capsys.readouterr().err


def test_labels_are_written_as_a_labels_file(tmp_path: Path, capsys: Any) -> None:
    run = a_run(tmp_path)
    label_all(run, who="anna")
    assert run_cli(["label", str(run.store), "--export", "labels.jsonl"]) == 0
    assert "11 labels in labels.jsonl" in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert all(
        line.keys() == {"seed", "candidate", "good", "criteria", "annotator", "blind"}
        for line in lines
    )
    assert run_cli(["label", str(run.store), "--export", "-"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 11


# What is to be labelled


def test_the_order_goes_by_the_threshold_in_force(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    store, rubric = Store(run.store), find_rubric(Store(run.store), run.name)
    assert threshold_of(store, run.name, rubric) == rubric.accept_at
    assert threshold_of(store, run.name, None) == rubric.accept_at  # refused items were told
    assert threshold_of(Store(fill(tmp_path, [])), RUN, None) == 0.5


def scored(path: Path, scores: list[tuple[str, str]]) -> Store:
    with Writer(path) as writer:
        begin(writer, rubric_in(path.parent))
        for number, levels in enumerate(scores):
            settle(writer, number, attempt(0, f"answer {number}", graded(*levels)))
    return Store(path)


def test_scores_near_the_threshold_have_their_turn_more_often(tmp_path: Path) -> None:
    near, far = ("partly", "yes"), ("contradicted", "no")  # 0.75 and 0
    store = scored(tmp_path / "s.duckdb", [near] * 40 + [far] * 40)
    order = to_label(store, RUN, 0.75, most=20)
    first = [number for item, _, _ in order if (number := int(item, 16)) < 40]
    assert len(order) == 20
    assert len(first) == 15


def test_the_order_is_that_of_the_seed_and_what_is_done_comes_last(tmp_path: Path) -> None:
    store = scored(tmp_path / "s.duckdb", [("partly", "yes"), ("supported", "no")] * 10)
    order = to_label(store, RUN, 0.6)
    assert to_label(store, RUN, 0.6) == order
    assert sorted(to_label(store, RUN, 0.6, seed=1)) == sorted(order)
    assert to_label(store, RUN, 0.6, seed=1) != order
    done = [item for item, _, _ in order[:3]]
    later = to_label(store, RUN, 0.6, done=done)
    assert {item for item, _, _ in later[-3:]} == set(done)
    assert sorted(later) == sorted(order)


def test_a_rubric_is_found_without_running_a_recipe(tmp_path: Path) -> None:
    path = fill(tmp_path, range(1))
    assert find_rubric(Store(path), RUN).name == "seen"


# In the terminal


def typed(path: Path, keys: Sequence[str], *more: str) -> str:
    """Run `agentloop label` in a terminal where somebody types; return what stood on the screen."""
    master, slave = pty.openpty()
    line = [sys.executable, "-m", "agentloop", "label", str(path), *more]
    with subprocess.Popen(
        line, stdin=slave, stdout=slave, stderr=slave, env=environment()
    ) as process:
        os.close(slave)
        screen = b""
        for key in keys:
            while not screen.endswith((b"quit\r\n", b"skips\r\n")):
                screen += os.read(master, 4096)
            os.write(master, key.encode())
            screen += b"|"
        screen += b"".join(_rest(master))
        assert process.wait() == 0
    os.close(master)
    return screen.decode()


def _rest(master: int) -> Iterator[bytes]:
    while True:
        try:
            yield (read := os.read(master, 4096))
        except OSError:  # so Linux says that nobody holds the other end any more
            return
        if not read:
            return


def test_people_label_with_single_keys_and_see_the_grade_only_then(tmp_path: Path) -> None:
    path = fill(tmp_path, range(3))
    screen = typed(path, "12q", "--annotator", "anna")
    before, after, *_ = screen.split("the machine:")
    assert "score" not in before
    assert "faithful" not in before
    assert "faithful" in after
    labels = read_labels(Store(path), RUN)
    assert [(x.said, x.who, x.blind) for x in labels] == [
        ("good", "anna", True),
        ("bad", "anna", True),
    ]
    assert "2 labels" in screen


def test_a_label_is_taken_back_and_given_again_no_longer_blind(tmp_path: Path) -> None:
    path = fill(tmp_path, range(3))
    typed(path, "1u3q")
    (label,) = read_labels(Store(path), RUN)
    assert (label.said, label.blind) == ("unsure", False)


def test_keys_typed_before_an_item_stood_there_answer_nothing(tmp_path: Path) -> None:
    path = fill(tmp_path, range(5))
    typed(path, ["1222hello 3", "2", "q"])
    assert [label.said for label in read_labels(Store(path), RUN)] == ["good", "bad"]


def test_what_is_taken_back_goes_with_its_levels_and_is_not_blind_in_another_sitting(
    tmp_path: Path,
) -> None:
    path = fill(tmp_path, range(3))
    typed(path, "112uq", "--criteria")
    assert read_labels(Store(path), RUN) == []
    typed(path, "2q")
    (label,) = read_labels(Store(path), RUN)
    assert (label.said, label.blind) == ("bad", False)


def test_a_rubric_that_is_not_found_is_missed_aloud(tmp_path: Path) -> None:
    path = fill(tmp_path, range(2))
    (tmp_path / "prompts" / "rubric.yaml").unlink()
    assert "--rubric FILE" in " ".join(typed(path, "q").split())


def test_levels_are_asked_for_and_may_be_skipped(tmp_path: Path) -> None:
    path = fill(tmp_path, range(2))
    typed(path, "13\nq", "--criteria")
    (label,) = read_labels(Store(path), RUN)
    assert label.levels == {"faithful": "supported"}


def test_what_was_labelled_comes_last(tmp_path: Path) -> None:
    path = fill(tmp_path, range(3))
    typed(path, "1q")
    typed(path, "1q")
    assert len(read_labels(Store(path), RUN)) == 2


def test_hostile_texts_are_written_out(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with Writer(path) as writer:
        begin(writer, rubric_in(tmp_path))
        settle(writer, 1, attempt(0, "\x1b[2Jgone \u202e \0", graded("supported", "yes")))
    screen = typed(path, "1")
    assert r"\x1b[2Jgone \u202e \x00" in screen
    assert "\x1b[2J" not in screen


def test_without_a_terminal_nobody_is_asked(tmp_path: Path, capsys: Any) -> None:
    path = fill(tmp_path, range(1))
    assert run_cli(["label", str(path)]) == 2
    assert "terminal" in capsys.readouterr().err
    assert read_inbox(path) == []


def test_a_run_without_grades_has_nothing_to_label(tmp_path: Path) -> None:
    assert to_label(Store(fill(tmp_path, [])), RUN, 0.5) == []
