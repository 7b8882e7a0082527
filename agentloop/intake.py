"""Intake: what a run's items take from it, and what it takes from them.

Enters: items before their first call, and as their graphs have finished them. Leaves: the inputs of
each; its final verdict. Refuses to know: graphs, models, when anything is written.

The one place where items meet: what was accepted decides what the next ones are drawn with (examples,
strata that lack) and what may still be accepted (copies, quotas, the target).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from agentloop.admission import Admission, Applicant, Index, Rules
from agentloop.drawing import Drawer, Pool, Strata
from agentloop.errors import AgentloopError, StoreError, boundary
from agentloop.novelty.contamination import Contamination, read_texts
from agentloop.novelty.lineage import depth_of
from agentloop.novelty.near import NearIndex, Stamp
from agentloop.novelty.semantic import SemanticIndex
from agentloop.novelty.shelf import DamagedIndex, discard
from agentloop.plan import Plan
from agentloop.records import Attempt, Json, Verdict, digest
from agentloop.store.files import Files
from agentloop.store.resume import Earlier, Owed
from agentloop.store.taken import Standing, Taken
from agentloop.variety import REFED, Variety

TakenOf = Callable[[], Iterable[Taken]]


class Intake:
    """The serial meeting place of one run's items."""

    def __init__(
        self,
        plan: Plan,
        earlier: Earlier,
        standing: Standing,
        taken: TakenOf,
        variety: Variety | None = None,
    ):
        """`standing` says what is accepted, `taken` reads the settled items of earlier sessions.

        They are read where later items depend on them, or an index does not hold what was accepted.
        """
        self._plan = plan
        recipe, settings = plan.found.recipe, plan.settings
        self._strata = Strata(plan.attributes, settings.quota, settings.accept)
        self._pool = None
        if recipe.pool is not None:
            self._pool = Pool(*recipe.pool, (seed.fields for seed in plan.seeds))
        self._drawer = Drawer(plan, self._strata, self._pool)
        known, growing = _indexes(plan)
        rules = Rules(
            target=settings.accept,
            real_share=settings.real_share,
            contamination=_contamination(plan),
            indexes=(*known, *growing),
            growing=growing,
        )
        self._admission = Admission(rules, earlier.accepted, standing.made)
        self._growing = growing
        self._variety = variety
        watched = variety is not None and standing.items <= REFED
        behind = standing.items and any(_stamp(index) != standing.stamp for index in growing)
        if standing.settled and (plan.mingles or behind or watched):
            settled = list(taken())
            names = [one.item for one in settled if one.accepted]
            lacking = [(index, _lacking(index, names)) for index in growing]
            fed = [fed for one in settled if (fed := self._take(one, lacking)) is not None]
            if variety is not None and watched:
                variety.refeed(fed)

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

    def too_deep(self, owed: Owed, inputs: Json) -> Verdict | None:
        """Return the verdict of an item that is too far from people's text to be worth a call."""
        depth, most = depth_of(owed.seed.fields, inputs), self._plan.settings.max_depth
        if depth <= most:
            return None
        detail = f"{depth} generations away from what people wrote; at most {most} are wanted"
        return Verdict(verdict="rejected", reason="too_deep", detail=detail)

    def admit(
        self, owed: Owed, inputs: Json, verdict: Verdict, kept: Attempt | None
    ) -> tuple[Verdict, str]:
        """Return an item's final verdict and the fingerprint that it was admitted under."""
        if verdict.verdict == "accepted" and (why := self._strata.full(inputs)):
            refused = {"verdict": "rejected", "reason": "over_quota", "detail": why}
            verdict = verdict.model_copy(update=refused)
        seed = owed.seed.fields
        applicant = Applicant(
            item=owed.item,
            messages=kept.messages if kept else (),
            text=self._text(kept.candidate, seed) if kept else "",
            real=depth_of(seed, {}) == 1,
        )
        verdict, fingerprint = self._admission.admit(applicant, verdict)
        accepted = verdict.verdict == "accepted"
        self._strata.ended(inputs, accepted)
        if accepted and kept is not None:
            self._share(owed.item, kept.candidate, depth_of(seed, inputs))
        if self._variety is not None:
            if accepted:
                self._variety.accepted(applicant.text, inputs, _known(seed))
            elif verdict.reason in ("duplicate", "too_similar"):
                self._variety.turned_away()
        return verdict, fingerprint

    def dropped(self, inputs: Json) -> None:
        """Forget an item that was begun and left without a verdict."""
        self._strata.left(inputs)

    def flush(self) -> None:
        """Let what the indexes hold outlive this process."""
        for index in self._growing:
            if isinstance(index, NearIndex):
                with contextlib.suppress(AgentloopError):  # it can be made anew
                    index.flush()

    def close(self) -> None:
        """Flush, and let go of the indexes' files."""
        for index in self._growing:
            if isinstance(index, NearIndex):
                with contextlib.suppress(AgentloopError):
                    index.close()

    def _take(
        self, one: Taken, lacking: Sequence[tuple[Index, set[str]]]
    ) -> tuple[str, Json, str] | None:
        """Take in a settled item; return text, inputs and seed's text of an accepted one."""
        self._strata.ended(one.inputs, one.accepted, begun=False)
        if not one.accepted or one.candidate is None:
            return None
        self._share(one.item, one.candidate, depth_of(one.seed, one.inputs))
        text = self._text(one.candidate, one.seed)
        for index, items in lacking:
            if one.item in items:
                index.add(one.item, text)
        return text, one.inputs, _known(one.seed)

    def _share(self, item: str, candidate: Json, depth: int) -> None:
        if self._pool is not None and depth < self._plan.settings.max_depth:
            self._pool.add(item, candidate, depth)

    def _text(self, candidate: Json, seed: Json) -> str:
        """Return what must be new about a candidate."""
        return self._plan.found.recipe.candidate.model_validate(candidate).novelty(seed)


def _known(seed: Json) -> str:
    """Return the text that an item was made from."""
    return "\n".join(value for value in seed.values() if isinstance(value, str))


def _contamination(plan: Plan) -> Contamination | None:
    files = plan.settings.decontaminate
    return Contamination(text for file in files for text in read_texts(file)) if files else None


def _indexes(plan: Plan) -> tuple[tuple[Index, ...], tuple[Index, ...]]:
    """Return indexes of what is to stay apart from the run's own, and those of its own."""
    kind, alike = plan.settings.novelty, plan.found.recipe.alike
    if kind == "exact":
        return (), ()
    apart = NearIndex.open(None)
    if alike:
        for seed in plan.seeds:
            apart.add(f"seed {seed.id}", str(seed.fields.get(alike, "")))
    for file in plan.settings.novel_to:
        for source, row, text in read_texts(file):
            apart.add(f"{source} row {row}", text)
    growing: list[Index] = [_own_index(plan)]
    if kind == "semantic":
        growing.append(SemanticIndex())
    return ((apart,) if len(apart) else ()), tuple(growing)


def _own_index(plan: Plan) -> NearIndex:
    """Return the index of what the run has accepted; one that is damaged is made anew."""
    folder = Files(plan.store).near / digest(plan.run, 6)
    with boundary(StoreError, f"`{folder}` cannot be made", OSError):
        folder.parent.mkdir(exist_ok=True)
    try:
        return NearIndex.open(folder)
    except DamagedIndex:
        discard(folder)
        return NearIndex.open(folder)


def _lacking(index: Index, items: list[str]) -> set[str]:
    """Return those of the items that an index does not hold."""
    return set(index.lacks(items) if isinstance(index, NearIndex) else items)


def _stamp(index: Index) -> Stamp | None:
    return index.stamp if isinstance(index, NearIndex) else None
