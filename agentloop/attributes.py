"""Attributes: what a run's items are to differ in, planned before the first call.

    [attributes]
    topic = ["music", "law", "sport"]                              # all the same share
    difficulty = { easy = 1, hard = 2 }                            # by weight
    persona = { from = "personas.jsonl:persona" }                  # as often as they stand in a file
    format = { from = "people.jsonl:format", temper = 0.7 }        # the rare ones lifted

Enters: a plan as the settings hold it. Leaves: shares, and values drawn by them. Refuses to know: what a
value means to a prompt, which items were accepted.

Tempering takes each share to a power and makes them sum to 1 again: .7 lifts the tails of a reference,
0 makes all values alike, 1 leaves them.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentloop.errors import SettingsError, did_you_mean
from agentloop.records import Json
from agentloop.seeds import rows_of

MOST = 10_000  # values of one attribute
_NAME = re.compile(r"[\w-]+(?: [\w-]+)*")


@dataclass(frozen=True)
class Attributes:
    """Attribute → value → share; the shares of an attribute sum to 1."""

    plan: Mapping[str, Mapping[str, float]]

    def draw(
        self, chance: random.Random, lacking: Mapping[str, Mapping[str, float]] | None = None
    ) -> dict[str, str]:
        """Return a value for each attribute.

        `lacking` gives other weights for an attribute, of what there is too little of.
        """
        drawn = {}
        for name, shares in self.plan.items():
            weights = (lacking or {}).get(name) or shares
            (drawn[name],) = chance.choices(list(weights), list(weights.values()))
        return drawn


def read_attributes(given: Mapping[str, Any]) -> Attributes:
    """Return a plan; SettingsError names what is no attribute."""
    return Attributes({str(name): _shares(str(name), said) for name, said in given.items()})


def _shares(name: str, said: Any) -> dict[str, float]:
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"attribute {name!r}: a name has letters, digits, `_`, `-` and single spaces between them"
        )
    temper = 1.0
    if isinstance(said, Mapping) and "from" in said:
        temper = said.get("temper", 1.0)
        if unknown := said.keys() - {"from", "temper"}:
            raise SettingsError(
                f"attribute `{name}`: unknown `{min(unknown)}`; `from` and `temper` are"
            )
        weights = _counted(name, said["from"])
    elif isinstance(said, Mapping):
        weights = {str(value): weight for value, weight in said.items()}
    elif isinstance(said, Sequence) and not isinstance(said, str):
        weights = dict.fromkeys(map(str, said), 1)
    else:
        raise SettingsError(
            f"attribute `{name}`: give a list of values, values with weights, or "
            '`{ from = "FILE:field" }`'
        )
    return _normal(name, weights, temper)


def _normal(name: str, weights: Mapping[str, Any], temper: Any) -> dict[str, float]:
    if not 1 <= len(weights) <= MOST:
        raise SettingsError(f"attribute `{name}` has {len(weights)} values; it needs 1 to {MOST}")
    if not isinstance(temper, int | float) or not 0 <= temper <= 1:
        raise SettingsError(
            f"attribute `{name}`: `temper` must lie between 0 and 1 (got `{temper}`)"
        )
    for value, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e9:
            raise SettingsError(
                f"attribute `{name}`: the weight of `{value}` must be above 0 (got `{weight}`)"
            )
    tempered = {value: weight**temper for value, weight in weights.items()}
    total = sum(tempered.values())
    return {value: weight / total for value, weight in tempered.items()}


def _counted(name: str, source: Any) -> Mapping[str, int]:
    """Return how often each value stands in a field of a file."""
    path, colon, field = str(source).rpartition(":")
    if not colon or not path or not field:
        raise SettingsError(f'attribute `{name}`: write `from = "FILE:field"` (got `{source}`)')
    found: Counter[str] = Counter()
    for place, row in rows_of(path):
        if not isinstance(row, Mapping) or field not in row:
            near = did_you_mean(field, row) if isinstance(row, Mapping) else ""
            raise SettingsError(f"attribute `{name}`: {place} has no field `{field}`{near}")
        found[str(row[field]).strip()] += 1
    found.pop("", None)
    return found


def stratum_of(inputs: Json) -> Mapping[str, str]:
    """Return the attributes that an item was drawn with."""
    found = inputs.get("attributes")
    return found if isinstance(found, dict) else {}
