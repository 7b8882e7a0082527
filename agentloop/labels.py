"""Labels: what people say of finished candidates, read from JSONL.

    {"seed": {…}, "candidate": {…}, "good": true}
    {"seed": {…}, "candidate": {…}, "good": false, "criteria": {"right": "no"}, "annotator": "anna"}
    {"seed": {…}, "candidate": {…}, "good": true, "blind": false}

Enters: a file, and the recipe whose candidates were labelled. Leaves: one `Labelled` an item, however
many people labelled it; what says itself that it is not blind is only counted. Refuses to know: judges,
models, stores.

Everything is checked before the first call: CalibrationError (or SeedError, for what is no JSON)
names the line and the way out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agentloop.drafts import read_candidate
from agentloop.errors import CalibrationError, MalformedReply, did_you_mean
from agentloop.plain import plain
from agentloop.readers import checked_json, read_jsonl
from agentloop.recipe import Kit
from agentloop.records import Json, Record, digest
from agentloop.rubric import Rubric

KEYS = ("seed", "candidate", "good", "criteria", "annotator", "blind")
SHOWN = 60  # characters of a wrong word

T = TypeVar("T", bound=Hashable)


class Annotation(Record):
    """What one person says of one item."""

    annotator: str = ""
    good: bool
    criteria: Mapping[str, str] = {}
    """Criterion → level; those that were not looked at are left out."""
    blind: bool = True
    """False where somebody says that they had seen a grade of the item."""


class Labelled(Record):
    """An item with all that people say of it."""

    item: str
    """12 hex digits of the hash of seed and candidate."""
    seed: Json
    candidate: Json
    annotations: tuple[Annotation, ...]

    @property
    def good(self) -> bool | None:
        """What most people say; None where they are split."""
        return _most([a.good for a in self.annotations])

    def level(self, criterion: str) -> str | None:
        """Return the level that most people give; None where they are split or nobody gave one."""
        given = [a.criteria[criterion] for a in self.annotations if criterion in a.criteria]
        return _most(given) if given else None


def _most(votes: Sequence[T]) -> T | None:
    (first, most), *others = Counter(votes).most_common(2)
    return None if others and others[0][1] == most else first


def read_labels(path: str | Path, kit: Kit) -> tuple[list[Labelled], int]:
    """Return the labelled items in the order of the file, and how many words were not blind.

    These are left out, and an item that has no others with them.

    Raises CalibrationError for a line that no judge could be measured by, also for a candidate that the
    recipe's type refuses; SeedError for a line that is no JSON.
    """
    file = Path(path)
    if not file.is_file():
        raise CalibrationError(f"there is no labels file `{path}`")
    found: dict[str, Labelled] = {}
    lines: dict[tuple[str, str], str] = {}
    seen = 0
    for place, row in read_jsonl(file):
        label = _label(row, kit, place)
        who = label.annotations[0].annotator
        if earlier := lines.get((label.item, who)):
            by = f"`{who}`" if who else "somebody without a name"
            raise CalibrationError(
                f"{place}: {by} has labelled this item already, in {earlier}: give each annotator "
                "of an item an `annotator` of their own"
            )
        lines[label.item, who] = place
        if not label.annotations[0].blind:
            seen += 1
            continue
        before = found.get(label.item, label.model_copy(update={"annotations": ()}))
        said = (*before.annotations, *label.annotations)
        found[label.item] = before.model_copy(update={"annotations": said})
    if not found:
        aside = f" but {seen:,} that were given after the grade was seen" if seen else ""
        raise CalibrationError(f"`{path}` holds no labels{aside}")
    return list(found.values()), seen


def _label(row: Any, kit: Kit, place: str) -> Labelled:
    if not isinstance(row, Mapping):
        raise CalibrationError(f"{place}: a label must be an object with {_listed(KEYS[:3])}")
    try:
        fields: Json = checked_json(row, place)
    except RecursionError as error:
        raise CalibrationError(f"{place} is nested too deeply") from error
    for key in fields:
        if key not in KEYS:
            raise CalibrationError(
                f"{place}: unknown key `{plain(key, SHOWN)}`{did_you_mean(key, KEYS)}"
            )
    for key in KEYS[:3]:
        if key not in fields:
            raise CalibrationError(
                f"{place}: `{key}` is missing; a label has {_listed(KEYS[:3])}, and may have "
                f"{_listed(KEYS[3:])}"
            )
    seed, candidate = (_object(fields, key, place) for key in ("seed", "candidate"))
    _check_seed(seed, kit, place)
    candidate = _candidate(candidate, kit, place)
    try:
        item = digest([seed, candidate], 6)
    except (TypeError, RecursionError) as error:
        raise CalibrationError(f"{place} cannot be stored: {error}") from error
    said = _annotation(fields, kit.rubric, place)
    return Labelled(item=item, seed=seed, candidate=candidate, annotations=(said,))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _object(fields: Json, key: str, place: str) -> Json:
    value = fields[key]
    if not isinstance(value, dict):
        raise CalibrationError(f"{place}: `{key}` must be an object with named fields")
    return value


def _check_seed(seed: Json, kit: Kit, place: str) -> None:
    for name in kit.reads:
        value = seed.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise CalibrationError(
                f"{place}: `seed` needs `{name}`, which recipe `{kit.recipe.name}` reads"
                f"{did_you_mean(name, seed)}"
            )


def _candidate(candidate: Json, kit: Kit, place: str) -> Json:
    try:
        read = read_candidate(kit.recipe.candidate, candidate)
    except MalformedReply as error:
        kind = kit.recipe.candidate.__name__
        raise CalibrationError(f"{place}: `candidate` is no `{kind}`: {error}") from error
    return read.model_dump(mode="json")


def _annotation(fields: Json, rubric: Rubric, place: str) -> Annotation:
    good, who = fields["good"], fields.get("annotator", "")
    if not isinstance(good, bool):
        raise CalibrationError(f"{place}: `good` must be `true` or `false`")
    if not isinstance(who, str) or ("annotator" in fields and not who.strip()):
        raise CalibrationError(f"{place}: `annotator` must be a name")
    if not isinstance(blind := fields.get("blind", True), bool):
        raise CalibrationError(f"{place}: `blind` must be `true` or `false`")
    levels = _object(fields, "criteria", place) if "criteria" in fields else {}
    known = {c.name: c.levels for c in rubric.criteria}
    for name, level in levels.items():
        if name not in known:
            raise CalibrationError(
                f"{place}: rubric `{rubric.name}` has no criterion `{plain(name, SHOWN)}`"
                f"{did_you_mean(name, known)}"
            )
        if level not in known[name]:
            shown = plain(level, SHOWN)
            hint = did_you_mean(shown, known[name])
            raise CalibrationError(f"{place}: `{shown}` is no level of `{name}`{hint}")
    return Annotation(annotator=who.strip(), good=good, criteria=levels, blind=blind)
