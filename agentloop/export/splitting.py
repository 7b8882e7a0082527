"""Splits: the side of a file that an example belongs to, so that no seed is on two of them.

Enters: shares by name; the seeds of examples. Leaves: the root of each, and its side. Refuses to
know: files, lines, how many there are: a store that grows moves nobody.

An item that was made from another one's text belongs to the seed of people's that both came from. Two
seeds of which the recipe reads the same are one, whatever else they say, an `id` perhaps. Seeds that
differ in a word of it are two, whose texts may lie on two sides.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from agentloop.errors import UserError, did_you_mean
from agentloop.novelty.lineage import FIELD, parent_of
from agentloop.records import Json, digest
from agentloop.store import Store
from agentloop.store.roots import read_roots

SIDES = ("train", "validation", "test")
_FORM = "write `--split 0.1` or `--split train:0.8,validation:0.1,test:0.1`"


@dataclass
class Split:
    """The shares of the sides."""

    shares: dict[str, float]
    written: dict[str, int] = field(default_factory=dict, init=False)
    """Lines of each side, once they are written."""

    @classmethod
    def of(cls, text: str) -> Split:
        """Read a share for validation, or `NAME:SHARE,…`; UserError for anything else."""
        parts = [part.strip().partition(":") for part in text.split(",")]
        if len(parts) == 1 and not parts[0][1]:
            held_out = _share(parts[0][0], text)
            return cls({"train": 1 - held_out, "validation": held_out})
        shares = {name: _share(share, text) for name, _, share in parts}
        for name in shares.keys() - SIDES:
            raise UserError(
                f"`--split {text}`: no side is called `{name}`{did_you_mean(name, SIDES)}"
            )
        if len(shares) < len(parts) or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
            raise UserError(
                f"`--split {text}`: shares of different sides that add up to 1; {_FORM}"
            )
        return cls({name: shares[name] for name in SIDES if name in shares})

    def side(self, root: str) -> str:
        """Return the side of a root: by its hash alone; a larger share only takes from the first."""
        hashed = hashlib.blake2b(root.encode(errors="backslashreplace"), digest_size=8).digest()
        place, edge = int.from_bytes(hashed) / 2**64, 0.0
        first, *others = self.shares
        for name in others:
            edge += self.shares[name]
            if place < edge:
                return name
        return first


def _share(text: str, whole: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UserError(f"`--split {whole}`: a share is between 0 and 1; {_FORM}")
    return share


def roots(store: Store, seeds: Sequence[Json], reads: Collection[str]) -> list[str]:
    """Return what tells the root of each seed: what was read of it, of all its fields these."""
    parents = [parent_of(fields) for fields in seeds]
    made = [parent for parent in parents if parent is not None]
    known = read_roots(store, made) if made else {}
    found = (
        fields if parent is None else known[parent]
        for fields, parent in zip(seeds, parents, strict=True)
    )
    return [_told(fields, reads) for fields in found]


def _told(fields: Json, reads: Collection[str]) -> str:
    read = {name: value for name, value in fields.items() if name in reads}
    return digest(read or {name: v for name, v in fields.items() if name != FIELD}, 8)
