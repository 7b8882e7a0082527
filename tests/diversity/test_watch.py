"""The watch: when it is green, amber and red, against what, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.diversity.band import Band
from agentloop.diversity.collapse import Loss
from agentloop.diversity.reading import Comparison, Light, Reading, Source, judge, outside
from agentloop.diversity.reference import Reference
from agentloop.diversity.stream import Batch, Stream
from agentloop.diversity.watch import Watch
from tests.diversity.writing import VOCABULARY, prose, templated, with_copies, with_opening

REAL = Reference(prose(400, 7))


def readings(watch: Watch, texts: Iterable[str]) -> list[Reading]:
    return [watch.read(batch) for text in texts if (batch := watch.add(text))]


def lights(watch: Watch, texts: Iterable[str]) -> list[Light]:
    return [reading.light for reading in readings(watch, texts)]


def asked(kind: str, number: int) -> str:
    """Return a question about one of three seeds, as a run without variety would make it."""
    seed = ("the harbour of Tarn", "the bees of Mellow", "the clock of Brass Street")[number % 3]
    return f"What is the main reason why {seed} became so {kind} after all these years?"


def test_good_text_is_green_against_text_of_its_kind() -> None:
    watch = Watch(REAL, same_kind=True)
    assert lights(watch, prose(200, 1)) == ["green"] * 10
    assert watch.whole().light == "green"


@pytest.mark.parametrize("spoil", [with_copies, with_opening, templated])
def test_spoilt_text_is_red_with_and_without_a_reference(spoil: object) -> None:
    assert callable(spoil)
    for watch in (Watch(REAL, same_kind=True), Watch(same_kind=False)):
        assert "red" in lights(watch, spoil(prose(60, 1), 0.7))


def test_a_red_light_says_why_in_words() -> None:
    [reading] = readings(Watch(REAL, same_kind=True), with_opening(prose(20, 1)))
    assert reading.lights == {"itself": "red", "reference": "red"}
    assert "100% of 20 texts begin with ‘sure here is’" in reading.reasons
    [beside] = [reason for reason in reading.reasons if reason.startswith("100 % of the last 20")]
    assert "real text of this kind: 0 %–" in beside


def test_text_of_another_kind_is_shown_and_never_alarms() -> None:
    longer = Reference([" ".join(prose(8, seed)) for seed in range(250)])
    watch = Watch(longer, same_kind=False)
    found = readings(watch, templated(prose(40, 1), 0.3))
    assert not any(one.source == "reference" for reading in found for one in reading.compared)
    assert not any("reference" in reading.lights for reading in found)
    whole = watch.whole()
    assert whole.another_kind is not None
    assert whole.another_kind.tokens == whole.figures.tokens
    assert "the reference is of another kind: it is shown and never alarms" in whole.notes


def test_a_small_reference_gives_figures_and_says_that_there_is_no_band() -> None:
    [reading] = readings(Watch(prose(150), same_kind=True), prose(20, 1))
    assert reading.figures.tail_coverage is not None
    assert reading.compared == ()
    assert "no band: the reference holds 150 texts, 200 are needed" in reading.notes


def test_what_real_text_of_the_kind_does_too_is_no_alarm() -> None:
    real = with_opening(prose(300, 1))
    assert set(lights(Watch(real, same_kind=True), with_opening(prose(100, 2)))) == {"green"}
    assert "red" in lights(Watch(real, same_kind=False), with_opening(prose(100, 2)))


def test_a_run_is_compared_with_its_own_beginning() -> None:
    watch = Watch(same_kind=False)
    begun = readings(watch, prose(200, 1))
    assert {r.light for r in begun} == {"green"}
    assert begun[-1].notes == ("no drift is measured within the first 200 texts",)
    assert set(lights(watch, prose(100, 2))) == {"green"}
    poorer = [" ".join(VOCABULARY[:60][hash_(w) % 60] for w in t.split()) for t in prose(100, 3)]
    found = readings(watch, poorer)
    assert found[0].lights["itself"] == "green"
    assert "red" in {r.lights["first batches"] for r in found}
    assert "this run's first texts" in " ".join(found[0].reasons + found[1].reasons)


LIMITS = {"low": 2.0, "median": 3.0, "high": 4.0, "lowest": 1.0, "highest": 5.0}
VALUES = {"none": 3.0, "outside": 1.5, "far": 0.5}


@pytest.mark.parametrize(
    ("earlier", "now", "drift", "reference"),
    [
        ("none", "far", "green", "red"),
        ("far", "none", "green", "green"),
        ("outside", "outside", "amber", "amber"),
        ("outside", "far", "amber", "red"),
        ("far", "outside", "amber", "amber"),
        ("far", "far", "red", "red"),
    ],
)
def test_one_odd_batch_is_no_drift(earlier: Loss, now: Loss, drift: str, reference: str) -> None:
    band = Band(figure="entropy", texts=20, tokens=300, **LIMITS)

    def found(loss: Loss) -> list[Comparison]:
        value = VALUES[loss]
        assert band.loss(value) == loss
        sources: tuple[Source, ...] = ("first batches", "reference")
        return [Comparison(source=source, value=value, band=band, loss=loss) for source in sources]

    lights, _ = judge(found(now), [], outside(found(earlier), []))
    assert lights == {"itself": "green", "first batches": drift, "reference": reference}


def test_a_named_part_is_compared_with_the_reference_and_all_with_everything_else() -> None:
    watch, told = Watch(REAL, same_kind=True), prose(20, 1)
    batches = [watch.add(f"{text} The end is near.", beside=text) for text in told]
    assert batches[-1] is not None
    reading, alone = watch.read(batches[-1]), Watch(REAL, same_kind=True)
    [other] = readings(alone, told)
    assert reading.compared == other.compared
    assert reading.figures.tail_coverage == other.figures.tail_coverage
    assert reading.figures.length_divergence == other.figures.length_divergence
    assert reading.figures.mean_words == (other.figures.mean_words or 0) + 4
    assert watch.whole().compared == alone.whole().compared


def test_a_part_excuses_no_more_than_how_a_text_begins() -> None:
    """Labels repeat among people; texts that end in a label do not."""
    labels = ["positive", "negative", "neutral"] * 100
    copied = Watch(labels, same_kind=True)
    batches = [copied.add(f"It rained. {label}", beside=label) for label in labels[:20]]
    assert batches[-1] is not None
    assert copied.read(batches[-1]).lights["itself"] == "red"
    opened = Watch(with_opening(prose(300, 1)), same_kind=True)
    texts = with_opening(prose(20, 2))
    batches = [opened.add(f"{t} {o}", beside=t) for t, o in zip(texts, prose(20, 3), strict=True)]
    assert batches[-1] is not None
    assert opened.read(batches[-1]).lights["itself"] == "green"


def hash_(word: str) -> int:
    return sum(ord(letter) * 31**at for at, letter in enumerate(word))


def test_sixty_items_of_three_seeds_without_variety_are_caught() -> None:
    plain = ["known", "quiet", "famous", "loved", "feared", "busy", "rich", "old", "dear", "odd"]
    same = [asked(plain[number // 3 % 10], number) for number in range(60)]
    watch = Watch(same_kind=False)
    assert "red" in lights(watch, same)
    varied = [f"{text} {asked(plain[at % 10], at)[30:60]}" for at, text in enumerate(prose(60, 5))]
    assert set(lights(Watch(same_kind=False), varied)) == {"green"}


def test_a_suspicion_twice_in_a_row_is_amber() -> None:
    ends = (
        "the bees of the old mellow orchard left us",
        "grey boats in tarn harbour never came home",
        "that clock on brass street strikes only once",
        "seven goats climbed up to this empty chapel",
    )
    texts = [f"{' '.join(t.split()[:5])} {ends[at % 4]}" for at, t in enumerate(prose(40, 6))]
    first, second = readings(Watch(same_kind=False), texts)
    assert (first.light, second.light) == ("green", "amber")
    assert second.reasons[0].startswith("the texts are variations of a few: 0.")


def test_copies_of_earlier_batches_are_counted() -> None:
    watch, texts = Watch(same_kind=False), prose(40, 1)
    assert lights(watch, texts) == ["green", "green"]
    third = [*prose(14, 2), *(text.upper() for text in texts[:6])]
    [reading] = readings(watch, third)
    assert reading.light == "red"
    assert "6 of the last 60 texts repeat an earlier one" in reading.reasons[0]


def test_a_run_that_makes_only_copies_is_read_and_red() -> None:
    watch = Watch(same_kind=False)
    for text in prose(3, 1):
        assert watch.add(text) is None
    batches = [batch for _ in range(40) if (batch := watch.turn_away())]
    assert [(len(batch.texts), batch.turned_away) for batch in batches] == [(3, 20), (0, 20)]
    found = [watch.read(batch) for batch in batches]
    assert [reading.light for reading in found] == ["red", "red"]
    assert found[0].reasons == ("20 of the last 23 good candidates were copies of others",)
    assert watch.summary()["turned_away"] == 40


def test_a_few_copies_at_the_door_are_no_alarm() -> None:
    watch = Watch(same_kind=False)
    for _ in range(5):
        assert watch.turn_away() is None
    [reading] = readings(watch, prose(20, 1))
    assert (reading.light, reading.turned_away) == ("green", 5)


def test_strata_are_measured_beside_the_plan() -> None:
    watch = Watch(same_kind=False, batch=10, planned={"easy": 1, "hard": 1})
    for text in prose(10, 1):
        batch = watch.add(text, stratum="easy")
    assert batch is not None
    assert watch.read(batch).figures.strata_divergence == pytest.approx(0.3113, abs=1e-4)
    assert watch.whole().figures.strata_divergence == pytest.approx(0.3113, abs=1e-4)


def test_a_resumed_run_goes_on_as_if_it_had_never_stopped() -> None:
    texts, later = templated(prose(260, 1), 0.1), prose(40, 2)
    one, other = Watch(REAL, same_kind=True), Watch(REAL, same_kind=True)
    last = readings(one, texts)[-1]
    again = other.refeed((text, text, "") for text in texts)
    assert again is not None
    assert (again.number, again.light) == (last.number, last.light)
    assert lights(one, later) == lights(other, later)
    assert Watch(same_kind=True).refeed([("a", "a", "")]) is None


def test_a_batch_is_read_in_another_thread_while_texts_come_in() -> None:
    watch = Watch(REAL, same_kind=True)
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(watch.read, b) for t in prose(100, 1) if (b := watch.add(t))]
        assert [found.result().number for found in waiting] == [1, 2, 3, 4, 5]


def test_the_summary_is_plain_json() -> None:
    watch = Watch(REAL, same_kind=True)
    assert watch.summary()["last"] is None
    readings(watch, [*prose(20, 1), *with_opening(prose(25, 2))])
    found = watch.summary()
    assert json.loads(json.dumps(found)) == found
    assert (found["texts"], found["batches"], found["light"]) == (45, 2, "red")
    assert found["lights"] == {"green": 1, "amber": 0, "red": 1}
    assert Reading.model_validate(found["last"]).number == 2


def test_the_whole_run_is_read_at_its_own_budget() -> None:
    watch = Watch(REAL, same_kind=True)
    readings(watch, prose(600, 1))
    reading = watch.whole()
    assert (reading.view, reading.figures.texts, reading.light) == ("run", 600, "green")
    assert reading.figures.tokens > 8_000
    assert Watch(same_kind=False).whole().light == "green"


def test_the_even_sample_is_bounded() -> None:
    stream = Stream(20)
    for number in range(20_000):
        stream.add(f"text {number}", f"part {number}")
    assert 2_000 < len(stream.sample) <= 4_096
    assert stream.sample[:2] == [("text 0", "part 0"), ("text 8", "part 8")]
    assert stream.first_batches == 10


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=30), st.integers(1, 12))
def test_any_texts_can_be_watched(texts: list[str], size: int) -> None:
    watch = Watch(texts, same_kind=True, batch=size)
    batches: list[Batch] = [batch for text in texts if (batch := watch.add(text))]
    assert len(batches) == len(texts) // size
    for batch in batches:
        assert watch.read(batch).number == batch.number
    assert Reading.model_validate_json(watch.whole().model_dump_json()) == watch.whole()
