"""What the tests here share: texts that are often near each other, and the measures by hand."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

WORDS = ["the", "a", "of", "river", "lake", "city", "old", "3", "4", "rises", "東京", "ไทย", "Ünï"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
ANY = st.text(max_size=40) | TEXTS


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """F of the longest common subsequence, by the textbook's table."""
    row = [0] * (len(other) + 1)
    for word in one:
        left = diagonal = 0
        for column, against in enumerate(other, 1):
            above = row[column]
            left = diagonal + 1 if word == against else max(left, above)
            row[column], diagonal = left, above
    return 2 * row[-1] / (len(one) + len(other))


def jaccard(one: Sequence[str], other: Sequence[str]) -> float:
    """Of runs of three words; a shorter text is one run."""
    first, second = (
        {" ".join(t[i : i + 3]) for i in range(max(1, len(t) - 2))} for t in (one, other)
    )
    return len(first & second) / len(first | second)
