"""What a call costs: tokens × price.

Enters: a model's name, prices of one's own. Leaves: a `Price`, or None when unknown (never zero).
Refuses to know: budgets, runs. Reads the price table that the litellm package carries, without
importing litellm and without the network.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentloop.records import Json, Usage

TABLE = "model_prices_and_context_window_backup.json"


class Price(BaseModel):
    """USD per million tokens; cached and reasoning tokens default to the price of their kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    reasoning: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def cost(self, usage: Usage) -> float:
        """Return USD for one call."""
        cached = self.input if self.cached is None else self.cached
        reasoning = self.output if self.reasoning is None else self.reasoning
        from_cache = min(usage.cached_tokens, usage.prompt_tokens)
        thought = min(usage.reasoning_tokens, usage.completion_tokens)
        return (
            (usage.prompt_tokens - from_cache) * self.input
            + from_cache * cached
            + (usage.completion_tokens - thought) * self.output
            + thought * reasoning
        ) / 1e6


FREE = Price(input=0, output=0)


def find_price(name: str, own: dict[str, Price]) -> Price | None:
    """Return the price of a model by its full name, own prices first; None when unknown."""
    if name in own:
        return own[name]
    entry = _entry(name)
    if not entry or "input_cost_per_token" not in entry:
        return None
    return Price(
        input=entry["input_cost_per_token"] * 1e6,
        output=entry.get("output_cost_per_token", 0.0) * 1e6,
        cached=_million(entry.get("cache_read_input_token_cost")),
        reasoning=_million(entry.get("output_cost_per_reasoning_token")),
    )


def _entry(name: str) -> Json | None:
    """Return the table's row: by full name, or by the model's alone if its provider is the same."""
    table = _table()
    prefix, _, model = name.partition("/")
    if "sample_spec" in (name, model):  # the table's own explanation
        return None
    if name in table:
        return table[name]
    entry = table.get(model)
    ours = entry and str(entry.get("litellm_provider", "")).startswith(prefix)
    return entry if ours else None


def _million(per_token: float | None) -> float | None:
    return None if per_token is None else per_token * 1e6


@lru_cache(maxsize=1)
def _table() -> dict[str, Json]:
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / TABLE
        if file.is_file():
            table: dict[str, Json] = orjson.loads(file.read_bytes())
            return table
    return {}
