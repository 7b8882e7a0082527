"""Meaning: what static embeddings tell apart, without a network; the extra's absence is said."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from agentloop.errors import SettingsError
from agentloop.novelty import semantic
from agentloop.novelty.semantic import SemanticIndex

INSTALLED = importlib.util.find_spec("wordllama") is not None
needs_extra = pytest.mark.skipif(not INSTALLED, reason="the dedup extra is not installed")
RIVER = "Name the three longest rivers of Europe and say in which country each of them rises."


def index_of(*texts: str, limit: int = 100) -> SemanticIndex:
    index = SemanticIndex(limit)
    for number, text in enumerate(texts):
        index.add(f"item-{number}", text)
    return index


@needs_extra
def test_what_means_the_same_in_another_order_is_near() -> None:
    other = "In which country does each of the longest three rivers of Europe rise? Name them."
    near = index_of("How do I boil an egg?", RIVER).nearest(other)
    assert near is not None
    assert (near.item, near.measure) == ("item-1", "cosine")
    assert 0.9 <= near.similarity < 1


@needs_extra
def test_a_copy_has_cosine_1() -> None:
    near = index_of(RIVER).nearest(RIVER)
    assert near is not None
    assert near.similarity == pytest.approx(1)
    assert near.similarity <= 1


@needs_extra
@pytest.mark.parametrize("text", ["How do I boil an egg?", "", "?", "\ud800"])
def test_other_texts_and_none_are_not_near(text: str) -> None:
    assert index_of(RIVER, "").nearest(text) is None
    assert index_of().nearest(text) is None


@needs_extra
def test_the_oldest_leave_when_the_limit_is_reached() -> None:
    texts = [f"{subject} is what this is about" for subject in ("egg", "river", "law", "paint")]
    index = index_of(*texts, limit=3)
    assert len(index) == 3
    held = [index.nearest(text) for text in texts]
    exact = [bool(near and near.similarity > 0.9999) for near in held]
    assert exact == [False, True, True, True]


@needs_extra
def test_the_librarys_own_code_is_not_run() -> None:
    code = (
        "import sys; from agentloop.novelty.semantic import SemanticIndex; SemanticIndex()\n"
        "assert 'wordllama' not in sys.modules and 'requests' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_its_absence_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    semantic._embedder.cache_clear()
    with pytest.raises(SettingsError, match=r"pip install 'agentloop-data\[dedup\]'"):
        SemanticIndex()
