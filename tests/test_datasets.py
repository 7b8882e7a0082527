"""Every shape is read by Hugging Face's own `datasets`, and has the columns that TRL documents.

The columns are those of huggingface.co/docs/trl, "Dataset formats and types": conversational language
modelling, prompt-completion, preference with an explicit prompt, and unpaired preference.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.export import SHAPES
from tests.builders import QA, SEEDS, agent, draft, marks, play, tiny

EVIL = '<script>alert(1)</script> \x1b[31m \u202e "quoted" \\ \u2028 💧\n--- | `x`'
TURNS = {
    "messages": ["messages"],
    "prompt_completion": ["prompt", "completion"],
    "preference": ["prompt", "chosen", "rejected"],
    "critique": ["draft", "revision"],
    "kto": ["prompt", "completion"],
    "raw": ["messages"],
}
"""Columns that are lists of turns."""
TEXTS = {"critique": ["critique", "seed"]}
LABELS = {"kto": ["label"], "critique": ["accepted"]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package, told to stay offline and to keep its files in a folder of the tests'."""
    home = str(tmp_path_factory.mktemp("home"))
    told = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": home}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for name, value in told.items():
            patch.setenv(name, value)
        warnings.simplefilter("ignore")  # of packages that it loads
        datasets = pytest.importorskip("datasets", reason="needs the package `datasets`")
        assert datasets.config.HF_DATASETS_OFFLINE
        datasets.disable_progress_bars()
        yield datasets


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> al.Run:
    """Sixteen items: most accepted at once, every fourth after a revision, every fifth never."""

    class Asked(QA):
        def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
            return [("system", f"{EVIL} \0"), ("user", seed["passage"]), ("assistant", self.answer)]

    def number(prompt: str) -> int:
        return int(prompt.partition("number ")[2].partition(".")[0])

    def critique(prompt: str) -> str:
        bad = "bad" in prompt
        return marks("no" if bad else "yes", f"{prompt[:40]} is wrong" if bad else "")

    def generate(prompt: str) -> str:
        n = number(prompt)
        kind = "bad" if n % 5 == 0 else "at first bad" if n % 4 == 0 else EVIL
        return draft(f"{kind} number {n}.")

    def revise(prompt: str) -> str:
        n = number(prompt)
        return draft(f"{'still bad' if n % 5 == 0 else EVIL} revised number {n}.")

    folder = tmp_path_factory.mktemp("datasets")
    model = agent(generate=generate, critique=critique, revise=revise)
    found = play(folder, model, tiny(folder, candidate=Asked), seeds=SEEDS[:16])
    assert (found.counts["accepted"], found.counts["rejected"]) == (12, 4)
    return found


def as_hub(folder: Path, name: str) -> None:
    """Let a card be that of its folder, as on the Hub."""
    shutil.copy(folder / f"{name}.card.md", folder / "README.md")


def check(rows: list[dict[str, Any]], shape: str) -> None:
    """Assert that rows are of the form that TRL documents."""
    assert rows
    for row in rows:
        for name in TURNS[shape]:
            assert isinstance(row[name], list), name
            for turn in row[name]:
                assert {"role", "content"} == turn.keys()
                assert turn["role"] in ("system", "user", "assistant")
                assert isinstance(turn["content"], str)
        for name in ("completion", "chosen", "rejected"):
            if name in row:
                assert [turn["role"] for turn in row[name]] == ["assistant"]
                assert row["prompt"][-1]["role"] == "user"
        assert all(isinstance(row[name], str) for name in TEXTS.get(shape, ()))
        assert all(isinstance(row[name], bool) for name in LABELS.get(shape, ()))
        assert row.get("chosen") != row.get("rejected") or "chosen" not in row


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_loads_with_the_columns_of_its_shape(
    hub: Any, run: al.Run, tmp_path: Path, shape: str, ending: str
) -> None:
    count = run.export(tmp_path / f"x.{ending}", shape=shape)
    as_hub(tmp_path, "x")
    loaded = hub.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    rows = loaded["train"].to_list()
    assert len(rows) == count
    check(rows, shape)
    run.export(tmp_path / "lines.jsonl", shape=shape)
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_bytes().splitlines()]
    for name in (*TURNS[shape], *TEXTS.get(shape, ()), *LABELS.get(shape, ()), "item"):
        assert [row[name] for row in rows] == [line[name] for line in lines]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("shape", ["messages", "kto"])
def test_sides_load_by_the_card(
    hub: Any, run: al.Run, tmp_path: Path, shape: str, ending: str
) -> None:
    run.export(tmp_path / f"a set [1].{ending}", shape=shape, split="0.4")
    as_hub(tmp_path, "a set [1]")
    loaded = hub.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    manifest = json.loads((tmp_path / "a set [1].manifest.json").read_text())
    sizes = {side: loaded[side].num_rows for side in loaded}
    assert sizes == {file["side"]: file["lines"] for file in manifest["files"]}
    assert sizes.keys() == {"train", "validation"}
    items = {side: set(loaded[side]["item"]) for side in loaded}
    assert not items["train"] & items["validation"]
    for side in loaded:
        check(loaded[side].to_list(), shape)


@pytest.mark.parametrize("shape", ["messages", "prompt_completion", "preference", "kto"])
def test_people_among_them_load_too(hub: Any, run: al.Run, tmp_path: Path, shape: str) -> None:
    talk = [{"role": "user", "content": "by hand"}, {"role": "assistant", "content": "yes"}]
    people = {
        "messages": talk,
        "prompt": talk[:1],
        "completion": talk[1:],
        "chosen": talk[1:],
        "rejected": [{"role": "assistant", "content": "no"}],
        "label": True,
        "source": "a column of their own",
    }
    (tmp_path / "people.jsonl").write_text(f"{json.dumps(people)}\n" * 9)
    place = tmp_path / "place"
    place.mkdir()
    count = run.export(place / "x.jsonl", shape=shape, mix=f"{tmp_path / 'people.jsonl'}:0.3")
    as_hub(place, "x")
    loaded = hub.load_dataset(str(place), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded.num_rows == count
    assert None in loaded["item"]
    check(loaded.to_list(), shape)


def test_the_front_matter_is_read_by_the_hubs_own_reader(
    hub: Any, run: al.Run, tmp_path: Path
) -> None:
    from huggingface_hub import DatasetCard

    run.export(tmp_path / "x.jsonl", split="0.4")
    card = DatasetCard.load(tmp_path / "x.card.md")
    assert card.data.license == "unknown"
    assert card.data.tags == ["synthetic", "agentloop"]
    assert card.data.size_categories == ["n<1K"]
    assert os.environ["HF_DATASETS_OFFLINE"] == "1"
