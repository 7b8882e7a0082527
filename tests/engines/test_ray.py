"""Actors of a Ray cluster: they die and are replaced, run where nothing of the driver's folder is,
and nothing is left of them. What every engine keeps is tested in `test_contract`, over Ray too."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.engines.cluster import ActorHand, Cluster
from agentloop.engines.connected import SMALL
from agentloop.errors import IdentityError, SettingsError, WorkerError
from agentloop.models.embedded import installed
from agentloop.records import Event
from agentloop.runner import dry_run_of
from agentloop.store import Store
from agentloop.store.files import connect
from tests.builders import GRAPH, agent, command, environment, python, serving, write_graph
from tests.endpoint import completion
from tests.engines import acting
from tests.engines.acting import ACTORS, Gathering, said, seeds
from tests.engines.test_processes import DEADLY, IN_A_WORKER, ONCE, notes
from tests.faults import work
from tests.faults.server import FaultyEndpoint
from tests.models.asking import nobody
from tests.models.test_embedded import children, ends

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes where Linux shows them"),
]
WIDE = 6
WORD = "a word that no other test writes into its recipe"


def play(recipe: Any, folder: Path, **settings: Any) -> al.Run:
    given = {"store": folder / "qa.duckdb", "seeds": seeds(12), "engine": "ray", "workers": 2}
    return al.run(recipe, **{**given, "concurrency": WIDE, **settings})


def seats() -> set[int]:
    """Return the actors of the tests' own cluster; another test process has one beside it."""
    ours = {actor for raylet in children() for actor in children(raylet)}
    return {pid for pid in ours if b"ray::Seat" in Path(f"/proc/{pid}/cmdline").read_bytes()}


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Two machines, as it were, each with a folder of its own; yields what a driver there knows."""
    ours = {name: value for name, value in environment().items() if not name.startswith("RAY_")}
    known = ours | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 64 * "7"}
    known["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    address = f"127.0.0.2:{free_port()}"
    head = ["--head", "--port", address.partition(":")[2], "--include-dashboard", "false"]
    with contextlib.ExitStack() as started:
        for number, more in ((2, head), (3, ["--address", address])):
            folder = tmp_path / f"node {number}"
            folder.mkdir()
            process = node(folder, known, "--node-ip-address", f"127.0.0.{number}", *more)
            started.enter_context(no_longer(process))
            started.callback(process.communicate, timeout=60)
            started.callback(process.terminate)
        yield known | {"RAY_ADDRESS": address}


def free_port() -> int:
    """Return a port that nobody listens at, above those that Ray keeps for its workers."""
    with socket.create_server(("127.0.0.2", 0)) as found:
        return int(found.getsockname()[1])


def node(folder: Path, known: dict[str, str], *more: str) -> subprocess.Popen[str]:
    """Start Ray in a folder, and wait until it stands."""
    line = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1"]
    line += ["--object-store-memory", str(SMALL), "--disable-usage-stats", *more]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        line, cwd=folder, env=known, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        said = []
        for told in process.stdout:
            said.append(told)
            if "--block" in told:
                return process
        raise AssertionError("".join(said))
    except BaseException:
        with no_longer(process):
            raise


@contextlib.contextmanager
def no_longer(process: subprocess.Popen[str]) -> Iterator[None]:
    """Leave no process behind, whatever fails meanwhile."""
    with process:
        try:
            yield
        finally:
            process.kill()


class Deadly(FaultyEndpoint):
    """Kills one actor after so many answers."""

    def __init__(self, answers: int):
        super().__init__(self._said, latency=0.01)
        self.seats: set[int] = set()
        """The actors that there were then."""
        self.usd = 0.0
        """What all that was said may have cost."""
        self._left = iter(range(answers))

    def _said(self, body: work.Json) -> work.Json | None:
        good = work.say(body)
        usage = completion(body, json.dumps(good))["usage"]
        self.usd += (usage["prompt_tokens"] + 4 * usage["completion_tokens"]) / 1e6
        return good

    def _take_aim(self, answers: int) -> None:
        super()._take_aim(answers)
        if answers and next(self._left, None) is None and not self.seats:
            self.seats = seats()
            os.kill(min(self.seats), signal.SIGKILL)


PRICED = """
[roles.{role}]
timeout = 30.0
max_tokens = 100
"""
PRICES = '[prices."openai/x"]\ninput = 1.0\noutput = 4.0\n'


class TestDeath:
    def test_an_actor_and_then_the_driver_are_killed(
        self, tmp_path: Path, ray_address: str
    ) -> None:
        """Of 2,000 items each is settled once; only what was in flight is paid twice."""
        items, wide, budget = 2000, 32, 2.0
        work.prepare(tmp_path, items)
        roles = "".join(PRICED.format(role=r) for r in ("generator", "critic", "reviser"))
        (tmp_path / "settings.toml").write_text(roles + PRICES)
        more = ["--engine", "ray", "--ray-address", ray_address, "--workers", "2"]
        more += ["--concurrency", str(wide), "--budget-usd", str(budget)]
        with Deadly(1000) as server:
            server.begin()
            process = work.start(tmp_path, server.url, *more)
            with no_longer(process):
                server.kill(process.pid, 2500, held=wide)
                code, _, _ = work.ended(process)
            assert (code, len(server.seats)) == (-signal.SIGKILL, 2)
            assert all(ends(pid) for pid in server.seats)
            server.begin()
            code, out, err = work.ended(work.start(tmp_path, server.url, *more))
        assert (code, err) == (0, ""), out
        answered = Counter(e.call for e in server.exchanges if e.answered)
        (killed,) = server.kills
        assert (
            answered.total() - len(answered) <= wide // 2
        )  # the driver left none that was answered
        assert len(killed.waiting) <= wide
        counts = json.loads(out)
        assert server.usd <= counts["cost_usd"] + counts["unsettled_usd"] + 1e-9 <= budget
        assert counts["calls"] == len(answered)
        with connect(tmp_path / work.STORE, write=False) as connection:
            found = connection.execute("SELECT count(*), count(DISTINCT item) FROM verdicts")
            assert found.fetchall() == [(items, items)]

    def test_its_end_is_told_in_words_and_others_go_on(
        self, tmp_path: Path, ray_address: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        capfd.readouterr()
        heard: list[Event] = []
        once = ONCE.replace("Path(__file__)", f"Path({str(tmp_path / 'my_graph.py')!r})")
        recipe = str(write_graph(tmp_path, DEADLY + once))
        model = al.ScriptedModel(acting.gladly)
        run = play(recipe, tmp_path, model=model, progress=heard.append)
        assert run.counts["accepted"] == 12
        (note,) = [note for note in notes(heard) if "takes its place" in note]
        found = re.fullmatch(
            r"worker \d was lost \(.+\); what it wrote is in (/\S+) on \S+: another takes its "
            r"place, and what it had in hand \(\d+\) goes on from the journal",
            note,
        )
        assert found is not None, note
        assert Path(found[1]).is_file()
        assert capfd.readouterr().out == ""


class TestRoom:
    """The cluster of the tests has room for so many actors."""

    def test_those_who_find_room_begin_and_make_all_calls(
        self, tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentloop.engines.cluster.SOON", 0.5)
        heard: list[Event] = []
        with taken(ACTORS - 1), Gathering(agent(), WIDE) as server:
            model = {"model": "openai/x", "base_url": server.url, "client": "direct"}
            run = play(str(write_graph(tmp_path)), tmp_path, progress=heard.append, **model)
            assert server.peak == WIDE
        assert run.counts["accepted"] == 12
        said_so = "workers: 1 of 2 for now; others join when the cluster has a processor for them"
        assert said_so in notes(heard)

    def test_where_all_are_busy_another_is_asked_for_and_comes_when_there_is_room(
        self, tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A processor is free as soon as one is asked for, as where a cluster grows by demand."""
        monkeypatch.setattr("agentloop.engines.demand.REPORT", 0.5)
        enough = tmp_path / "enough"
        busy = f"""
def think(candidate, seed):
    import time
    from pathlib import Path
    until = time.thread_time() + (0.0 if Path({str(enough)!r}).exists() else 0.02)
    while time.thread_time() < until:
        pass
    return al.passed()
"""
        recipe = GRAPH.replace("recipe =", f"{busy}\nrecipe =").replace(
            'prompts="prompts")', 'prompts="prompts", checks=(al.Check("think", think),))'
        )

        def listen(event: Event) -> None:
            if event.data.get("text") == "workers: 2 from here on: another has come":
                enough.touch()

        fill = Cluster._fill

        async def fill_and_free(cluster: Cluster, bench: Any) -> None:
            if bench.number == 1:
                left.close()
            await fill(cluster, bench)

        monkeypatch.setattr(Cluster, "_fill", fill_and_free)
        with contextlib.ExitStack() as left, serving(agent()) as server:
            left.enter_context(taken(ACTORS - 1))
            model = {"model": "openai/x", "base_url": server.url, "client": "direct"}
            graph = str(write_graph(tmp_path, recipe))
            run = play(graph, tmp_path, workers="auto", seeds=seeds(1500), progress=listen, **model)
            assert server.peak <= WIDE
        assert enough.exists()
        assert (run.counts["accepted"], run.counts["calls"]) == (1500, 3000)

    def test_where_there_is_none_it_waits(
        self, tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentloop.engines.cluster.SOON", 0.5)

        def leave(event: Event) -> None:
            if "no processor free" in event.data.get("text", ""):
                left.close()

        with contextlib.ExitStack() as left:
            left.enter_context(taken(ACTORS))
            model = al.ScriptedModel(acting.gladly)
            run = play(str(write_graph(tmp_path)), tmp_path, model=model, progress=leave)
        assert run.counts["accepted"] == 12

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_the_wait(self, tmp_path: Path, ray_address: str, number: int) -> None:
        """Nothing was begun, so that no store stays."""
        work.prepare(tmp_path, 2)
        more = ["--engine", "ray", "--ray-address", ray_address, "--progress", "plain"]
        with taken(ACTORS):
            process = command(*work.line("http://127.0.0.1:9/v1", *more), cwd=tmp_path)
            assert process.stderr is not None
            with no_longer(process):
                said = next((line for line in process.stderr if "no processor free" in line), "")
                assert said
                process.send_signal(number)
                code, _, err = work.ended(process)
        assert (code, "Traceback" in err) == (130, False), err
        assert not (tmp_path / work.STORE).exists()

    def test_as_many_as_there_are_processors_free(
        self, tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`auto`, and where nothing is said; each note is of another worker."""
        hired: list[int] = []
        start = ActorHand.start

        async def note(hand: ActorHand) -> None:
            hired.append(hand.number)
            await start(hand)

        monkeypatch.setattr(ActorHand, "start", note)
        with taken(ACTORS - 2):
            play(
                str(write_graph(tmp_path)),
                tmp_path,
                model=al.ScriptedModel(acting.gladly),
                workers="auto",
            )
        assert sorted(hired) == [0, 1]


@contextlib.contextmanager
def taken(processors: int) -> Iterator[None]:
    """Keep others from so many processors of the cluster, once it is free."""
    import ray

    class Idler:
        pass

    # waits until the actors of earlier runs have gone
    all_free = ray.remote(num_cpus=ACTORS)(Idler).remote()
    ray.get(all_free.__ray_ready__.remote())
    ray.kill(all_free)
    holder = ray.remote(num_cpus=processors)(Idler).remote()
    ray.get(holder.__ray_ready__.remote())
    try:
        yield
    finally:
        ray.kill(holder)


class TestElsewhere:
    GRAPH = GRAPH.replace(
        "recipe =",
        """def at_home(candidate, seed):
    from pathlib import Path
    import os
    Path("was here").write_text(str(os.getpid()))
    missing = not Path(__file__).with_name("at home").exists()
    return al.passed() if missing else al.fail("the driver's own folder was read")

recipe =""",
    ).replace('prompts="prompts")', 'prompts="prompts", checks=(al.Check("at_home", at_home),))')

    def test_nothing_assumes_a_shared_folder(
        self, tmp_path: Path, two_nodes: dict[str, str]
    ) -> None:
        """Each node has a recipe of the same name that fails, and the driver a folder of its own."""
        home = tmp_path / "home"
        home.mkdir()
        work.prepare(home, 20)
        (home / "my_graph.py").write_text(self.GRAPH)
        (home / "at home").touch()
        for folder in tmp_path.glob("node *"):
            write_graph(folder, "raise RuntimeError('not this one')")
        with FaultyEndpoint(work.say) as server:
            line = [sys.executable, "-m", "agentloop", *work.line(server.url, "--engine", "ray")]
            done = subprocess.run(
                line, cwd=home, env=two_nodes, capture_output=True, text=True, timeout=300
            )
        assert (done.returncode, done.stderr) == (0, "")
        counts = json.loads(done.stdout)
        assert (counts["accepted"], counts["failed"]) == (20, 0), counts
        assert [f.name for f in tmp_path.glob("*/was here")] == 2 * ["was here"]
        self.refuses_a_model_of_one_machine(home, two_nodes)

    def refuses_a_model_of_one_machine(self, home: Path, known: dict[str, str]) -> None:
        if not installed():
            return
        (home / "mine.gguf").write_bytes(b"GGUF")
        line = [sys.executable, "-m", "agentloop", "run", "my_graph.py", "--seeds", "seeds.jsonl"]
        line += ["--store", "other.duckdb", "--model", "local:mine.gguf", "--engine", "ray"]
        done = subprocess.run(
            line, cwd=home, env=known, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 2
        assert "`local:mine.gguf` answers on this machine alone" in done.stderr

    def test_a_worker_with_other_prompts_refuses(self, tmp_path: Path, ray_address: str) -> None:
        edit = (
            "    from pathlib import Path\n"
            "    critique = Path(__file__).parent / 'prompts' / 'critique.md'\n"
            "    critique.write_text('CRITIQUE {{ fence }}')\n"
        )
        recipe = write_graph(tmp_path, GRAPH + IN_A_WORKER + edit)
        with pytest.raises(IdentityError, match=r"another `prompts\.critique`"):
            play(str(recipe), tmp_path, model=al.ScriptedModel(said))
        assert not (tmp_path / "qa.duckdb").exists()

    def test_items_end_as_in_one_process(self, tmp_path: Path, ray_address: str) -> None:
        """A scripted model that is copied into the actors, on data without twins; no file stays."""
        before = set(Path(tempfile.gettempdir()).glob("agentloop-*/my_graph.py"))
        recipe = str(acting.recipe_in(tmp_path, f"{acting.GRAPH}# {WORD}\n"))
        settings: dict[str, Any] = {"model": al.ScriptedModel(said), "seeds": seeds(60)}
        run = play(recipe, tmp_path, **settings)
        here = al.run(recipe, store=tmp_path / "here.duckdb", concurrency=WIDE, **settings)
        assert acting.items_of(run) == acting.items_of(here)
        assert run.counts["accepted"] == here.counts["accepted"] > 0
        after = set(Path(tempfile.gettempdir()).glob("agentloop-*/my_graph.py"))
        assert [file for file in after - before if WORD in file.read_text()] == []

    def test_keys_come_along_and_warnings_come_home(
        self, tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-driver")
        warn = (
            "    import logging\n"
            "    for _ in range(2): logging.getLogger('mine').warning('mind %s\\nor fall', 'the gap')\n"
            "    for n in range(500): logging.getLogger('mine').warning('%d times', n)\n"
        )
        heard: list[Event] = []
        with serving(agent()) as server:
            recipe = write_graph(tmp_path, GRAPH + IN_A_WORKER + warn)
            play(
                str(recipe),
                tmp_path,
                model="openai/x",
                base_url=server.url,
                client="direct",
                progress=heard.append,
            )
            sent = {headers["Authorization"] for headers in server.headers}
        assert sent == {"Bearer sk-of-the-driver"}
        assert notes(heard).count("mine: mind the gap") == 1
        last = next(note for note in reversed(notes(heard)) if "warns of more" in note)
        log = re.fullmatch(r"a worker warns of more; the rest is in (/\S+) on \S+", last)
        assert log is not None, last
        assert "499 times" in Path(log[1]).read_text()
        assert 100 < len(notes(heard)) < 110
        assert b"sk-of-the-driver" not in (tmp_path / "qa.duckdb").read_bytes()


class TestEnd:
    def test_a_cluster_of_its_own_ends_with_the_run(self, tmp_path: Path) -> None:
        """After Ctrl-C what is in flight ends; nothing of Ray is left, nor does it say a word."""
        recipe, rows = write_graph(tmp_path), tmp_path / "seeds.jsonl"
        rows.write_text("".join(json.dumps(seed) + "\n" for seed in seeds(500)))
        line: list[str] = ["run", str(recipe), "--seeds", str(rows), "--store", "qa.duckdb"]
        line += ["--model", "openai/x", "--client", "direct", "--concurrency", str(WIDE)]
        line += ["--engine", "ray", "--workers", "2", "--progress", "plain", "--base-url"]
        with serving(agent()) as server:
            server.latency = 0.02
            process = command(*line, server.url, cwd=tmp_path, start_new_session=True)
            with no_longer(process):
                server.wait_for(20, 120)  # Ray itself has to start
                started = children(process.pid)
                assert len(started) > 2  # Ray's own, and its raylet among them
                os.killpg(process.pid, signal.SIGINT)
                code, _, err = work.ended(process)
            counts = Store(tmp_path / "qa.duckdb").counts()
            assert counts["requests"] == counts["calls"] == server.requests
        assert code == 130, err
        assert counts["calls"] == 2 * counts["accepted"] < 1000
        assert "Traceback" not in err
        assert "ray" not in err.replace("--engine ray", "").lower()
        assert all(ends(pid) for pid in started)


class TestOwnCluster:
    def test_where_ray_was_imported_before_others_do_not_reach_it(self, tmp_path: Path) -> None:
        """What listens on every address answers at 127.0.0.2 too."""
        script = (
            "import ray, socket\n"
            "from agentloop.engines.connected import started_here\n"
            "with started_here(1):\n"
            "    found = [int(ray.get_runtime_context().gcs_address.rpartition(':')[2])]\n"
            "    found.append(ray.nodes()[0]['NodeManagerPort'])\n"
            "    for port in found:\n"
            "        socket.create_connection(('127.0.0.1', port)).close()\n"
            "        try:\n"
            "            socket.create_connection(('127.0.0.2', port)).close()\n"
            "            print('open', port)\n"
            "        except ConnectionRefusedError:\n"
            "            print('shut')\n"
            "    print(ray._private.authentication.authentication_utils.is_token_auth_enabled())\n"
        )
        done = work.ended(python(script, cwd=tmp_path))
        assert (done.code, done.out) == (0, "shut\nshut\nTrue\n"), done.err


class TestRefusals:
    def refused(self, folder: Path, *words: str, **settings: Any) -> None:
        """Refuse to begin: one clear line, exit code 2, and no store."""
        with pytest.raises((SettingsError, WorkerError)) as caught:
            play(str(write_graph(folder)), folder, model=al.ScriptedModel(said), **settings)
        text = str(caught.value)
        assert caught.value.exit_code == 2
        assert [word for word in words if word not in text] == []
        assert "\n" not in text
        assert not (folder / "qa.duckdb").exists()

    def test_without_the_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        self.refused(tmp_path, "`--engine ray`", "pip install 'agentloop-data[ray]'")

    def test_where_the_driver_is_no_part_of_the_cluster(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "ray://somewhere", "HOST:PORT", ray_address="ray://somewhere:10001")

    def test_an_address_without_the_engine(self, tmp_path: Path) -> None:
        address: dict[str, Any] = {"ray_address": "127.0.0.1:6379", "engine": "local"}
        self.refused(tmp_path, "`ray_address`", "`--engine ray`", **address)
        with pytest.raises(SettingsError, match="`--engine ray`"):
            dry_run_of(str(write_graph(tmp_path)), seeds=seeds(1), model="openai/x", **address)

    def test_where_nobody_listens(self, tmp_path: Path) -> None:
        with nobody() as url:
            address = url.split("/")[2]
            script = (
                "import sys\n"
                "from pathlib import Path\n"
                "from tests.engines.test_ray import TestRefusals\n"
                "words = 'no Ray cluster answers', sys.argv[1]\n"
                "TestRefusals().refused(Path(sys.argv[2]), *words, ray_address=sys.argv[1])\n"
            )
            assert work.ended(python(script, address, tmp_path, cwd=os.getcwd())).code == 0

    def test_ray_is_not_imported_unless_it_is_asked_for(self, tmp_path: Path) -> None:
        script = (
            "import sys\n"
            "import agentloop.runner, agentloop.engines.cluster, agentloop.engines.processes\n"
            "print([name for name in sys.modules if name.partition('.')[0] == 'ray'])\n"
        )
        assert work.ended(python(script, cwd=tmp_path)) == (0, "[]\n", "")
