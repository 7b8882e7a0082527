"""Variety in a run: what is drawn, what falls at the door, what raises an alarm, what steers."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import duckdb
import pytest

import agentloop as al
import agentloop.variety
from agentloop.errors import SettingsError
from agentloop.novelty.lineage import mark
from agentloop.recipes import find_recipe
from agentloop.records import Candidate
from agentloop.variety import BEGINNING, Variety
from tests.builders import (
    PASSAGE,
    QA,
    SEEDS,
    agent,
    asked,
    draft,
    marks,
    only,
    play,
    roles,
    tiny,
    verdicts,
)
from tests.diversity.writing import VOCABULARY, prose

WORDS = [
    "amber", "anchor", "apple", "autumn", "basket", "beacon", "bridge", "candle", "canyon", "castle",
    "cedar", "circle", "clover", "copper", "cotton", "desert", "dragon", "ember", "engine", "fabric",
    "falcon", "feather", "ferry", "forest", "garden", "glacier", "hammer", "harbour", "hazel", "island",
    "ivory", "jacket", "jungle", "kettle", "ladder", "lantern", "lemon", "marble", "meadow", "mirror",
    "nickel", "ocean", "orchard", "paper", "pebble", "pepper", "pigeon", "pillow", "planet", "pocket",
    "quarry", "rabbit", "ribbon", "river", "saddle", "silver", "spider", "sugar", "summit", "temple",
    "thunder", "timber", "tunnel", "valley", "velvet", "violin", "walnut", "window", "winter",
]  # fmt: skip
THREE = [{"passage": f"{PASSAGE} It is passage {name}."} for name in ("one", "two", "three")]


def varied(prompt: str) -> str:
    """Answer with words that depend on the whole prompt."""
    chance = random.Random(prompt)
    said = " ".join(chance.choices(WORDS, k=24))
    return draft(said, f"{chance.choice(WORDS)} {chance.choice(WORDS)} {chance.choice(WORDS)}?")


def same(prompt: str) -> str:
    """Answer in one way, with other words in two places."""
    chance = random.Random(prompt)
    one, other = chance.sample(WORDS, 2)
    return draft(
        f"The river that rises in the mountains of {one} flows to the sea, and people on its banks "
        f"build boats of {other}.",
        f"Where does the river that flows past {one} rise?",
    )


def as_told() -> Callable[[str], str]:
    """Answer with words that depend on the attributes in the prompt alone, and count."""
    count = itertools.count()

    def answer(prompt: str) -> str:
        told = [line for line in prompt.splitlines() if line.startswith("- ")]
        chance = random.Random("".join(told))
        said = " ".join(chance.choices(WORDS, k=24))
        return draft(f"{said} {next(count)}", f"{' '.join(chance.choices(WORDS, k=4))}?")

    return answer


class TestAttributes:
    PLAN: ClassVar = {"topic": ["law", "music"], "level": {"easy": 3, "hard": 1}}

    def test_they_are_drawn_by_weight_told_to_the_generator_and_stored(
        self, tmp_path: Path
    ) -> None:
        model = agent()
        run = play(tmp_path, model, seeds=SEEDS, attributes=self.PLAN)
        drawn = [row["inputs"]["attributes"] for row in run.items()]
        assert {d["topic"] for d in drawn} == {"law", "music"}
        assert Counter(d["level"] for d in drawn)["easy"] > 20
        first = asked(model, "GENERATE")[0].messages[0]["content"]
        assert "- topic: " in first
        assert "- level: " in first

    def test_acceptance_is_told_by_stratum(self, tmp_path: Path) -> None:
        def strict(prompt: str) -> str:
            return marks("no", "dull") if "number 1" in prompt else marks()

        run = play(
            tmp_path, agent(critique=strict), seeds=SEEDS, attributes=self.PLAN, max_rounds=0
        )
        strata = run.evidence().strata
        assert {(s.attribute, s.value) for s in strata} == {
            ("level", "easy"), ("level", "hard"), ("topic", "law"), ("topic", "music"),
        }  # fmt: skip
        assert sum(s.settled for s in strata) == 80
        assert sum(s.accepted for s in strata) == 2 * run.counts["accepted"] == 58
        assert any(line.startswith("accepted by level: ") for line in run.evidence().lines())

    def test_they_make_another_run(self, tmp_path: Path) -> None:
        play(tmp_path, agent(), attributes=self.PLAN)
        with pytest.raises(al.UserError, match="another `attributes`"):
            play(tmp_path, agent(), attributes={"topic": ["law"]})

    def test_a_replay_draws_nothing_anew(self, tmp_path: Path) -> None:
        play(tmp_path, agent(), seeds=SEEDS[:6], items=3, attributes=self.PLAN)
        before = {row["item"]: row["inputs"] for row in only_rows(tmp_path)}
        play(tmp_path, agent(), seeds=SEEDS[:6], attributes=self.PLAN)
        after = {row["item"]: row["inputs"] for row in only_rows(tmp_path)}
        assert len(after) == 6
        assert {item: after[item] for item in before} == before

    def test_a_quota_is_kept(self, tmp_path: Path) -> None:
        run = play(
            tmp_path,
            agent(),
            seeds=SEEDS,
            accept=20,
            per_seed=8,
            attributes=self.PLAN,
            quota="level",
        )
        levels = Counter(row["inputs"]["attributes"]["level"] for row in run.items())
        assert levels == {"easy": 15, "hard": 5}

    @pytest.mark.parametrize(
        ("plan", "said"),
        [
            ({"topic": "law"}, "give a list of values"),
            ({"topic": []}, "has 0 values"),
            ({"topic": {"law": 0}}, "weight of `law` must be above 0"),
            ({"topic": {"from": "gone.jsonl:x"}}, "there is no seed file"),
            ({"topic": {"from": "gone"}}, "write `from"),
        ],
    )
    def test_a_plan_that_is_none_is_refused(self, tmp_path: Path, plan: Any, said: str) -> None:
        model = agent()
        with pytest.raises(al.UserError, match=said):
            play(tmp_path, model, attributes=plan)
        assert not model.requests

    def test_shares_come_from_a_file_and_are_tempered(self, tmp_path: Path) -> None:
        from agentloop.attributes import read_attributes

        file = tmp_path / "people.jsonl"
        file.write_text("".join(json.dumps({"kind": k}) + "\n" for k in ["a"] * 9 + ["b"]))
        plain = read_attributes({"kind": {"from": f"{file}:kind"}}).plan["kind"]
        assert plain == pytest.approx({"a": 0.9, "b": 0.1})
        lifted = read_attributes({"kind": {"from": f"{file}:kind", "temper": 0.5}}).plan["kind"]
        assert lifted == pytest.approx({"a": 0.75, "b": 0.25})


def draft_question() -> str:
    return str(json.loads(draft())["question"])


def only_rows(folder: Path) -> list[dict[str, Any]]:
    return list(al.Store(folder / "qa.duckdb").examples(verdict="all"))


class TestTheDoor:
    def test_near_copies_fall_and_say_of_what(self, tmp_path: Path) -> None:
        run = play(tmp_path, agent(), seeds=SEEDS[:5], novelty="near")
        assert verdicts(run)["accepted"] == 1
        (kept,) = run.items()
        details = {row["detail"].rpartition(" ")[2] for row in run.items("rejected")}
        assert details == {kept["item"]}
        assert {row["reason"] for row in run.items("rejected")} == {"too_similar"}

    def test_a_resumed_run_knows_what_it_accepted(self, tmp_path: Path) -> None:
        play(tmp_path, agent(), seeds=SEEDS[:5], items=1, novelty="near")
        run = play(tmp_path, agent(), seeds=SEEDS[:5], novelty="near")
        assert verdicts(run)["accepted"] == 1

    def test_an_index_that_is_gone_or_broken_is_made_anew(self, tmp_path: Path) -> None:
        play(tmp_path, agent(), seeds=SEEDS[:5], items=1, novelty="near")
        folder = tmp_path / "qa.duckdb.near"
        assert folder.is_dir()
        for file in folder.rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[:7])
        run = play(tmp_path, agent(), seeds=SEEDS[:5], novelty="near")
        assert verdicts(run)["accepted"] == 1

    def test_texts_of_a_test_set_are_kept_out(self, tmp_path: Path) -> None:
        file = tmp_path / "exam.jsonl"
        exam = f"{draft_question()} As {PASSAGE} This is passage number 0. | sample 0"
        file.write_text(json.dumps({"question": exam}) + "\n")
        run = play(tmp_path, agent(), decontaminate=str(file))
        (row,) = run.items("rejected")
        assert row["reason"] == "contaminated"
        assert "exam.jsonl" in row["detail"]

    def test_what_is_too_far_from_people_costs_no_call(self, tmp_path: Path) -> None:
        model = agent()
        deep = [{**SEEDS[0], **mark("i", 2)}]
        run = play(tmp_path, model, seeds=deep)
        (row,) = run.items("rejected")
        assert (row["reason"], model.requests) == ("too_deep", [])

    def test_half_of_what_is_accepted_comes_from_real_seeds(self, tmp_path: Path) -> None:
        seeds = [
            seed if n % 4 == 0 else {**seed, **mark("i", 1)} for n, seed in enumerate(SEEDS[:20])
        ]
        run = play(tmp_path, agent(), seeds=seeds, concurrency=1)
        assert Counter(row["reason"] for row in run.items("rejected")) == {"over_quota": 10}
        assert verdicts(run)["accepted"] == 10

    def test_a_file_of_texts_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="there is no file of texts"):
            play(tmp_path, agent(), decontaminate="gone.jsonl")


class Patient(al.ScriptedModel):
    """Answers as another does; after some drafts the next one waits until an alarm was told."""

    def __init__(self, model: al.ScriptedModel, drafts: int):
        super().__init__(lambda request: model._answer(request))
        self._drafts, self._told = drafts, asyncio.Event()

    def heard(self, event: al.Event) -> None:
        if event.kind == "note" and "variety red" in event.data["text"]:
            self._told.set()

    async def complete(self, request: Any, structured: Any) -> Any:
        if len(asked(self, "GENERATE")) >= self._drafts:
            await asyncio.wait_for(self._told.wait(), 60)
        return await super().complete(request, structured)


class TestCollapse:
    GIVEN: ClassVar = {"accept": 60, "per_seed": 40, "concurrency": 4, "max_rounds": 0}

    def test_sixty_items_of_three_seeds_without_variety_are_caught(self, tmp_path: Path) -> None:
        told: list[al.Event] = []
        given = {"on_collapse": "warn", "progress": told.append, **self.GIVEN}
        run = play(tmp_path, agent(generate=same), seeds=THREE, **given)
        evidence = run.evidence()
        assert evidence.variety.batches >= 3
        seen = [event for event in told if event.kind == "counts"][-1].data["counts"]["variety"]
        assert seen == {"light": evidence.variety.whole, "reasons": [*evidence.variety.reasons]}
        assert seen["reasons"]
        assert any("too much alike" in line for line in evidence.lines())

    @pytest.mark.parametrize("plan", [{}, {"topic": WORDS, "form": WORDS[::-1]}])
    def test_attributes_alone_make_the_same_model_and_seeds_vary(
        self, tmp_path: Path, plan: Any
    ) -> None:
        model = agent(generate=as_told())
        run = play(tmp_path, model, seeds=THREE, on_collapse="warn", attributes=plan, **self.GIVEN)
        evidence = run.evidence()
        assert run.counts["accepted"] == 60
        assert evidence.variety.batches == 3
        assert evidence.variety.whole == ("green" if plan else "red")
        assert any("too much alike" in line for line in evidence.lines()) is not bool(plan)
        assert bool(evidence.alarms) is not bool(plan)

    def test_a_long_run_goes_on_from_its_own_beginning(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = {"seeds": SEEDS, "on_collapse": "warn", "novelty": "exact"}
        play(tmp_path, agent(), items=20, **given)
        monkeypatch.setattr(agentloop.variety, "REFED", 5)
        run = play(tmp_path, agent(), items=40, **given)
        with duckdb.connect(str(run.store), read_only=True) as store:
            rows = store.execute(
                "SELECT (reading->>'number')::INT FROM readings WHERE view = 'batch' ORDER BY rid"
            ).fetchall()
        assert rows == [(1,), (2,)]

    def test_a_run_may_stop(self, tmp_path: Path) -> None:
        run = play(tmp_path, agent(generate=lambda _: draft()), seeds=THREE, on_collapse="stop",
                   **self.GIVEN)  # fmt: skip
        assert (run.stopped_by, run.exit_code) == ("collapse", 3)

    def test_a_run_may_steer(self, tmp_path: Path) -> None:
        model = Patient(agent(generate=same), 50)
        play(tmp_path, model, seeds=THREE, on_collapse="steer", progress=model.heard, **self.GIVEN)
        last = asked(model, "GENERATE")[-1].messages[0]["content"]
        assert "These turns of phrase are worn out" in last
        assert "that flows past" in last or "people on its banks" in last

    def test_a_finished_run_reads_nothing_again(self, tmp_path: Path) -> None:
        given = {"seeds": THREE, "on_collapse": "warn", **self.GIVEN}
        first = play(tmp_path, agent(generate=varied), **given)
        again = play(tmp_path, agent(generate=varied), **given)
        assert again.evidence().as_dict() == first.evidence().as_dict()


def watching(recipe: al.Recipe, said: list[str], **given: Any) -> Variety:
    """Return the watch of a run, as its plan would have it."""
    settings = SimpleNamespace(on_collapse="warn", reference=given.get("reference", ""))
    seeds = [SimpleNamespace(fields=fields) for fields in given.get("seeds", ())]
    plan = SimpleNamespace(
        settings=settings,
        found=SimpleNamespace(recipe=recipe),
        attributes=SimpleNamespace(plan={}),
        seeds=seeds,
    )
    return Variety(cast(Any, plan), said.append, lambda: None)


def fed(variety: Variety, candidates: Iterable[Candidate]) -> Variety:
    """Let a watch take in candidates and read them."""

    async def feed() -> None:
        for candidate in candidates:
            variety.accepted(candidate, {}, "")
        await variety.end()

    asyncio.run(feed())
    return variety


def poor(count: int) -> list[str]:
    """Return texts of a small vocabulary, no two the same."""
    rng = random.Random(1)
    return [" ".join(rng.choices(VOCABULARY[:40], k=16)) for _ in range(count)]


class TestReference:
    @pytest.fixture
    def people(self, tmp_path: Path) -> str:
        file = tmp_path / "people.jsonl"
        file.write_text("".join(json.dumps({"question": t}) + "\n" for t in prose(300)))
        return str(file)

    def test_the_named_field_is_compared_and_no_other(self, tmp_path: Path, people: str) -> None:
        good = [QA(question=q, answer=a) for q, a in zip(prose(40, 1), poor(40), strict=True)]
        bad = [QA(question=a.answer, answer=a.question) for a in good]
        lights = {}
        for name, candidates in (("good", good), ("bad", bad)):
            watch = watching(tiny(tmp_path), [], reference=f"{people}#question")
            found = fed(watch, candidates).readings
            lights[name] = {reading.lights["reference"] for reading in found}
            assert any(c.source == "reference" for r in found for c in r.compared)
        assert lights["good"] == {"green"}
        assert "red" in lights["bad"]

    def test_all_of_several_fields_is_of_another_kind_and_says_so(
        self, tmp_path: Path, people: str
    ) -> None:
        said: list[str] = []
        watch = watching(tiny(tmp_path), said, reference=people)
        found = fed(watch, [QA(question=t, answer=t[::-1]) for t in poor(20)]).readings
        assert not any("reference" in reading.lights for reading in found)
        assert "the reference is of another kind: it is shown and never alarms" in found[0].notes
        assert (
            len([line for line in said if f"`{people}#question`, `{people}#answer`" in line]) == 1
        )

    def test_all_of_one_field_is_of_the_kind(self, people: str) -> None:
        recipe = find_recipe("star").recipe
        watch = watching(recipe, [], reference=people)
        found = fed(watch, [recipe.candidate.model_validate({"rationale": t}) for t in poor(20)])
        assert "red" in {reading.lights["reference"] for reading in found.readings}

    @pytest.mark.parametrize(
        ("name", "seed", "made", "other"),
        [
            ("evol_instruct", "instruction", "evolved", "response"),
            ("instructions", "task", "instruction", "response"),
            ("self_instruct", "instruction", "instruction", "output"),
        ],
    )
    def test_seeds_of_the_kind_are_compared_with_the_field_that_corresponds(
        self, name: str, seed: str, made: str, other: str
    ) -> None:
        recipe, seeds = find_recipe(name).recipe, [{seed: text} for text in prose(300)]
        lights = []
        for own, rest in ((prose(20, 1), poor(20)), (poor(20), prose(20, 1))):
            pairs = zip(own, rest, strict=True)
            made_of = [recipe.candidate.model_validate({made: m, other: o}) for m, o in pairs]
            found = fed(watching(recipe, [], seeds=seeds), made_of).readings
            lights.append({reading.lights["reference"] for reading in found})
        assert lights[0] == {"green"}
        assert "red" in lights[1]

    def test_of_a_long_run_the_beginning_is_taken_in_and_no_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(agentloop.variety, "REFED", 500)
        watch, texts = watching(tiny(tmp_path), []), prose(600)
        earlier: Iterator[Any] = iter([(QA(question=t, answer=""), {}, "") for t in texts])
        watch.refeed(earlier, len(texts))
        assert len(list(earlier)) == len(texts) - BEGINNING
        found = fed(watch, [QA(question=t, answer="") for t in poor(120)]).readings
        assert "red" in {reading.lights.get("first batches") for reading in found}


class TestMix:
    def test_each_item_is_written_by_one_and_says_by_whom(self, tmp_path: Path) -> None:
        one, other = agent(), agent()
        one.name, other.name = "scripted/one", "scripted/other"
        run = play(
            tmp_path, agent(), seeds=SEEDS, generator=[(one, 0.75), (other, 0.25)], critic=agent()
        )
        wrote = Counter(row["generator"] for row in run.items())
        assert 20 <= wrote["scripted/one"] <= 38
        assert wrote["scripted/one"] + wrote["scripted/other"] == 40
        assert len(asked(one, "GENERATE")) == wrote["scripted/one"]
        roles_drawn = {row["inputs"]["generator"] for row in run.items()}
        assert roles_drawn == {"generator", "generator.2"}

    def test_a_mix_is_read_from_names_with_shares(self) -> None:
        from agentloop.config import load_settings

        found = load_settings({"generator": "openai/a@0.7,vertex/b@20240229@0.3"}, environ={})
        assert found.generator == (("openai/a", 0.7), ("vertex/b@20240229", 0.3))
        assert load_settings({"generator": "openai/a@b"}, environ={}).generator == "openai/a@b"


def test_verbalised_sampling_takes_one_of_several(tmp_path: Path) -> None:
    def several(prompt: str) -> str:
        drafts = [json.loads(draft(f"Answer {n} to it, written at length.")) for n in range(5)]
        return json.dumps({"drafts": [{**d, "probability": 0.2} for d in drafts]})

    model = agent(generate=several)
    run = play(tmp_path, model, seeds=SEEDS[:12], verbalise=5)
    assert "write 5 of them" in asked(model, "GENERATE")[0].messages[0]["content"]
    answers = {row["candidate"]["answer"] for row in run.items()}
    assert len(answers) >= 3
    assert all("probability" not in row["candidate"] for row in run.items())


def test_a_pool_gives_examples_of_people_and_of_its_own(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, pool=(3, 2))
    run = play(tmp_path, agent(generate=varied), recipe, seeds=SEEDS, concurrency=1)
    rows = sorted(run.items(), key=lambda row: row["time"])
    drawn = [row["inputs"]["examples"] for row in rows]
    assert [len(examples) for examples in drawn] == [5] * 40
    own = [[example for example in examples if example["item"]] for examples in drawn]
    assert not own[0]
    assert 10 <= sum(len(mine) == 2 for mine in own) <= 30
    modelled = {row["item"] for row, mine in zip(rows, own, strict=True) if mine}
    shown = {example["item"] for mine in own for example in mine}
    assert not modelled & shown  # what is two away from people is shown to nobody
    for row in rows:
        assert row["seed"] not in [example["fields"] for example in row["inputs"]["examples"]]


def test_a_step_may_drop_an_item_and_its_calls_are_its_own(tmp_path: Path) -> None:
    async def question(agents: al.Agents, state: al.State) -> al.State:
        made = await agents.write(state, "question", "question")
        if "number 1." in state["seed"]["passage"]:
            raise al.Filtered("too easy")
        return {"made": {**made, "answer": await agents.say(state, "answer", given=1)}}

    recipe = tiny(tmp_path, steps=(question,), asks=("question", "answer"), calls=3)
    folder = tmp_path / "prompts"
    (folder / "question.md").write_text("QUESTION {{ seed.passage }}")
    (folder / "answer.md").write_text("ANSWER {{ seed.passage }}")
    model = agent(question=json.dumps({"question": "Where?"}), answer="There.")
    run = play(tmp_path, model, recipe, seeds=SEEDS[:2], concurrency=1)
    assert verdicts(run) == {"accepted": 1, "rejected": 1, "ungradable": 0, "failed": 0}
    (row,) = run.items("rejected")
    assert (row["reason"], row["detail"]) == ("filtered", "too easy")
    assert roles(model) == ["QUESTION", "ANSWER", "CRITIQUE", "QUESTION"]
    item = only(play(tmp_path, agent(), tiny(tmp_path / "b"), store=tmp_path / "b.duckdb"))
    assert item.attempts[0].parent is None
