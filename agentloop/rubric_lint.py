"""What a judge would stumble over in a rubric: a linter that reads English by rules, no model.

Enters: a `Rubric`. Leaves: a list of `Flag`. Refuses to know: files, the terminal, what a critic says.

    compound        two claims in one get marked as met when one of them is (arXiv 2605.12474)
    negative        judges favour their own texts most on negative criteria (arXiv 2604.06996),
    overlong        and on very long
    short           and on very short ones; 8 to 40 words are our reading of that
    overlapping     one quality is counted twice
    rewards_length  judges favour the longer text as it is (arXiv 2404.04475)
    unanchored      bare numbers leave the scale to the judge; Prometheus, which agrees with people as
                    GPT-4 does, is shown a description of each level (arXiv 2310.08491)

The rules look at words: they miss claims that only nouns join, and now and then flag a good criterion.
A flag asks for a second look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple, get_args

from rapidfuzz import fuzz

from agentloop.checks.quotes import normalise
from agentloop.rubric import Criterion, Rubric
from agentloop.rubric_words import (
    AUXILIARIES,
    CASES,
    DETERMINERS,
    FAULT_NOUNS,
    FAULTS,
    GIVEN,
    GIVING,
    HOLDING,
    IN_PASSING,
    LENGTH,
    NEGATIONS,
    NOT_A_LIMIT,
    PAIRS,
    PEOPLE,
    PREPOSITIONS,
    QUESTION_WORDS,
    STARTERS,
    SUBORDINATE,
    TELLING,
    UNITS,
    content,
    is_adjective,
    is_quality,
    is_verb,
)

Kind = Literal[
    "compound", "negative", "overlong", "short", "overlapping", "rewards_length", "unanchored"
]
KINDS: tuple[Kind, ...] = get_args(Kind)

WORDS = (8, 40)  # at least, at most
SHARED = 0.5  # of all stems of two criteria
ALIKE = 85.0  # token set ratio, 0 to 100; the two were chosen on the pairs in the tests
NEAR = 10  # words around one that are looked at
COMPARED = 1000  # characters of a criterion, so that none can stall the linter

_STOPS = frozenset(",;:?.!")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[,;:?.!&/]")
_ASIDE = re.compile(r'"[^"]*"|`[^`]*`|\([^()]*\)')
_ALSO = re.compile(
    r"\b(?:and/or|as well as|in addition|along with|together with|not only)\b"
    r"|\bwhile (?:also |still )?\w+ing\b"
)
_AS_WELL_AS = re.compile(r"\b(?:reads?|works?|performs?|does|do|sounds?|fits?|runs?) as well as\b")

_JOINTS = frozenset(("and", "&", "but", "yet", "or"))
_EXCEPT = frozenset(("nothing", "anything", "everything", "all", "none", "nobody", "anyone"))
_ENDS_OBJECT = PREPOSITIONS | SUBORDINATE | AUXILIARIES | {"that", "which", ";", ":"}
_DEGREES = frozenset(("well", "equally", "still", "then", "very", "more", "less", "most"))
_BE = frozenset(("is", "are", "was", "were"))
_ITS = frozenset(("its", "their", "his", "her"))
_TELLING_SOMEBODY = frozenset(("tell", "tells", "inform", "informs", "warn", "warns", "out"))
_LESS = NEGATIONS | {"no", "too", "than", "overly", "less"}
_MORE = frozenset(
    ("in", "more", "great", "greater", "enough", "sufficient", "much", "full", "rich", "additional")
)
_AMOUNTS = frozenset(("much", "many", "long", "fully"))

_WAY_OUT: dict[Kind, str] = {
    "compound": "ask one thing a criterion: make two of it",
    "negative": "ask for what should be there, so that the best level is the affirmative one",
    "overlong": f"say one thing in {WORDS[0]} to {WORDS[1]} words; `levels` can say the rest",
    "short": f"say in {WORDS[0]} to {WORDS[1]} words what is looked at, and what it must show",
    "overlapping": "merge the two, or ask what only this one can find: what both ask counts twice",
    "rewards_length": "ask for what must be in it, for judges favour length as it is",
    "unanchored": "say in each level what a candidate of that level shows",
}


@dataclass(frozen=True)
class Flag:
    """One thing to look at again: in which criterion, of which kind, where, and what would mend it."""

    criterion: str
    kind: Kind
    what: str
    way_out: str


def lint(rubric: Rubric) -> list[Flag]:
    """Return what a judge would stumble over, in the order of the criteria that are judged."""
    twins = _overlaps(rubric.judged)
    flags = []
    for criterion in rubric.judged:
        for kind, what in _found(criterion):
            flags.append(_flag(criterion, kind, what))
        if what := twins.get(criterion.name, ""):
            flags.append(_flag(criterion, "overlapping", what))
    return flags


def _flag(criterion: Criterion, kind: Kind, what: str) -> Flag:
    return Flag(criterion.name, kind, what, _WAY_OUT[kind])


def _found(criterion: Criterion) -> Iterator[tuple[Kind, str]]:
    """Give each kind that one criterion shows by itself, with its place."""
    text = _ASIDE.sub(" aside ", normalise(criterion.ask))
    words = _words(text)
    if what := _two_claims(text, words):
        yield "compound", what
    if what := _negation(words) or _negative_level(criterion.top):
        yield "negative", what
    yield from _size(criterion.ask)
    if what := _asks_for_length(words) or _asks_for_length(_words(normalise(criterion.top))):
        yield "rewards_length", what
    if not any(_says_something(level) for level in criterion.levels):
        levels = ", ".join(f"`{level}`" for level in criterion.levels)
        yield "unanchored", f"the levels {levels} say nothing by themselves"


def _words(text: str) -> list[str]:
    """Split normalised text into words and marks; a stop ends it."""
    return [*_WORD.findall(text), "."]


def _size(ask: str) -> Iterator[tuple[Kind, str]]:
    """Compare the number of words with what is recommended; scripts without capitals are not counted."""
    cased = sum(letter.lower() != letter.upper() for letter in ask)
    if 2 * cased < sum(letter.isalpha() for letter in ask):
        return
    count = len(ask.split())
    low, high = WORDS
    if not low <= count <= high:
        words = "one word" if count == 1 else f"{count} words"
        yield ("short" if count < low else "overlong"), f"{words}; {low} to {high} are recommended"


def _says_something(level: str) -> bool:
    """Whether a level is more than a number or one letter of the alphabet."""
    return re.search(r"[^\W\d_]{2}|[^\W\d_a-zA-Z]", level) is not None


def _two_claims(text: str, words: list[str]) -> str:
    """Return what joins two claims, or nothing."""
    if (questions := words.count("?")) > 1:
        return f"it asks {questions} questions"
    if ";" in words:
        return "a semicolon joins two claims"
    if found := _ALSO.search(_AS_WELL_AS.sub("", text)):
        return f"`{found.group()}` joins two claims"
    case = False
    for place, word in enumerate(words):
        case = word not in _STOPS and (case or word in CASES)
        if word in _JOINTS and not case and _joins(words, place):
            return f"`{word} {words[place + 1]}` joins two claims"
        if word == "," and (added := _in_ing(words[place + 1 : place + 4])):
            return f"`, {added}` adds a claim"
    return ""


def _in_ing(words: list[str]) -> str:
    """Return a word that adds a claim after a comma: `…, ensuring that …`."""
    rest = [word for word in words if not _is_adverb(word)]
    word, after = [*rest, ".", "."][:2]
    adds = word.endswith("ing") and word not in IN_PASSING
    return word if adds and after not in _STOPS | _JOINTS else ""


class _Joint(NamedTuple):
    """A conjunction with its neighbours; adverbs after it are passed over."""

    before: list[str]
    left: str
    right: str
    after: str


def _joins(words: list[str], place: int) -> bool:
    """Whether the conjunction at a place joins claims, not only nouns."""
    joint = _joint(words, place)
    pairs = {(joint.left, joint.right), (joint.right, joint.after)}
    if joint.right in _STOPS or not PAIRS.isdisjoint(pairs):
        return False
    if words[place] == "or":
        return joint.right in AUXILIARIES
    if words[place] == "but":
        return joint.left not in _EXCEPT
    if "between" in joint.before:
        return False
    adverbs = joint.left.endswith("ly") and words[place + 1].endswith("ly")
    both = adverbs or "both" in joint.before
    return both or _begins_a_claim(joint) or _qualities(joint) or _gives(joint)


def _joint(words: list[str], place: int) -> _Joint:
    before = words[max(0, place - NEAR) : place]
    if "and" in before:
        before = before[len(before) - before[::-1].index("and") :]
    left = next((word for word in reversed(before) if word != ","), "")
    rest = [word for word in words[place + 1 : place + NEAR] if not _is_adverb(word)]
    return _Joint(before, left, *[*rest, ".", "."][:2])


def _is_adverb(word: str) -> bool:
    return word in _DEGREES or word.endswith("ly")


def _begins_a_claim(joint: _Joint) -> bool:
    """Whether a verb or a question comes after `and`."""
    _, _, right, after = joint
    if right == "that":
        return after != "of"
    return right in STARTERS or is_verb(right, after) or (right == "to" and is_verb(after, ""))


def _qualities(joint: _Joint) -> bool:
    """Whether `and` joins two qualities: `clear and useful`, `tone and style`, `it is … and cheap`."""
    before, left, right, after = joint
    if is_quality(left) and is_quality(after if right in DETERMINERS else right):
        return True
    if is_adjective(right):
        ends = after in _STOPS or after in PREPOSITIONS
        return ends or (is_adjective(left) and before[-1:] == [","])
    return is_adjective(left) and right in PREPOSITIONS


def _gives(joint: _Joint) -> bool:
    """Whether two things must be given: `name the author and the year`."""
    for back, word in enumerate(reversed(joint.before)):
        if word in GIVING:
            given = joint.before[len(joint.before) - back :]
            listed = bool(given) and (given[0] in DETERMINERS or "," in given[1:])
            return listed and given[0] != "," and joint.right in DETERMINERS
        if word in _ENDS_OBJECT and not (word == "of" and joint.right in _ITS):
            return False
    return False


def _asked(words: Sequence[str]) -> Iterator[int]:
    """Give the places of words that say what is asked, not in which case it holds."""
    case = False
    for place, word in enumerate(words):
        opens = place == 0 or words[place - 1] in _STOPS
        if word in _STOPS:
            case = False
        elif word in SUBORDINATE:
            case = case or not (opens and word in QUESTION_WORDS)
        elif word == "that":
            case = case or _tells(words[max(0, place - 4) : place])
        elif not case:
            yield place


def _tells(before: Sequence[str]) -> bool:
    """Whether `says that`, `points out that`, `tells the user that` leads to what follows."""
    return bool(before) and (before[-1] in TELLING or not _TELLING_SOMEBODY.isdisjoint(before))


def _negation(words: list[str]) -> str:
    """Return the negation or the fault that is asked for, or nothing."""
    for place in _asked(words):
        if _negates(words, place):
            said = [word for word in words[place : place + 2] if word not in _STOPS]
            return f"`{' '.join(said)}` asks for an absence"
        if words[place] in FAULTS and _is_asked_for(words, place):
            return f"`{words[place]}` asks for a fault"
    return ""


def _negates(words: list[str], place: int) -> bool:
    word, before = words[place], words[place - 1] if place else ""
    after = next((later for later in words[place + 1 : place + NEAR] if not _is_adverb(later)), "")
    if word == "no":
        return before != "or" and after not in NOT_A_LIMIT | _STOPS
    if word == "lack":
        return after != "of"
    if word in ("free", "fail", "fails"):
        return after in ("of", "from", "to")
    if word == "without":
        return before not in PEOPLE
    if word == "not":
        part = words[0] not in _BE and (after in GIVEN or after.endswith("ed"))
        return after != "only" and before != "or" and not part
    return word in NEGATIONS or word.endswith("n't")


def _is_asked_for(words: list[str], place: int) -> bool:
    """Whether a fault is what a question asks for: `contain errors`, `is … wrong?`."""
    before, after = words[max(0, place - 4) : place], words[place + 1]
    if not HOLDING.isdisjoint(before):
        return True
    said_of = after in _STOPS | _JOINTS | PREPOSITIONS
    return words[0] in _BE and said_of and words[place] not in FAULT_NOUNS


def _negative_level(top: str) -> str:
    first = _words(normalise(top))[0]
    if first in NEGATIONS or first in FAULTS or first == "no":
        return f"its best level `{top}` answers a negation"
    return ""


def _asks_for_length(words: list[str]) -> str:
    """Return the words that ask for a longer text, or nothing."""
    for place in _asked(words):
        before = words[max(0, place - 3) : place]
        if _LESS.isdisjoint(before) and _is_long(words, place):
            return f"`{' '.join([*before[-1:], words[place]])}` asks for length"
    return ""


def _is_long(words: list[str], place: int) -> bool:
    before, word = words[max(0, place - NEAR) : place], words[place]
    last = before[-1] if before else ""
    if word in ("detail", "details"):
        return last in _MORE
    if word == "depth":
        return "in" in before[-2:]
    if word == "possible":
        return last == "as" and not _AMOUNTS.isdisjoint(before)
    if word in ("long", "longer"):
        return last not in UNITS | {"as", "how"} and words[place + 1] not in ("ago", "term")
    return LENGTH.fullmatch(word) is not None


def _overlaps(criteria: Sequence[Criterion]) -> dict[str, str]:
    """Return for each criterion that asks nearly what an earlier one asks, which one that is."""
    asked = [(c.name, content(_WORD.findall(normalise(c.ask)[:COMPARED]))) for c in criteria]
    twins: dict[str, str] = {}
    for (first, one), (second, other) in combinations(asked, 2):
        if second not in twins and _alike(one, other):
            twins[second] = f"it asks nearly what `{first}` asks"
    return twins


def _alike(one: list[str], other: list[str]) -> bool:
    """Whether two lists of stems are about the same; one word exchanged for another is not."""
    left, right = set(one), set(other)
    shared = len(left & right)
    if left == right:
        return shared > 0
    if shared < max(2, SHARED * len(left | right)) or _is_exchange(one, other):
        return False
    return fuzz.token_set_ratio(" ".join(one), " ".join(other)) >= ALIKE


def _is_exchange(one: list[str], other: list[str]) -> bool:
    """Whether two criteria are built alike and differ in one or two words: their year, their place."""
    if len(one) != len(other):
        return False
    return sum(a != b for a, b in zip(one, other, strict=True)) <= 2
