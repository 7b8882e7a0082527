"""Which models are relatives: a judge tends to favour what its own family wrote.

Enters: a model as the user named it. Leaves: its family. Refuses to know: how it is reached, by whom.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAKERS = {
    "chatgpt": "openai",
    "claude": "anthropic",
    "codestral": "mistral",
    "gemini": "google",
    "gemma": "google",
    "gpt": "openai",
    "llama": "meta",
    "magistral": "mistral",
    "ministral": "mistral",
    "mistral": "mistral",
    "mixtral": "mistral",
    "qwen": "qwen",
    "qwq": "qwen",
}
"""Makers of several lines of models, by the lines' names."""


def family(model: str) -> str:
    """Return the maker of a model where its name tells, else the word that its name begins with.

    `openai/gpt-5-mini`, `openrouter/openai/gpt-5` and `openai/o3` are one family: who hosts a model
    says nothing of it, only where its name is no word does the prefix count. `local` is its own.
    """
    spec = model.lower()
    name = spec.removeprefix("local:").rpartition("/")[2].partition(":")[0]
    words = re.findall(r"[a-z]+", name)
    for word in words:
        if word in MAKERS:
            return MAKERS[word]
    if not words or len(words[0]) < 2:
        return spec.partition("/")[0]
    return str(words[0])


def related(writer: str, judges: Iterable[str]) -> bool:
    """Whether one of the judges is of the writer's family."""
    return family(writer) in map(family, judges)
