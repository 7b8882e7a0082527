"""The tree of errors, its exit codes, and the two helpers that write messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop import errors
from agentloop.errors import AgentloopError, RecipeError, TransientError, boundary, did_you_mean

USER = [
    "Settings",
    "Seed",
    "Rubric",
    "Prompt",
    "Recipe",
    "Identity",
    "Store",
    "Calibration",
    "Worker",
]


@pytest.mark.parametrize("name", USER)
def test_what_a_person_can_mend_exits_2(name: str) -> None:
    kind = getattr(errors, f"{name}Error")
    assert issubclass(kind, errors.UserError)
    assert kind("x").exit_code == 2


@pytest.mark.parametrize(
    ("name", "parent", "code"),
    [
        ("AccessError", "ModelError", 2),
        ("UnreachableError", "ModelError", 3),
        ("RefusedRequest", "ModelError", 1),
        ("TransientError", "ModelError", 1),
        ("MalformedReply", "ReplyError", 1),
        ("RefusedReply", "ReplyError", 1),
    ],
)
def test_model_and_reply_errors_have_their_place(name: str, parent: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, getattr(errors, parent))
    assert not issubclass(kind, errors.UserError)
    assert kind("x").exit_code == code


def test_the_docstring_draws_every_class() -> None:
    drawn = errors.__doc__ or ""
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    tree = [c.__name__ for c in classes if issubclass(c, AgentloopError)]
    assert tree
    assert all(name in drawn for name in tree)


def test_a_transient_error_carries_the_endpoints_wish() -> None:
    error = TransientError("busy", retry_after=3.0)
    assert (error.retry_after, error.connected, error.tries) == (3.0, True, 1)


def test_boundary_keeps_the_cause_and_one_line_of_it() -> None:
    with pytest.raises(RecipeError, match=r"^`g\.py` fails: first$") as caught:  # noqa: SIM117
        with boundary(RecipeError, "`g.py` fails", ValueError):
            raise ValueError("\nfirst\nsecond")
    assert isinstance(caught.value.__cause__, ValueError)


def test_boundary_names_the_kind_of_a_cause_without_words() -> None:
    with pytest.raises(RecipeError, match=r"^x: KeyError$"), boundary(RecipeError, "x", Exception):
        raise KeyError


def test_boundary_lets_other_errors_through() -> None:
    with pytest.raises(TypeError), boundary(RecipeError, "x", ValueError):
        raise TypeError


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("acept", ["accept", "items"], " (did you mean `accept`?)"),
        ("zzz", ["b", "a"], " (known: `a`, `b`)"),
        ("zzz", [], ""),
    ],
)
def test_did_you_mean_suggests_or_lists(word: str, known: list[str], hint: str) -> None:
    assert did_you_mean(word, known) == hint


@given(st.text(), st.lists(st.text(min_size=1)))
def test_a_suggestion_is_always_one_of_the_known_words(word: str, known: list[str]) -> None:
    hint = did_you_mean(word, known)
    assert bool(hint) == bool(known)
    assert not known or any(f"`{name}`" in hint for name in known)
