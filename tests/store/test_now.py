"""How a run stands, as a store tells it: from its last rows, whatever lies before them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from agentloop.regrade import regrade
from agentloop.store import Store, now
from agentloop.store.files import connect
from agentloop.store.now import Now, read_now
from tests.builders import SEEDS, agent, marks, play, tiny


def standing(path: Path, run: str = "tiny", grading: int = 0) -> Now:
    counts = Store(path).counts(run, grading)
    with connect(path, write=False) as connection:
        return read_now(connection, counts, grading)


def change(path: Path, *statements: str) -> None:
    with connect(path, write=True) as connection:
        for sql in statements:
            connection.execute(sql)


def half(prompt: str) -> str:
    """Accept every other passage."""
    number = int(prompt.partition("number ")[2].partition(".")[0])
    return marks("yes" if number % 2 else "no")


def made(folder: Path, count: int = 4, **settings: Any) -> Path:
    model = agent(critique=half)
    return play(folder, model, seeds=SEEDS[:count], max_rounds=0, **settings).store


def test_a_finished_run_is_ended_with_nothing_on_its_way(tmp_path: Path) -> None:
    found = standing(made(tmp_path, items=4, budget_usd=3))
    assert (found.ended, found.running, found.on_the_way) == (True, False, 0)
    assert (found.target, found.target_kind, found.eta_seconds) == (4, "items", None)
    assert (found.budget_usd, found.watched) == (3, False)
    assert found.calls_per_second == pytest.approx(8, abs=7.5)
    assert found.scores == [(0, False), (1, True), (0, False), (1, True)]
    assert 0 <= found.age < 60
    told = json.loads(json.dumps(found.as_dict()))
    assert (told["scores"], told["running"]) == ([0, 1, 0, 1], False)


def test_what_was_begun_and_has_no_verdict_is_on_its_way(tmp_path: Path) -> None:
    path = made(tmp_path)
    change(
        path,
        "DELETE FROM verdicts WHERE item = (SELECT min(item) FROM items)",
        "UPDATE sessions SET stopped_by = NULL",
    )
    found = standing(path)
    assert (found.on_the_way, found.ended, found.running) == (1, False, True)


def test_a_run_without_a_word_is_not_called_running(tmp_path: Path) -> None:
    path = made(tmp_path)
    past = time.time() - 3600
    change(
        path,
        f"UPDATE sessions SET stopped_by = NULL, time = {past}",
        f"UPDATE calls SET time = {past}",
    )
    found = standing(path)
    assert (found.ended, found.running) == (False, False)
    assert found.age == pytest.approx(3600, abs=60)


def test_the_time_left_is_at_the_pace_of_the_last_minutes(tmp_path: Path) -> None:
    path = made(tmp_path, 8, items=40, per_seed=1)
    last = time.time()
    change(
        path,
        f"UPDATE sessions SET stopped_by = NULL, time = {last}, session = '{last - 4000:.6f}'",
        f"UPDATE verdicts SET time = {last - 1000}",
        f"UPDATE verdicts SET time = {last - 100} WHERE item IN (SELECT item FROM items LIMIT 3)",
    )
    assert standing(path).eta_seconds == pytest.approx(600 / 3 * 32)
    change(path, f"UPDATE sessions SET session = '{last - 150:.6f}'")
    assert standing(path).eta_seconds == pytest.approx(150 / 3 * 32)
    change(path, f"UPDATE verdicts SET time = {last - 1000}")
    assert standing(path).eta_seconds is None


def test_calls_are_those_of_the_last_minute_that_was_stored(tmp_path: Path) -> None:
    path = made(tmp_path)
    change(
        path,
        "UPDATE calls SET time = time - 3600",
        "UPDATE sessions SET session = '0', time = time - 3600",
        "UPDATE calls SET time = time - 70 WHERE item = (SELECT min(item) FROM items)",
    )
    found = standing(path)
    assert found.calls_per_second == 0.1


def test_of_many_calls_only_the_last_ones_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path)
    last = time.time()
    change(
        path,
        f"UPDATE sessions SET session = '0', time = {last}",
        f"UPDATE calls SET time = {last} - 7 + rowid",
    )
    assert standing(path).calls_per_second == round(8 / 60, 2)
    monkeypatch.setattr(now, "RECENT", 5)
    assert standing(path).calls_per_second == 1.0


def test_a_run_that_was_followed_by_a_longer_one_has_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path)
    made(tmp_path, 12, run="longer")
    monkeypatch.setattr(now, "RECENT", 5)
    assert len(standing(path).scores) == 4
    assert len(standing(path, "longer").scores) == 12


def test_scores_are_those_of_the_items_graded_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path, 40, run="many")
    monkeypatch.setattr(now, "RECENT", 7)
    assert len(standing(path, "many").scores) == 40
    change(path, "UPDATE verdicts SET score = NULL WHERE verdict = 'accepted'")
    assert standing(path, "many").scores == [(0, False)] * 20


def test_a_run_before_its_first_mark_has_begun_when_its_row_says(tmp_path: Path) -> None:
    path = made(tmp_path)
    change(path, "DELETE FROM sessions", "UPDATE calls SET time = 5", "UPDATE runs SET time = 7")
    found = standing(path)
    assert (found.stored, found.ended, found.budget_usd, found.target) == (7, False, None, None)


def test_a_grading_of_its_own_has_its_own_scores_and_calls(tmp_path: Path) -> None:
    path = made(tmp_path)
    rubric, critic = tmp_path / "prompts" / "rubric.yaml", agent(critique=marks("no"))
    critic.name, critic.identity = "scripted/other", {"model": "scripted/other", "endpoint": None}
    regrade(path, rubric=rubric, recipe=tiny(tmp_path), critic=critic)
    found = standing(path, grading=1)
    assert found.on_the_way is None
    assert found.ended
    assert 0 < found.calls_per_second <= 4
    assert found.scores == [(0, False)] * 4
    assert [accepted for _, accepted in standing(path).scores] == [False, True, False, True]
