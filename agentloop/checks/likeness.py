"""How like a text is to another one that was made anew from a description of it.

Enters: the names of the field that was made anew and of the seed's, the least likeness of code and of
text. Leaves: `Check` objects, and likenesses from 0 to 1. Refuses to know: who described what.

Two Python programs are compared by the shape of their syntax trees: names that they give themselves,
docstrings and comments do not count; what they call, their operators and their constants do. Other
texts are compared by the words that carry meaning, and how often they stand there. Both are the share
in common of two sequences or bags (2 · common ÷ both), so that a text and itself have 1.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Iterator

from rapidfuzz.distance import Indel

from agentloop.checks import Check, Finding, fail, passed
from agentloop.checks.python import extract_code
from agentloop.checks.quotes import normalise
from agentloop.records import Json

LONGEST = 40_000  # characters of a text that are compared
MISSED = 5  # words that evidence names
_WORD = re.compile(r"\w+")
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
_STATEMENTS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.For, ast.Import)


def alike(field: str, source: str, *, code: float = 0.65, text: float = 0.3) -> Check:
    """A field is like the seed's `source`: `code` of Python, `text` of all else, from 0 to 1.

    Of 2,000 random pairs of MBPP's short programs 2 % are as like as 0.65, and of as many pairs of
    passages none is as like as 0.3.
    """

    def run(candidate: Json, seed: Json) -> Finding:
        made, original = (str(r.get(n, "")) for r, n in ((candidate, field), (seed, source)))
        likeness, least = likeness_of(made, original), code if is_code(original) else text
        if likeness >= least:
            return Finding(True, fraction=likeness)
        return fail(
            f"what was made from the description is {likeness:.0%} like the {source}, less than "
            f"{least:.0%}{_missed(made, original)}",
            likeness,
        )

    settings: Json = {"field": field, "source": source, "code": code, "text": text}
    return Check(f"{field}_alike", run, settings)


def not_copied(field: str, source: str, *, words: int = 12) -> Check:
    """A field copies fewer than so many words in a row from the seed's `source`.

    For a description: one that holds the thing itself is easy to make it from. Names and numbers count
    as words, signs do not.
    """

    def run(candidate: Json, seed: Json) -> Finding:
        said, known = (
            _runs(str(r.get(n, "")), words) for r, n in ((candidate, field), (seed, source))
        )
        if not (copied := said & known):
            return passed()
        shown = " ".join(min(copied))
        return fail(f"`{field}` copies the {source} word for word: {shown}")

    return Check(f"{field}_own", run, {"field": field, "source": source, "words": words})


def likeness_of(made: str, original: str) -> float:
    """Return how like a text is to an original, as code where that is Python."""
    if is_code(original):
        return code_likeness(made, original)
    return text_likeness(made, original)


def is_code(text: str) -> bool:
    """Whether a text is Python, and not words that happen to be."""
    return any(isinstance(node, _STATEMENTS) for node in ast.walk(_parsed(text)))


def code_likeness(made: str, original: str) -> float:
    """Return the likeness of the shapes of two Python programs; 0 for one that is none."""
    try:
        shapes = [list(_shape(text)) for text in (made, original)]
    except RecursionError:  # nested deeper than anybody writes
        return 0.0
    return Indel.normalized_similarity(*shapes) if all(shapes) else 0.0


def text_likeness(made: str, original: str) -> float:
    """Return the likeness of the bags of words of two texts: the F1 of words that carry meaning."""
    bags = [_bag(text) for text in (made, original)]
    total = sum(bag.total() for bag in bags)
    return 2 * (bags[0] & bags[1]).total() / total if total else 0.0


def _parsed(text: str) -> ast.Module:
    """Return the syntax tree of a text, bare or in a fence; an empty one if it is no Python."""
    try:
        return ast.parse(extract_code(text[:LONGEST]))
    except _UNREADABLE:
        return ast.Module(body=[], type_ignores=[])


def _shape(text: str) -> Iterator[str]:
    """Return a program as a row of signs: kinds of nodes, foreign names, constants, in their order."""
    tree = _parsed(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[:1] = []
    return _signs(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _signs(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.expr_context | ast.Module):
        pass
    elif isinstance(node, ast.Constant):
        yield repr(node.value)[:80]
    elif isinstance(node, ast.Name):
        yield node.id if hasattr(builtins, node.id) else "name"
    elif isinstance(node, ast.Attribute):
        yield f".{node.attr}"
    else:
        yield type(node).__name__
    for child in ast.iter_child_nodes(node):
        yield from _signs(child)


def _bag(text: str) -> Counter[str]:
    words = _WORD.findall(normalise(text[:LONGEST]))
    return Counter(word[:8] for word in words if len(word) > 3 or word.isdigit())


def _missed(made: str, original: str) -> str:
    """Say what the original has and the other lacks, where words can say it."""
    lacking = _bag(original) - _bag(made)
    words = [w for w in dict.fromkeys(_WORD.findall(normalise(original))) if w[:8] in lacking]
    longest = sorted(words, key=len, reverse=True)[:MISSED]
    return f"; it lacks, among others: {', '.join(longest)}" if longest else ""


def _runs(text: str, size: int) -> set[tuple[str, ...]]:
    words = _WORD.findall(normalise(text[:LONGEST]))
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}
