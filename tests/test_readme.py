"""The README: its picture is the compiled graph's, its commands and code run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agentloop.checks.registry import PLACES, packaged_check
from agentloop.config import Settings
from agentloop.recipes import find_recipe
from agentloop.rubric import parse_rubric
from tests.endpoint import Endpoint

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every agentloop command, in order, from the blocks and from the table of models."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"`(agentloop run [^`]*--model [^`]*)`", README)
    return [line for line in lines if line.startswith("agentloop ")]


def test_the_picture_is_drawn_from_the_compiled_graph() -> None:
    drawn = find_recipe("grounded_qa").graph.get_graph().draw_mermaid()
    for line in blocks("mermaid")[0].splitlines():
        edge = line.strip()
        if "-->" in edge or "-.->" in edge:
            assert edge in drawn
    edges = [x.strip() for x in drawn.splitlines() if "--> " in x or "-.-> " in x]
    assert all(edge in blocks("mermaid")[0] for edge in edges)


def test_the_first_part_is_shorter_than_two_screens() -> None:
    assert len(README.split("\n## Reference")[0].splitlines()) <= 110


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in [line for block in blocks("sh") for line in block.splitlines()]:
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line


def test_the_rubric_can_be_read() -> None:
    rubric = parse_rubric(blocks("yaml")[0], "README.md")
    assert [c.name for c in rubric.criteria] == ["faithful", "useful"]
    more = parse_rubric(blocks("yaml")[1], "README.md")
    (checked,) = more.checked
    assert packaged_check(checked.check, checked.settings, "README.md").name


def test_every_packaged_check_is_named() -> None:
    assert [name for name in PLACES if f"`{name}`" not in README] == []


def test_the_settings_can_be_read() -> None:
    variety, rest = blocks("toml")
    assert Settings.model_validate(tomllib.loads(variety)).quota == "difficulty"
    settings = Settings.model_validate(tomllib.loads(rest))
    assert settings.role("critic").model == "anthropic/claude-sonnet-4-5"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "my_rubric.yaml").write_text(blocks("yaml")[0])
    passage = "The bell was cast in 1642 by a founder from Utrecht."
    draft = {"question": "When was the bell cast?", "answer": "In 1642.", "quote": passage}
    label = {"seed": {"passage": passage}, "candidate": draft, "good": True}
    (tmp_path / "labels.jsonl").write_text(json.dumps(label) + "\n")
    (tmp_path / "agentloop.toml").write_text('[prices."openai/fake"]\ninput = 0.1\noutput = 0.2\n')
    return tmp_path


def environment(endpoint: Endpoint) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(ROOT),
        "AGENTLOOP_BASE_URL": endpoint.url,
        "OPENAI_API_KEY": "none",
        "ANTHROPIC_API_KEY": "none",
        "AGENTLOOP_NOVELTY": "exact",  # the endpoint's drafts are all of one kind
        "AGENTLOOP_ON_COLLAPSE": "off",
    }


def test_every_command_runs(place: Path, endpoint: Endpoint) -> None:
    """In the README's order, in one folder; addresses are replaced by the loopback endpoint's."""
    assert len(commands()) >= 15
    for command in commands():
        words = shlex.split(command)[1:]
        if "--base-url" in words:
            words[words.index("--base-url") + 1] = endpoint.url
        if "ITEM" in words:
            words[words.index("ITEM")] = an_item(place)
        local = words[0] in ("run", "calibrate") and ("--model" not in words or "local" in words)
        if local:  # the embedded model has tests of its own; here its place is taken
            words = [word for word in words if word not in ("--model", "local")]
            words += ["--model", "openai/fake"]
        done = subprocess.run(
            [sys.executable, "-m", "agentloop", *words],
            capture_output=True,
            text=True,
            cwd=place,
            env=environment(endpoint),
            timeout=180,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def an_item(place: Path) -> str:
    command = [sys.executable, "-m", "agentloop", "export", "qa.duckdb", "--shape", "raw"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, check=True)
    return str(json.loads(done.stdout.splitlines()[0])["item"])


def test_the_python_runs(place: Path, endpoint: Endpoint) -> None:
    (place / "agentloop.toml").write_text(f'[roles.critic]\nbase_url = "{endpoint.url}"\n')
    for code in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=place,
            env=environment(endpoint),
            timeout=180,
        )
        assert done.returncode == 0, done.stderr
    assert (place / "qa.jsonl").read_text().count("\n") == 20
