"""The alarm on real text: silent on halves of it, loud on damage.

`benchmarks/collapse.py` measures the same on more draws and by the strength of the damage.

The share of silent draws that is asked is 95 % for people's text and 90 % for a model's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from agentloop.diversity.reference import Reference
from agentloop.diversity.watch import Watch
from tests.diversity.writing import DATA, field, prose, templated, with_copies, with_opening

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
    """A half as one batch; in batches of 45, 0 of 25 draws alarm though two replies loop."""
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


THINGS = [
    "river", "gravity", "democracy", "inflation", "volcano", "vaccine", "jazz", "chess",
    "plastic", "ocean", "soil", "printing", "bread", "steel", "cotton", "radio", "comet",
    "glacier", "bridge", "tunnel", "whale", "honey", "piano", "tax", "census", "battery",
    "laser", "desert", "coral", "fossil", "opera", "sonnet", "neuron", "enzyme", "harbour",
    "forest", "market", "empire", "novel", "compass", "telescope",
]  # fmt: skip
NAMES = [
    "Tom", "Anna", "Maria", "Jack", "Olga", "Peter", "Sam", "Lucy", "Emma", "Noah", "Liam",
    "Ava", "Mia", "Zoe", "Ben", "Carl", "Dora",
]  # fmt: skip
TOOLS = [
    "Python", "Java", "Rust", "Go", "Ruby", "Perl", "Swift", "Kotlin", "Scala", "Haskell",
    "Julia", "Lua", "Bash",
]  # fmt: skip
TEMPLATES: dict[str, Callable[[random.Random], str]] = {
    "sum": lambda r: f"What is {r.randint(1, 999)} plus {r.randint(1, 999)}?",
    "apples": lambda r: (
        f"{r.choice(NAMES)} has {r.randint(3, 99)} apples and gives {r.randint(1, 50)} to"
        f" {r.choice(NAMES)}. How many are left?"
    ),
    "explain": lambda r: f"Explain the {r.choice(THINGS)} beside the {r.choice(THINGS)}.",
    "poem": lambda r: f"Write a poem about the {r.choice(THINGS)} and {r.choice(NAMES)}.",
    "capital": lambda r: f"What is the capital of {r.choice(THINGS).title()} {r.choice(NAMES)}?",
    "how": lambda r: f"How do I {r.choice(THINGS)} a {r.choice(THINGS)} in {r.choice(TOOLS)}?",
    "history": lambda r: (
        f"Summarise the history of {r.choice(THINGS)} {r.choice(THINGS)} in three sentences."
    ),
    "what": lambda r: f"What is {r.choice(['a', 'the'])} {r.choice(THINGS)} {r.choice(THINGS)}?",
}


def filled(kind: str, share: float, rng: random.Random) -> list[str]:
    """Return 60 texts, a share of them of one template, no two the same."""
    made: dict[str, None] = {}
    while len(made) < round(60 * share):
        made[TEMPLATES[kind](rng)] = None
    texts = [*made, *prose(60 - len(made), rng.randint(0, 999))]
    return rng.sample(texts, len(texts))


@pytest.mark.parametrize("share", [1.0, 0.9])
@pytest.mark.parametrize("kind", TEMPLATES)
def test_loud_on_a_template_whose_slots_are_filled(kind: str, share: float) -> None:
    runs = [filled(kind, share, random.Random(seed)) for seed in range(20)]
    assert sum(alarms(Watch(same_kind=False), texts) for texts in runs) >= 19


def test_two_words_and_numbers_alone_are_no_opening() -> None:
    rng = random.Random(0)
    assert not alarms(Watch(same_kind=False), [str(n) for n in rng.sample(range(10**6), 60)])


def human_sets() -> dict[str, list[str]]:
    bar = json.loads((DATA / "llmbar/Adversarial_GPTInst.json").read_bytes())
    return {
        "users": field(*USERS),
        "seeds": field("self-instruct/seed_tasks.jsonl", "instruction"),
        "questions": field(*GSM8K),
        "solutions": field("gsm8k/test.jsonl", "answer"),
        "prompts": field("ifeval/en_input_data.jsonl", "prompt"),
        "asked": list(dict.fromkeys(row["input"] for row in bar)),
        "answered": list(dict.fromkeys(row["output_1"] for row in bar)),
    }


@needs_data
def test_silent_on_few_texts_of_any_people() -> None:
    """All sets but MBPP, where people were told how to begin."""
    for name, texts in human_sets().items():
        draws = [random.Random(seed).sample(texts, 20 + 20 * (seed % 3)) for seed in range(60)]
        assert sum(alarms(Watch(same_kind=False), draw) for draw in draws) <= 1, name
