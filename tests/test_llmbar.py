"""The figures of the notes from recorded judges; needs LLMBar's logs, else it is skipped."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("AGENTLOOP_SHARED") or ROOT.parent / "shared")  # tests see no settings
DATA = SHARED / "data" / "llmbar"
DIFFERENT = {
    "criteria and reference: AUC": 0.836,
    "criteria and reference, adversarial: tied pairs": 0.1097,
    "four prompts: tied pairs by the mean": 0.0358,
    "four prompts: tied pairs by the median": 0.0668,
    "four prompts, rating / 9: ECE": 0.1581,
    "four prompts, rating / 9: Brier": 0.1897,
    "four prompts, isotonic out of fold: ECE": 0.046,
    "four prompts, isotonic out of fold: Brier": 0.1629,
    "four prompts: outputs with P >= 0.8 out of fold": 202,
}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="LLMBar's judge logs are not here")


@pytest.fixture(scope="module")
def llmbar() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("llmbar")


@pytest.fixture(scope="module")
def outputs(llmbar: ModuleType) -> Any:
    return llmbar.read_outputs(DATA)


def test_pairs_hold_one_good_output_and_every_reply(llmbar: ModuleType, outputs: Any) -> None:
    assert len(outputs) == 2 * 419
    assert all(good.good and not bad.good for good, bad in llmbar.both(outputs))
    filtered = [o for o in outputs if len(o.ratings()) < len(llmbar.FOUR)]
    assert len(filtered) == 2
    assert all(0 <= rating <= llmbar.TOP for o in outputs for rating in o.ratings())


def test_every_figure_is_the_notes_or_known_to_differ(llmbar: ModuleType, outputs: Any) -> None:
    rows = {figure.name: figure.row() for figure in llmbar.all_figures(outputs)}
    assert {name for name, row in rows.items() if not row["same"]} == set(DIFFERENT)
    assert {name: rows[name]["ours"] for name in DIFFERENT} == DIFFERENT
    assert rows["the correction of (.579, .68, .839)"]["ours"] == 0.499
    assert rows["four prompts, isotonic out of fold: ECE"]["ours"] <= 0.07


def test_only_the_judge_without_skill_is_refused(llmbar: ModuleType, outputs: Any) -> None:
    refused = {
        judge: "refused" in llmbar.agreement(outputs, judge, 8, draws=20)
        for judge in (llmbar.CHATGPT, *llmbar.FOUR)
    }
    assert refused == {judge: judge == llmbar.CHATGPT for judge in refused}


def test_no_threshold_promises_what_the_four_prompts_cannot(
    llmbar: ModuleType, outputs: Any
) -> None:
    found = llmbar.thresholds(outputs)
    assert found["target 0.85"] == "no threshold does"
    assert found["target 0.8"]["accept_at"] == 8.25
