"""Near-duplicates by meaning: the cosine of static word embeddings (the `dedup` extra).

Enters: items by name, with a text each; a text to compare. Leaves: the nearest of the newest 20,000
texts, when the cosine is at least 0.9. Refuses to know: which text stands for an item; the network.

The embeddings are WordLlama's, 256 numbers for each of 32,000 pieces of words, averaged (MIT licence,
Miller 2024). They lie in its wheel, and only its two files are read: importing it sets up logging for
the whole process, and it would fetch what it does not find. 0.3 ms a text, 45 MB.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentloop.errors import SettingsError
from agentloop.novelty.near import Near

ALIKE = 0.9  # cosine; notes on diversity
LIMIT = 20_000  # texts; comparing one with so many takes 5 ms
WIDTH = 256
_FILES = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"


class SemanticIndex:
    """The newest texts by item; in memory only. SettingsError without the `dedup` extra."""

    def __init__(self, limit: int = LIMIT):
        self._embed = _embedder()
        self._limit = limit
        self._items: list[str] = []
        self._vectors = np.zeros((0, WIDTH), np.float32)
        self._oldest = 0

    def __len__(self) -> int:
        return len(self._items)

    def nearest(self, text: str) -> Near | None:
        """Return the nearest text with a cosine ≥ 0.9; None also for an empty one."""
        if not self._items:
            return None
        cosines = self._vectors[: len(self)] @ self._embed(text)
        best = int(cosines.argmax())
        if cosines[best] < ALIKE:
            return None
        return Near(self._items[best], "cosine", min(1.0, float(cosines[best])))

    def add(self, item: str, text: str) -> None:
        """Hold one more text; beyond the limit it takes the oldest one's place."""
        place = self._oldest
        if len(self) < self._limit:
            place = len(self)
            self._items.append("")
        else:
            self._oldest = (place + 1) % self._limit
        if place == len(self._vectors):
            room = np.zeros((max(1024, place), WIDTH), np.float32)
            self._vectors = np.concatenate((self._vectors, room))
        self._items[place], self._vectors[place] = item, self._embed(text)


@functools.cache
def _embedder() -> Callable[[str], NDArray[np.float32]]:
    """Return what gives a text its unit vector; zeros for a text without any."""
    weights, tokenizer = _loaded()
    pieces: NDArray[np.float16] = weights["embedding.weight"]

    def embed(text: str) -> NDArray[np.float32]:
        safe = text.encode("utf-8", "replace").decode()
        ids = tokenizer.encode(safe, add_special_tokens=False).ids
        total = pieces[np.array(ids, np.int64)].sum(axis=0, dtype=np.float32)
        return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12))

    return embed


def _loaded() -> tuple[Any, Any]:
    """Return WordLlama's weights and tokenizer; SettingsError where its wheel is not installed."""
    found = importlib.util.find_spec("wordllama")
    folders = [Path(folder) for folder in (found and found.submodule_search_locations) or ()]
    if not any(all((folder / file).is_file() for file in _FILES) for folder in folders):
        raise SettingsError(
            "comparing texts by meaning needs the dedup extra: `pip install 'agentloop-data[dedup]'`"
        )
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    weights, tokenizer = (folders[0] / file for file in _FILES)
    return load_file(weights), Tokenizer.from_file(str(tokenizer))
