"""What is a collapse whatever the kind of text: no reference is asked.

Enters: the texts of a batch and the share of copies. Leaves: signs, each in words. Refuses to know:
whether the texts are meant to be alike; the watch excuses what real text of the same kind shows
too.

The lines were drawn between text that people wrote and a run without variety. Highest of 200 draws
of 30 human texts from each of seven sets (self-instruct users and seeds, GSM8K questions and
answers, IFEval, two of LLMBar): likeness 0.37, 5-grams in several texts 20 %, one opening 25 %,
copies 7 %. MBPP, where people were told how to begin: 0.47, 23 %, 90 %. A 1.5B model asked for
questions about 3 passages at temperature 0.8, in batches of 20: likeness 0.50 and 0.53, 30 and 32
%; with attributes 0.34 and 0.38, 14 and 15 %.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from agentloop.diversity.corpus import Corpus
from agentloop.diversity.measures import self_repetition, top_opening
from agentloop.diversity.similarity import likeness, near_copies

Loss: TypeAlias = Literal["none", "outside", "far"]

LIKE = (
    32  # texts looked at for likeness: it grows with their number, so that a line needs a fixed one
)
FEWEST = 8  # texts below which nothing is certain
SAMENESS = (0.45, 0.6)  # mean cosine to the nearest neighbour: suspicious, certain
REPETITION = (0.25, 0.5)  # share of 5-grams in several texts: suspicious, certain
SINGLE = 0.6  # share of texts with one opening
COPIES = 0.06  # share of the last texts that repeat an earlier one; people stay below 0.02
COPIES_LEAST = 3  # such texts: two happen among 20 of any kind
TURNED_AWAY = 0.5  # share of good candidates that were copies: a choice, not measured


class Sign(NamedTuple):
    """One finding: which figure, how bad, in words."""

    figure: str
    loss: Loss
    words: str


def signs(corpus: Corpus) -> list[Sign]:
    """Return what shows that a batch of texts is one text in variations."""
    if len(corpus) < FEWEST:
        return []
    return [sign for sign in (_opening(corpus), _sameness(corpus)) if sign.loss != "none"]


def excused(real: Corpus) -> frozenset[str]:
    """Return the figures in which real text of the same kind shows a sign as well."""
    copies = near_copies(real)
    many = copies_sign(sum(copies), len(copies))
    return frozenset(sign.figure for sign in [*signs(real), many] if sign.loss != "none")


def copies_sign(copies: int, of: int) -> Sign:
    """Judge the copies among the last texts."""
    far = copies >= max(COPIES_LEAST, COPIES * of)
    return Sign(
        "near_copies",
        "far" if far else "none",
        f"{copies} of the last {of} texts repeat an earlier one (same words, or cosine ≥ 0.9)",
    )


def turned_away_sign(copies: int, accepted: int) -> Sign:
    """Judge the good candidates that were refused because they were copies."""
    total = copies + accepted
    far = total >= FEWEST and copies >= TURNED_AWAY * total
    return Sign(
        "turned_away",
        "far" if far else "none",
        f"{copies} of the last {total} good candidates were copies of others",
    )


def _opening(corpus: Corpus) -> Sign:
    words, share = top_opening(corpus, range(len(corpus)))
    return Sign(
        "opening_share",
        "far" if share >= SINGLE else "none",
        f"{share:.0%} of {len(corpus)} texts begin with ‘{words}’",
    )


def _sameness(corpus: Corpus) -> Sign:
    """Suspicious when texts are alike and share phrases; certain when one of the two is plain."""
    rows = corpus.spread[:LIKE]
    alike = likeness(corpus, rows)
    same = alike.neighbour if alike else 0.0
    repeated = self_repetition(corpus, rows, corpus.tokens + 1) or 0.0
    loss: Loss = "none"
    if same >= SAMENESS[1] or repeated >= REPETITION[1]:
        loss = "far"
    elif same >= SAMENESS[0] and repeated >= REPETITION[0]:
        loss = "outside"
    return Sign(
        "sameness",
        loss,
        f"the texts are variations of a few: {same:.2f} alike to the nearest other one, and"
        f" {repeated:.0%} of their 5-word phrases stand in several (people: below 0.37 and 20 %)",
    )
