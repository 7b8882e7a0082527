"""How far it goes: the page's figures are the script's, and those of a small real run."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.places import item_id

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "how-far-it-goes.md").read_text(encoding="utf-8")
FACTOR = 1.5  # texts, settings and DuckDB's version differ a little from run to run


@pytest.fixture(scope="module")
def far() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("how_far")


@pytest.fixture(scope="module")
def figures(far: ModuleType) -> dict[str, float]:
    return {name: figure.value for name, figure in far.FIGURES.items()}


def test_bytes_are_those_of_a_small_real_run(figures: dict[str, float]) -> None:
    more = {"AGENTLOOP_NOVELTY": "near", "AGENTLOOP_ON_COLLAPSE": "warn", "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "how_far.py"), "--measure"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **more, "PYTHONPATH": str(ROOT)},
        timeout=180,
    )
    found = json.loads(done.stdout)
    assert found.keys() == {"journal_bytes", "index_bytes", "store_bytes"}
    for name, value in found.items():
        assert figures[name] / FACTOR <= value <= figures[name] * FACTOR, (name, value)


def test_the_bits_of_a_name_are_those_of_an_items(figures: dict[str, float]) -> None:
    assert 4 * len(item_id("seed", 0)) == figures["name_bits"]


@given(st.integers(1, 10**11), st.integers(1, 10**11), st.sampled_from([1, 4, 100]))
def test_more_items_never_take_less(
    far: ModuleType, figures: dict[str, float], one: int, other: int, machines: int
) -> None:
    fewer, more = (far.predict(n, machines, far.Machine(), figures) for n in sorted((one, other)))
    for name in set(far.Predicted._fields) - {"slowest", "machines"}:
        assert getattr(fewer, name) <= getattr(more, name)


@pytest.mark.parametrize("machines", [1, 100])
def test_a_limit_holds_up_to_where_it_breaks(
    far: ModuleType, figures: dict[str, float], machines: int
) -> None:
    machine = far.Machine()
    found = far.first_broken(machines, machine, figures)
    assert found == sorted(found)
    assert found
    for count, name in found:
        before, at = (far.predict(n, machines, machine, figures) for n in (count - 1, count))
        assert not far.LIMITS[name](before, machine)
        assert far.LIMITS[name](at, machine)


def test_figures_of_ones_own_count(far: ModuleType, tmp_path: Path, capsys: Any) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"store_bytes": 41_000, "index_bytes": 0}))
    far.main(["--items", "1000000", "--machines", "1", "--json", "--figures", str(own)])
    (found,) = json.loads(capsys.readouterr().out)
    assert found["store_gb"] == pytest.approx(41.0)
    assert found["breaks"][0][0] > 0


def test_what_holds_up_a_run_is_named(far: ModuleType, figures: dict[str, float]) -> None:
    def slowest(**more: Any) -> str:
        return str(far.predict(10**6, 1, far.Machine(**more), figures).slowest)

    assert slowest(cores=1, calls_a_second=10_000) == "processor"
    assert slowest(cores=64, calls_a_second=10_000) == "writer"
    assert slowest(cores=64, calls_a_second=10) == "endpoint"


def test_the_page_shows_what_the_script_says(far: ModuleType, capsys: Any) -> None:
    far.main([])
    (shown,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert shown == capsys.readouterr().out


def test_the_page_names_every_figure_and_where_it_is_from(far: ModuleType) -> None:
    for figure in far.FIGURES.values():
        (row,) = (line for line in PAGE.splitlines() if f"| {figure.what} |" in line)
        assert f"| {figure.value:,g} |" in row
        assert f"`{figure.source}`" in row
        script = figure.source.split()[0]
        assert (ROOT / "benchmarks" / script).is_file() or (ROOT / script).is_file()
