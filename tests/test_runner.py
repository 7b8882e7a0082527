"""Runs: targets, resumes, refusals, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import agentloop as al
from agentloop.errors import (
    AccessError,
    IdentityError,
    RefusedRequest,
    SeedError,
    SettingsError,
    StoreError,
    TransientError,
    UnreachableError,
    UserError,
)
from agentloop.store import Store
from tests.builders import (
    GRAPH,
    PASSAGE,
    SEEDS,
    agent,
    asked,
    call_of,
    calls_of,
    command,
    draft,
    marks,
    play,
    python,
    serving,
    tiny,
    verdicts,
    write_graph,
    write_seeds,
)
from tests.endpoint import Endpoint


def settled(run: al.Run) -> list[str]:
    return [row["item"] for row in run.items("all")]


# Targets


@pytest.mark.parametrize("width", [1, 3, 16])
def test_accept_n_ends_at_exactly_n(tmp_path: Path, width: int) -> None:
    model = agent(critique=lambda prompt: marks("no" if len(prompt) % 2 else "yes"), revise="{}")
    run = play(tmp_path, model, seeds=SEEDS, accept=5, concurrency=width, max_rounds=0)
    assert run.counts["accepted"] == 5
    assert (run.stopped_by, run.exit_code) == ("accept", 0)


@pytest.mark.parametrize("width", [1, 2, 16])
def test_accept_as_many_as_there_are_seeds(tmp_path: Path, width: int) -> None:
    """The last items are in flight when the seeds end: the target is reached all the same."""
    run = play(tmp_path, agent(), seeds=SEEDS[:6], accept=6, per_seed=1, concurrency=width)
    assert run.counts["accepted"] == 6
    assert (run.stopped_by, run.exit_code) == ("accept", 0)


@pytest.mark.parametrize("width", [1, 2, 16])
def test_a_target_reached_by_the_last_item_of_the_cap_is_reached(
    tmp_path: Path, width: int
) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS, accept=6, items=6, concurrency=width)
    assert run.counts["accepted"] == 6
    assert (run.stopped_by, run.exit_code) == ("accept", 0)


@pytest.mark.parametrize("width", [1, 3, 16])
def test_items_n_settles_exactly_n(tmp_path: Path, width: int) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS, items=7, concurrency=width)
    assert sum(verdicts(run).values()) == 7
    assert (run.stopped_by, run.exit_code) == ("items", 0)
    assert len(settled(run)) == len(set(settled(run))) == 7


def test_items_are_settled_whatever_their_verdicts(tmp_path: Path) -> None:
    run = play(tmp_path, agent(generate="no"), seeds=SEEDS, items=3)
    assert verdicts(run)["failed"] == 3
    assert (run.stopped_by, run.exit_code) == ("items", 0)


def test_a_cap_of_items_stops_short_of_the_accepted(tmp_path: Path) -> None:
    run = play(tmp_path, agent(critique=marks("no")), seeds=SEEDS, accept=2, items=4, max_rounds=0)
    assert verdicts(run) == {"accepted": 0, "rejected": 4, "ungradable": 0, "failed": 0}
    assert (run.stopped_by, run.exit_code) == ("items", 3)


def test_without_a_target_every_seed_is_used_once(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=[*SEEDS[:5], SEEDS[0]])
    assert run.counts["accepted"] == run.counts["seeds"] == 5
    assert (run.stopped_by, run.exit_code) == ("seeds", 0)


@pytest.mark.parametrize("per_seed", [1, 3])
def test_seeds_are_used_again_up_to_per_seed(tmp_path: Path, per_seed: int) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:2], items=100, per_seed=per_seed)
    assert run.counts["accepted"] == 2 * per_seed
    assert (run.stopped_by, run.exit_code) == ("seeds", 3)
    rows = list(run.items())
    assert sorted((r["seed"]["passage"], r["sample"]) for r in rows) == [
        (seed["passage"], sample) for seed in SEEDS[:2] for sample in range(per_seed)
    ]
    assert all(row["inputs"] == {"sample": row["sample"]} for row in rows)
    assert run.counts["seeds"] == 2


def test_the_accept_target_starts_few_more_items_than_it_needs(tmp_path: Path) -> None:
    model = agent()
    run = play(tmp_path, model, seeds=SEEDS, accept=2, concurrency=16)
    assert run.counts["accepted"] == 2
    assert len(asked(model, "GENERATE")) <= 8


def test_a_surplus_is_told_from_the_bad(tmp_path: Path) -> None:
    """Items that were in flight when the target was reached are good, and over it."""
    run = play(tmp_path, agent(), seeds=SEEDS, accept=3, concurrency=16)
    reasons = Store(run.store).reasons()
    assert set(reasons) <= {"over_target"}
    assert run.counts["rejected"] == reasons.get("over_target", 0)


# Again, and on


@pytest.mark.parametrize(
    "target", [{}, {"accept": 3}, {"items": 4}, {"accept": 90}, {"accept": 6, "per_seed": 1}]
)
def test_a_finished_run_started_again_makes_no_call(tmp_path: Path, target: Any) -> None:
    model, again, seeds = agent(), agent(), SEEDS[:6]
    first = play(tmp_path, model, seeds=seeds, concurrency=4, **target)
    second = play(tmp_path, again, seeds=seeds, concurrency=4, **target)
    assert again.requests == []
    assert second.counts == first.counts
    assert second.exit_code == first.exit_code


def test_a_raised_target_goes_on_where_the_run_ended(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS, accept=2)
    model = agent()
    run = play(tmp_path, model, seeds=SEEDS, accept=5)
    assert run.counts["accepted"] == 5
    assert len(model.requests) == 6
    assert run.counts["calls"] == 10


def test_more_seeds_go_on_too(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:2])
    model = agent()
    run = play(tmp_path, model, seeds=SEEDS[:5])
    assert (run.counts["accepted"], len(model.requests)) == (5, 6)


def test_an_error_in_the_middle_keeps_what_was_paid(tmp_path: Path) -> None:
    """The critic's key is wrong: the drafts are there when it is right."""
    locked = agent(critique=AccessError("no access"))
    with pytest.raises(AccessError):
        play(tmp_path, locked, seeds=SEEDS[:3], concurrency=3)
    paid = len(asked(locked, "GENERATE"))
    assert paid >= 1
    model = agent()
    run = play(tmp_path, model, seeds=SEEDS[:3])
    assert run.counts["accepted"] == 3
    assert len(asked(model, "GENERATE")) == 3 - paid
    assert run.counts["calls"] == 6


def test_two_runs_in_one_store_do_not_mix(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:3])
    run = play(tmp_path, agent(critique=marks("no")), seeds=SEEDS[:2], run="other", max_rounds=0)
    assert verdicts(run)["rejected"] == 2
    assert Store(run.store).counts("tiny")["accepted"] == 3


# Killed


@pytest.mark.parametrize(("at", "width"), [(1, 1), (9, 1), (9, 4), (24, 4)])
def test_kill_9_costs_at_most_the_calls_in_flight(tmp_path: Path, at: int, width: int) -> None:
    graph, seeds = write_graph(tmp_path), write_seeds(tmp_path, 12)
    victim: list[int] = []
    in_flight: list[str] = []

    def misbehave(body: dict[str, Any], number: int) -> web.Response | None:
        if victim and number >= at:
            os.kill(victim.pop(), signal.SIGKILL)
            in_flight.append(call_of(body))
        return None

    with Endpoint(misbehave=misbehave) as server:
        line: list[str | Path] = [
            "run", graph, "--seeds", seeds, "--store", tmp_path / "qa.duckdb", "--json",
            "--model", "openai/x", "--base-url", server.url, "--concurrency", str(width),
        ]  # fmt: skip
        with command(*line, cwd=tmp_path) as process:
            victim.append(process.pid)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        before = calls_of(server)
        with command(*line, cwd=tmp_path) as process:
            out, err = process.communicate()
        assert process.returncode == 0, err
        prompts = calls_of(server)
    twice = [prompt for prompt in prompts[len(before) :] if prompt in before]
    assert len(twice) <= width
    if width == 1:
        assert twice == in_flight
    assert len(set(prompts)) == len(prompts) - len(twice)
    counts = json.loads(out)
    assert counts["calls"] == len(set(prompts))
    assert sum(counts[v] for v in ("accepted", "rejected", "ungradable", "failed")) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_items_in_flight_and_starts_no_other(
    tmp_path: Path, number: signal.Signals
) -> None:
    graph, seeds = write_graph(tmp_path), write_seeds(tmp_path, 12)
    victim: list[int] = []

    def misbehave(body: dict[str, Any], count: int) -> web.Response | None:
        if victim and count >= 5:
            os.kill(victim.pop(), number)
        return None

    with Endpoint(misbehave=misbehave) as server:
        line: list[str | Path] = [
            "run", graph, "--seeds", seeds, "--store", tmp_path / "qa.duckdb", "--json",
            "--model", "openai/x", "--base-url", server.url, "--concurrency", "1",
        ]  # fmt: skip
        with command(*line, cwd=tmp_path) as process:
            victim.append(process.pid)
            out, err = process.communicate()
        counts = json.loads(out)
        assert (process.returncode, counts["stopped_by"]) == (130, "interrupt")
        assert "Traceback" not in err
        done = sum(counts[v] for v in ("accepted", "rejected", "ungradable", "failed"))
        assert 1 <= done < 12
        assert counts["requests"] == server.requests
        with command(*line, cwd=tmp_path) as process:
            out, err = process.communicate()
        assert process.returncode == 0, err
        assert json.loads(out)["requests"] == server.requests
        assert len(set(calls_of(server))) == server.requests


INTERRUPTED = """
import os, signal, sys
import agentloop as al
from agentloop.errors import TransientError
from pathlib import Path
from tests.builders import SEEDS, agent, tiny

def interrupt(prompt=None):
    os.kill(os.getpid(), signal.SIGINT)
    return TransientError("busy", retry_after=600.0)

def again(event):
    if event.kind == "note":
        os.kill(os.getpid(), signal.SIGINT)

folder = Path(sys.argv[1])
run = al.run(
    tiny(folder), seeds=SEEDS[:3], store=folder / "qa.duckdb", progress=again,
    models={"generator": agent(generate=interrupt), "critic": agent(), "reviser": agent()},
)
print(run.exit_code, run.stopped_by, run.counts["accepted"], run.counts["calls"])
"""


def test_two_interrupts_before_the_first_reply_end_cleanly(tmp_path: Path) -> None:
    with python(INTERRUPTED, tmp_path, cwd=Path(__file__).parent.parent) as process:
        said, wrong = process.communicate()
    assert (said, wrong) == ("130 interrupt 0 0\n", "")


# Refused before the first call


def store_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("qa*"))


@pytest.mark.parametrize("store", ["qa.duckdb", "qa [1] *.duckdb"])
@pytest.mark.parametrize("status", [401, 403, 404])
def test_no_access_leaves_no_store_behind(tmp_path: Path, status: int, store: str) -> None:
    refuse = web.json_response
    with Endpoint(
        misbehave=lambda *_: refuse({"error": {"message": "no"}}, status=status)
    ) as server:
        with pytest.raises(AccessError) as caught:
            play(
                tmp_path, "openai/x", base_url=server.url, seeds=SEEDS, concurrency=4,
                store=tmp_path / store,
            )  # fmt: skip
        assert server.requests <= 4
    assert caught.value.exit_code == 2
    assert store_files(tmp_path) == []


def test_nobody_there_leaves_no_store_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentloop.models.limits.FIRST_PATIENCE", 0.2)
    with Endpoint() as server:
        url = server.url
    with pytest.raises(UnreachableError, match="nobody answers") as caught:
        play(tmp_path, "openai/x", base_url=url, seeds=SEEDS, concurrency=4)
    assert caught.value.exit_code == 3
    assert store_files(tmp_path) == []


def test_an_endpoint_that_dies_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    dead = threading.Event()
    refused = TransientError("`http://x`", connected=False)
    model = agent(critique=lambda _: refused if dead.is_set() else marks())

    def die(event: Any) -> None:
        if event.kind == "settled" and event.data["counts"]["accepted"] == 2:
            dead.set()

    with pytest.raises(UnreachableError):
        play(tmp_path, model, seeds=SEEDS[:5], progress=die, patience=0.2)
    counts = Store(tmp_path / "qa.duckdb").counts()
    assert (counts["accepted"], counts["stopped_by"]) == (2, "endpoint")
    run = play(tmp_path, agent(), seeds=SEEDS[:5])
    assert (run.counts["accepted"], run.counts["calls"]) == (5, 10)


def test_an_older_run_survives_a_wrong_key_for_a_new_one(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:2])
    with pytest.raises(AccessError):
        play(tmp_path, agent(generate=AccessError("no")), seeds=SEEDS[:2], run="new")
    assert Store(tmp_path / "qa.duckdb").runs() == ["tiny"]


def test_requests_that_are_all_refused_are_failed_items(tmp_path: Path) -> None:
    """A 400 is the item's fault: every item has a verdict, and the run has counts."""
    run = play(tmp_path, agent(generate=RefusedRequest("max_tokens is too large")), seeds=SEEDS[:3])
    assert verdicts(run)["failed"] == 3
    assert (run.counts["calls"], run.exit_code) == (0, 0)
    assert run.counts["requests"] >= 3
    assert "max_tokens" in next(run.items("failed"))["detail"]


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"seeds": []}, SeedError, "holds no seeds"),
        ({"seeds": [{"text": "x"}]}, SeedError, "passage"),
        ({"seeds": "no.jsonl"}, SeedError, "no seed file"),
        ({"seeds": None}, SettingsError, "no seeds are named"),
        ({"store": None}, SettingsError, "no store is named"),
        ({"store": "no/such/folder/qa.duckdb"}, StoreError, "there is no folder"),
        ({"accept": 0}, SettingsError, "accept"),
        ({"acept": 3}, SettingsError, "did you mean `accept`"),
        ({"rubric": "no.yaml"}, UserError, "no.yaml"),
        ({"prompts": "no"}, UserError, "no prompt folder `no`"),
        ({"models": {"critik": "x"}}, SettingsError, "unknown role `critik`"),
    ],
)
def test_a_wrong_setting_calls_nothing_and_writes_nothing(
    tmp_path: Path, settings: dict[str, Any], error: type[Exception], says: str
) -> None:
    model = agent()
    with pytest.raises(error, match=says):
        play(tmp_path, model, **settings)
    assert model.requests == []
    assert store_files(tmp_path) == []


def with_rubric(recipe: al.Recipe, text: str) -> al.Recipe:
    Path(recipe.prompts, "rubric.yaml").write_text(text)
    return recipe


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 1}, "seed"),
        ({"roles": {"critic": {"temperature": 0.5}}}, "models.critic"),
        ({"roles": {"generator": {"extra": {"top_k": 1}}}}, "models.generator"),
        ({"models": {"reviser": al.ScriptedModel([], name="scripted/b")}}, "models.reviser"),
    ],
)
def test_another_identity_is_refused_by_its_keys(
    tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    play(tmp_path, agent())
    model = agent()
    with pytest.raises(IdentityError, match=f"another `{key}`"):
        play(tmp_path, model, seeds=SEEDS[:2], **change)
    assert model.requests == []
    assert play(tmp_path, model, seeds=SEEDS[:2]).counts["accepted"] == 2


def test_another_rubric_prompt_check_or_candidate_is_refused(tmp_path: Path) -> None:
    recipe = tiny(tmp_path)
    play(tmp_path, agent(), recipe)
    rubric = Path(recipe.prompts, "rubric.yaml")
    prompt = Path(recipe.prompts, "generate.md")
    check = al.Check("new", lambda _c, _s: al.passed())

    class Other(al.Candidate):
        question: str
        answer: str
        reply: str

    rubric.write_text(rubric.read_text().replace("0.8", "0.7"))
    prompt.write_text(prompt.read_text() + ".")
    changed = al.Recipe(name="tiny", candidate=Other, prompts=recipe.prompts, checks=(check,))
    model = agent()
    with pytest.raises(IdentityError) as caught:
        play(tmp_path, model, changed)
    for key in ("candidate", "checks.new", "prompts.generate", "rubric"):
        assert f"`{key}`" in str(caught.value)
    assert "prompts.revise" not in str(caught.value)
    assert model.requests == []


def test_targets_caps_and_speed_are_not_identity(tmp_path: Path) -> None:
    play(tmp_path, agent(), accept=1)
    run = play(
        tmp_path, agent(), seeds=SEEDS[:3], items=3, concurrency=7, max_rounds=5, per_seed=2,
        roles={"critic": {"timeout": 9.0}},
    )  # fmt: skip
    assert run.counts["accepted"] == 3


def test_a_store_that_is_being_written_is_refused_before_any_call(tmp_path: Path) -> None:
    play(tmp_path, agent())
    model = agent()
    hold = (
        "import sys\nfrom agentloop.store.writer import Writer\n"
        "with Writer(sys.argv[1]):\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
    )
    with python(hold, tmp_path / "qa.duckdb") as owner:
        assert owner.stdout
        owner.stdout.readline()
        with pytest.raises(StoreError, match=str(owner.pid)):
            play(tmp_path, model, seeds=SEEDS[:2])
        owner.communicate("\n")
    assert model.requests == []


# Admission


def test_an_exact_copy_is_refused_and_names_its_twin(tmp_path: Path) -> None:
    model = agent(generate=[draft("Same."), draft("  SAME. ")])
    run = play(tmp_path, model, seeds=SEEDS[:2])
    assert verdicts(run) == {"accepted": 1, "rejected": 1, "ungradable": 0, "failed": 0}
    (row,) = run.items("rejected")
    assert row["reason"] == "duplicate"
    assert next(run.items())["item"] in row["detail"]


def test_a_copy_is_refused_across_resumes(tmp_path: Path) -> None:
    play(tmp_path, agent(generate=draft("Same.")), seeds=SEEDS[:1])
    run = play(tmp_path, agent(generate=draft("Same.")), seeds=SEEDS[:4], concurrency=4)
    assert verdicts(run)["accepted"] == 1
    assert Store(run.store).reasons() == {"duplicate": 3}


def test_twins_that_finish_together_do_not_both_pass(tmp_path: Path) -> None:
    scripted = agent(generate=draft("Same."))
    with serving(scripted) as server:
        run = play(tmp_path, "openai/x", base_url=server.url, seeds=SEEDS[:12], concurrency=12)
        assert server.peak > 1
    assert verdicts(run)["accepted"] == 1
    assert Store(run.store).reasons() == {"duplicate": 11}


def test_a_rejected_copy_blocks_nobody(tmp_path: Path) -> None:
    model = agent(generate=draft("Same."), critique=[marks("no"), marks()])
    run = play(tmp_path, model, seeds=SEEDS[:2], max_rounds=0)
    assert verdicts(run)["accepted"] == 1
    assert Store(run.store).reasons() == {"below_threshold": 1}


# Over HTTP


def test_requests_equal_the_servers_count(tmp_path: Path, endpoint: Endpoint) -> None:
    run = play(tmp_path, "openai/x", base_url=endpoint.url, seeds=SEEDS, items=60, concurrency=16)
    assert sum(verdicts(run).values()) == 60
    assert run.counts["requests"] == run.counts["calls"] == endpoint.requests
    assert run.counts["accepted"] > 0
    assert run.counts["rejected"] > 0
    assert run.counts["cost_usd"] is None
    assert 1 < endpoint.peak <= 16


def test_refused_and_busy_requests_are_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentloop.models.limits.BACKOFF", 0.0)

    def misbehave(body: dict[str, Any], number: int) -> web.Response | None:
        kind = (body.get("response_format") or {}).get("type")
        if kind == "json_schema":
            return web.json_response({"error": "no schemas here"}, status=400)
        if number % 5 == 0:
            return web.Response(status=503)
        return None

    notes: list[Any] = []
    with Endpoint(misbehave=misbehave) as server:
        run = play(
            tmp_path, "openai/x", base_url=server.url, seeds=SEEDS[:4],
            progress=lambda event: notes.append(event) if event.kind == "note" else None,
        )  # fmt: skip
        assert run.counts["requests"] == server.requests
    assert len(notes) == 1
    assert "json_object" in notes[0].data["text"]


def test_no_key_reaches_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with serving(agent()) as server:
        run = play(tmp_path, "openai/x", base_url=server.url, seeds=SEEDS[:2])
        assert "sk-very-secret" in str(server.headers)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"sk-very-secret" not in path.read_bytes()
    assert "sk-very-secret" not in str(list(run.items()))


# In Python


def test_a_run_says_what_came_of_it_in_one_line(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:2])
    assert str(run).startswith("2 accepted · 0 rejected · 0 ungradable · 0 failed · 0.0000 USD · ")
    assert (run.name, run.store) == ("tiny", tmp_path / "qa.duckdb")
    assert run.export(tmp_path / "out.jsonl") == 2


def test_inside_a_running_loop_arun_is_named(tmp_path: Path) -> None:
    async def notebook() -> al.Run:
        with pytest.raises(UserError, match=r"await agentloop\.arun"):
            play(tmp_path, agent())
        return await al.arun(
            tiny(tmp_path), seeds=SEEDS[:2], store=tmp_path / "qa.duckdb", model=agent()
        )

    assert asyncio.run(notebook()).counts["accepted"] == 2


def test_cancelling_a_run_frees_the_store_and_loses_nothing(tmp_path: Path) -> None:
    async def cancelled() -> None:
        task: asyncio.Task[al.Run]

        def stop(event: Any) -> None:
            if event.kind == "settled":
                task.cancel()

        task = asyncio.create_task(
            al.arun(
                tiny(tmp_path), seeds=SEEDS[:6], store=tmp_path / "qa.duckdb", model=agent(),
                concurrency=1, progress=stop,
            )
        )  # fmt: skip
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    again = agent()
    run = play(tmp_path, again, seeds=SEEDS[:6])
    assert run.counts["accepted"] == 6
    assert len(again.requests) <= 10


def test_the_store_can_be_read_while_this_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook looks at the store between two events, and from another thread."""
    monkeypatch.setattr("agentloop.store.writer.FOLD_LINES", 1)
    path, ended, wrong = tmp_path / "qa.duckdb", threading.Event(), []

    def look() -> None:
        while not ended.is_set():
            try:
                if path.exists() and Store(path).runs():
                    list(Store(path).examples(verdict="all"))
            except Exception as error:
                wrong.append(error)
                return

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        run = play(tmp_path, agent(), seeds=SEEDS, items=120, concurrency=4)
    finally:
        ended.set()
        watcher.join()
    assert wrong == []
    assert run.counts["accepted"] == 120


def test_a_bug_in_the_watcher_is_raised_and_the_store_is_whole(tmp_path: Path) -> None:
    def buggy(event: Any) -> None:
        if event.kind == "settled":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play(tmp_path, agent(), seeds=SEEDS[:4], progress=buggy)
    assert Store(tmp_path / "qa.duckdb").counts()["accepted"] == 1
    assert play(tmp_path, agent(), seeds=SEEDS[:4]).counts["accepted"] == 4


def test_a_bug_in_a_node_before_the_first_call_costs_its_item(tmp_path: Path) -> None:
    text = GRAPH.replace(
        "graph = recipe.compile()",
        "graph = al.standard_graph(recipe)\n"
        "def broken(state, runtime):\n    raise KeyError('oops')\n"
        "graph.nodes.pop('generate')\n"
        "graph.add_node('generate', broken)\n"
        "graph = graph.compile()",
    )
    graph = write_graph(tmp_path, text)
    run = al.run(str(graph), seeds=SEEDS[:2], store=tmp_path / "qa.duckdb", model=agent())
    assert verdicts(run)["failed"] == 2
    assert "KeyError" in next(run.items("failed"))["detail"]


def test_other_fields_of_a_seed_are_kept_and_names_can_be_mapped(tmp_path: Path) -> None:
    seeds = [{"body": PASSAGE, "topic": "rivers", "nested": {"a": [1, None, "ü"]}}]
    run = play(tmp_path, agent(), seeds=seeds, map={"passage": "body"})
    (row,) = run.items()
    assert row["seed"] == {"passage": PASSAGE, "topic": "rivers", "nested": {"a": [1, None, "ü"]}}


def test_events_tell_the_run_in_order(tmp_path: Path) -> None:
    events: list[Any] = []
    run = play(tmp_path, agent(), seeds=SEEDS[:3], progress=events.append)
    assert [e.kind for e in events] == ["started", *["settled"] * 3, "counts", "stopped"]
    assert [e.data["item"] for e in events[1:4]] == settled(run)
    assert events[-1].data["stopped_by"] == "seeds"
    assert {e.run for e in events} == {"tiny"}


def test_the_same_seed_gives_the_same_items_and_another_store_too(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        runs.append(play(tmp_path / name, agent(), seeds=SEEDS[:5]))
    assert settled(runs[0]) == settled(runs[1])


# What an item takes from outside


def drawing(folder: Path, draw: Any) -> al.Recipe:
    return tiny(folder, draw=draw)


def test_an_interrupted_item_replays_with_the_inputs_it_was_begun_with(tmp_path: Path) -> None:
    drawn = iter(range(99))

    def draw(seed: dict[str, Any], sample: int, chance: Any) -> dict[str, Any]:
        return {"mood": next(drawn)}

    recipe = drawing(tmp_path, draw)
    prompt = Path(recipe.prompts, "generate.md")
    prompt.write_text("GENERATE {{ seed.passage }} in mood {{ inputs.mood }}")
    with pytest.raises(AccessError):
        play(tmp_path, agent(critique=AccessError("no")), recipe, seeds=SEEDS[:1])
    model = agent()
    run = play(tmp_path, model, recipe, seeds=SEEDS[:1])
    assert run.counts["accepted"] == 1
    assert asked(model, "GENERATE") == []  # the draft was paid for
    assert next(run.items())["inputs"] == {"sample": 0, "mood": 0}


def test_an_interrupted_item_is_settled_though_its_seed_has_left_the_file(tmp_path: Path) -> None:
    with pytest.raises(AccessError):
        play(tmp_path, agent(critique=AccessError("no")), seeds=SEEDS[:1])
    run = play(tmp_path, agent(), seeds=SEEDS[1:3])
    assert run.counts["accepted"] == run.counts["seeds"] == 3


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda seed, sample, chance: {"x": seed["nothing"]}, "KeyError"),
        (lambda seed, sample, chance: {"x": {1, 2}}, "not JSON serializable"),
        (lambda seed, sample, chance: None, "TypeError"),
    ],
)
def test_a_bug_in_draw_costs_its_items_and_is_named(tmp_path: Path, draw: Any, says: str) -> None:
    run = play(tmp_path, agent(), drawing(tmp_path, draw), seeds=SEEDS[:2])
    assert verdicts(run)["failed"] == 2
    assert says in next(run.items("failed"))["detail"]


def test_chance_is_the_runs_seed_and_the_same_for_all_samples_of_a_seed(tmp_path: Path) -> None:
    def draw(seed: dict[str, Any], sample: int, chance: Any) -> dict[str, Any]:
        return {"pick": chance.sample(range(4), 4)[sample % 4]}

    recipe = drawing(tmp_path, draw)
    for seed in SEEDS[:5]:
        assert {recipe.inputs(seed, n, 7)["pick"] for n in range(4)} == {0, 1, 2, 3}
    orders = {tuple(recipe.inputs(SEEDS[0], n, run)["pick"] for n in range(4)) for run in range(9)}
    assert len(orders) > 1


def test_a_run_that_its_endpoint_ends_still_prints_its_counts(tmp_path: Path) -> None:
    with Endpoint() as gone:
        url = gone.url
    seeds = write_seeds(tmp_path, 2)
    line = ["run", str(write_graph(tmp_path)), "--seeds", str(seeds), "--store", "s.duckdb"]
    line += ["--model", "openai/x", "--base-url", url, "--json"]
    with command(*line, cwd=tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    counts = json.loads(out)
    assert (counts["run"], counts["requests"], counts["stopped_by"]) == ("mine", 0, "endpoint")
    assert not (tmp_path / "s.duckdb").exists()


class Stuck(al.ScriptedModel):
    async def aclose(self) -> None:
        raise OSError("its connection cannot be closed")


def test_a_model_that_cannot_be_closed_leaves_a_free_store(tmp_path: Path) -> None:
    model = agent()
    with pytest.raises(OSError, match="cannot be closed"):
        play(tmp_path, Stuck(model._answer), seeds=SEEDS[:2])
    assert play(tmp_path, agent(), seeds=SEEDS[:2]).counts["accepted"] == 2
