"""Intake: what a run's items take from it, and what it takes from them.

Enters: items before their first call, and as their graphs have finished them. Leaves: the inputs of
each; its final verdict. Refuses to know: graphs, models, when anything is written.

The one place where items meet: what was accepted decides what the next ones are drawn with (examples,
strata that lack) and what may still be accepted (copies, quotas, the target).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from agentloop.admission import Admission, Applicant, Index, Known, Rules
from agentloop.attributes import stratum_of
from agentloop.drawing import KEPT, Drawer, Pool, Strata
from agentloop.feed import Feed, is_made
from agentloop.novelty.contamination import Contamination, read_texts, texts_in
from agentloop.novelty.kept import KeptIndex
from agentloop.novelty.lineage import depth_of
from agentloop.novelty.near import Near, NearIndex
from agentloop.novelty.semantic import LIMIT, SemanticIndex
from agentloop.plan import Plan
from agentloop.records import Candidate, Json, Verdict, digest
from agentloop.store.files import Files
from agentloop.store.resume import Owed
from agentloop.store.taken import Taken
from agentloop.variety import BEGINNING, REFED, Variety
from agentloop.verdicts import Kept, failure

OPENED = 64  # indexes of other runs that are open at once, each of five files

Note = Callable[[str], None]


class Intake:
    """The serial meeting place of one run's items."""

    def __init__(self, plan: Plan, feed: Feed, note: Note, variety: Variety | None = None):
        """Take up what earlier sessions settled, as far as later items depend on it.

        `note` says to those who watch that something takes a while. Raises SettingsError.
        """
        self._plan = plan
        recipe, settings = plan.found.recipe, plan.settings
        self._strata = Strata(plan.attributes, settings.quota, settings.accept)
        self._pool = None
        if recipe.pool is not None:
            self._pool = Pool(*recipe.pool, (seed.fields for seed in plan.seeds))
        self._drawer = Drawer(plan, self._strata, self._pool)
        shelf = _Shelf(plan, feed, note)
        self._kept = shelf.kept
        rules = Rules(
            target=settings.accept,
            real_share=settings.real_share,
            full=self._strata.full,
            contamination=_contamination(plan),
            indexes=(*shelf.known, *shelf.growing),
            growing=shelf.growing,
        )
        self._admission = Admission(rules, (), feed.standing.made, feed.earlier.accepted)
        self.has_room = self._admission.has_room
        self._variety = variety
        self._take_up(feed)

    def _take_up(self, feed: Feed) -> None:
        """Take in what earlier sessions settled."""
        if not feed.earlier.settled:
            return
        if self._plan.attributes.plan:
            for stratum in feed.strata():
                drawn = stratum_of({"attributes": stratum.attributes})
                self._strata.settled(drawn, stratum.accepted, stratum.items)
        if self._pool is None and self._variety is None:
            return
        fed = map(self._taken, feed.taken(self._plan.run, self._wanted(feed)))
        if self._variety is not None:
            self._variety.refeed(fed, feed.standing.items)
        if self._pool is not None:
            deque(fed, maxlen=0)  # the rest, which the watch did not want

    def _wanted(self, feed: Feed) -> Sequence[str] | None:
        """Return which of the items accepted earlier are looked at again; None for all."""
        last = KEPT if self._pool is not None else 0
        if feed.standing.items <= max(REFED, BEGINNING + last):
            return None
        return feed.ends(BEGINNING, last, self._plan.settings.max_depth)

    def _taken(self, one: Taken) -> tuple[Candidate, Json, str]:
        """Take in an item that was accepted earlier; return what the watch looks at."""
        self._share(one.item, one.candidate, depth_of(one.seed, one.inputs))
        return self._candidate(one.candidate), one.inputs, _known(one.seed)

    @property
    def accepted(self) -> int:
        """Items that were accepted."""
        return self._admission.accepted

    def inputs(self, owed: Owed) -> Json:
        """Return what an item takes from outside: drawn once, and again what it was drawn with."""
        if self._variety is not None:
            self._drawer.avoid, self._drawer.under = self._variety.avoid, self._variety.under
        inputs = owed.inputs or self._drawer.draw(owed)
        self._strata.begun(inputs)
        return inputs

    def refused(self, owed: Owed, inputs: Json) -> Verdict | None:
        """Return the verdict of an item that is not worth a call: too far from people, or no room."""
        depth, most = depth_of(owed.seed.fields, inputs), self._plan.settings.max_depth
        if depth > most:
            detail = f"{depth} generations away from what people wrote; at most {most} are wanted"
            return Verdict(verdict="rejected", reason="too_deep", detail=detail)
        if owed.crowded:
            detail = self._admission.crowded
            return Verdict(verdict="rejected", reason="over_quota", detail=detail)
        return None

    def admit(
        self, owed: Owed, inputs: Json, verdict: Verdict, kept: Kept | None
    ) -> tuple[Verdict, str]:
        """Return an item's final verdict and the fingerprint that it was admitted under."""
        seed, text = owed.seed.fields, ""
        if verdict.verdict == "accepted" and kept is not None:
            try:
                text = self._text(kept.candidate, seed)
            except Exception as error:  # a bug in a `novelty` of one's own costs one item
                verdict, kept = Verdict.model_validate(failure(error)), None
        applicant = Applicant(
            item=owed.item,
            messages=kept.messages if kept else (),
            text=text,
            parts=tuple(texts_in(kept.candidate)) if kept else (),
            real=not is_made(owed),
            inputs=inputs,
        )
        verdict, fingerprint = self._admission.admit(applicant, verdict)
        accepted = verdict.verdict == "accepted"
        self._strata.ended(inputs, accepted)
        if accepted and kept is not None:
            self._share(owed.item, kept.candidate, depth_of(seed, inputs))
        if self._variety is not None:
            if accepted and kept is not None:
                self._variety.accepted(self._candidate(kept.candidate), inputs, _known(seed))
            elif verdict.reason in ("duplicate", "too_similar"):
                self._variety.turned_away()
        return verdict, fingerprint

    def dropped(self, inputs: Json) -> None:
        """Forget an item that was begun and left without a verdict."""
        self._strata.left(inputs)

    def flush(self) -> None:
        """Let what the indexes hold outlive this process."""
        for index in self._kept:
            index.flush()

    def close(self) -> None:
        """Flush, and let go of the indexes' files."""
        for index in self._kept:
            index.close()

    def _share(self, item: str, candidate: Json, depth: int) -> None:
        if self._pool is not None and depth < self._plan.settings.max_depth:
            self._pool.add(item, candidate, depth)

    def _candidate(self, fields: Json) -> Candidate:
        return self._plan.found.recipe.candidate.model_validate(fields)

    def _text(self, candidate: Json, seed: Json) -> str:
        """Return what must be new about a candidate; TypeError where its type returns no text."""
        text = self._candidate(candidate).novelty(seed)
        if not isinstance(text, str):
            raise TypeError(f"`novelty` must return a text, not {type(text).__name__}")
        return text


class _OfRun:
    """The accepted texts of a run, as the store tells them."""

    def __init__(self, plan: Plan, feed: Feed, run: str):
        self._plan = plan
        self._feed = feed
        self._run = run

    def names(self) -> Sequence[str]:
        return self._feed.names(self._run)

    def texts(self, items: Sequence[str]) -> Iterator[tuple[str, str]]:
        kind = self._plan.found.recipe.candidate
        for one in self._feed.taken(self._run, items) if items else ():
            yield one.item, told_text(kind, one.candidate, one.seed)


class _Shelf:
    """The indexes of a run: of what is to stay apart from its own, and of its own."""

    def __init__(self, plan: Plan, feed: Feed, note: Note):
        self.known: list[Known] = []
        self.growing: list[Index] = []
        """Those that take in what is accepted."""
        self.kept: list[KeptIndex] = []
        """Those of either that lie in files."""
        self._plan, self._feed, self._note = plan, feed, note
        if plan.settings.novelty == "exact":
            return
        self.known += self._of_texts()
        own = _OfRun(plan, feed, plan.run)
        self.growing.append(self._opened(plan.run, own, feed.standing.stamp))
        if plan.settings.novelty == "semantic":
            newest = SemanticIndex()
            if feed.standing.items:
                _fill(newest, own.texts(own.names()[-LIMIT:]))
            self.growing.append(newest)
        self._add_others()

    def _of_texts(self) -> Iterator[Index]:
        """Yield indexes of what was there before any run: seeds of the kind, and named files."""
        texts = list(_before(self._plan))
        indexes: list[NearIndex | SemanticIndex] = [NearIndex.open(None)]
        if self._plan.settings.novelty == "semantic":
            indexes.append(SemanticIndex())
        for index in indexes if texts else ():
            _fill(index, texts)
            yield index

    def _add_others(self) -> None:
        """Open the indexes of the recipe's other runs; all beyond `OPENED` share one in memory."""
        semantic = self._plan.settings.novelty == "semantic"
        rest, newest = NearIndex.open(None), SemanticIndex() if semantic else None
        room = LIMIT
        for number, (run, standing) in enumerate(self._feed.others().items()):
            source = _OfRun(self._plan, self._feed, run)
            if number < OPENED:
                self.known.append(_Other(run, self._opened(run, source, standing.stamp)))
            else:
                _fill(rest, _named(run, source.texts(source.names())))
            if newest is not None and room > 0:
                _fill(newest, _named(run, source.texts(source.names()[-room:])))
                room -= standing.items
        self.known += [index for index in (rest, newest) if index is not None and len(index)]

    def _opened(self, run: str, source: _OfRun, stamp: tuple[int, int]) -> KeptIndex:
        folder = Files(self._plan.store).near / digest(run, 6)
        self.kept.append(index := KeptIndex(folder, source, stamp, self._note))
        return index


class _Other:
    """The index of another run: what it finds names the run, whose items have names like ours."""

    def __init__(self, run: str, index: KeptIndex):
        self._run = run
        self._index = index

    def nearest(self, text: str) -> Near | None:
        near = self._index.nearest(text)
        return near and near._replace(item=_name(self._run, near.item))


def _name(run: str, item: str) -> str:
    return f"item {item} of run `{run}`"


def _named(run: str, texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((_name(run, item), text) for item, text in texts)


def _fill(index: Index, texts: Iterable[tuple[str, str]]) -> None:
    for item, text in texts:
        index.add(item, text)


def _before(plan: Plan) -> Iterator[tuple[str, str]]:
    ours, theirs = plan.found.recipe.likened
    if ours and ours == theirs:  # what is made from a seed's field may be like it
        for seed in plan.seeds:
            yield f"seed {seed.id}", str(seed.fields.get(theirs, ""))
    for file in plan.settings.novel_to:
        for source, row, text in read_texts(file):
            yield f"{source} row {row}", text


def told_text(kind: type[Candidate], candidate: Json, seed: Json) -> str:
    """Return what must be new about an accepted candidate; all it says if it is of another type."""
    try:
        return str(kind.model_validate(candidate).novelty(seed))
    except Exception:  # another run's, or one's own code has changed since
        return "\n".join(texts_in(candidate))


def _known(seed: Json) -> str:
    """Return the text that an item was made from."""
    return "\n".join(value for value in seed.values() if isinstance(value, str))


def _contamination(plan: Plan) -> Contamination | None:
    files = plan.settings.decontaminate
    return Contamination(text for file in files for text in read_texts(file)) if files else None
