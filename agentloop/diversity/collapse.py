"""What is a collapse whatever the kind of text: no reference is asked.

Enters: the texts of a batch and the share of copies. Leaves: signs, each in words. Refuses to know:
whether the texts are meant to be alike; the watch excuses what real text of the same kind shows
too.

Openings, frames and shared phrases are those of texts with `0` for every number. A frame is what is
left of a template when its slots are filled: the pairs of neighbouring words that stand in a third
of all texts, as a share of each text's pairs. Likeness is of the texts as they stand.

The lines were drawn between text that people wrote and runs without variety. Highest of 200 draws
of 20, 30 and 60 human texts from each of eight sets (self-instruct users and seeds, GSM8K questions
and answers, IFEval, LLMBar's instructions, its natural ones and its answers): likeness 0.34, 5-grams
in several texts 15 %, copies 5 %, one opening of three words 25 %, of two 25 % (IFEval's ‘write a’:
75 % of 20, 70 % of 30), frame 10 %. MBPP, where people were told how to begin: 0.46, 23 %, 5 %, 95 %,
100 %, 35 %. A 1.5B model asked for questions about 3 passages at temperature 0.8, in batches of 20:
likeness 0.50 and 0.53, 5-grams 30 and 32 %; with attributes 0.34 and 0.38, 14 and 15 %.

Eleven templates (‘What is N plus M?’, ‘Explain the …’, ‘What is the capital of X?’ …), each in 90 %
of the texts: frame 24 to 90 %, and ‘Explain the …’ with long slots 16 %, which its opening of two
words shows. All are caught in 20 of 20 runs of 60 texts; in half of the texts nine of them are in
all, ‘How do I X in Y?’ in 13, ‘Explain the …’ with long slots in 1. Out of reach are frames of single
words (‘Translate 'X and Y' into Z’): 0 of 20 though all texts have it.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from agentloop.diversity.corpus import Corpus
from agentloop.diversity.measures import self_repetition
from agentloop.diversity.similarity import likeness, near_copies
from agentloop.diversity.words import masked

Loss: TypeAlias = Literal["none", "outside", "far"]

LIKE = (
    32  # texts looked at for likeness: it grows with their number, so that a line needs a fixed one
)
FEWEST = 8  # texts below which nothing is certain
SAMENESS = (0.45, 0.6)  # mean cosine to the nearest neighbour: suspicious, certain
REPETITION = (0.25, 0.5)  # share of 5-grams in several texts: suspicious, certain
SINGLE = {3: 0.6, 2: 0.8}  # words of an opening, and the share of texts that begin with it
FRAME = 0.2  # mean share of a text's word pairs that stand in many texts
MANY = 3  # texts, and a third of those looked at
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
    plain = Corpus(map(masked, corpus.texts))
    found = (_opening(plain), _frame(plain), _sameness(corpus, plain))
    return [sign for sign in found if sign.loss != "none"]


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


def _opening(plain: Corpus) -> Sign:
    """Judge the opening that lies furthest beyond its line; a text that is shorter has none."""
    begun = [opening.split() for opening in plain.openings]
    worst = (0.0, 0.0, "")
    for size, line in SINGLE.items():
        counts = Counter(" ".join(words[:size]) for words in begun if len(words) >= size)
        for words, count in counts.most_common(1):
            share = count / len(begun)
            worst = max(worst, (share / line, share, words))
    beyond, share, words = worst
    return Sign(
        "opening_share",
        "far" if beyond >= 1 else "none",
        f"{share:.0%} of {len(begun)} texts begin with ‘{words}’",
    )


def _frame(plain: Corpus) -> Sign:
    """Judge how much of a text is a frame that it shares with many others."""
    rows, every = plain.spread[:LIKE], np.arange(plain.tokens)
    pairs = [
        np.unique(plain.grams(2, every[plain.starts[row] : plain.starts[row + 1]])) for row in rows
    ]
    numbers, texts = np.unique(np.concatenate(pairs), return_counts=True)
    many = numbers[texts >= max(MANY, len(rows) / 3)]
    shares = [float(np.isin(mine, many).mean()) for mine in pairs if len(mine)]
    share = sum(shares) / max(1, len(shares))
    return Sign(
        "frame",
        "far" if share >= FRAME else "none",
        f"the texts fill in one frame: {share:.0%} of a text's word pairs stand in a third of all"
        " texts (people: below 11 %)",
    )


def _sameness(corpus: Corpus, plain: Corpus) -> Sign:
    """Suspicious when texts are alike and share phrases; certain when one of the two is plain."""
    rows = corpus.spread[:LIKE]
    alike = likeness(corpus, rows)
    same = alike.neighbour if alike else 0.0
    repeated = self_repetition(plain, rows, plain.tokens + 1) or 0.0
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
