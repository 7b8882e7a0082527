"""The command line: manners, exit codes, one clear line for every mistake."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from aiohttp import web

from agentloop.cli import cli, run_cli
from agentloop.recipes import find_recipe
from agentloop.store import Store
from tests.endpoint import Endpoint

ROOT = Path(__file__).resolve().parent.parent
TASKS = str(ROOT / "examples" / "tasks.jsonl")
COMMANDS = sorted(cli.commands)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_line(endpoint: Endpoint, *more: str, seeds: str = TASKS) -> list[str]:
    line = [
        "run",
        "instructions",
        "--seeds",
        seeds,
        "--store",
        "s.duckdb",
        "--model",
        "openai/fake",
    ]
    return [*line, "--base-url", endpoint.url, "--progress", "none", *more]


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


@pytest.mark.parametrize("command", ["", *COMMANDS, "recipes show", "rubric lint"])
def test_help_is_as_in_the_golden_file(command: str, golden: Any, capsys: Any) -> None:
    assert run_cli([*command.split(), "--help"]) == 0
    golden(f"help/{command.replace(' ', '-') or 'agentloop'}.txt", capsys.readouterr().out)


def test_every_option_has_help() -> None:
    for command in cli.commands.values():
        assert command.help
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


def test_every_command_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in COMMANDS:
        assert f"agentloop {command}" in readme, command


BROKEN_RUBRICS = {
    "unquoted yes and no": (
        "name: r\naccept_at: 0.5\ncriteria: [{name: a, ask: b, levels: [no, yes]}]",
        "quote them",
    ),
    "unknown key": (
        "name: r\naccept_at: 0.5\ncriteria: [{name: a, ask: b, wieght: 2}]",
        "did you mean `weight`",
    ),
    "floor that is no level": (
        "name: r\naccept_at: 0.5\ncriteria: [{name: a, ask: b, floor: 'good'}]",
        "not a level",
    ),
    "not YAML": ("name: [", "is not YAML"),
}


@pytest.mark.parametrize("case", BROKEN_RUBRICS)
def test_a_wrong_rubric_is_one_line_and_exit_2(case: str, endpoint: Endpoint, capsys: Any) -> None:
    text, hint = BROKEN_RUBRICS[case]
    code = run_cli(run_line(endpoint, "--rubric", write("r.yaml", text)))
    refused(code, 2, hint, endpoint, capsys)


BROKEN_SEEDS = {
    "missing.jsonl": (None, "there is no seed file"),
    "empty.jsonl": ("", "holds no seeds"),
    "broken.jsonl": ('{"task": "a"}\n{"task": \n', "line 2"),
    "field.jsonl": ('{"body": "a"}\n', "--map task=FIELD"),
    "text.txt": ("hello", "seeds are read from"),
    "list.json": ('{"task": "a"}', "must hold a JSON list"),
    "nul.jsonl": ('{"task": "a\\u0000b"}\n', "NUL"),
    "surrogate.jsonl": ('{"task": "a\\ud800b"}\n', "surrogate"),
}


@pytest.mark.parametrize("name", BROKEN_SEEDS)
def test_wrong_seeds_are_one_line_and_exit_2(name: str, endpoint: Endpoint, capsys: Any) -> None:
    text, hint = BROKEN_SEEDS[name]
    if text is not None:
        write(name, text)
    code = run_cli(run_line(endpoint, seeds=name))
    refused(code, 2, hint, endpoint, capsys)


WRONG_WORDS = {
    "recipe": (["run", "grounded_aq"], "did you mean `grounded_qa`"),
    "recipe file": (["run", "nowhere.py"], "there is no recipe file"),
    "model without provider": (["--model", "gpt-5"], "write `openai/gpt-5`"),
    "model prefix": (["--model", "opneai/gpt-5"], "did you mean `openai`"),
    "gguf": (["--model", "local:nowhere.gguf"], "there is no file"),
    "accept": (["--accept", "0"], "accept"),
    "concurrency": (["--concurrency", "0"], "concurrency"),
    "not a number": (["--items", "many"], "--items"),
    "client": (["--client", "fast"], "client"),
    "progress": (["--progress", "loud"], "progress"),
    "url": (["--base-url", "localhost:8000"], "is not an address"),
    "config": (["--config", "nowhere.toml"], "there is no settings file"),
    "prompts": (["--prompts", "nowhere"], "there is no prompt folder"),
    "map": (["--map", "task"], "--map"),
    "option": (["--itmes", "3"], "--items"),
    "store folder": (["--store", "nowhere/s.duckdb"], "there is no folder"),
}


@pytest.mark.parametrize("case", WRONG_WORDS)
def test_a_wrong_word_is_one_line_and_exit_2(case: str, endpoint: Endpoint, capsys: Any) -> None:
    words, hint = WRONG_WORDS[case]
    line = run_line(endpoint)
    if words[0] == "run":
        line[1] = words[1]
    else:
        line += words
    refused(run_cli(line), 2, hint, endpoint, capsys)


def refused(code: int, expected: int, hint: str, endpoint: Endpoint, capsys: Any) -> None:
    out, err = capsys.readouterr()
    assert code == expected, err
    assert hint in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert out == ""
    assert endpoint.requests == 0
    assert not list(Path().glob("s.duckdb*"))


@pytest.mark.parametrize(
    "arguments", [["stauts", "s.duckdb"], ["status"], ["status", "none.duckdb"]]
)
def test_wrong_commands_are_one_line(arguments: list[str], capsys: Any) -> None:
    assert run_cli(arguments) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_unreachable_endpoint_is_one_line_and_exit_3(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("agentloop.models.limits.FIRST_PATIENCE", 0.2)
    for client in ("direct", "litellm"):
        line = [
            "run",
            "instructions",
            "--seeds",
            TASKS,
            "--store",
            "s.duckdb",
            "--progress",
            "none",
        ]
        line += ["--model", "openai/x", "--base-url", "http://127.0.0.1:9/v1", "--client", client]
        assert run_cli(line) == 3
        out, err = capsys.readouterr()
        assert out == ""
        assert "nobody answers at `http://127.0.0.1:9/v1`" in err
        assert len(err.strip().splitlines()) == 1
        assert not list(Path().glob("s.duckdb*"))


@pytest.mark.parametrize(("status", "hint"), [(401, "OPENAI_API_KEY"), (404, "/v1")])
def test_a_refusing_endpoint_is_one_line_and_exit_2(status: int, hint: str, capsys: Any) -> None:
    def refuse(body: dict[str, Any], number: int) -> web.Response:
        return web.json_response({"error": {"message": "no"}}, status=status)

    with Endpoint(misbehave=refuse) as endpoint:
        assert run_cli(run_line(endpoint, "--concurrency", "1")) == 2
        assert endpoint.requests == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert hint in err
    assert len(err.strip().splitlines()) == 1
    assert not list(Path().glob("s.duckdb*"))


def test_one_store_from_run_to_export(endpoint: Endpoint, capsys: Any) -> None:
    assert run_cli(run_line(endpoint, "--items", "12", "--json")) == 0
    counts = json.loads(capsys.readouterr().out)
    assert run_cli(["status", "s.duckdb"]) == 0
    assert f"{counts['accepted']} accepted" in capsys.readouterr().out
    assert run_cli(["export", "s.duckdb", "--shape", "raw", "--verdict", "all"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 12
    assert run_cli(["why", "s.duckdb", rows[0]["item"][:8]]) == 0
    assert rows[0]["item"] in capsys.readouterr().out
    assert run_cli(["why", "s.duckdb", rows[0]["item"], "--json"]) == 0
    story = json.loads(capsys.readouterr().out)
    assert story["verdict"]["verdict"] == rows[0]["verdict"]
    assert story["calls"][0]["key"] == "generator/0/-/0/0/0"


def test_export_to_a_file_says_how_many(endpoint: Endpoint, capsys: Any) -> None:
    run_cli(run_line(endpoint, "--items", "12"))
    assert run_cli(["export", "s.duckdb", "-o", "out.jsonl"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    lines = Path("out.jsonl").read_text().splitlines()
    assert f"{len(lines)} lines in out.jsonl" in err
    for line in lines:
        roles = [m["role"] for m in json.loads(line)["messages"]]
        assert roles == ["user", "assistant"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["export", "s.duckdb", "--shape", "mesages"], "did you mean `messages`"),
        (["export", "s.duckdb", "--verdict", "good"], "unknown verdict"),
        (["export", "s.duckdb", "--where", "scor > 1"], "--where"),
        (["export", "s.duckdb", "--run", "other"], "has no run `other`"),
        (["why", "s.duckdb", "zzzz"], "has no item"),
    ],
)
def test_wrong_questions_are_one_line(
    arguments: list[str], hint: str, endpoint: Endpoint, capsys: Any
) -> None:
    run_cli(run_line(endpoint, "--items", "1"))
    capsys.readouterr()
    assert run_cli(arguments) == 2
    err = capsys.readouterr().err
    assert hint in err
    assert len(err.strip().splitlines()) == 1


def test_settings_come_from_flag_then_variable_then_file(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    write("agentloop.toml", f'model = "openai/file"\nbase_url = "{endpoint.url}"\nitems = 5\n')
    line = ["run", "instructions", "--seeds", TASKS, "--json", "--progress", "none", "--store"]
    assert run_cli([*line, "a.duckdb"]) == 0
    assert endpoint.bodies[-1]["model"] == "file"
    monkeypatch.setenv("AGENTLOOP_MODEL", "openai/variable")
    assert run_cli([*line, "b.duckdb"]) == 0
    assert endpoint.bodies[-1]["model"] == "variable"
    assert run_cli([*line, "c.duckdb", "--model", "openai/flag"]) == 0
    assert endpoint.bodies[-1]["model"] == "flag"
    monkeypatch.setenv("AGENTLOOP_MODLE", "openai/typo")
    assert run_cli([*line, "d.duckdb"]) == 2
    assert "did you mean `AGENTLOOP_MODEL`" in capsys.readouterr().err


def test_role_settings_reach_the_requests(endpoint: Endpoint) -> None:
    write(
        "agentloop.toml",
        "[roles.generator]\ntemperature = 0.1\nmax_tokens = 77\nextra = { top_p = 0.5 }\n"
        '[roles.critic]\nstructured = "prompt"\n',
    )
    assert run_cli(run_line(endpoint, "--items", "3", "--critic", "openai/judge")) == 0
    drafts = [b for b in endpoint.bodies if b["model"] == "fake" and b["max_tokens"] == 77]
    assert drafts
    assert all(b["temperature"] == 0.1 and b["top_p"] == 0.5 for b in drafts)
    assert all("seed" in b for b in endpoint.bodies)
    judged = [b for b in endpoint.bodies if b["model"] == "judge"]
    assert judged
    assert all("response_format" not in b for b in judged)
    assert all("JSON schema" in b["messages"][-1]["content"] for b in judged)


def test_init_gives_a_recipe_that_runs_and_is_left_alone_the_second_time(
    endpoint: Endpoint, capsys: Any
) -> None:
    assert run_cli(["init", "mine", "--from", "instructions"]) == 0
    prompt = Path("mine/prompts/instructions/generate.md")
    prompt.write_text("## user\nMINE {{ seed.task }}\n")
    line = run_line(endpoint, "--items", "2")
    line[1] = "mine/instructions.py"
    assert run_cli(line) == 0
    assert endpoint.bodies[0]["messages"][0]["content"].startswith("MINE ")
    capsys.readouterr()
    assert run_cli(["init", "mine", "--from", "instructions"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert prompt.read_text().startswith("## user\nMINE")


def test_init_writes_through_no_link(tmp_path: Path, capsys: Any) -> None:
    Path("mine").mkdir()
    Path("mine/instructions.py").symlink_to(tmp_path / "outside.py")
    assert run_cli(["init", "mine", "--from", "instructions"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert not (tmp_path / "outside.py").exists()


def test_init_copies_what_steps_ask_by_and_draw_from(capsys: Any) -> None:
    assert run_cli(["init", "mine", "--from", "constitution"]) == 0
    copied = {path.name for path in Path("mine/prompts/constitution").iterdir()}
    assert {"answer.md", "object.md", "amend.md", "principles.txt", "rubric.yaml"} <= copied
    Path("mine/prompts/constitution/principles.txt").write_text("The answer is kind.\n")
    found = find_recipe("mine/constitution.py").recipe
    assert set(found.inputs({"question": "?"}, 0)["principles"]) == {"The answer is kind."}
    capsys.readouterr()
    assert run_cli(["recipes", "show", "constitution"]) == 0
    shown = capsys.readouterr().out
    assert all(f"## {name}" in shown for name in ("principles.txt", "object.md", "critique.md"))


def test_recipes_are_listed_and_shown(capsys: Any) -> None:
    assert run_cli(["recipes"]) == 0
    out = capsys.readouterr().out
    assert "grounded_qa" in out
    assert "reads passage" in out
    assert run_cli(["recipes", "show", "grounded_qa"]) == 0
    shown = capsys.readouterr().out
    for part in ("```mermaid", "## rubric.yaml", "## generate.md", "## critique.md"):
        assert part in shown
    assert run_cli(["recipes", "show", "nothing"]) == 2


def test_doctor_says_what_is_there_and_no_secrets(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert run_cli(["doctor", "--json"]) == 0
    out = capsys.readouterr().out
    report = json.loads(out)
    assert report["packages"]["duckdb"]
    assert report["keys"] == ["OPENAI_API_KEY"]
    assert "sk-secret" not in out
    assert run_cli(["doctor"]) == 0
    assert "OPENAI_API_KEY" in capsys.readouterr().out
    assert run_cli(["doctor", "--fetch-model", "qwen"]) == 2


def test_export_into_a_closed_pipe_ends_quietly(endpoint: Endpoint) -> None:
    run_cli(run_line(endpoint, "--items", "40", "--per-seed", "1"))
    command = (
        f"{sys.executable} -m agentloop export s.duckdb --verdict all --shape raw | head -c 10"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=clean_env())
    assert done.stdout == '{"agentloo'
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_store_whose_name_is_not_utf8_is_one_line(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cli(run_line(endpoint, "--items", "1"))
    Path("s.duckdb").rename("odd\udcff.duckdb")
    capsys.readouterr()
    assert run_cli(["status", "odd\udcff.duckdb"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not UTF-8" in line


@pytest.mark.parametrize("asked", ["status", "why"])
def test_who_reads_no_further_has_had_enough(endpoint: Endpoint, asked: str) -> None:
    run_cli(run_line(endpoint, "--items", "1"))
    (row,) = Store("s.duckdb").examples(verdict="all")
    what = row["item"] if asked == "why" else ""
    command = (
        f"{sys.executable} -m agentloop {asked} s.duckdb {what} | true; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=clean_env())
    assert (done.returncode, done.stderr) == (0, "")


def clean_env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_interrupt_flushes_says_how_to_go_on_and_exits_130() -> None:
    with Endpoint(latency=0.02) as endpoint:
        line = [*run_line(endpoint, "--items", "50", "--concurrency", "4", "--json")]
        line[line.index("none")] = "json"
        process = subprocess.Popen(
            [sys.executable, "-m", "agentloop", *line],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_env(),
        )
        assert process.stderr is not None
        settled = 0
        for event in map(json.loads, process.stderr):
            settled += event["kind"] == "settled"
            if settled == 2:
                break
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        counts = json.loads(out)
        assert counts["stopped_by"] == "interrupt"
        done = sum(counts[v] for v in ("accepted", "rejected", "ungradable", "failed"))
        assert 2 <= done < 50
        assert run_cli(run_line(endpoint, "--items", "50")) == 0


def test_init_keeps_a_recipes_own_prompt_folder(endpoint: Endpoint) -> None:
    assert run_cli(["init", "mine", "--from", str(ROOT / "examples" / "write_graph.py")]) == 0
    line = run_line(endpoint, "--items", "1")
    line[1] = "mine/headline.py"
    line[line.index("--seeds") + 1] = str(ROOT / "examples" / "passages.jsonl")
    assert run_cli(line) == 0


def detached(redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with its streams as a shell's redirections say."""
    line = shlex.join([sys.executable, "-m", "agentloop", *arguments])
    return subprocess.run(
        ["bash", "-c", f"{line} {redirections}"], capture_output=True, text=True, check=False
    )


def test_a_run_goes_on_without_any_stream(endpoint: Endpoint) -> None:
    done = detached("<&- >&- 2>&-", *run_line(endpoint, "--items", "3"))
    assert done.returncode == 0
    assert Store("s.duckdb").counts()["seeds"] == 3


def test_a_run_outlives_those_who_watch_it(endpoint: Endpoint) -> None:
    line = run_line(endpoint, "--items", "20", "--progress", "json")
    assert detached("2> >(head -1 > watched)", *line).returncode == 0
    assert Store("s.duckdb").counts()["stopped_by"] == "items"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", [["--help"], ["recipes"], ["doctor", "--json"]])
def test_a_full_disk_behind_stdout_is_one_line(command: list[str]) -> None:
    done = detached("> /dev/full", *command)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "agentloop: the output cannot be written: No space left on device"
    ]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--store", ""], "`store`: must be a file"),
        (["--store", "."], "`store`: must be a file"),
        (["--store", "q" * 300], "`store`: cannot be a file: File name too long"),
        (["--run", " "], "`run`: must be printable"),
        (["--run", "a\x1b[1m"], "`run`: must be printable"),
        (["--map", "task=a", "--map", "task=b"], "`task` is `a` already"),
    ],
)
def test_names_that_cannot_be_are_refused(
    endpoint: Endpoint, capsys: Any, more: list[str], says: str
) -> None:
    assert run_cli(run_line(endpoint, *more)) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert says in error
    assert endpoint.bodies == []


def test_a_blank_seed_is_an_empty_one(endpoint: Endpoint, capsys: Any) -> None:
    write("blank.jsonl", '{"task": "   "}\n')
    assert run_cli(run_line(endpoint, seeds="blank.jsonl")) == 2
    assert "field `task` is empty" in capsys.readouterr().err
