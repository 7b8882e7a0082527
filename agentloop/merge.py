"""Merging: the stores of shards, or of separate runs, joined in one.

    merge("qa.duckdb", ["s1.duckdb", "s2.duckdb"])

Enters: the store to be made or added to, stores to read. Leaves: one store with all their rows, and what
became of each run. Refuses to know: how rows are brought (`store.joining`), how an item was made.

Every item that its own store accepted comes to one door again, in the order in which verdicts fell
(times, then names), whoever made it: of twins in two shards the later one is refused, and says of what
it is a copy. What earlier merges refused comes again too. So what is accepted depends on what was joined
alone, and on no order of joining. Runs of other names are kept apart, as they were.

The store is made anew beside the old one and takes its place when it is whole: a kill leaves the old.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentloop.admission import Admission, Applicant, Index, Rules
from agentloop.attributes import read_attributes, stratum_of
from agentloop.drawing import Strata
from agentloop.errors import IdentityError, RecipeError, StoreError, UserError, boundary
from agentloop.filelock import FileLock
from agentloop.intake import told_text
from agentloop.novelty.lineage import depth_of
from agentloop.novelty.near import NearIndex
from agentloop.novelty.semantic import SemanticIndex
from agentloop.plan import differing, shard_of
from agentloop.recipe import Recipe, schema_hash
from agentloop.recipes import FoundRecipe, find_recipe
from agentloop.records import Json, Verdict, digest
from agentloop.shards import Shard, gaps
from agentloop.store.counts import calls_name
from agentloop.store.files import Files, connect, fold, prepare
from agentloop.store.joining import Beside, Good, Joining, Refusal, Told
from agentloop.store.schema import MIGRATIONS, check_version, migrate
from agentloop.store.sums import keep_sums, read_sums

if TYPE_CHECKING:
    import duckdb

GOOD = Verdict(verdict="accepted")
NOVELTY = ("exact", "near", "semantic")
"""From the mildest to the strictest."""
MOST = 250  # stores at once: each is an open file


@dataclass(frozen=True)
class Joined:
    """What became of one run."""

    run: str
    items: int
    accepted: int
    refused: Mapping[str, int] = field(default_factory=dict)
    """By reason, those that their own store had accepted: copies of what another one has, say."""
    shards: Sequence[str] = ()
    """Those whose sessions are here, as `2/4`; none for a run that was not divided."""

    @property
    def missing(self) -> Sequence[str]:
        """Shards that no session is of, as `3/4`; of those that follow each other `5/9…8/9`."""
        return [_span(first, last) for first, last in gaps(map(Shard.parse, self.shards))]

    def __str__(self) -> str:
        refused = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        parts = [
            f"run {self.run}",
            f"{self.items} items",
            f"{self.accepted} accepted",
            f"refused between the stores: {refused}" if refused else "",
            f"shards {', '.join(self.shards)}" if self.shards else "",
            f"not here: {', '.join(self.missing)}" if self.missing else "",
        ]
        return " · ".join(filter(None, parts))

    def as_dict(self) -> Json:
        """Return it as JSON values."""
        found: Json = {"run": self.run, "items": self.items, "accepted": self.accepted}
        shards = {"shards": [*self.shards], "missing": [*self.missing]}
        return found | {"refused": dict(self.refused)} | shards


@dataclass(frozen=True)
class Merged:
    """What a merge came to."""

    store: Path
    changed: bool
    """Whether anything was there that the store did not hold."""
    runs: Sequence[Joined]

    def as_dict(self) -> Json:
        """Return it as JSON values."""
        runs = [run.as_dict() for run in self.runs]
        return {"store": str(self.store), "changed": self.changed, "runs": runs}


def merge(
    out: str | Path,
    stores: Sequence[str | Path],
    *,
    recipes: Sequence[str | Recipe | FoundRecipe] = (),
) -> Merged:
    """Join stores into `out`, which is made if it is not there; those that are read stay as they are.

    Recipes are found as the runs found them, unless they are named: near-copies are compared by what a
    candidate says is new about it. Raises StoreError for a store that a run is writing, IdentityError
    for runs of one name that are not shards of one, RecipeError.
    """
    files = Files(Path(out).resolve())
    if not files.path.parent.is_dir():
        raise StoreError(f"store `{out}`: there is no folder `{files.path.parent}`")
    paths = _distinct(files.path, [Path(store) for store in stores])
    given = [find_recipe(recipe) for recipe in recipes]
    with _held(files.path, paths):
        before = files.path.exists()
        try:
            return _Merge(files, [files.path, *paths] if before else paths, before, given).play()
        finally:
            _remove(_made(files))


def _distinct(out: Path, stores: Sequence[Path]) -> list[Path]:
    """Return the stores, each once. Raises StoreError where one is not there, or is `out`."""
    found: dict[Path, Path] = {}
    for path in stores:
        if not path.is_file():
            raise StoreError(f"there is no store `{path}`")
        if path.resolve() == out.resolve() or (out.exists() and path.samefile(out)):
            raise StoreError(f"`{path}` is both what is made and what is read: name another OUT")
        if path.resolve().is_relative_to(_made(Files(out)).path.parent):
            raise StoreError(f"`{path}` lies where `{out}` is made: name another OUT")
        found.setdefault(path.resolve(), path)
    if not found:
        raise UserError("no store is named: `agentloop merge OUT IN…`")
    if len(found) > MOST:
        raise UserError(
            f"{len(found)} stores at once are too many: merge {MOST} into one, then the next into it"
        )
    return list(found)


@contextmanager
def _held(out: Path, stores: Sequence[Path]) -> Iterator[None]:
    """Keep runs out of all stores meanwhile, all that they hold folded in."""
    with contextlib.ExitStack() as locks:
        for path in (out, *stores):
            files = Files(path)
            lock = FileLock(files.lock)
            locks.callback(lock.release)
            try:
                taken = lock.acquire()
            except OSError as error:
                _check_at_rest(files, path == out, error)
                continue
            if not taken:
                raise StoreError(
                    f"store `{path}` is being written by process {lock.owner}: wait for it, or stop "
                    "it; started again, it goes on"
                )
            if path.exists():
                prepare(path)
                fold(files, last=True)
        yield


def _check_at_rest(files: Files, written: bool, error: OSError) -> None:
    """Raise StoreError unless a store that cannot be locked can be read as it lies there."""
    if written:
        raise StoreError(f"store `{files.path}` cannot be written: {error}") from error
    with connect(files.path, write=False) as connection:
        older = check_version(connection, str(files.path)) < len(MIGRATIONS)
    if files.pending or older:
        raise StoreError(
            f"store `{files.path}` must be brought up before it can be read, and cannot be written "
            f"where it lies ({error}): copy it with the files beside it"
        ) from error


def _made(files: Files) -> Files:
    """Return where a store is made until it is whole: in a folder of its own."""
    return Files(files.path.with_name(f".{files.path.name}.merging") / files.path.name)


def _remove(made: Files) -> None:
    shutil.rmtree(made.path.parent, ignore_errors=True)


def _scratch(made: Files) -> Path:
    return made.path.with_name(made.path.name + ".tmp")


class _Merge:
    """One merge."""

    def __init__(
        self, files: Files, sources: Sequence[Path], before: bool, given: Sequence[FoundRecipe]
    ):
        self._files, self._made = files, _made(files)
        self._sources, self._before, self._given = sources, before, given
        self._refused: dict[str, Counter[str]] = {}

    def play(self) -> Merged:
        """Make the store, and put it in its place where it holds anything new."""
        _remove(self._made)
        self._made.path.parent.mkdir()
        with connect(self._made.path, write=True) as connection:
            scratch = str(_scratch(self._made)).replace("'", "''")
            connection.execute(f"SET temp_directory = '{scratch}'")
            migrate(connection, str(self._files.path))
            joining = Joining(connection, self._sources, before=self._before)
            every = joining.runs()
            runs = self._agreed(every)
            gradings = joining.gradings()
            numbers = _numbers(gradings, self._before, {told.run for told in runs})
            joining.agree(numbers)
            changed = self._is_new(joining, every, runs)
            if changed:
                joining.write_runs(runs)
                joining.write_gradings(_chosen(gradings, numbers))
                for told in runs:
                    self._join(joining, told)
                joining.copy_rows()
                keep_sums(connection, behind=1)
                connection.execute("CHECKPOINT store")
            shards = {told.run: _shards(joining.settings(told.run), every, told) for told in runs}
        if changed:
            self._put([told.run for told in runs])
        with connect(self._files.path, write=False) as connection:
            return Merged(self._files.path, changed, self._told(connection, shards))

    def _is_new(self, joining: Joining, every: Sequence[Told], runs: Sequence[Told]) -> bool:
        held = {told.run: (told.time, told.identity) for told in every if told.source == 0}
        as_held = all(held.get(told.run) == (told.time, told.identity) for told in runs)
        return not as_held or joining.is_new

    def _agreed(self, every: Sequence[Told]) -> list[Told]:
        """Return each run once, as its first store has it; IdentityError where two are not the same."""
        found: dict[str, Told] = {}
        for told in sorted(every, key=lambda told: (told.time, told.recipe_ref, told.source)):
            whole = {key: value for key, value in told.identity.items() if key != "shard"}
            first = found.setdefault(told.run, told._replace(identity=whole))
            if listed := differing(first.identity, whole):
                one, other = self._sources[first.source], self._sources[told.source]
                raise IdentityError(
                    f"run `{told.run}` in `{other}` was made with another {listed} than in `{one}`: "
                    "they are no shards of one run; merge them into two stores, or give them two "
                    "names with `--run`"
                )
        return [found[run] for run in sorted(found, key=lambda run: (found[run].time, run))]

    def _join(self, joining: Joining, told: Told) -> None:
        """Bring the items of a run and let the good ones through the door."""
        refused = self._refused.setdefault(told.run, Counter())
        near = self._made.near / digest(told.run, 6)
        with contextlib.closing(_Door(joining, told, near, self._recipe)) as door:
            for window in joining.windows(told.run):
                refusals = [
                    r for good in joining.bring(told.run, window) if (r := door.admit(good))
                ]
                joining.settle(refusals)
                refused.update(refusal.reason for refusal in refusals)

    def _recipe(self, told: Told) -> FoundRecipe:
        for found in self._given:
            if found.recipe.name == told.recipe:
                if told.identity.get("candidate") != schema_hash(found.recipe.candidate):
                    raise IdentityError(
                        f"run `{told.run}` was made with another candidate than recipe "
                        f"`{found.recipe.name}` has here: name the one that it was made with"
                    )
                return found
        try:
            found = find_recipe(told.recipe_ref)
        except RecipeError as error:
            raise RecipeError(
                f"the recipe of run `{told.run}`: {error}; name it: `--recipe FILE`"
            ) from error
        if told.identity.get("recipe.source") not in (None, found.source):
            raise RecipeError(
                f"the recipe of run `{told.run}`, `{told.recipe_ref}`, is not what is found here under "
                "that name: name it: `--recipe FILE`"
            )
        return found

    def _put(self, runs: Sequence[str]) -> None:
        """Put the store in its place, and the indexes that were made with it."""
        with boundary(StoreError, f"store `{self._files.path}` cannot be replaced", OSError):
            file = os.open(self._made.path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
            for run in runs:
                shutil.rmtree(self._files.near / digest(run, 6), ignore_errors=True)
            if self._before:
                shutil.copymode(self._files.path, self._made.path)
            self._made.path.replace(self._files.path)
            self._files.near.mkdir(exist_ok=True)
            for folder in self._made.near.iterdir() if self._made.near.is_dir() else ():
                folder.replace(self._files.near / folder.name)

    def _told(
        self, connection: duckdb.DuckDBPyConnection, shards: Mapping[str, Sequence[str]]
    ) -> list[Joined]:
        sums = read_sums(connection)
        found = []
        for run, there in shards.items():
            verdicts = sums.verdicts(run)
            accepted = verdicts.get(("accepted", None), 0)
            rows = connection.execute(
                "SELECT v.reason, count(*) FROM overruled o JOIN verdicts v "
                "USING (run, item, opening, grading) WHERE run = ? AND grading = 0 "
                "GROUP BY ALL ORDER BY count(*) DESC, v.reason",
                [run],
            ).fetchall()
            ((items,),) = connection.execute(
                "SELECT count(*) FROM items WHERE run = ?", [run]
            ).fetchall()
            found.append(Joined(run, items, accepted, dict(rows), there))
        return found


class _Door:
    """The door of one run, with nothing accepted yet."""

    def __init__(self, joining: Joining, told: Told, near: Path, recipe: Any):
        sessions = _latest(joining.settings(told.run))
        plan = told.identity.get("attributes", {})
        quota, accept = _quota(sessions)
        self._strata = Strata(read_attributes(plan), quota if quota in plan else "", accept)
        novelty = max(
            (str(s.get("novelty", "exact")) for s in sessions), key=_strictness, default=""
        )
        self._candidate = None if _strictness(novelty) == 0 else recipe(told).recipe.candidate
        self._near: NearIndex | None = None
        indexes: list[Index] = []
        if self._candidate is not None:
            near.parent.mkdir(exist_ok=True)
            self._near = NearIndex.open(near)
            indexes.append(self._near)
        if novelty == "semantic":
            indexes.append(SemanticIndex())
        share = max((float(s.get("real_share", 0.0)) for s in sessions), default=0.0)
        rules = Rules(real_share=share, full=self._strata.full, indexes=indexes, growing=indexes)
        self._admission = Admission(rules)

    def admit(self, good: Good) -> Refusal | None:
        """Return why a good item does not get in; None where it does."""
        candidate = self._candidate
        applicant = Applicant(
            item=good.item,
            messages=good.messages,
            text=told_text(candidate, good.candidate, good.seed) if candidate else "",
            real=good.depth == 1 or depth_of(good.seed, {}) == 1,
            inputs=good.inputs,
        )
        verdict, _ = self._admission.admit(applicant, GOOD)
        self._strata.settled(stratum_of(good.inputs), verdict.verdict == "accepted")
        if verdict.verdict == "accepted":
            return None
        return Refusal(good.item, good.opening, str(verdict.reason), verdict.detail)

    def close(self) -> None:
        """Let go of the index's files, all that it holds kept."""
        if self._near is not None:
            self._near.close()


def _span(first: Shard, last: Shard) -> str:
    return str(first) if first == last else f"{first}…{last}"


def _latest(sessions: Sequence[Json]) -> list[Json]:
    """Return of each shard what its latest session was told; the latest come first."""
    found: dict[str, Json] = {}
    for told in sessions:
        found.setdefault(str(told.get("shard") or ""), told)
    return list(found.values())


def _strictness(novelty: str) -> int:
    return NOVELTY.index(novelty) if novelty in NOVELTY else 0


def _quota(sessions: Sequence[Json]) -> tuple[str, int | None]:
    """Return the attribute whose shares are kept, and of how many: the shards' targets together."""
    kept = [told for told in sessions if told.get("quota") and told.get("accept")]
    if not kept:
        return "", None
    whole = [int(told["accept"]) for told in kept if not told.get("shard")]
    parts = [int(told["accept"]) for told in kept if told.get("shard")]
    return str(kept[0]["quota"]), max(sum(whole), sum(parts))


def _shards(sessions: Sequence[Json], every: Sequence[Told], told: Told) -> list[str]:
    """Return the shards that a run's sessions, and what stores say they are, are of."""
    said = {str(session.get("shard") or "") for session in sessions}
    said |= {shard_of(other.identity) for other in every if other.run == told.run}
    return [str(shard) for shard in sorted(map(Shard.parse, said - {""}))]


def _numbers(
    gradings: Sequence[Beside], before: bool, runs: set[str]
) -> dict[tuple[int, str, int], int]:
    """Return the number of each grading: one for all of one identity.

    Those of what was joined before stay, others follow in the order of their times.
    """
    ours: dict[tuple[str, bytes], int] = {}
    taken: dict[str, set[int]] = {}
    order = sorted(
        gradings, key=lambda g: (not (before and g.source == 0), g.time, g.identity, g.grading)
    )
    for one in order:
        numbers = taken.setdefault(one.run, set())
        if (one.run, one.identity) in ours:
            continue
        number = one.grading if before and one.source == 0 else max(numbers, default=0) + 1
        while number in numbers or calls_name(one.run, number) in runs:
            number += 1
        numbers.add(number)
        ours[one.run, one.identity] = number
    return {(g.source, g.run, g.grading): ours[g.run, g.identity] for g in gradings}


def _chosen(
    gradings: Sequence[Beside], numbers: Mapping[tuple[int, str, int], int]
) -> dict[tuple[str, int], Beside]:
    """Return of each grading the row that was written first."""
    found: dict[tuple[str, int], Beside] = {}
    for one in sorted(gradings, key=lambda g: (g.time, g.source)):
        found.setdefault((one.run, numbers[one.source, one.run, one.grading]), one)
    return found
