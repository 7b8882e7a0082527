"""The alarm on real text: silent on halves of it, loud on damage.

`benchmarks/collapse.py` measures the same on more draws and by the strength of the damage.

The share of silent draws that is asked is 95 % for people's text and 90 % for a model's.
"""

from __future__ import annotations

import random

import pytest

from agentloop.diversity.reference import Reference
from agentloop.diversity.watch import Watch
from tests.diversity.writing import DATA, field, templated, with_copies, with_opening

USERS = ("self-instruct/user_oriented_instructions.jsonl", "instruction")
GSM8K = ("gsm8k/test.jsonl", "question")
REPLIES = ("ifeval/responses/qwen2.5-7b.jsonl", "response")
DAMAGES = {"copies": with_copies, "opening": with_opening, "templated": templated}

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")


def halves(texts: list[str], seed: int) -> tuple[list[str], list[str]]:
    mixed = random.Random(seed).sample(texts, len(texts))
    return mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]


def alarms(watch: Watch, texts: list[str]) -> bool:
    found = [watch.read(batch) for text in texts if (batch := watch.add(text))]
    assert found
    return any(reading.light != "green" for reading in found)


@needs_data
@pytest.mark.parametrize("source", [USERS, GSM8K], ids=["users", "gsm8k"])
def test_silent_on_200_halves_of_human_text(source: tuple[str, str]) -> None:
    texts = field(*source)
    real, loud = Reference(texts), 0
    for seed in range(200):
        some = random.Random(seed).sample(texts, 252)  # all users; as many of GSM8K, for speed
        half, _ = halves(some, seed)
        loud += alarms(Watch(real, same_kind=True, batch=len(half)), half)
    assert loud <= 10


@needs_data
def test_silent_on_text_that_the_reference_does_not_hold() -> None:
    texts, loud = field(*GSM8K), 0
    for seed in range(2):
        real, other = halves(texts, seed)
        known = Reference(real)
        for start in range(0, 600, 60):
            loud += alarms(Watch(known, same_kind=True), other[start : start + 60])
    assert loud <= 1  # of 20 runs of 60 items


@needs_data
def test_silent_on_a_healthy_model_that_goes_on_as_it_began() -> None:
    """A half as one batch. In batches of 45, 3 of 25 draws alarm: two replies loop for 1,000 words."""
    texts = field(*REPLIES)
    loud = 0
    for seed in range(10):
        first, second = halves(texts[:540], seed)
        loud += alarms(Watch(same_kind=False, batch=270), [*first, *second])
    assert loud <= 1


@needs_data
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("source", [USERS, GSM8K], ids=["users", "gsm8k"])
def test_loud_on_damage(source: tuple[str, str], damage: str) -> None:
    """Without any reference, in runs of 60 items: what is certain alone must be enough.

    Half of the texts with one opening or template is caught in 25 to 28 of 40 runs only.
    """
    share = 0.5 if damage == "copies" else 0.9
    texts, loud = field(*source), 0
    for seed in range(40):
        some = random.Random(seed).sample(texts, 60)
        spoilt = DAMAGES[damage](some, share, seed)
        loud += alarms(Watch(same_kind=False), spoilt)
    assert loud >= 38


@needs_data
@pytest.mark.parametrize("damage", DAMAGES)
def test_loud_on_less_damage_beside_a_reference(damage: str) -> None:
    real, other = halves(field(*GSM8K), 0)
    known, loud = Reference(real), 0
    for seed in range(40):
        some = random.Random(seed).sample(other, 100)
        loud += alarms(Watch(known, same_kind=True), DAMAGES[damage](some, 0.3, seed))
    assert loud >= 38
