"""Small recipes, scripted agents and stores for the tests.

A test recipe's prompts begin with a word in capitals, so that one scripted model can play every role
and a test can say which answer each role gives.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

import agentloop as al
from agentloop.models.base import Reply, Request
from tests.endpoint import Endpoint, completion, text_of

Answer = str | Reply | Exception
Script = Answer | Iterable[Answer] | Callable[[str], Answer]
"""One answer for good, several in turn, or a function of the prompt."""


class QA(al.Candidate):
    question: str
    answer: str


PROMPTS = {
    "generate": "GENERATE {{ seed.passage }} | sample {{ inputs.sample }}",
    "critique": "CRITIQUE {{ candidate.answer }} | {% for c in criteria %}{{ c.name }} {% endfor %}"
    "| reference {{ reference }} | {{ fence }}",
    "ask": "ASK {{ criterion.name }} {{ candidate.answer }} | {{ fence }}",
    "evidence": "EVIDENCE {{ candidate.answer }} {% for w in wanted %}{{ w.name }}={{ w.need }} "
    "{% endfor %}| {{ fence }}",
    "reference": "REFERENCE {{ candidate.question }} | {{ fence }}",
    "criteria": "CRITERIA {{ count }} for {{ seed.passage }}",
    "audit": "AUDIT {{ candidate.answer }} | {% for c in criteria %}{{ c.name }} {% endfor %}"
    "| {{ fence }}",
    "audit_ask": "AUDITASK {{ criterion.name }} {{ candidate.answer }} | {{ fence }}",
    "revise": "REVISE {{ candidate.answer }} "
    "| {% for m in marks %}{{ m.name }}: {{ m.reason }} {% endfor %}"
    "| {% for c in checks %}{{ c.name }}: {{ c.evidence }} {% endfor %}",
}
RUBRIC = """
name: tiny
accept_at: 0.8
criteria:
  - name: right
    ask: Is the answer right?
"""
QUIET = {
    "AGENTLOOP_AUDIT": "off",
    "AGENTLOOP_CANARIES": "off",
    "AGENTLOOP_NOVELTY": "exact",
    "AGENTLOOP_ON_COLLAPSE": "off",
}
"""A test that wants audits, canaries or near-duplicates asks for them."""
PASSAGE = "The river Elbe rises in the Giant Mountains and flows into the North Sea near Cuxhaven."
SEEDS = [{"passage": f"{PASSAGE} This is passage number {n}."} for n in range(40)]


def write_prompts(folder: Path, rubric: str = RUBRIC, **prompts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**PROMPTS, **prompts}.items():
        (folder / f"{name}.md").write_text(text)
    (folder / "rubric.yaml").write_text(rubric)
    return folder


def tiny(folder: Path, rubric: str = RUBRIC, **parts: Any) -> al.Recipe:
    """Return a recipe with prompts of its own under `folder`."""
    prompts = write_prompts(folder / "prompts", rubric)
    return al.Recipe(**{"name": "tiny", "candidate": QA, "prompts": str(prompts), **parts})


def draft(answer: str = "In the Giant Mountains.", question: str = "Where does it rise?") -> str:
    return json.dumps({"question": question, "answer": answer})


def mark(level: str = "yes", reason: str = "", **more: str) -> dict[str, str]:
    return {"reason": reason, "level": level, **more}


def marks(level: str = "yes", reason: str = "") -> str:
    """Return a written grade by RUBRIC."""
    return json.dumps({"right": mark(level, reason or ("" if level == "yes" else "it is wrong"))})


def per_seed(prompt: str) -> str:
    """Answer GENERATE with a draft that differs from seed to seed and sample to sample."""
    return draft(f"As {prompt.partition('GENERATE ')[2]}")


def agent(**scripts: Script) -> al.ScriptedModel:
    """Return a model that plays every role: `agent(generate=draft(), critique=marks("no"))`."""
    plays = {"generate": per_seed, "critique": marks(), "audit": marks(), **scripts}
    turns: dict[str, Iterator[Answer]] = {}

    def answer(request: Request) -> Answer:
        prompt = request.messages[0]["content"]
        role = prompt.split(maxsplit=1)[0].lower()
        script = plays[role]
        if isinstance(script, str | Reply | Exception):
            return script
        if callable(script):
            return script(prompt)
        return next(turns.setdefault(role, iter(script)))

    return al.ScriptedModel(answer)


def by_first_letters(text: str) -> Any:
    """Embed a text so that those with the same first letters mean the same."""
    import numpy as np

    from agentloop.novelty.semantic import WIDTH

    vector = (
        np.random.default_rng(list(text[:6].encode())).standard_normal(WIDTH).astype(np.float32)
    )
    return vector / np.linalg.norm(vector)


def roles(model: al.ScriptedModel) -> list[str]:
    """Return the first word of every prompt that was asked, in order."""
    return [request.messages[0]["content"].split(maxsplit=1)[0] for request in model.requests]


def asked(model: al.ScriptedModel, role: str) -> list[Request]:
    return [r for r in model.requests if r.messages[0]["content"].startswith(role)]


def play(folder: Path, model: Any, recipe: Any = None, **settings: Any) -> al.Run:
    """Run a tiny recipe into `folder/qa.duckdb`, one item at a time unless told otherwise."""
    given = {"seeds": SEEDS[:1], "store": folder / "qa.duckdb", "model": model, "concurrency": 1}
    return al.run(recipe or tiny(folder), **{**given, **settings})


def only(run: al.Run) -> al.Item:
    """Return the one item of a run."""
    (row,) = run.items("all")
    return al.Store(run.store).item(row["item"]).item


def verdicts(run: al.Run) -> dict[str, int]:
    return {name: run.counts[name] for name in ("accepted", "rejected", "ungradable", "failed")}


def said_by(model: al.ScriptedModel, body: dict[str, Any]) -> dict[str, Any]:
    """Return the completion that a scripted model would answer a request with."""
    said = model._answer(Request(messages=tuple(body["messages"])))
    assert isinstance(said, str)
    return completion(body, said)


def serving(model: al.ScriptedModel) -> Endpoint:
    """Return an endpoint that answers what a scripted model answers."""
    return Endpoint(misbehave=lambda body, _: web.json_response(said_by(model, body)))


def call_of(body: dict[str, Any]) -> str:
    """Return what tells one call from all others: its text and the seed of its place."""
    return f"{body['seed']} {text_of(body)}"


def calls_of(server: Endpoint) -> list[str]:
    return [call_of(body) for body in server.bodies]


GRAPH = """
import agentloop as al

class QA(al.Candidate):
    question: str
    answer: str

recipe = al.Recipe(name="mine", reads=("passage",), candidate=QA, prompts="prompts")
graph = recipe.compile()
"""


def write_graph(folder: Path, text: str = GRAPH, name: str = "my_graph.py") -> Path:
    """Write a recipe file with its prompts beside it."""
    write_prompts(folder / "prompts")
    (folder / name).write_text(text)
    return folder / name


def write_seeds(folder: Path, count: int) -> Path:
    path = folder / "seeds.jsonl"
    path.write_text("".join(json.dumps(seed) + "\n" for seed in SEEDS[:count]))
    return path


def environment() -> dict[str, str]:
    hidden = ("AGENTLOOP_", "COV_", "PYTEST_")
    own = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    return own | QUIET


def python(code: str, *arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
    """Start a Python program in a process of its own, talking over pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **more,
    )


def command(*arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
    """Start `agentloop …` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "agentloop", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **more,
    )
