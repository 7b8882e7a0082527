"""Three calls an item, each by another role: a draft that a check refuses, its revision, the grade.

So the whole loop is walked once: draw, draft, check, critique, revision, checks, grade, door.
"""

from __future__ import annotations

import agentloop as al


class Pair(al.Candidate):
    """A question and its answer."""

    question: str
    answer: str


def finished(candidate: dict[str, str], seed: dict[str, str]) -> al.Finding:
    """The endpoint's drafts say that they are drafts, its revisions do not."""
    if candidate["answer"].startswith("draft"):
        return al.fail("the answer is a draft")
    return al.passed()


recipe = al.Recipe(
    name="three_calls",
    candidate=Pair,
    checks=(al.Check("finished", finished),),
    max_rounds=1,
)
graph = recipe.compile()
