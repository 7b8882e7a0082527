"""The work of the fault tests: items whose right verdicts are known, and how a run of them is started.

The passage's number stands in every prompt, so that the server knows which item a call is for.
Two of three first drafts are good, the others are repaired; every fiftieth item's draft is the same.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.builders import command, python, write_graph, write_prompts

Json = dict[str, Any]


class Told(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def lasting(self) -> Told:
        """Return it without what `status --json` says of the moment at which it is asked."""
        if not self.out.startswith("{") or self.out.count("\n") > 1:
            return self
        said = json.loads(self.out)
        said.pop("now", None)
        return self._replace(out=json.dumps(said))


STORE = "work.duckdb"
NUMBER = re.compile(r"passage number (\d+)\.")
PASSAGE = "The river Elbe flows into the North Sea near Cuxhaven. This is passage number {}."
QUOTE = "The river Elbe flows into the North Sea"
TWIN = "good, and said of many passages"
RUBRIC = """
name: faults
accept_at: 0.8
criteria:
  - name: right
    ask: Is the answer right?
  - name: grounded
    ask: Does the passage carry it?
    evidence: quote
"""
PROMPTS = {
    "generate": "GENERATE {{ seed.passage }}",
    "critique": "CRITIQUE {{ seed.passage }} | {{ candidate.answer }}",
    "revise": "REVISE {{ seed.passage }} | {{ candidate.answer }} | {{ marks | length }}",
}
NEVER = {("GENERATE", 100), ("CRITIQUE", 200)}
"""Calls that the endpoint refuses for good: each costs its item."""

SETTINGS = "".join(
    f"[roles.{role}]\ntimeout = 8.0\n" for role in ("generator", "critic", "reviser")
)


def number_in(text: str) -> int:
    """Return the number of the passage that a prompt or a seed is about."""
    found = NUMBER.search(text)
    assert found is not None
    return int(found[1])


def numbered(row: Json) -> int:
    """Return the number of an example's passage."""
    return number_in(row["seed"]["passage"])


def is_weak(number: int) -> bool:
    """Whether the first draft needs a repair."""
    return number % 3 == 0


def is_twin(number: int) -> bool:
    """Whether the draft is the same as others'."""
    return number % 50 == 1


def say(body: Json) -> Json | None:
    """Answer as a good model would."""
    prompt = body["messages"][0]["content"]
    role = prompt.partition(" ")[0]
    number = number_in(prompt)
    if (role, number) in NEVER:
        return None
    if role == "CRITIQUE":
        return critique(weak="| weak" in prompt)
    if is_twin(number):
        return {"question": "What do they all say?", "answer": TWIN}
    quality = "weak" if role == "GENERATE" and is_weak(number) else "good"
    question = f"What does passage {number} say?"
    return {"question": question, "answer": f"{quality}, of passage {number}"}


def critique(weak: bool) -> Json:
    """Return a grade by RUBRIC."""
    return {
        "right": {"reason": "it is weak" if weak else "", "level": "no" if weak else "yes"},
        "grounded": {"quote": QUOTE, "reason": "", "level": "yes"},
    }


def prepare(folder: Path, items: int, filler: int = 0) -> None:
    """Write the recipe, its prompts, the settings, and seeds with so much text that nobody reads."""
    chance = random.Random(items)
    write_graph(folder)
    write_prompts(folder / "prompts", RUBRIC, **PROMPTS)
    (folder / "settings.toml").write_text(SETTINGS)
    with (folder / "seeds.jsonl").open("w") as file:
        for number in range(items):
            seed = {"passage": PASSAGE.format(number), "filler": chance.randbytes(filler).hex()}
            file.write(json.dumps(seed) + "\n")


def line(url: str, *more: str, store: str = STORE) -> tuple[str, ...]:
    """Return the words of `agentloop run` over the seeds."""
    return (
        *("run", "my_graph.py", "--seeds", "seeds.jsonl", "--store", store),
        *("--model", "openai/x", "--base-url", url, "--client", "direct"),
        *("--config", "settings.toml", "--json", "--progress", "none", *more),
    )


def start(folder: Path, url: str, *more: str) -> subprocess.Popen[str]:
    """Start `agentloop run` over the seeds, or go on with it."""
    return command(*line(url, *more), cwd=folder)


def ended(process: subprocess.Popen[str]) -> Told:
    """Wait for a process to end."""
    with process:
        out, err = process.communicate(timeout=300)
    return Told(process.returncode, out, err)


COMMANDS = """
import contextlib, io, json, sys
from agentloop.cli import run_cli

for line in json.loads(sys.argv[1]):
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_cli(line)
    out.flush()
    print(json.dumps([code, out.buffer.getvalue().decode(), err.getvalue()]), flush=True)
"""


def ask(folder: Path, *lines: Sequence[str]) -> list[Told]:
    """Let another process run commands of agentloop's, one after the other."""
    asked = python(COMMANDS, json.dumps(lines), cwd=folder)
    code, out, err = ended(asked)
    assert (code, err) == (0, ""), err
    return [Told(*json.loads(told)) for told in out.splitlines()]
