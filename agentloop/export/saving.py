"""An exported file with its card and its manifest.

Enters: a store, which examples, a path. Leaves: `NAME.jsonl` or `NAME.parquet`, or one such file for
each side of a split, and beside them `NAME.card.md` and `NAME.manifest.json`; the number of lines.
Refuses to know: shapes, how figures are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from pathlib import Path

import orjson

from agentloop import __version__
from agentloop.errors import UserError
from agentloop.export import BATCH, USUAL, is_parquet, pieces, refuse_store, write, writing
from agentloop.export.blocks import Piece
from agentloop.export.card import card
from agentloop.export.facts import run_facts
from agentloop.export.mixing import Mixture
from agentloop.export.placing import Parts, Sheet, outdated, shown_name
from agentloop.export.splitting import Split
from agentloop.export.tally import Tally
from agentloop.records import Json
from agentloop.store import Store
from agentloop.store.about import read_fields

SCHEMA = 2  # of the manifest
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
    verdict: str = "",
    where: str = "",
    grading: int = 0,
    mix: Mixture | None = None,
    split: Split | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> int:
    """Write the examples of some runs, card and manifest; return the number of lines.

    Files of an export before, of which these are no part, are removed, and `note` is told of it.
    UserError as `lines`, `write` and `Mixture.into`.
    """
    if grading and len(runs) > 1:
        raise UserError("a grading is of one run: name it with `--run`")
    tally = Tally()
    chosen: Json = {"verdict": verdict, "where": where, "grading": grading}
    content = pieces(store, shape, runs, chosen, tally, read_fields(store, runs) if split else None)
    if mix is not None:
        content = _mixed(content, mix, shape)
    path = Path(target).resolve()
    with writing(target):
        if path.exists() and not path.is_file():
            return _poured(path, content, split)
        places, about = _places(path, split), _about(path)
        _check_places([*places.values(), *about])
        with Parts() as parts:
            sheets = {side: Sheet(parts, place, shape) for side, place in places.items()}
            columns = _written(content, sheets, split)
            facts = {
                "schema": SCHEMA,
                "agentloop": __version__,
                "file": shown_name(path),
                "lines": sum(sheet.lines for sheet in sheets.values()),
                "files": [{"side": side, **sheet.finish()} for side, sheet in sheets.items()],
                "columns": columns,
                "shape": shape,
                **chosen,
                "verdict": verdict or USUAL.get(shape, "accepted"),
                "split": split.shares if split else None,
                "mix": mix.share if mix else None,
                "by_people": mix.used if mix else 0,
                "tally": tally.as_dict(),
                "runs": [run_facts(store, run, grading) for run in runs],
            }
            facts["card"] = parts.text(about[0], card(facts).encode())
            options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
            parts.text(about[1], orjson.dumps(facts, option=options))
            sides = list(places.values())
            stale = outdated(about[1], sides)
            parts.put(sides, about, stale)
    for place in stale:
        note(f"{shown_name(place)} of the export before is no part of this one: removed")
    if split is not None:
        split.written = {side: sheet.lines for side, sheet in sheets.items()}
    return sum(sheet.lines for sheet in sheets.values())


def _places(path: Path, split: Split | None) -> dict[str, Path]:
    """Return side → file; of all that is written where nothing is split, the side has no name."""
    if split is None:
        return {"": path}
    return {
        side: path.with_name(f"{_bare(path)}.{side}{path.suffix}").resolve()
        for side in split.shares
    }


def _about(path: Path) -> list[Path]:
    return [path.with_name(f"{_bare(path)}.{kind}") for kind in ("card.md", "manifest.json")]


def _check_places(places: Iterable[Path]) -> None:
    """Raise UserError, before anything is written, for what cannot be replaced by a file."""
    for place in places:
        refuse_store(place)
        if place.exists() and not place.is_file():
            raise UserError(f"`{place}` stands in the way: it is no file")


def _bare(path: Path) -> str:
    return path.stem if path.suffix else path.name


def _poured(path: Path, content: Iterable[Piece], split: Split | None) -> int:
    """Write into a pipe or a device."""
    if split is not None or is_parquet(path):
        what = "sides of a split" if split else "Parquet"
        raise UserError(f"`{path}` is no file: {what} cannot be written to a pipe or device")
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for piece in content:
            count += len(piece.lines)
            yield b"".join(piece.lines)

    write(path, lines())
    return count


def _mixed(content: Iterable[Piece], mix: Mixture, shape: str) -> Iterator[Piece]:
    made = (
        pair
        for piece in content
        for pair in zip(piece.lines, piece.roots or repeat(""), strict=False)
    )
    mixed = mix.into(made, shape)
    while batch := list(islice(mixed, BATCH)):
        lines, roots = zip(*batch, strict=True)
        yield Piece(list(lines), roots)


def _written(
    content: Iterable[Piece], sheets: Mapping[str, Sheet], split: Split | None
) -> dict[str, str]:
    """Write lines to the sheets of their sides; return the columns that the first ones have."""
    found: dict[str, set[str]] = {}
    looked_at = 0
    for piece in content:
        for line in piece.lines[: LOOKED_AT - looked_at]:
            looked_at += 1
            for name, value in orjson.loads(line).items():
                found.setdefault(name, set()).add(_KINDS[type(value)])
        for side, lines in _dealt(piece, split).items():
            sheets[side].add(lines)
    return {name: " or ".join(sorted(kinds)) for name, kinds in found.items()}


def _dealt(piece: Piece, split: Split | None) -> dict[str, list[bytes]]:
    if split is None:
        return {"": piece.lines}
    dealt: dict[str, list[bytes]] = {}
    for line, root in zip(piece.lines, piece.roots, strict=True):
        dealt.setdefault(split.side(root), []).append(line)
    return dealt
