"""Checks for text that a model made out of other text: what it gains, whether it answers at all.

Enters: settings, given once; then candidate and seed. Leaves: `Check` objects for a recipe, and the
likeness that they compare by. Refuses to know: whether the gain is worth anything.

The rules are those by which Evol-Instruct (WizardLM, arXiv 2304.12244) eliminates, from memory, and
Self-Instruct's filter (arXiv 2212.10560), read in its code.
"""

from __future__ import annotations

import re

from rapidfuzz.distance import Indel, LCSseq

from agentloop.checks import Check, Finding, fail, passed
from agentloop.records import Json

NEW = 3  # words that a text has beside those of its source, in their order
COMPARED = 2_000  # words; the time grows with the product of two lengths
SORRY_WORDS = 80
STOP_WORDS = """
a about all also am an and any are as at be because been but by can could did do does for from
had has have he her here him his how however i if in into is it its just me more most my no
nor not of ok okay on one only or our out she should so some such than that the their them
then there these they this those to too up us very was we well were what when where which who
why will with would yes you your
"""
_WORD = re.compile(r"\w+")
_SORRY = re.compile(r"\b(?:sorry|apologi[sz]e)\b", re.IGNORECASE)
_STOP = frozenset(_WORD.findall(STOP_WORDS))
_LABEL = re.compile(r"^[ \t]*(?:person|user|assistant)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_UNSEEN = re.compile(
    r"\b(?:images?|graphs?|pictures?|files?|maps?|draw|plot|go to|video|audio|music|flowchart|diagram)\b"
    r"|^\W*write a program\b",
    re.IGNORECASE,
)


def rouge_l(one: str, other: str) -> float:
    """Return ROUGE-L's F-measure of two texts: shared words in order, 0..1; case does not count."""
    return Indel.normalized_similarity(_words(one)[:COMPARED], _words(other)[:COMPARED])


def gains(field: str, source: str, *, most: int) -> Check:
    """A field says at least three words more than the seed's `source`, and is at most `most` longer."""

    def run(candidate: Json, seed: Json) -> Finding:
        new, old = _words(str(candidate.get(field, ""))), _words(str(seed.get(source, "")))
        if len(new[:COMPARED]) - LCSseq.similarity(old[:COMPARED], new[:COMPARED]) < NEW:
            return fail(
                f"`{field}` says nearly what the {source} says: it must ask for something else"
            )
        if (added := len(new) - len(old)) > most:
            return fail(
                f"`{field}` is {added} words longer than the {source}; at most {most} are added"
            )
        return passed()

    return Check(f"{field}_gains", run, {"field": field, "source": source, "most": most})


def answers(field: str) -> Check:
    """A field is more than stop words, and says sorry only within 80 words or more."""

    def run(candidate: Json, seed: Json) -> Finding:
        text = str(candidate.get(field, ""))
        words = _words(text)
        if _STOP.issuperset(words):
            return fail(f"`{field}` says nothing: it has stop words only")
        if len(words) < SORRY_WORDS and (said := _SORRY.search(text)):
            return fail(f'`{field}` says "{said.group()}" and little else: it must answer')
        return passed()

    return Check(f"{field}_answers", run, {"field": field})


def text_alone(field: str) -> Check:
    """A field asks for nothing but text, by Self-Instruct's words; it begins with a letter or number.

    Its words are those for what a text cannot hold (`image`, `map`, `go to`); "Write a program" opens
    too many of a model's instructions.
    """

    def run(candidate: Json, seed: Json) -> Finding:
        text = str(candidate.get(field, "")).strip()
        if said := _UNSEEN.search(text):
            return fail(
                f'`{field}` says "{said.group().strip()}": ask for something else, in text alone'
            )
        return passed() if text[:1].isalnum() else fail(f"`{field}` must begin with a word")

    return Check(f"{field}_text_alone", run, {"field": field})


def turns_apart(field: str) -> Check:
    """A list of turns says nothing twice, and in none of them one side speaks for the other."""

    def run(candidate: Json, seed: Json) -> Finding:
        texts = [str(turn["text"]) for turn in candidate.get(field, [])]
        if len({" ".join(_words(text)) for text in texts}) < len(texts):
            return fail(f"`{field}`: a message is said twice")
        if any(_LABEL.search(text) for text in texts):
            return fail(f"`{field}`: a message speaks for the other side")
        return passed()

    return Check(f"{field}_apart", run, {"field": field})


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
