"""Every example runs as a newcomer would run it, against a loopback endpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.endpoint import Endpoint

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_example_runs(path: Path, tmp_path: Path, endpoint: Endpoint) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "AGENTLOOP_MODEL": "openai/fake",
            "AGENTLOOP_BASE_URL": endpoint.url,
            "AGENTLOOP_NOVELTY": "exact",  # its drafts are all of one kind
            "AGENTLOOP_ON_COLLAPSE": "off",
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert endpoint.requests > 0


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_example_is_short(path: Path) -> None:
    code = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(code) <= 25


@pytest.mark.parametrize(("name", "field"), [("passages", "passage"), ("tasks", "task")])
def test_the_sample_seeds_are_many_and_varied(name: str, field: str) -> None:
    from agentloop.seeds import Seeds

    seeds = Seeds(ROOT / "examples" / f"{name}.jsonl")
    seeds.check((field, "topic", "difficulty"))
    rows = [seed.fields for seed in seeds]
    assert len(rows) >= 60
    assert seeds.duplicates == 0
    assert len({row["topic"] for row in rows}) >= 16
    assert {row["difficulty"] for row in rows} == {"easy", "medium", "hard"}
    if field == "passage":
        assert all(80 <= len(row["passage"].split()) <= 200 for row in rows)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("snippets", "llama3_exec"),
        ("maths", "star"),
        ("maths", "best_of_n"),
        ("artefacts", "phi4_reverse"),
        ("passages", "phi4_revise"),
        ("passages", "solver_gap"),
    ],
)
def test_every_recipe_has_seeds_that_it_reads(name: str, recipe: str) -> None:
    from agentloop.checks.answers import final_answer
    from agentloop.recipes import find_recipe
    from agentloop.seeds import Seeds

    seeds = Seeds(ROOT / "examples" / f"{name}.jsonl")
    seeds.check((*find_recipe(recipe).recipe.load().reads, "topic", "difficulty"))
    rows = [seed.fields for seed in seeds]
    assert len(rows) >= 12
    assert seeds.duplicates == 0
    if recipe == "star":
        assert all(final_answer(row["answer"]) for row in rows)
