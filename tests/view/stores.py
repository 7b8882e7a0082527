"""Stores for the live page, filled by the writer's own rows and without a loop."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from agentloop.records import Attempt, Critique, Grade, Json, Mark, Seed, Verdict
from agentloop.rows import attempt_lines, grading_line, verdict_line
from agentloop.rubric import Rubric, read_rubric
from agentloop.store.resume import Owed
from agentloop.store.writer import Writer

RUN = "seen"
RUBRIC = """
name: seen
accept_at: 0.6
criteria:
  - name: faithful
    ask: Does the passage carry the answer?
    levels: ["contradicted", "partly", "supported"]
  - {name: useful, ask: "Is it useful?"}
"""
PASSAGE = "The bell of the old town hall was cast in 1642 by a founder from Utrecht."
QUOTE = "cast in 1642"
HOSTILE = "<script>document.title = 'owned'</script> \x1b[31mred \u202egnp.exe NUL\0 & <b>bold</b>"


def rubric_in(folder: Path) -> Rubric:
    """Write the rubric where a run's own is looked for."""
    (folder / "prompts").mkdir(exist_ok=True)
    (folder / "prompts" / "rubric.yaml").write_text(RUBRIC)
    return read_rubric(folder / "prompts" / "rubric.yaml")


def graded(faithful: str, useful: str, model: str = "critic/one", said: str = "") -> Grade:
    """Return a grade; `said` is what stands wherever the critic may write what it likes."""
    levels = ("contradicted", "partly", "supported")
    value, other = levels.index(faithful) / 2, float(useful == "yes")
    return Grade(
        marks=(
            Mark(
                criterion="faithful",
                level=faithful,
                value=value,
                how="written",
                quote=said or QUOTE,
                reason=said,
            ),
            Mark(
                criterion="useful",
                level=useful,
                value=other,
                how="written",
                reason=said or "so it seems",
            ),
        ),
        score=(value + other) / 2,
        rubric="r" * 32,
        model=model,
    )


def attempt(round: int, answer: str, grade: Grade | None, **more: object) -> Attempt:
    candidate = {"question": "When was the bell cast?", "answer": answer}
    accepted = grade is not None and grade.score >= 0.6
    said = [("user", candidate["question"]), ("assistant", answer)]
    return Attempt.model_validate(
        {
            "round": round,
            "parent": round - 1 if round else None,
            "candidate": candidate,
            "messages": [{"role": role, "content": text} for role, text in said],
            "grade": grade,
            "accepted": accepted,
            "reason": None if accepted else "below_threshold",
            "model": "writer/one",
            "critique": Critique(marks=({"name": "useful", "ask": "?", "level": "no", "quote": "",
                                         "reason": "say when"},)),
            **more,
        }
    )  # fmt: skip


def hostile(round: int, text: str, said: str) -> Attempt:
    """Return an attempt in which every text that a model may write is hostile."""
    critique = Critique(
        marks=({"name": said, "ask": said, "level": said, "quote": said, "reason": said},),
        checks=({"name": said, "evidence": said},),
    )
    return attempt(
        round,
        text,
        graded("partly", "no", said, said),
        model=said,
        detail=said,
        prompt=said,
        critique=critique,
        checks=[{"name": said, "passed": False, "evidence": said}],
    )


def item_id(number: int) -> str:
    return f"{number:012x}"


def settle(writer: Writer, number: int, *attempts: Attempt, seed: Json | None = None) -> str:
    """Write one item with its attempts; the last one is the kept one."""
    item = item_id(number)
    fields = seed or {"passage": f"{PASSAGE} It is bell number {number}."}
    owed = Owed(item, Seed.of(fields), 0)
    last = attempts[-1]
    verdict = Verdict(
        verdict="accepted" if last.accepted else "rejected",
        reason=last.reason,
        detail=last.detail,
        round=last.round,
        score=last.grade.score if last.grade else None,
    )
    row = {"run": RUN, "item": item, "seed_id": owed.seed.id, "sample": 0, "seed": fields}
    begun = ("items", {**row, "inputs": {"sample": 0}, "depth": 1, "time": time.time()})
    writer.append(
        begun, *attempt_lines(RUN, item, 0, attempts), verdict_line(RUN, owed, verdict, item)
    )
    return item


def begin(writer: Writer, rubric: Rubric) -> None:
    identity = {"rubric": rubric.hash, "models.critic": {"model": "critic/one"}}
    writer.append(
        ("runs", {"run": RUN, "recipe": "seen", "recipe_ref": "seen", "time": time.time(),
                  "identity": identity, "versions": {}}),
        ("sessions", {"rid": "s1", "run": RUN, "session": repr(time.time()), "time": time.time(),
                      "seconds": 61.0, "stopped_by": None, "settings": {}}),
    )  # fmt: skip


LEVELS = (("supported", "yes"), ("partly", "yes"), ("supported", "no"), ("contradicted", "no"))


def usual(number: int) -> list[Attempt]:
    """Return the attempts of a usual item: a draft, and of every third a revision."""
    faithful, useful = LEVELS[number % len(LEVELS)]
    answer = f"It was cast in 1642, {number} years before."
    if number % 3:
        return [attempt(0, answer, graded(faithful, useful))]
    first = attempt(0, f"It was cast in 1542, {number} years before.", graded("partly", "no"))
    return [first, attempt(1, answer, graded(faithful, useful))]


def fill(folder: Path, numbers: Iterable[int] = range(12)) -> Path:
    """Make a store of usual items."""
    path = folder / "seen.duckdb"
    rubric = rubric_in(folder)
    with Writer(path) as writer:
        begin(writer, rubric)
        for number in numbers:
            settle(writer, number, *usual(number))
    return path


def grade_again(path: Path, rubric: Rubric, number: int) -> None:
    """Add a second grading of one item, which is stricter."""
    item = item_id(number)
    strict = graded("contradicted", "no", "critic/two")
    with Writer(path) as writer:
        writer.append(grading_line(RUN, 1, rubric, "critic/two", {"rubric": rubric.hash}))
        for attempt in usual(number):
            row = {"run": RUN, "item": item, "opening": 0, "round": attempt.round, "grading": 1}
            writer.append(("grades", {**row, "grade": strict.model_dump(mode="json"),
                                      "accepted": False, "reason": "below_threshold"}))  # fmt: skip
        verdict = {"verdict": "rejected", "reason": "below_threshold", "detail": "", "score": 0.0}
        row = {"run": RUN, "item": item, "opening": 0, "grading": 1, "time": time.time()}
        writer.append(("verdicts", {**row, **verdict, "round": usual(number)[-1].round}))
