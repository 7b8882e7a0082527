"""The door in a run: damaged indexes, tests that models see, other runs, room for made seeds, quotas."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.errors import SettingsError
from agentloop.novelty.lineage import mark
from agentloop.store.files import connect
from agentloop.store.taken import read_standing
from tests.builders import (
    PASSAGE,
    QA,
    SEEDS,
    agent,
    asked,
    by_first_letters,
    draft,
    marks,
    play,
    tiny,
    verdicts,
)
from tests.test_variety import varied

TWINS: dict[str, Any] = {"seeds": SEEDS[:8], "novelty": "near"}
FILES = ["head.json", "texts", "names", "ends", "signatures", "tables-1024"]


def index_of(folder: Path) -> Path:
    (path,) = (folder / "qa.duckdb.near").iterdir()
    return path


def damage(file: Path) -> None:
    """Write over the first 200 bytes, as they stand in place."""
    with file.open("r+b") as opened:
        garbage = bytes(byte ^ 0x5A for byte in opened.read(200))
        opened.seek(0)
        opened.write(garbage)


def distinct(prompt: str) -> str:
    """Answer the first passages with texts of their own, later ones nearly as the first."""
    number = int(prompt.partition("number ")[2].split(".")[0])
    if number <= 3:
        return varied(str(number))
    first = json.loads(varied("0"))
    return draft(f"{first['answer']} number {number}", first["question"])


class TestDamage:
    @pytest.mark.parametrize("name", FILES)
    def test_between_two_sessions_it_costs_no_twin(self, tmp_path: Path, name: str) -> None:
        model = agent(generate=distinct)
        assert verdicts(play(tmp_path, model, items=4, **TWINS))["accepted"] == 4
        damage(index_of(tmp_path) / name)
        run = play(tmp_path, agent(generate=distinct), **TWINS)
        assert Counter(row["reason"] for row in run.items("all")) == {None: 4, "too_similar": 4}

    @pytest.mark.parametrize("name", ["texts", "names", "ends", "head.json"])
    def test_within_a_session_the_run_goes_on(self, tmp_path: Path, name: str) -> None:
        """What this session accepted is nowhere but in the journal when it happens."""
        notes: list[str] = []

        def watch(event: al.Event) -> None:
            settled = event.data.get("counts", {})
            if event.kind == "settled" and settled["accepted"] == 4 and not settled["rejected"]:
                damage(index_of(tmp_path) / name)
            if event.kind == "note":
                notes.append(event.data["text"])

        run = play(tmp_path, agent(generate=distinct), progress=watch, **TWINS)
        assert Counter(row["reason"] for row in run.items("all")) == {None: 4, "too_similar": 4}
        assert any("made anew" in note for note in notes) == (name != "head.json")

    def test_a_store_of_two_sessions_is_read_again_whole(self, tmp_path: Path) -> None:
        play(tmp_path, agent(generate=distinct), items=2, **TWINS)

        def watch(event: al.Event) -> None:
            if event.kind == "settled" and event.data["counts"]["accepted"] == 4:
                damage(index_of(tmp_path) / "texts")

        run = play(tmp_path, agent(generate=distinct), progress=watch, **TWINS)
        assert verdicts(run)["accepted"] == 4
        index = index_of(tmp_path)
        rows = json.loads((index / "head.json").read_bytes())["rows"]
        assert rows == 4


QUESTION = "A train leaves the old town at noon and arrives in the harbour two hours later at dusk."


class Narrow(al.Candidate):
    question: str
    answer: str
    code: str = ""

    def novelty(self, seed: dict[str, Any]) -> str:
        return self.question


class TestContamination:
    @pytest.fixture
    def exam(self, tmp_path: Path) -> str:
        file = tmp_path / "exam.jsonl"
        rows = [{"question": "unrelated", "answer": "42"}, {"question": QUESTION, "answer": "yes"}]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(file)

    @pytest.mark.parametrize(
        ("kind", "made"),
        [
            (QA, {"question": QUESTION, "answer": " ".join(f"own{n}" for n in range(60))}),
            (Narrow, {"question": "Whereto?", "answer": QUESTION}),
            (Narrow, {"question": "Whereto?", "answer": "There.", "code": f"# {QUESTION}"}),
        ],
    )
    def test_a_message_or_a_field_is_enough(
        self, tmp_path: Path, exam: str, kind: type[al.Candidate], made: dict[str, str]
    ) -> None:
        recipe = tiny(tmp_path, candidate=kind)
        run = play(tmp_path, agent(generate=json.dumps(made)), recipe, decontaminate=exam)
        (row,) = run.items("rejected")
        assert row["reason"] == "contaminated"
        assert f"`{exam}`, row 2" in row["detail"]

    def test_a_short_answer_that_a_test_has_too_says_nothing(
        self, tmp_path: Path, exam: str
    ) -> None:
        made = draft("42", "How much is six times seven, if one may ask?")
        assert verdicts(play(tmp_path, agent(generate=made), decontaminate=exam))["accepted"] == 1


class TestOtherRuns:
    def test_what_another_run_accepted_is_not_accepted_again(self, tmp_path: Path) -> None:
        first = play(tmp_path, agent(generate=varied), run="one", **TWINS)
        assert verdicts(first)["accepted"] == 8
        run = play(tmp_path, agent(generate=varied), run="two", **TWINS)
        assert verdicts(run)["accepted"] == 0
        for row in run.items("rejected"):
            assert row["reason"] == "too_similar"
            assert row["detail"].endswith(f"item {row['item']} of run `one`")

    @pytest.mark.parametrize("spoil", ["gone", "behind"])
    def test_an_index_of_theirs_is_made_anew_from_the_store(
        self, tmp_path: Path, spoil: str
    ) -> None:
        play(tmp_path, agent(generate=varied), run="one", **{**TWINS, "novelty": "exact"})
        if spoil == "behind":
            play(tmp_path, agent(generate=varied), run="one", **{**TWINS, "seeds": SEEDS[:9]})
            play(tmp_path, agent(generate=varied), run="one", **{**TWINS, "novelty": "exact",
                                                                 "seeds": SEEDS[:12]})  # fmt: skip
        run = play(tmp_path, agent(generate=varied), run="two", **TWINS)
        assert verdicts(run)["accepted"] == 0

    def test_a_family_of_forks_shares_its_items(self, tmp_path: Path) -> None:
        play(tmp_path, agent(generate=varied), run="one", **TWINS)
        for parent, name in (("one", "two"), ("one", "three"), ("two", "four")):
            run = play(tmp_path, agent(generate=varied), run=parent, fork=name, **TWINS)
            assert verdicts(run)["accepted"] == 8
        run = play(tmp_path, agent(generate=varied), run="four", **TWINS)
        assert verdicts(run)["accepted"] == 8

    def test_exact_and_other_recipes_look_at_no_other_run(self, tmp_path: Path) -> None:
        play(tmp_path, agent(generate=varied), run="one", **TWINS)
        run = play(tmp_path, agent(generate=varied), run="two", **{**TWINS, "novelty": "exact"})
        assert verdicts(run)["accepted"] == 8
        other = tiny(tmp_path, name="other")
        assert verdicts(play(tmp_path, agent(generate=varied), other, **TWINS))["accepted"] == 8

    def test_many_runs_do_not_need_as_many_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentloop.intake.OPENED", 1)
        for number, name in enumerate("abc"):
            seeds = SEEDS[2 * number : 2 * number + 2]
            play(tmp_path, agent(generate=varied), run=name, seeds=seeds, novelty="near")
        run = play(tmp_path, agent(generate=varied), run="d", seeds=SEEDS[:7], novelty="near")
        assert verdicts(run)["accepted"] == 1
        found = {row["detail"].rpartition(" ")[2] for row in run.items("rejected")}
        assert found == {"`a`", "`b`", "`c`"}


class TestMeaning:
    @pytest.fixture(autouse=True)
    def _embedder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Texts with the same first letters mean the same."""
        from agentloop.novelty import semantic

        monkeypatch.setattr(semantic, "_embedder", lambda: by_first_letters)

    def test_named_texts_and_seeds_are_compared_too(self, tmp_path: Path) -> None:
        (tmp_path / "known.txt").write_text("abcdef one two three\n")
        given = {"novel_to": str(tmp_path / "known.txt"), "generate": "abcdef four five"}
        run = play(
            tmp_path,
            agent(generate=draft("It is.", given["generate"])),
            novelty="semantic",
            novel_to=given["novel_to"],
        )
        (row,) = run.items("rejected")
        assert row["reason"] == "too_similar"
        assert "cosine" in row["detail"]
        assert "known.txt row 1" in row["detail"]
        recipe = tiny(tmp_path, alike="passage")
        said = draft("It is.", f"{PASSAGE[:6]} nothing else in common")
        run = play(tmp_path, agent(generate=said), recipe, run="two", novelty="semantic")
        (row,) = run.items("rejected")
        assert "cosine" in row["detail"]
        assert "seed " in row["detail"]

    def test_other_runs_and_earlier_sessions_are_compared_too(self, tmp_path: Path) -> None:
        def said(rest: str) -> Any:
            return agent(generate=draft("It is.", f"abcdef {rest}"))

        given: dict[str, Any] = {"novelty": "semantic", "seeds": SEEDS[:2]}
        play(tmp_path, said("one two three"), run="one", items=1, **given)
        run = play(tmp_path, said("four five six"), run="one", **given)
        assert verdicts(run)["accepted"] == 1
        run = play(tmp_path, said("seven eight nine"), run="two", **given)
        details = [row["detail"] for row in run.items("rejected")]
        assert len(details) == 2
        assert all("cosine" in detail and "of run `one`" in detail for detail in details)


def made(seed: dict[str, Any]) -> dict[str, Any]:
    return {**seed, **mark("i", 1)}


def settled(run: al.Run) -> Counter[str | None]:
    return Counter(row["reason"] for row in run.items("all"))


class TestRoom:
    @pytest.mark.parametrize("order", ["made first", "interleaved", "real first"])
    @pytest.mark.parametrize("concurrency", [1, 8])
    @pytest.mark.parametrize("held", [5000, 3])
    def test_the_order_of_seeds_is_of_no_matter(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        order: str,
        concurrency: int,
        held: int,
    ) -> None:
        monkeypatch.setattr("agentloop.feed.HELD", held)
        seeds = [made(seed) for seed in SEEDS[:10]] + SEEDS[10:20]
        if order == "interleaved":
            seeds = [seed for pair in zip(seeds[:10], seeds[10:], strict=True) for seed in pair]
        if order == "real first":
            seeds = seeds[::-1]
        run = play(tmp_path, agent(), seeds=seeds, concurrency=concurrency)
        assert settled(run) == {None: 20}

    @pytest.mark.parametrize("held", [5000, 3])
    @pytest.mark.parametrize("concurrency", [1, 8])
    def test_what_has_no_room_costs_no_call(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, concurrency: int
    ) -> None:
        monkeypatch.setattr("agentloop.feed.HELD", held)
        seeds = [made(seed) for seed in SEEDS[:12]] + SEEDS[12:16]
        model = agent()
        run = play(tmp_path, model, seeds=seeds, concurrency=concurrency)
        assert settled(run) == {None: 8, "over_quota": 8}
        assert len(asked(model, "GENERATE")) == 8
        again = agent()
        assert play(tmp_path, again, seeds=seeds).counts == run.counts
        assert not again.requests

    def test_room_that_an_item_did_not_take_is_given_on(self, tmp_path: Path) -> None:
        def strict(prompt: str) -> str:
            return marks("no", "dull") if "number 2." in prompt else marks()

        seeds = [SEEDS[0], SEEDS[1], *map(made, SEEDS[2:5])]
        run = play(tmp_path, agent(critique=strict), seeds=seeds, concurrency=8, max_rounds=0)
        assert settled(run) == {None: 4, "below_threshold": 1}

    def test_a_run_that_goes_on_knows_who_is_in(self, tmp_path: Path) -> None:
        deep = {**SEEDS[0], "of": [{"deep": mark("i", 1)}]}  # the mark is not at the top
        seeds = [SEEDS[1], deep, made(SEEDS[2]), SEEDS[3]]
        play(tmp_path, agent(), seeds=seeds, items=2)
        with connect(tmp_path / "qa.duckdb", write=False) as connection:
            assert read_standing(connection, "tiny")[::2] == (2, 1)
        run = play(tmp_path, agent(), seeds=seeds)
        assert settled(run) == {None: 4}

    def test_a_run_of_made_seeds_alone_ends(self, tmp_path: Path) -> None:
        model = agent()
        run = play(tmp_path, model, seeds=[made(seed) for seed in SEEDS[:3]], accept=2)
        assert (run.stopped_by, run.exit_code, model.requests) == ("seeds", 3, [])
        assert set(settled(run)) == {"over_quota"}
        free = play(tmp_path, agent(), run="free", real_share=0, accept=2, seeds=[made(SEEDS[0])])
        assert verdicts(free)["accepted"] == 2


class TestQuotas:
    def test_shares_add_up_to_the_target(self, tmp_path: Path) -> None:
        plan = {"level": ["a", "b", "c"]}
        run = play(tmp_path, agent(), seeds=SEEDS, accept=10, attributes=plan, quota="level")
        levels = Counter(row["inputs"]["attributes"]["level"] for row in run.items())
        assert sorted(levels.values()) == [3, 3, 4]
        assert levels["a"] == 4  # among equals the first

    @pytest.mark.parametrize(
        ("shares", "accept", "rooms"),
        [
            ({"a": 1, "b": 1, "c": 1}, 10, {"a": 4, "b": 3, "c": 3}),
            ({"a": 7, "b": 93}, 100, {"a": 7, "b": 93}),
            ({"a": 1, "b": 1, "c": 1}, 2, {"a": 1, "b": 1, "c": 0}),
            ({"a": 5, "b": 3, "c": 2}, 11, {"a": 6, "b": 3, "c": 2}),
        ],
    )
    def test_rooms_are_those_of_the_largest_remainder(
        self, shares: dict[str, int], accept: int, rooms: dict[str, int]
    ) -> None:
        from agentloop.attributes import read_attributes
        from agentloop.drawing import Strata

        strata = Strata(read_attributes({"x": shares}), "x", accept)
        for value, room in rooms.items():
            drawn = {"attributes": {"x": value}}
            for _ in range(room):
                assert not strata.full(drawn)
                strata.settled({"x": value}, True)
            assert f"{room} items of x `{value}` were planned" in strata.full(drawn)

    def test_a_quota_of_no_number_is_refused(self, tmp_path: Path) -> None:
        model = agent()
        with pytest.raises(SettingsError, match=r"`quota`: the shares of `level` .*--accept"):
            play(tmp_path, model, items=3, attributes={"level": ["a"]}, quota="level")
        assert not model.requests
        assert not (tmp_path / "qa.duckdb").exists()


class TestAttributeNames:
    @pytest.mark.parametrize("name", ["$x[", "a.b", "a'b", 'a"b', "", " a", "a  b", "a\n", "$"])
    def test_a_name_that_is_none_is_refused(self, tmp_path: Path, name: str) -> None:
        model = agent()
        with pytest.raises(SettingsError, match="a name has letters, digits") as caught:
            play(tmp_path, model, attributes={name: ["a"]})
        assert "\n" not in str(caught.value)
        assert not model.requests

    @pytest.mark.parametrize("name", ["level", "reading age", "a-b_2", "Über"])
    def test_usual_names_are_told_by_stratum(self, tmp_path: Path, name: str) -> None:
        run = play(tmp_path, agent(), attributes={name: ["a"]})
        assert [(s.attribute, s.value) for s in run.evidence().strata] == [(name, "a")]

    @pytest.mark.parametrize("drawn", [{"$x[": "a"}, {'q"': "a", "/": "b"}, ["a"], "text", None])
    def test_what_a_recipe_drew_breaks_no_evidence(self, tmp_path: Path, drawn: Any) -> None:
        recipe = tiny(tmp_path, draw=lambda seed, sample, chance: {"attributes": drawn})
        run = play(tmp_path, agent(), recipe)
        found = {s.attribute: s.value for s in run.evidence().strata}
        assert found == (drawn if isinstance(drawn, dict) else {})


class Buggy(al.Candidate):
    question: str
    answer: str

    def novelty(self, seed: dict[str, Any]) -> str:
        if "number 1." in seed["passage"]:
            raise KeyError("passages")
        return self.answer


class Wordless(al.Candidate):
    question: str
    answer: str

    def novelty(self, seed: dict[str, Any]) -> str:
        return None  # type: ignore[return-value]


class BadTalk(al.Candidate):
    question: str
    answer: str

    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        raise IndexError("no turn")


@pytest.mark.parametrize(
    ("kind", "failed", "said"),
    [
        (Buggy, 1, "KeyError"),
        (Wordless, 3, "`novelty` must return a text"),
        (BadTalk, 3, "no turn"),
    ],
)
def test_a_bug_in_a_candidate_type_costs_its_items(
    tmp_path: Path, kind: type[al.Candidate], failed: int, said: str
) -> None:
    run = play(tmp_path, agent(generate=varied), tiny(tmp_path, candidate=kind), **TWINS | {
        "seeds": SEEDS[:3]})  # fmt: skip
    assert (verdicts(run)["accepted"], verdicts(run)["failed"]) == (3 - failed, failed)
    for row in run.items("failed"):
        assert row["reason"] == "error"
        assert said in row["detail"]


def test_a_retried_item_is_counted_once_among_its_stratum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentloop.drawing import Strata

    counted: list[int] = []
    settle: Callable[..., None] = Strata.settled

    def watched(self: Strata, drawn: Any, accepted: bool, items: int = 1) -> None:
        settle(self, drawn, accepted, items)
        counted.append(self._all[0])

    plan = {"level": ["a"]}
    play(tmp_path, agent(generate="no JSON"), seeds=SEEDS[:4], attributes=plan)
    monkeypatch.setattr(Strata, "settled", watched)
    run = play(tmp_path, agent(), seeds=SEEDS[:5], attributes=plan, retry="failed")
    assert verdicts(run) == {"accepted": 5, "rejected": 0, "ungradable": 0, "failed": 0}
    assert counted[-1] == 5
