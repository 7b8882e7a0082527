"""An exported file with its card and its manifest.

Enters: a store, which examples, a path. Leaves: `NAME.jsonl`, and beside a regular file `NAME.card.md`
and `NAME.manifest.json`, the manifest last; the number of lines. Refuses to know: shapes, how figures
are shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import orjson

from agentloop import __version__
from agentloop.errors import UserError
from agentloop.export import lines, write
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
    content = lines(
        store, shape=shape, runs=runs, verdict=verdict, where=where, grading=grading, tally=tally
    )
    if mix is not None:
        content = mix.into(content, shape)
    count = write(target, seal.over(content), store=store.path)
    path = Path(target).resolve()
    if path.is_file():
        facts = {
            "schema": 1,
            "agentloop": __version__,
            "file": path.name,
            "lines": count,
            **seal.as_dict(),
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
    return count


class _Seal:
    """The hash, size and columns of lines that go by."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._bytes = self._lines = 0
        self._columns: dict[str, set[str]] = {}

    def over(self, content: Iterable[bytes]) -> Iterator[bytes]:
        """Pass lines on."""
        for line in content:
            self._hash.update(line)
            self._bytes += len(line)
            self._lines += 1
            if self._lines <= LOOKED_AT:
                for name, value in orjson.loads(line).items():
                    self._columns.setdefault(name, set()).add(_KINDS[type(value)])
            yield line

    def as_dict(self) -> Json:
        """Return what was seen."""
        columns = {name: " or ".join(sorted(kinds)) for name, kinds in self._columns.items()}
        return {"sha256": self._hash.hexdigest(), "bytes": self._bytes, "columns": columns}
