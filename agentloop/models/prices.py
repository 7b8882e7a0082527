"""What a call costs: tokens × price.

Enters: a model's name, prices of one's own. Leaves: a `Price`, or None when unknown (never zero).
Refuses to know: budgets, runs. Reads the price table that the litellm package carries, without
importing litellm and without the network.
"""

from __future__ import annotations

import importlib.util
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentloop.records import Json, Usage

TABLE = "model_prices_and_context_window_backup.json"
INPUT, OUTPUT = "input_cost_per_token", "output_cost_per_token"
_ABOVE = re.compile(rf"{INPUT}_above_\d+k_tokens")


class Rates(BaseModel):
    """USD per million tokens; cached and reasoning tokens default to the price of their kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    reasoning: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Tier(Rates):
    """What a call costs whose prompt has more than `above` tokens."""

    above: int = Field(gt=0)


class Price(Rates):
    """What a model costs; dearer `tiers` for long prompts, if its provider has such."""

    tiers: tuple[Tier, ...] = ()

    def rates(self, prompt_tokens: int) -> Rates:
        """Return what a call with so long a prompt costs."""
        reached = [tier for tier in self.tiers if prompt_tokens > tier.above]
        return max(reached, key=lambda tier: tier.above, default=self)

    def cost(self, usage: Usage) -> float:
        """Return USD for one call."""
        rates = self.rates(usage.prompt_tokens)
        cached = rates.input if rates.cached is None else rates.cached
        reasoning = rates.output if rates.reasoning is None else rates.reasoning
        from_cache = min(usage.cached_tokens, usage.prompt_tokens)
        thought = min(usage.reasoning_tokens, usage.completion_tokens)
        return (
            (usage.prompt_tokens - from_cache) * rates.input
            + from_cache * cached
            + (usage.completion_tokens - thought) * rates.output
            + thought * reasoning
        ) / 1e6


FREE = Price(input=0, output=0)


def find_price(name: str, own: dict[str, Price]) -> Price | None:
    """Return the price of a model by its full name, own prices first; None when unknown."""
    if name in own:
        return own[name]
    entry = _entry(name)
    if not entry or not {INPUT, OUTPUT} <= entry.keys():
        return None
    tiers = [_tier(entry, key) for key in entry if _ABOVE.fullmatch(key)]
    return Price(**_rates(entry), tiers=tuple(tiers))


def _tier(entry: Json, key: str) -> Tier:
    """Return a tier of the table: `…_above_200k_tokens`."""
    suffix = key.removeprefix(INPUT)
    above = int(suffix.removeprefix("_above_").removesuffix("k_tokens")) * 1000
    dearer = _rates(entry, suffix)
    return Tier(above=above, **(_rates(entry) | {k: v for k, v in dearer.items() if v is not None}))


def _rates(entry: Json, suffix: str = "") -> dict[str, Any]:
    names = {
        "input": INPUT,
        "output": OUTPUT,
        "cached": "cache_read_input_token_cost",
        "reasoning": "output_cost_per_reasoning_token",
    }
    found = {kind: entry.get(name + suffix) for kind, name in names.items()}
    return {kind: None if usd is None else usd * 1e6 for kind, usd in found.items()}


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


@lru_cache(maxsize=1)
def _table() -> dict[str, Json]:
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / TABLE
        if file.is_file():
            table: dict[str, Json] = orjson.loads(file.read_bytes())
            return table
    return {}
