"""Questions and answers that stand in a real passage. Seeds carry `passage`.

After the questions that Phi-4 draws from web passages (Abdin et al. 2024, arXiv 2412.08905). As
published: 50 kinds of sets, about 400B tokens, of passages filtered for facts and reasoning;
questions by people work better than synthetic ones, and small errors in seeds do great harm. That
a high mark needs words quoted from the source, looked up by code, is from RULERS (as published:
best agreement with people in most settings, stable when a rubric is put in other words).

What we do differently: one sentence is drawn for each item, so that a passage gives many; code
looks up the quote and every number; the critic answers the question by itself before it marks the
answer (the embedded model then tells right from wrong with AUC .87, not .77: own measurement, 40
answers); what failed is told to the reviser, word for word.
"""

from __future__ import annotations

import random
import re
from typing import Any

from agentloop import Candidate, Recipe
from agentloop.checks.form import adds_to, avoids, length, numbers_stand, quote_stands

LEANING = frozenset(
    {"he", "she", "it", "they", "this", "these", "those", "its", "his", "her", "their"}
)


class GroundedQA(Candidate):
    """A question that a passage answers."""

    quote: str
    question: str
    answer: str

    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        """The reader sees question and answer; the quote is evidence, not training text."""
        return [("user", self.question), ("assistant", self.answer)]

    def written(self) -> str:
        """The quote is the passage's."""
        return f"{self.question}\n{self.answer}"


def draw(seed: dict[str, Any], sample: int, chance: random.Random) -> dict[str, Any]:
    """Draw a sentence that stands on its own: not short, not leaning on the one before."""
    sentences = re.split(r"(?<=[.!?])\s+", str(seed["passage"]).strip())
    fit = [
        number
        for number, sentence in enumerate(sentences)
        if len(sentence) > 70 and sentence.split()[0].lower() not in LEANING
    ] or list(range(len(sentences)))
    at = chance.sample(fit, len(fit))[sample % len(fit)]
    before = sentences[:1] + sentences[1:at][-2:] if at else []
    return {"sentence": sentences[at], "before": " ".join(before)}


recipe = Recipe(
    name="grounded_qa",
    about="a passage → question, answer, and the quote that carries it",
    reads=("passage",),
    candidate=GroundedQA,
    draw=draw,
    calls=3,
    checks=(
        length("question", words=(3, 40)),
        length("answer", words=(1, 120)),
        quote_stands("quote", "passage"),
        numbers_stand("question", "passage"),
        numbers_stand("answer", "passage"),
        adds_to("answer", "question"),
        avoids(
            "question",
            phrases=("the passage", "the text", "the article", "the author", "this passage"),
            why="it must make sense to someone who has not read the passage",
        ),
    ),
)
graph = recipe.compile()
