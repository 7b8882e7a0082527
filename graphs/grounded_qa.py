"""Questions and answers that stand in a real passage.

Seeds carry `passage`. The generator writes a question, its answer, and the words of the passage that
carry the answer; code checks that the quote stands there and that no number is made up; the critic
first answers the question by itself and then marks the answer; the reviser sees what failed.
"""

from __future__ import annotations

from agentloop import Candidate, Recipe
from agentloop.checks.form import avoids, length, numbers_stand, quote_stands


class GroundedQA(Candidate):
    """A question that a passage answers."""

    question: str
    answer: str
    quote: str

    def conversation(self, seed: dict[str, object]) -> list[tuple[str, str]]:
        """The reader sees question and answer; the quote is evidence, not training text."""
        return [("user", self.question), ("assistant", self.answer)]


recipe = Recipe(
    name="grounded_qa",
    about="a passage → question, answer, and the quote that carries it",
    reads=("passage",),
    candidate=GroundedQA,
    checks=(
        length("question", words=(3, 40)),
        length("answer", words=(1, 120)),
        quote_stands("quote", "passage"),
        numbers_stand("answer", "passage", also="question"),
        avoids(
            "question",
            phrases=("the passage", "the text", "the article", "the author", "this passage"),
            why="it must make sense to someone who has not read the passage",
        ),
    ),
)
graph = recipe.compile()
