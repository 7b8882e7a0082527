"""Files that belong together, killed at every step: no card stands beside what it does not tell of."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentloop.cli import run_cli
from agentloop.errors import UserError
from tests.builders import SEEDS, agent, play

DYING = """
import os, signal, sys
from pathlib import Path

left = int(sys.argv[1])

def dying(real):
    def call(self, *given, **more):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(self, *given, **more)
    return call

Path.replace, Path.unlink = dying(Path.replace), dying(Path.unlink)
from agentloop.cli import run_cli
sys.exit(run_cli(sys.argv[2:]))
"""
"""Ends by `kill -9` before the file system is changed for the so-manieth time."""


def export(store: Path, target: Path, *more: str) -> list[str]:
    return ["export", str(store), "-o", str(target), *more]


def hashes(folder: Path, ending: str) -> dict[str, str]:
    found = sorted(folder.glob(f"x*.{ending}"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def told(folder: Path) -> dict[str, str] | None:
    """Return file → hash as the manifest says, card included; None where there is none."""
    path = folder / "x.manifest.json"
    if not path.exists():
        return None
    manifest = json.loads(path.read_text())
    return {file["file"]: file["sha256"] for file in (*manifest["files"], manifest["card"])}


@pytest.mark.parametrize(
    ("ending", "more"), [("jsonl", ()), ("jsonl", ("--split", "0.5")), ("parquet", ())]
)
def test_a_kill_leaves_old_files_or_new_ones(
    tmp_path: Path, ending: str, more: tuple[str, ...]
) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:12])
    sets = []
    for name, where in (("old", "round = 0"), ("new", "item < 'a'")):
        (tmp_path / name).mkdir()
        target = tmp_path / name / f"x.{ending}"
        assert run_cli(export(run.store, target, "--where", where, *more)) == 0
        sets.append(hashes(tmp_path / name, ending))
    old, new = sets
    assert not set(old.values()) & set(new.values())
    steps = 0
    while True:
        place = tmp_path / f"killed {steps}"
        place.mkdir()
        for path in (tmp_path / "old").iterdir():
            (place / path.name).write_bytes(path.read_bytes())
        line = export(run.store, place / f"x.{ending}", "--where", "item < 'a'", *more)
        command = [sys.executable, "-c", DYING, str(steps), *line]
        done = subprocess.run(command, capture_output=True, timeout=60)
        check(place, ending, old, new)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert run_cli(line) == 0
        assert hashes(place, ending) == new
        assert not [path for path in place.iterdir() if path.name.startswith(".")]
        steps += 1
    assert steps >= 5
    assert told(place) is not None


def check(place: Path, ending: str, old: dict[str, str], new: dict[str, str]) -> None:
    there = hashes(place, ending)
    assert there
    assert there.items() <= old.items() or there.items() <= new.items()
    card = place / "x.card.md"
    if card.exists():
        assert set(re.findall(r"\b[0-9a-f]{64}\b", card.read_text())) == set(there.values())
    said = told(place)
    if said is not None:
        assert said.pop("x.card.md") == hashlib.sha256(card.read_bytes()).hexdigest()
        assert said == there


def test_the_manifest_seals_every_file(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:8])
    for name in ("x.jsonl", "x.parquet"):
        run.export(tmp_path / name, split="0.5")
        said = told(tmp_path)
        assert said is not None
        assert len(said) == 3
        for file, sha256 in said.items():
            assert hashlib.sha256((tmp_path / file).read_bytes()).hexdigest() == sha256
    manifest = json.loads((tmp_path / "x.manifest.json").read_text())
    assert manifest["schema"] == 2
    assert all(
        file["bytes"] == (tmp_path / file["file"]).stat().st_size for file in manifest["files"]
    )


@pytest.mark.parametrize("blocked", ["x.card.md", "x.manifest.json", "x.validation.jsonl"])
def test_what_stands_in_the_way_is_said_before_anything_is_written(
    tmp_path: Path, blocked: str
) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:4])
    place = tmp_path / "place"
    (place / blocked).mkdir(parents=True)
    with pytest.raises(UserError, match="stands in the way"):
        run.export(place / "x.jsonl", split="0.5")
    assert [path.name for path in place.iterdir()] == [blocked]


def test_no_side_goes_over_the_store(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), store=tmp_path / "qa.train.jsonl")
    before = run.store.read_bytes()
    with pytest.raises(UserError, match="a part of one"):
        run.export(tmp_path / "qa.jsonl", split="0.5")
    assert run.store.read_bytes() == before


def test_files_of_a_split_before_do_not_stand_beside_those_of_another(tmp_path: Path) -> None:
    """What was tested on would be trained on; what somebody has changed since is theirs."""
    store = play(tmp_path, agent(), seeds=SEEDS[:12]).store
    place = tmp_path / "place"
    place.mkdir()

    def exported(*more: str) -> set[str]:
        assert run_cli(export(store, place / "x.jsonl", *more)) == 0
        return {path.name for path in place.glob("*.jsonl")}

    assert exported("--split", "train:.5,validation:.25,test:.25") == {
        "x.train.jsonl", "x.validation.jsonl", "x.test.jsonl"
    }  # fmt: skip
    assert exported("--split", "0.5") == {"x.train.jsonl", "x.validation.jsonl"}
    assert exported() == {"x.jsonl"}
    assert run_cli(export(store, place / "x.parquet")) == 0
    assert exported("--split", "0.5") == {"x.train.jsonl", "x.validation.jsonl", "x.jsonl"}
    (place / "x.validation.jsonl").write_text("mine")
    assert exported() == {"x.jsonl", "x.validation.jsonl"}
    assert {path.name for path in place.glob("*.parquet")} == {"x.parquet"}


def test_a_name_that_is_no_text_is_exported(tmp_path: Path) -> None:
    run = play(tmp_path, agent())
    target = tmp_path / "x\udcff\n<b>.jsonl"
    assert run.export(target) == 1
    manifest = json.loads((tmp_path / "x\udcff\n<b>.manifest.json").read_text())
    assert manifest["files"][0]["file"] == "x\ufffd\n<b>.jsonl"
    assert "<b>" not in (tmp_path / "x\udcff\n<b>.card.md").read_text().split("## ")[1]
