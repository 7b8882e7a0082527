"""The run's watch on variety: it reads what is accepted batch by batch, warns, steers or stops.

Enters: accepted texts, and that good ones were refused as copies. Leaves: readings for the store, a note
when the light changes, phrases and strata for those who draw. Refuses to know: figures, graphs, models.

A batch is measured in a thread, beside the calls: the items meanwhile are drawn as before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from agentloop.attributes import stratum_of
from agentloop.diversity.phrases import Phrases, under_covered
from agentloop.diversity.reading import Reading
from agentloop.diversity.watch import Watch
from agentloop.novelty.contamination import read_texts
from agentloop.plan import Plan
from agentloop.records import Json

REFED = 20_000  # accepted items of earlier sessions, at most, that are read again
REFERENCE = 5_000  # texts

Tell = Callable[[str], None]


class Variety:
    """Watches one run."""

    def __init__(self, plan: Plan, tell: Tell, stop: Callable[[], None]):
        """`tell` says something to those who watch; `stop` winds the run up."""
        self._does = plan.settings.on_collapse
        self._tell = tell
        self._stop = stop
        self._attributes = plan.attributes
        reference, alike = _reference(plan)
        self._measured = next(iter(plan.attributes.plan), "")
        self._counts: Counter[tuple[str, str]] = Counter()
        planned = plan.attributes.plan.get(self._measured)
        self._watch = Watch(reference, same_kind=alike, planned=planned)
        self._phrases = Phrases()
        self._reading: asyncio.Task[None] | None = None
        self._light = "green"
        self._new = False
        self.readings: list[Reading] = []
        """What was read and is not yet written down."""

    def refeed(self, texts: Iterable[tuple[str, Json, str]]) -> None:
        """Take in texts of earlier sessions, each with its inputs and its seed's text."""
        fed = []
        for text, inputs, known in texts:
            self._phrases.add(text, known)
            fed.append((text, self._stratum(inputs)))
        if (last := self._watch.refeed(fed)) is not None:
            self._light = last.light

    def accepted(self, text: str, inputs: Json, known: str) -> None:
        """Take in an accepted text with its inputs; `known` is the text that it was made from."""
        self._new = True
        self._phrases.add(text, known)
        self._read(self._watch.add(text, stratum=self._stratum(inputs)))

    def turned_away(self) -> None:
        """Take note that a good text was refused as a copy."""
        self._read(self._watch.turn_away())

    async def end(self) -> None:
        """Read what is left, and the run as a whole."""
        if self._reading is not None:
            await self._reading
        if self._new and self._watch.summary()["batches"]:
            self.readings.append(await asyncio.to_thread(self._watch.whole))

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
        self.readings.append(reading)
        if reading.light != "green":
            self._tell(f"variety {reading.light}: {'; '.join(reading.reasons)}")
        elif self._light != "green":
            self._tell("variety green again")
        self._light = reading.light
        if reading.light == "red" and self._does == "stop":
            self._stop()


def _reference(plan: Plan) -> tuple[list[str] | None, bool]:
    """Return real texts to compare with, and whether they are of the kind that is made."""
    settings, recipe = plan.settings, plan.found.recipe
    if settings.reference:
        path, _, field = settings.reference.partition("#")
        texts = read_texts(path, field)
        return [text.text for text, _ in zip(texts, range(REFERENCE), strict=False)], True
    fields = [recipe.alike] if recipe.alike else list(recipe.reads[:1])
    found: list[str] = []
    for seed in plan.seeds:
        if len(found) == REFERENCE:
            break
        found += [str(seed.fields[field]) for field in fields if field in seed.fields]
    return found or None, bool(recipe.alike)
