"""Admission: exact copies and what comes after the target."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.admission import Admission, Applicant, Rules, fingerprint
from agentloop.novelty.contamination import Contamination
from agentloop.records import Verdict, VerdictName

ACCEPTED = Verdict(verdict="accepted", round=0, score=0.9)
Talk = Sequence[dict[str, str]]


def talk(*texts: str) -> Talk:
    roles = ("user", "assistant")
    return tuple({"role": roles[i % 2], "content": text} for i, text in enumerate(texts))


def test_a_copy_names_the_item_it_copies() -> None:
    door = Admission(Rules())
    assert door.admit(Applicant("a", talk("Why?", "So.")), ACCEPTED)[0] == ACCEPTED
    verdict, _ = door.admit(Applicant("b", talk("why?", " so. ")), ACCEPTED)
    assert (verdict.verdict, verdict.reason) == ("rejected", "duplicate")
    assert "item a" in verdict.detail
    assert (verdict.round, verdict.score) == (0, 0.9)
    assert door.accepted == 1


def test_copies_of_what_an_earlier_session_accepted_are_known() -> None:
    print_ = fingerprint(talk("Why?", "So."))
    door = Admission(Rules(), [(print_, "old")])
    verdict, under = door.admit(Applicant("new", talk("Why?", "So.")), ACCEPTED)
    assert (verdict.reason, under) == ("duplicate", print_)


def test_after_the_target_good_items_are_over_it() -> None:
    door = Admission(Rules(target=1))
    door.admit(Applicant("a", talk("1", "1")), ACCEPTED)
    verdict, _ = door.admit(Applicant("b", talk("2", "2")), ACCEPTED)
    assert (verdict.verdict, verdict.reason) == ("rejected", "over_target")
    assert door.accepted == 1


@pytest.mark.parametrize("name", ["rejected", "ungradable", "failed"])
def test_what_was_not_accepted_passes_unchanged_and_unknown(name: VerdictName) -> None:
    door = Admission(Rules())
    verdict = Verdict(verdict=name)
    assert door.admit(Applicant("a", talk("1", "1")), verdict) == (verdict, "")
    assert door.admit(Applicant("b", talk("1", "1")), ACCEPTED)[0] == ACCEPTED


@given(st.lists(st.sampled_from(["one", "two", "three", "four"])), st.integers(1, 5))
def test_the_accepted_are_distinct_and_never_more_than_the_target(
    texts: list[str], target: int
) -> None:
    door = Admission(Rules(target=target))
    verdicts = [
        door.admit(Applicant(str(i), talk(text)), ACCEPTED)[0] for i, text in enumerate(texts)
    ]
    accepted = [t for t, v in zip(texts, verdicts, strict=True) if v.verdict == "accepted"]
    assert len(accepted) == len(set(accepted)) == door.accepted == min(target, len(set(texts)))


WORDS = st.text("abc", min_size=1)


@given(st.lists(WORDS, max_size=3), st.lists(WORDS, max_size=3))
def test_two_conversations_share_a_fingerprint_only_when_they_say_the_same(
    one: list[str], other: list[str]
) -> None:
    assert (fingerprint(talk(*one)) == fingerprint(talk(*other))) == (one == other)


@given(st.lists(st.booleans()), st.sampled_from([0.0, 0.07, 1 / 3, 0.5, 1.0]))
def test_room_is_told_before_and_kept_at_the_door(real: list[bool], share: float) -> None:
    door = Admission(Rules(real_share=share))
    made = 0
    for number, is_real in enumerate(real):
        has_room = is_real or door.has_room()
        applicant = Applicant(str(number), talk(str(number)), real=is_real)
        verdict, _ = door.admit(applicant, ACCEPTED)
        assert verdict.reason == (None if has_room else "over_quota")
        made += not is_real and has_room
        assert door.accepted - made >= round(share * door.accepted, 9) or not made


def test_room_is_kept_for_those_on_their_way() -> None:
    door = Admission(Rules(real_share=0.07))
    for number in range(7):
        door.admit(Applicant(str(number), talk(str(number))), ACCEPTED)
    assert door.has_room(92)  # 7 of 100
    assert not door.has_room(93)


def test_any_part_that_repeats_a_test_counts_and_names_it() -> None:
    exam = "A train leaves the old town at noon and arrives in the harbour two hours later."
    rules = Rules(contamination=Contamination([("exam", 3, exam)]))
    own = " ".join(f"own{n}" for n in range(60))
    for applicant in (
        Applicant("a", talk(exam, own)),
        Applicant("b", talk("Why?", own), text=exam),
        Applicant("c", talk("Why?", own), parts=["So.", exam]),
        Applicant("d", talk("A train leaves the old town at noon and", exam[40:])),
    ):
        verdict, _ = Admission(rules).admit(applicant, ACCEPTED)
        assert verdict.reason == "contaminated"
        assert "`exam`, row 3" in verdict.detail
    assert Admission(rules).admit(Applicant("e", talk("Why?", own)), ACCEPTED)[0] == ACCEPTED


def test_who_says_it_matters() -> None:
    assert fingerprint([{"role": "user", "content": "x"}]) != fingerprint(
        [{"role": "system", "content": "x"}]
    )
