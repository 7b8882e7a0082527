"""Sketches: what two texts have in common, in little space and without seeing both.

Enters: a text of any script. Leaves: its words, their shingles, a MinHash signature, and how near two
texts are, exactly. Refuses to know: where texts are kept and which of them are compared.

A word is a run of letters, marks and digits, without regard to case; where a script sets no spaces
(Chinese, Japanese, Thai …) each character is a word. So one measure serves all scripts.

Half the signature is about words, half about pairs of neighbours. ROUGE-L ≥ 0.7 needs so many common
words that their Jaccard is at least 0.54; neighbours are rarer than words, so unrelated texts seldom
share any. Words find what was put in another order, pairs what was edited here and there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Indel

from agentloop.checks.quotes import normalise

SHINGLE = (
    3  # words; 5, as for pages of the web, lose a prompt of 20 words whose clauses change places
)
NEAR = 0.7  # Jaccard or ROUGE-L F at which texts are near; Self-Instruct's, notes on diversity
LONGEST = (
    5000  # words; ROUGE-L takes 20 ms for two texts of so many, and four times as long for twice
)
WORD_BANDS, PAIR_BANDS = 12, 20
BANDS = WORD_BANDS + PAIR_BANDS
SIGNATURE = np.dtype(("<u4", (BANDS,)))

Measure: TypeAlias = Literal["jaccard", "rouge_l", "cosine"]
Hashes: TypeAlias = NDArray[np.uint64]
Signature: TypeAlias = NDArray[np.uint32]

_UNSPACED = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "BOPOMOFO",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
)
_WORD_HASHES = 4 * WORD_BANDS  # of 8 bits, four to a band
_PAIR_HASHES = 2 * PAIR_BANDS  # of 16 bits, two to a band
_ROWS = 4096  # words hashed at once
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # splitmix64's
_HALF = np.uint64(32)
_ENDS = np.array([1 << 40, 1 << 41], np.uint64)  # stand before the first word and after the last


class _Letters(dict[int, str]):
    """What becomes of each character; learned when it is first met, for there are 1.1 million."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if unicodedata.category(character)[0] not in "LMN":
            kept = " "
        elif unicodedata.name(character, "").startswith(_UNSPACED):
            kept = f" {character} "
        else:
            kept = character
        self[code] = kept
        return kept


_LETTERS = _Letters()


def words(text: str) -> list[str]:
    """Return the words of a text without case and punctuation; none for signs alone."""
    return normalise(text).translate(_LETTERS).split()


def shingles(found: Sequence[str]) -> set[tuple[str, ...]]:
    """Return every run of three words; the whole of a shorter text."""
    return {tuple(found[at : at + SHINGLE]) for at in range(max(1, len(found) - SHINGLE + 1))}


def likeness(one: Sequence[str], other: Sequence[str]) -> tuple[Measure, float]:
    """Return the greater of the shingles' Jaccard and ROUGE-L's F on words, 0..1, and which it is.

    ROUGE-L (Lin 2004) is twice the longest common subsequence by the words of both, and given as 0
    where it is below `NEAR`, or a text is longer than `LONGEST` words.
    """
    mine, others = shingles(one), shingles(other)
    both = len(mine & others)
    jaccard = both / (len(mine) + len(others) - both)
    if max(len(one), len(other)) > LONGEST:
        return "jaccard", jaccard
    rouge = float(Indel.normalized_similarity(one, other, score_cutoff=NEAR))
    return ("rouge_l", rouge) if rouge > jaccard else ("jaccard", jaccard)


def hashed(found: Sequence[str]) -> Hashes:
    """Return 64 bits for each word, the same in every process.

    Words of more than 4 bytes collide once in 2³² pairs.
    """
    codes = [crc32(word) for word in " ".join(found).encode().split()]
    return mixed(np.array(codes, np.uint64))


def joined(before: Hashes, after: Hashes) -> Hashes:
    """Return the hashes of sequences that grew by one: order counts."""
    return mixed(before * _SECOND + after)


def mixed(hashes: Hashes) -> Hashes:
    """Return hashes whose bits are all alike random (the finish of splitmix64)."""
    hashes = hashes * _FIRST
    hashes ^= hashes >> np.uint64(29)
    hashes *= _SECOND
    hashes ^= hashes >> _HALF
    return hashes


def signature(found: Sequence[str]) -> Signature:
    """Return the bands of a text that has words: two near texts have one in common, most probably.

    MinHash (Broder 1997) by multiply-shift, of each minimum the lowest bits (Li and König 2010).
    """
    single = hashed(found)
    ended = np.concatenate((_ENDS[:1], single, _ENDS[1:]))
    pairs = joined(ended[:-1], ended[1:])
    low = _minima(single, _FACTORS[:_WORD_HASHES]).astype("<u1")
    high = _minima(pairs, _FACTORS[_WORD_HASHES:]).astype("<u2")
    return np.frombuffer(low.tobytes() + high.tobytes(), "<u4")


def resemblance(mine: Signature, others: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Return the estimated Jaccard of the words, 0..1, for each of many signatures (one a row)."""
    alike = others[:, :WORD_BANDS].view("<u1") == mine[:WORD_BANDS].view("<u1")
    return np.asarray(alike.mean(axis=1))


def _minima(hashes: Hashes, factors: Hashes) -> Hashes:
    """Return the least hash under each of the functions."""
    least = [
        ((hashes[at : at + _ROWS, None] * factors) >> _HALF).min(axis=0)
        for at in range(0, len(hashes), _ROWS)
    ]
    smallest: Hashes = np.minimum.reduce(least)
    return smallest


_FACTORS = mixed(np.arange(1, _WORD_HASHES + _PAIR_HASHES + 1, dtype=np.uint64)) | np.uint64(1)
