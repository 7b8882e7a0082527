"""Worker processes: they die and are replaced, end with who drives, refuse what is not theirs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import agentloop as al
from agentloop.engines.bench import Bench
from agentloop.engines.hand import Hand, told
from agentloop.errors import IdentityError, RecipeError, SettingsError, WorkerError
from agentloop.recipes import FoundRecipe
from agentloop.records import Event
from agentloop.store import Store
from tests.builders import GRAPH, agent, calls_of, command, python, said_by, serving, write_graph
from tests.endpoint import Endpoint
from tests.engines import acting
from tests.engines.acting import Echo, Gathering, gladly, said, seeds, silent_after
from tests.faults import work
from tests.faults.server import FaultyEndpoint
from tests.models.test_embedded import children, ends, needs_runtime

WIDE = 6
DEADLY = (
    GRAPH.replace(
        "import agentloop",
        """import os, signal
from pathlib import Path
import agentloop""",
    )
    .replace(
        'prompts="prompts")',
        """prompts="prompts", checks=(al.Check("dies", dies),))""",
    )
    .replace(
        "recipe =",
        """def dies(candidate, seed):
    if "number 5." in seed["passage"] and may_die():
        os.kill(os.getpid(), signal.SIGKILL)
    return al.passed()

recipe =""",
    )
)
ONCE = """
def may_die():
    try:
        Path(__file__).with_name("died").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
"""
ALWAYS = """
def may_die():
    return True
"""
IN_A_WORKER = f"""
import os
if os.getpid() != {os.getpid()}:
"""


def play(recipe: Any, folder: Path, **settings: Any) -> al.Run:
    given = {"store": folder / "qa.duckdb", "seeds": seeds(12), "workers": 2, "concurrency": WIDE}
    return al.run(recipe, **{**given, **settings})


def notes(told: list[Event]) -> list[str]:
    return [event.data["text"] for event in told if event.kind == "note"]


class Narrowing(Gathering):
    """Answers everybody, and from some moment on nobody until so many wait at once."""

    def __init__(self, model: al.ScriptedModel, together: int):
        super().__init__(model, 0)
        self._wanted = together

    def gather(self) -> None:
        """Begin to wait."""
        self.peak = 0
        self._together.clear()
        self._missing = self._wanted


class TestAuto:
    """`auto`: as many workers as have enough to do."""

    def test_those_who_idle_go_and_the_rest_makes_all_calls(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentloop.engines.demand.REPORT", 0.5)
        monkeypatch.setattr("agentloop.engines.processes.processors", lambda: 3)

        def listen(event: Event) -> None:
            if event.data.get("text") == "workers: 1 from here on: more had too little to do":
                server.gather()

        with Narrowing(agent(), WIDE) as server:
            server.latency = 0.2
            model = {"model": "openai/x", "base_url": server.url, "client": "direct"}
            recipe = str(write_graph(tmp_path))
            run = play(recipe, tmp_path, workers="auto", seeds=seeds(120), progress=listen, **model)
            assert server.peak == WIDE
        assert (run.counts["accepted"], run.counts["calls"]) == (120, 240)

    def test_what_one_had_in_hand_that_died_when_it_was_to_go_is_walked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its place is gone before anybody knows how it ended, and nothing else is under way."""
        monkeypatch.setattr("agentloop.engines.demand.REPORT", 0.1)
        monkeypatch.setattr("agentloop.engines.processes.processors", lambda: 2)
        ended, leave, rest = Hand.ended, Bench.leave, asyncio.Event()
        gone, held, settled = list[str](), list[int](), list[str]()

        async def late(hand: Hand) -> str:
            await rest.wait()
            return await ended(hand)

        def leave_and_die(bench: Bench) -> None:
            leave(bench)
            assert bench.hand is not None
            held.append(len(bench.jobs))
            bench.hand.kill()

        def listen(event: Event) -> None:
            if "from here on" in event.data.get("text", ""):
                gone.append(event.data["text"])
            settled.extend([event.kind] if event.kind == "settled" else [])
            if gone and len(settled) + held[0] == 16:
                rest.set()

        monkeypatch.setattr(Hand, "ended", late)
        monkeypatch.setattr(Bench, "leave", leave_and_die)
        with serving(agent()) as server:
            server.latency = 0.3
            model = {"model": "openai/x", "base_url": server.url, "client": "direct"}
            recipe = str(write_graph(tmp_path))
            more: dict[str, Any] = {"workers": "auto", "concurrency": 2, "seeds": seeds(16)}
            run = play(recipe, tmp_path, progress=listen, **more, **model)
        assert len(held) == 1
        assert run.counts["accepted"] == 16


class TestDeath:
    def test_a_worker_that_is_killed_is_replaced_and_its_items_go_on(self, tmp_path: Path) -> None:
        """What was in the journal answers again: only calls in flight are made twice."""
        heard: list[Event] = []
        with serving(agent()) as server:
            run = play(
                str(write_graph(tmp_path, DEADLY + ONCE)),
                tmp_path,
                model="openai/x",
                base_url=server.url,
                progress=heard.append,
            )
            twice = Counter(calls_of(server)).total() - len(set(calls_of(server)))
        assert run.counts["accepted"] == run.counts["seeds"] == 12
        assert run.counts["calls"] == 24
        assert twice <= WIDE // 2
        (note,) = notes(heard)
        assert "was killed by SIGKILL: another takes its place" in note

    def test_an_item_that_kills_every_worker_fails_and_no_other_does(self, tmp_path: Path) -> None:
        with serving(agent()) as server:
            run = play(
                str(write_graph(tmp_path, DEADLY + ALWAYS)),
                tmp_path,
                model="openai/x",
                base_url=server.url,
            )
        ended = {acting.number(row["seed"]["passage"]): row for row in run.items("all")}
        assert (ended[5]["verdict"], ended[5]["reason"]) == ("failed", "error")
        assert (
            ended[5]["detail"] == "3 worker processes died over it; the last was killed by SIGKILL"
        )
        assert [n for n, row in ended.items() if row["verdict"] != "accepted"] == [5]
        assert run.counts["calls"] == 11 * 2 + 1

    def test_money_of_a_worker_that_dies_is_booked(self, tmp_path: Path) -> None:
        """What was under way may have been billed: it stays booked, and the cap holds."""
        (tmp_path / "agentloop.toml").write_text("")
        settings: dict[str, Any] = {
            "prices": {"openai/x": {"input": 1000, "output": 4000}},
            **acting.SMALL,
        }
        with serving(agent()) as server:
            run = play(
                str(write_graph(tmp_path, DEADLY + ONCE)),
                tmp_path,
                model="openai/x",
                base_url=server.url,
                budget_usd=50,
                **settings,
            )
            paid = sum(cost(body, agent()) for body in server.bodies)
        counts = run.counts
        assert counts["accepted"] == 12
        assert counts["cost_usd"] <= paid <= counts["cost_usd"] + counts["unsettled_usd"] + 1e-9

    def test_what_a_worker_has_started_does_not_hide_its_death(self, tmp_path: Path) -> None:
        """A fork holds the worker's end of the connection until the run is over."""
        fork = """
def may_die():
    reading = os.open(Path(__file__).with_name("until"), os.O_RDONLY | os.O_NONBLOCK)
    once = first_time()
    if once and os.fork() == 0:
        os.set_blocking(reading, True)
        os.read(reading, 1)
        os._exit(0)
    return once
"""
        recipe = write_graph(tmp_path, DEADLY + ONCE.replace("may_die", "first_time") + fork)
        os.mkfifo(tmp_path / "until")
        with serving(agent()) as server, (tmp_path / "until").open("r+b", 0):
            run = play(str(recipe), tmp_path, model="openai/x", base_url=server.url, max_seconds=60)
        assert (run.counts["accepted"], run.stopped_by) == (12, "seeds")

    @pytest.mark.skipif(sys.platform != "linux", reason="Linux ends it, and nobody else does")
    def test_a_worker_that_holds_pythons_lock_ends_with_the_driver(self, tmp_path: Path) -> None:
        stuck = """
def may_die():
    with Path(__file__).with_name("stuck").open("w") as file:
        file.write(str(os.getpid()))
    __import__("re").match("(a+)+$", 60 * "a" + "b")
"""
        recipe, rows = write_graph(tmp_path, DEADLY + stuck), tmp_path / "seeds.jsonl"
        rows.write_text("".join(json.dumps(seed) + "\n" for seed in seeds(6)))
        os.mkfifo(tmp_path / "stuck")
        line = ["run", str(recipe), "--seeds", str(rows), "--store", "qa.duckdb"]
        with serving(agent()) as server:
            line += ["--model", "openai/x", "--base-url", server.url, "--workers", "2"]
            process = command(*line, cwd=tmp_path)
            worker = int((tmp_path / "stuck").read_text())
            process.kill()
            process.communicate()
        try:
            assert ends(worker)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)

    def test_the_driver_is_killed_and_nothing_is_left_of_its_workers(self, tmp_path: Path) -> None:
        wide, items = 8, 60
        work.prepare(tmp_path, items)
        more = ("--concurrency", str(wide), "--workers", "2")
        with Heard(work.say) as server:
            server.begin()
            process = work.start(tmp_path, server.url, *more)
            server.kill(process.pid, 40, held=wide)
            workers = children_of(process, server)
            code, _, _ = work.ended(process)  # the workers hold its stderr: it ends when they have
            assert code == -signal.SIGKILL
            assert all(ends(pid) for pid in workers)
            server.begin()
            code, out, err = work.ended(work.start(tmp_path, server.url, *more))
            assert (code, err) == (0, "")
            lost = len(server.kills[0].waiting)
            counts = json.loads(out)
            assert counts["requests"] == counts["calls"] == server.requests - lost
        assert lost <= wide
        assert sum(counts[v] for v in ("accepted", "rejected", "ungradable", "failed")) == items


class Heard(FaultyEndpoint):
    """Tells when it was asked for the first time."""

    asked = threading.Event()

    async def _chat(self, request: web.Request) -> web.Response:
        self.asked.set()
        return await super()._chat(request)


def cost(body: dict[str, Any], model: al.ScriptedModel) -> float:
    usage = said_by(model, body)["usage"]
    return float(usage["prompt_tokens"] * 1000 + usage["completion_tokens"] * 4000) / 1e6


def children_of(process: subprocess.Popen[str], server: Heard) -> set[int]:
    """Return the workers of a run that has begun to ask; none where the system does not tell."""
    assert server.asked.wait(60)
    return children(process.pid) if Path("/proc").is_dir() else set()


class TestStart:
    def refused(self, folder: Path, lines: str, *words: str) -> None:
        """Run a recipe that is another in a worker: one clear line, exit code 2, and no store."""
        recipe = write_graph(folder, GRAPH + IN_A_WORKER + lines)
        model = {"model": "openai/x", "base_url": "http://127.0.0.1:9/v1"}
        with pytest.raises((IdentityError, RecipeError, WorkerError)) as caught:
            play(str(recipe), folder, **model)
        said = str(caught.value)
        assert caught.value.exit_code == 2
        assert [word for word in words if word not in said] == []
        assert "\n" not in said
        assert [path.name for path in folder.glob("*.duckdb*")] == []

    def test_a_worker_with_another_recipe_refuses(self, tmp_path: Path) -> None:
        other = '    recipe = __import__("dataclasses").replace(recipe, draw=lambda *_: {})\n'
        self.refused(tmp_path, other, "another `draw`", "did a file change")

    def test_a_worker_with_other_prompts_refuses(self, tmp_path: Path) -> None:
        edit = (
            "    from pathlib import Path\n"
            "    critique = Path(__file__).parent / 'prompts' / 'critique.md'\n"
            "    critique.write_text('CRITIQUE {{ fence }}')\n"
        )
        self.refused(tmp_path, edit, "another `prompts.critique`")

    def test_a_recipe_that_cannot_be_imported_there_is_one_error(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "    import nowhere_at_all\n", "my_graph.py", "nowhere_at_all")

    def test_a_worker_that_dies_at_its_start_is_one_error(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "    os._exit(7)\n", "does not start: it ended with exit code 7")

    def test_workers_find_modules_in_the_order_that_the_driver_does(self, tmp_path: Path) -> None:
        """Beside an installed agentloop may lie a backport that nobody needs any more."""
        home, site = Path(al.__file__).parent.parent, tmp_path / "site"
        site.mkdir()
        for name in ("agentloop", "graphs", "prompts", "tests"):
            (site / name).symlink_to(home / name)
        (site / "uuid.py").write_text("raise SyntaxError('an old backport')\n")
        recipe = write_graph(tmp_path)
        script = (
            "import sys\n"
            "sys.path = [p for p in sys.path if p not in ('', sys.argv[1])] + [sys.argv[2]]\n"
            "import agentloop as al\n"
            "assert al.__file__.startswith(sys.argv[2])\n"
            "from tests.engines.test_processes import play, Path\n"
            "run = play(sys.argv[3], Path(sys.argv[4]), model='openai/x', base_url=sys.argv[5])\n"
            "print(run.counts['accepted'])\n"
        )
        with serving(agent()) as server:
            process = python(script, home, site, recipe, tmp_path, server.url, cwd=tmp_path)
            assert work.ended(process) == (0, "12\n", "")

    def test_there_are_no_more_workers_than_calls_at_once(self, tmp_path: Path) -> None:
        heard: list[Event] = []
        model = al.ScriptedModel(said)
        recipe = acting.recipe_in(tmp_path)
        run = play(
            str(recipe), tmp_path, model=model, workers=3, concurrency=1, progress=heard.append
        )
        assert sum(run.counts[v] for v in ("accepted", "rejected", "ungradable", "failed")) == 12
        assert [n for n in notes(heard) if n.startswith("workers: 1 and no more")]


class TestObjects:
    def test_a_recipe_and_models_of_a_module_are_sent(self, tmp_path: Path) -> None:
        """The model answers in the workers, and costs what it says."""
        recipe = acting.recipe_at(tmp_path)
        run = play(
            recipe, tmp_path, models={"generator": Echo(), "critic": al.ScriptedModel(gladly)}
        )
        assert run.counts["accepted"] == 12
        assert run.counts["cost_usd"] == 12 * 0.25

    @needs_runtime
    def test_an_embedded_model_is_started_once_for_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its server is a stand-in, which only the process that drives knows how to start."""
        started: list[Path] = []

        def spawn(path: Path, key: str) -> subprocess.Popen[bytes]:
            started.append(path)
            said = json.dumps({"url": server.url.removesuffix("/v1")})
            code = f"import sys; print({said!r}, flush=True); sys.stdin.read()"
            pipe = subprocess.PIPE
            return subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe)

        (weights := tmp_path / "mine.gguf").write_bytes(b"GGUF")
        monkeypatch.setattr("agentloop.models.embedded._spawn", spawn)
        roles = {role: {"logprobs": "off"} for role in ("generator", "critic")}
        with serving(agent()) as server:
            recipe, model = str(write_graph(tmp_path)), f"local:{weights}"
            run = play(recipe, tmp_path, model=model, roles=roles, seeds=seeds(3))
            assert server.requests == 6
        assert (run.counts["accepted"], len(started)) == (3, 1)

    @pytest.mark.parametrize(
        ("model", "why"),
        [
            pytest.param(agent(), "cannot be sent", id="of a function in a function"),
            pytest.param(
                acting.Shut(ValueError("two\nlines")), "cannot be sent.*: two;", id="own code fails"
            ),
            pytest.param(
                acting.Shut(RuntimeError()), "cannot be sent.*: RuntimeError", id="no word"
            ),
            pytest.param(acting.Jammed(), "cannot be opened.*: no server here", id="opens nowhere"),
            pytest.param(
                al.ScriptedModel(["one", "two"]), "`scripted/model` answers in order", id="in order"
            ),
        ],
    )
    def test_a_model_that_cannot_be_sent_is_refused(
        self, tmp_path: Path, model: Any, why: str
    ) -> None:
        recipe = str(write_graph(tmp_path))
        with pytest.raises(SettingsError, match=f"`workers`: a Model object .*{why}") as caught:
            play(recipe, tmp_path, model=model)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "qa.duckdb").exists()

    def test_a_graph_of_ones_own_that_stands_in_no_file_is_refused(self, tmp_path: Path) -> None:
        recipe = acting.recipe_at(tmp_path)
        found = FoundRecipe(recipe, recipe.compile(), "mine", Path())
        with pytest.raises(SettingsError, match="a graph that stands in no file"):
            play(found, tmp_path, model=al.ScriptedModel(gladly))
        assert not (tmp_path / "qa.duckdb").exists()

    def test_what_stands_in_the_script_itself_is_refused(self, tmp_path: Path) -> None:
        write_graph(tmp_path)
        script = (
            "import sys, agentloop as al\n"
            "from agentloop.errors import SettingsError\n"
            "class QA(al.Candidate):\n    question: str\n    answer: str\n"
            "recipe = al.Recipe(name='mine', candidate=QA, prompts=sys.argv[1])\n"
            "try:\n"
            "    al.run(recipe, seeds=[{'passage': 'x'}], store=sys.argv[2], workers=2,\n"
            "           model='openai/x', base_url='http://127.0.0.1:9/v1')\n"
            "except SettingsError as error:\n    print(error)\n"
        )
        process = python(script, tmp_path / "prompts", tmp_path / "s.duckdb", cwd=tmp_path)
        code, out, err = work.ended(process)
        assert (code, err) == (0, "")
        assert (
            "the recipe cannot be sent to another process: `QA` stands in the script itself" in out
        )


class TestInterrupt:
    def interrupted(self, folder: Path, server: Endpoint, times: int) -> work.Told:
        """Run, and press Ctrl-C in the midst of it."""
        recipe, rows = write_graph(folder), folder / "seeds.jsonl"
        rows.write_text("".join(json.dumps(seed) + "\n" for seed in seeds(500)))
        line: list[str] = ["run", str(recipe), "--seeds", str(rows), "--store", "qa.duckdb"]
        line += ["--model", "openai/x", "--base-url", server.url, "--client", "direct"]
        line += ["--concurrency", str(WIDE), "--workers", "2", "--progress", "plain"]
        process = command(*line, cwd=folder, start_new_session=True)
        server.wait_for(20)
        os.killpg(process.pid, signal.SIGINT)
        if times > 1:
            assert process.stderr is not None
            for line_said in process.stderr:
                if "press again" in line_said:
                    break
            os.killpg(process.pid, signal.SIGINT)
        return work.ended(process)

    def test_after_one_what_is_in_flight_ends(self, tmp_path: Path) -> None:
        with serving(agent()) as server:
            server.latency = 0.02
            code, _, err = self.interrupted(tmp_path, server, 1)
            counts = Store(tmp_path / "qa.duckdb").counts()
            assert counts["requests"] == counts["calls"] == server.requests
        assert code == 130, err
        assert "Traceback" not in err
        assert counts["calls"] == 2 * counts["accepted"] < 1000

    def test_after_two_nobody_is_waited_for(self, tmp_path: Path) -> None:
        with Endpoint(misbehave=silent_after(14, agent())) as server:
            code, _, err = self.interrupted(tmp_path, server, 2)
            counts = Store(tmp_path / "qa.duckdb").counts()
            assert counts["requests"] == server.requests == 14 + WIDE
        assert code == 130, err
        assert "Traceback" not in err
        assert counts["calls"] == 14


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "ended with exit code 3"),
        (-9, "was killed by SIGKILL"),
        (-99, "was killed by signal 99"),
    ],
)
def test_how_a_process_ended_is_said_in_words(code: int, words: str) -> None:
    assert told(code) == words
