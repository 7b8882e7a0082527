"""The run's watch on variety: it reads what is accepted batch by batch, warns, steers or stops.

Enters: accepted candidates, and that good ones were refused as copies. Leaves: readings for the store,
a note when the light changes, phrases and strata for those who draw. Refuses to know: figures, graphs,
models.

What is watched is what a model wrote of a candidate (`Candidate.written`). Real text is compared with
one field of it, where a field is named: questions with questions.

A batch is measured in a thread, beside the calls: the items meanwhile are drawn as before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

from agentloop.attributes import stratum_of
from agentloop.diversity.phrases import Phrases, under_covered
from agentloop.diversity.reading import Reading
from agentloop.diversity.watch import Watch
from agentloop.novelty.contamination import read_texts
from agentloop.plan import Plan
from agentloop.records import Candidate, Json, asked_fields

REFED = 20_000  # accepted items of earlier sessions that are all read again: seconds
BEGINNING = 400  # of more, those that are: the run's first batches and some to spare
REFERENCE = 5_000  # texts

Tell = Callable[[str], None]


class _Real(NamedTuple):
    """Real texts to compare with."""

    texts: list[str] | None
    field: str
    """The candidate's field that is compared with them; empty: all that is written."""
    same_kind: bool


class Variety:
    """Watches one run."""

    def __init__(self, plan: Plan, tell: Tell, stop: Callable[[], None]):
        """`tell` says something to those who watch; `stop` winds the run up."""
        self._does = plan.settings.on_collapse
        self._tell = tell
        self._stop = stop
        self._attributes = plan.attributes
        real = _reference(plan)
        self._field = real.field
        self._measured = next(iter(plan.attributes.plan), "")
        self._counts: Counter[tuple[str, str]] = Counter()
        planned = plan.attributes.plan.get(self._measured)
        self._watch = Watch(real.texts, same_kind=real.same_kind, planned=planned)
        self._phrases = Phrases()
        self._reading: asyncio.Task[None] | None = None
        self._light = "green"
        self._new = False
        self._remark = "" if real.same_kind else _remark(plan)
        self.latest: Reading | None = None
        """The last one, be it of an earlier session that was read again."""
        self.readings: list[Reading] = []
        """What was read and is not yet written down."""

    def refeed(self, fed: Iterable[tuple[Candidate, Json, str]], of: int) -> None:
        """Take in what earlier sessions accepted, in its order: `of` so many, of a long run the first.

        Each comes with its inputs and its seed's text. A long run goes on as if nothing had come after
        its beginning, which is all that drift is measured by.
        """
        if of <= REFED:
            last = self._watch.refeed(self._taken(*one) for one in fed)
            self._light = last.light if last else "green"
            self.latest = last
            return
        for one in islice(fed, BEGINNING):
            text, beside, stratum = self._taken(*one)
            self._watch.add(text, beside=beside, stratum=stratum)

    def accepted(self, candidate: Candidate, inputs: Json, known: str) -> None:
        """Take in an accepted candidate with its inputs; `known` is the text that it was made from."""
        self._new = True
        text, beside, stratum = self._taken(candidate, inputs, known)
        self._read(self._watch.add(text, beside=beside, stratum=stratum))

    def turned_away(self) -> None:
        """Take note that a good text was refused as a copy."""
        self._read(self._watch.turn_away())

    async def end(self) -> None:
        """Read what is left, and the run as a whole."""
        if self._reading is not None:
            await self._reading
        if self._new and self._watch.summary()["batches"]:
            self.latest = await asyncio.to_thread(self._watch.whole)
            self.readings.append(self.latest)

    @property
    def avoid(self) -> tuple[str, ...]:
        """Phrases that steering has the generator avoid."""
        return tuple(self._phrases.overused()) if self._steers else ()

    @property
    def under(self) -> dict[str, dict[str, float]]:
        """Attribute → value → weight, of what steering wants more of."""
        if not self._steers:
            return {}
        wanted = {}
        for name, shares in self._attributes.plan.items():
            had = {value: self._counts[name, value] for value in shares}
            if short := under_covered(had, shares):
                wanted[name] = {value: shares[value] for value in short}
        return wanted

    @property
    def _steers(self) -> bool:
        return self._does == "steer" and self._light != "green"

    def _taken(self, candidate: Candidate, inputs: Json, known: str) -> tuple[str, str, str]:
        """Count phrases and strata; return what was written, its part beside real text, its stratum."""
        text = candidate.written()
        self._phrases.add(text, known)
        beside = getattr(candidate, self._field) or "" if self._field else text
        return text, beside, self._stratum(inputs)

    def _stratum(self, inputs: Json) -> str:
        """Count an item's attributes; return the one whose spread is measured: the first planned."""
        drawn = stratum_of(inputs)
        self._counts.update(drawn.items())
        return drawn.get(self._measured, "")

    def _read(self, batch: Any) -> None:
        if batch is None:
            return
        before = self._reading

        async def read() -> None:
            if before is not None:
                await before
            self._note(await asyncio.to_thread(self._watch.read, batch))

        self._reading = asyncio.create_task(read())

    def _note(self, reading: Reading) -> None:
        self.latest = reading
        self.readings.append(reading)
        if self._remark:
            self._tell(self._remark)
            self._remark = ""
        if reading.light != "green":
            self._tell(f"variety {reading.light}: {'; '.join(reading.reasons)}")
        elif self._light != "green":
            self._tell("variety green again")
        self._light = reading.light
        if reading.light == "red" and self._does == "stop":
            self._stop()


def _reference(plan: Plan) -> _Real:
    """Return real texts to compare with, and what of a candidate is compared with them."""
    settings, recipe = plan.settings, plan.found.recipe
    if settings.reference:
        path, _, name = settings.reference.partition("#")
        read = read_texts(path, name)
        texts = [text.text for text, _ in zip(read, range(REFERENCE), strict=False)]
        return _beside(texts, name, recipe.candidate, meant=True)
    ours, theirs = recipe.likened
    fields = [theirs] if theirs else list(recipe.reads[:1])
    texts = []
    for seed in plan.seeds if fields else ():
        if len(texts) == REFERENCE:
            break
        texts += [str(seed.fields[field]) for field in fields if field in seed.fields]
    return _beside(texts, ours, recipe.candidate, meant=bool(theirs))


def _beside(texts: list[str], name: str, kind: type[Candidate], meant: bool) -> _Real:
    """Compare texts with a candidate's text of this name, else with all that is written.

    They are `meant` to be of its kind; all of several fields is of another.
    """
    own = name in _texts(kind)
    return _Real(
        texts or None, name if own else "", meant and (own or len(asked_fields(kind)) == 1)
    )


def _texts(kind: type[Candidate]) -> list[str]:
    """Return the fields that hold one text that a model writes."""
    return [f for f in asked_fields(kind) if kind.model_fields[f].annotation in (str, str | None)]


def _remark(plan: Plan) -> str:
    """Say why a reference of the user's choice cannot alarm, and how one would."""
    path = plan.settings.reference.partition("#")[0]
    named = ", ".join(f"`{path}#{name}`" for name in _texts(plan.found.recipe.candidate))
    return path and (
        f"variety: `{plan.settings.reference}` is compared with all that a candidate holds, which is of"
        f" another kind, and never alarms; name the texts of one of its fields: {named}"
    )
