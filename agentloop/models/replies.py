"""Reading JSON out of what a model wrote.

Enters: a reply. Leaves: one JSON object, or MalformedReply / RefusedReply with a line that the model
can act on. Refuses to know: schemas, criteria, candidates.

Accepted: the object alone, or in a code fence or prose if it is the only one in the reply. Thinking
(`<think>…</think>`) is never read as an answer. Refused: duplicate keys, NaN, NUL, lone surrogates.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from agentloop.errors import MalformedReply, RefusedReply
from agentloop.models.base import Reply
from agentloop.records import Json

_THINK = re.compile(r"\s*<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"</think>", re.IGNORECASE)
_OPENING = re.compile(r"\{\s*\"")
MANY = 200  # braces in a text that are looked at
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class _Unreadable(ValueError):
    """A JSON text that breaks a rule of ours."""


def read_text(reply: Reply) -> str:
    """Return the answer without its thinking; raises for a cut-off or refused one."""
    if reply.finish_reason == "content_filter":
        raise RefusedReply("the model or its filter declined to answer", reply.text)
    text = _without_thinking(reply.text).strip()
    if reply.finish_reason == "length":
        raise MalformedReply("the reply was cut off: it must be shorter", reply.text)
    if not text:
        raise MalformedReply("the reply is empty", reply.text)
    return text


def _without_thinking(text: str) -> str:
    """Return what comes after a leading `<think>` block; one inside the answer is data and stays."""
    found = _THINK.match(text)
    return text[found.end() :] if found else text


def _after_thought(text: str) -> str:
    """Return what comes after a `</think>` whose start the endpoint cut off; within JSON it is data."""
    ends = [found.end() for found in _THOUGHT_END.finditer(text)]
    if not ends:
        return text
    inside = [(start, end) for start, end, _ in _objects(text, MANY)]
    free = [at for at in ends if not any(start < at <= end for start, end in inside)]
    return text[free[-1] :] if free else text


def read_object(reply: Reply) -> Json:
    """Return the one JSON object of a reply."""
    text = read_text(reply)
    try:
        value = _only(_after_thought(text))
    except _Unreadable as error:
        raise MalformedReply(str(error), reply.text) from error
    if value is None:
        raise MalformedReply("the reply must be one JSON object", reply.text)
    return value


def read_own_object(reply: Reply, given: Json) -> Json:
    """Return the one JSON object of a reply that is about `given`.

    An object within other words that stands in one of the given texts is a quotation, and never the
    answer: who is judged does not write the judge's verdict.
    """
    value = read_object(reply)
    if not isinstance(_load(_after_thought(read_text(reply))), dict) and _stands(value, given):
        raise MalformedReply("the reply must be your own JSON object and nothing else", reply.text)
    return value


def _stands(value: Json, given: Any) -> bool:
    """Whether a text somewhere in `given` holds this very object."""
    if isinstance(given, dict):
        return any(_stands(value, part) for part in given.values())
    if isinstance(given, list | tuple):
        return any(_stands(value, part) for part in given)
    if not isinstance(given, str) or "{" not in given:
        return False
    try:
        return any(found == value for _, _, found in _objects(given, MANY))
    except _Unreadable:
        return False


def _only(text: str) -> Json | None:
    """Return the object that a text is or holds alone; None when there is not just one."""
    whole = _load(text)
    if isinstance(whole, dict):
        return whole
    found = _objects(text, 2)
    if len(found) != 1 or _OPENING.search(text[: found[0][0]]):
        return None  # a broken object: what lies within is not the answer
    return found[0][2]


def _load(text: str) -> Any:
    try:
        return _DECODER.decode(text.strip())
    except json.JSONDecodeError:
        return None
    except RecursionError as error:
        raise _Unreadable("the reply is nested too deeply") from error


def _objects(text: str, enough: int) -> list[tuple[int, int, Json]]:
    """Return the outermost JSON objects in a text with start and end, left to right, up to so many."""
    found: list[tuple[int, int, Json]] = []
    at = text.find("{")
    tries = 0
    while at >= 0 and len(found) < enough and tries < MANY:
        tries += 1
        try:
            value, end = _DECODER.raw_decode(text, at)
            found.append((at, end, value))
        except json.JSONDecodeError:
            end = at + 1
        except RecursionError as error:
            raise _Unreadable("the reply is nested too deeply") from error
        at = text.find("{", end)
    return found


def _object(pairs: list[tuple[str, Any]]) -> Json:
    for key, _ in pairs:
        _check_text(key)
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Unreadable(f"the key `{twice}` stands twice")
    for item in value.values():
        _check_texts(item)
    return value


def _check_texts(value: Any) -> None:
    """Look at every text in a value; objects inside were looked at when they were read."""
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _check_text(text: str) -> None:
    if _NO_TEXT.search(text):
        raise _Unreadable("the reply holds characters that are no text")


def _constant(name: str) -> NoReturn:
    raise _Unreadable(f"`{name}` is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= (value := int(digits)) < 2**64:
        raise _Unreadable("a number that is too large is not JSON")
    return value


def _float(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise _Unreadable("a number that is too large is not JSON")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_constant=_constant,
    parse_int=_integer,
    parse_float=_float,
    strict=False,
)
