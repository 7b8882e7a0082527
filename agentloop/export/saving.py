"""An exported file with its card and its manifest.

Enters: a store, which examples, a path. Leaves: `NAME.jsonl` or `NAME.parquet`, and beside a regular
file `NAME.card.md` and `NAME.manifest.json`, the manifest last; the number of lines. Refuses to know:
shapes, how figures are shown.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import orjson

from agentloop import __version__
from agentloop.errors import UserError
from agentloop.export import is_parquet, line_blocks, write
from agentloop.export.card import card
from agentloop.export.facts import run_facts
from agentloop.export.mixing import Mixture
from agentloop.export.tally import Tally
from agentloop.records import Json
from agentloop.store import Store

LOOKED_AT = 100  # lines whose columns are read
_KINDS = {
    dict: "object", list: "list", str: "string", bool: "boolean", int: "integer", float: "number",
    type(None): "null",
}  # fmt: skip


def save(
    store: Store,
    target: str | Path,
    *,
    runs: Sequence[str],
    shape: str = "messages",
    verdict: str = "accepted",
    where: str = "",
    grading: int = 0,
    mix: Mixture | None = None,
) -> int:
    """Write the examples of some runs, card and manifest; return the number of lines.

    UserError as `lines`, `write` and `Mixture.into`.
    """
    if grading and len(runs) > 1:
        raise UserError("a grading is of one run: name it with `--run`")
    tally, seal = Tally(), _Seal()
    chosen: Json = {"verdict": verdict, "where": where, "grading": grading}
    content = line_blocks(store, shape, runs, chosen, tally)
    if mix is not None:
        content = ([line] for line in mix.into(itertools.chain.from_iterable(content), shape))
    write(target, seal.over(content), store=store.path, shape=shape)
    path = Path(target).resolve()
    if path.is_file():
        facts = {
            "schema": 1,
            "agentloop": __version__,
            "file": path.name,
            **seal.as_dict(),
            **(_sealed(path) if is_parquet(path) else {}),
            "shape": shape,
            "where": where,
            "grading": grading,
            "by_people": mix.used if mix else 0,
            "tally": tally.as_dict(),
            "runs": [run_facts(store, run, grading) for run in runs],
        }
        bare = path.with_suffix("") if path.suffix else path
        write(bare.with_name(f"{bare.name}.card.md"), [card(facts).encode()])
        manifest = orjson.dumps(facts, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        write(bare.with_name(f"{bare.name}.manifest.json"), [manifest])
    return seal.lines


def _sealed(path: Path) -> Json:
    """Return the hash and size of a file."""
    with path.open("rb") as file:
        return {
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            "bytes": path.stat().st_size,
        }


class _Seal:
    """The hash, size and columns of lines that go by."""

    def __init__(self) -> None:
        self.lines = 0
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._columns: dict[str, set[str]] = {}

    def over(self, content: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
        """Pass blocks of lines on."""
        for block in content:
            for line in block[: max(0, LOOKED_AT - self.lines)]:
                for name, value in orjson.loads(line).items():
                    self._columns.setdefault(name, set()).add(_KINDS[type(value)])
            self.lines += len(block)
            data = b"".join(block)
            self._hash.update(data)
            self._bytes += len(data)
            yield data

    def as_dict(self) -> Json:
        """Return what was seen."""
        columns = {name: " or ".join(sorted(kinds)) for name, kinds in self._columns.items()}
        return {
            "lines": self.lines,
            "sha256": self._hash.hexdigest(),
            "bytes": self._bytes,
            "columns": columns,
        }
