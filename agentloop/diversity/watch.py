"""The watch over a run's accepted texts: batch by batch, green, amber or red.

Enters: a reference, or none; the accepted texts, one by one. Leaves: a `Batch` when one is full,
and for each batch a `Reading`. Refuses to know: the run, the store, what is done about an alarm.

    watch = Watch(questions, same_kind=True)
    for text in accepted:
        if batch := watch.add(text):
            reading = watch.read(batch)         # may run in another thread
            print(reading.light, *reading.reasons)
    print(watch.whole())

A batch is compared with three things: (a) the reference, which alarms only where it is of the same
kind as the texts, or as the part of them that is named `beside` it, and else is shown beside the whole
run alone; (b) the run's own first 200
texts: drift; (c) nothing: copies, one opening, one frame, variations of a few texts, which is called
`itself`. Of (a) a figure outside 99.9 % is red at once, outside 95 % twice in a row amber; of (b)
outside 99.9 % twice in a row is red, outside 95 % twice in a row amber, for one odd batch is no
drift; of (c) what is certain is red, what is suspicious twice in a row amber. Only losses of
diversity alarm. Texts are taken to come in no order: a run whose
seeds are sorted by topic drifts.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agentloop.diversity.band import ENOUGH, LOSS, bands, common_size, compared
from agentloop.diversity.collapse import Sign, copies_sign, excused, signs, turned_away_sign
from agentloop.diversity.corpus import Corpus
from agentloop.diversity.measures import LARGE, SMALL, Figures, measure
from agentloop.diversity.reading import (
    LIGHTS,
    Comparison,
    Light,
    Outside,
    Reading,
    Source,
    judge,
    outside,
    worst,
)
from agentloop.diversity.reference import Reference
from agentloop.diversity.similarity import near_copies
from agentloop.diversity.stream import Batch, Stream
from agentloop.records import Json

WINDOW = 200  # texts in which copies are counted
WHOLE = 24_000  # tokens at which a whole run is compared: bands at 60,000 take 8 s


@dataclass(frozen=True)
class _Against:
    """Texts to compare with."""

    source: Source
    reference: Reference

    @property
    def notes(self) -> list[str]:
        """Say why there is no band."""
        if (count := len(self.reference)) >= ENOUGH:
            return []
        return [f"no band: the {self.source} holds {count} texts, {ENOUGH} are needed"]

    def compare(self, corpus: Corpus, budget: int) -> list[Comparison]:
        """Return every figure that may alarm beside its band; none without enough text."""
        if len(self.reference) < ENOUGH or not corpus.tokens:
            return []
        size = common_size(corpus, self.reference, budget)
        values, known = compared(corpus, self.reference, size), bands(self.reference, size)
        return [
            Comparison(
                source=self.source,
                value=values[name],
                band=known[name],
                loss=known[name].loss(values[name]),
            )
            for name in LOSS
            if name in values and name in known
        ]


@dataclass(frozen=True)
class _View:
    """Texts to be judged."""

    view: Literal["batch", "run"]
    number: int
    corpus: Corpus
    beside: Corpus
    """What of the texts is compared with the reference; the same corpus where that is all."""
    strata: Mapping[str, int]
    turned_away: int

    @property
    def budgets(self) -> tuple[int, int]:
        """Tokens that are measured, and those that are compared."""
        return (LARGE, WHOLE) if self.view == "run" else (SMALL, SMALL)

    def excuses(self, figures: frozenset[str]) -> frozenset[str]:
        """Return which signs are none because real text of the kind shows them as well.

        A part of a text excuses no more than how the text begins.
        """
        if self.beside is self.corpus:
            return figures
        begins = self.beside.openings == self.corpus.openings
        return figures & {"opening_share"} if begins else frozenset()


class Watch:
    """Takes accepted texts, cuts batches, reads them.

    `add`, `turn_away` and `refeed` are for one thread; `read` and `whole` may run in others, one at a
    time. Watches that share a `Reference` share its bands. `planned` says how texts should spread over
    strata, in any unit.
    """

    def __init__(
        self,
        reference: Sequence[str] | Reference | None = None,
        *,
        same_kind: bool,
        batch: int | None = None,
        planned: Mapping[str, float] | None = None,
    ):
        self._stream, self._planned = Stream(batch), planned
        if not isinstance(reference, Reference):
            reference = Reference(reference) if reference else None
        self._reference = reference
        self._against: list[_Against] = []
        self._same_kind = same_kind
        if self._reference and same_kind:
            self._against.append(_Against("reference", self._reference))
        self._excused = (
            excused(self._reference.corpus) if self._reference and same_kind else frozenset()
        )
        self._own: _Against | None = None
        self._lock = threading.Lock()
        self._copies: deque[bool] = deque(maxlen=max(WINDOW, batch or 0))
        self._before: tuple[int, Outside] = (0, {})
        self._lights: Counter[Light] = Counter()
        self._last: Reading | None = None

    def add(self, text: str, *, beside: str | None = None, stratum: str = "") -> Batch | None:
        """Take an accepted text; return the batch that it fills, to be read.

        `beside` is the part of it that is compared with the reference; by default all.
        """
        return self._stream.add(text, text if beside is None else beside, stratum)

    def turn_away(self) -> Batch | None:
        """Count a good candidate that was refused as a copy; return the batch that it ends."""
        return self._stream.turn_away()

    def refeed(self, texts: Iterable[tuple[str, str, str]]) -> Reading | None:
        """Take in what a resumed run has accepted, as (text, beside, stratum); return the last reading.

        Only the last two batches are read: the next light depends on no more.
        """
        recent: deque[Batch] = deque(maxlen=2)
        for text, beside, stratum in texts:
            if batch := self._stream.add(text, beside, stratum):
                recent.append(batch)
        readings = [self.read(batch) for batch in recent]
        return readings[-1] if readings else None

    def read(self, batch: Batch) -> Reading:
        """Measure and judge a batch; batches are read in their order."""
        with self._lock:
            corpus, beside = _corpora(batch.texts, batch.beside)
            number, before = self._before
            before = before if number == batch.number - 1 else {}
            seen = [*signs(corpus), self._copied(batch, corpus)]
            if batch.turned_away:
                seen.append(turned_away_sign(batch.turned_away, len(corpus)))
            against, notes = self._drift(batch.number)
            strata, away = batch.strata, batch.turned_away
            view = _View("batch", batch.number, corpus, beside, strata, away)
            reading, now = self._judged(view, against, seen, before)
            self._before = batch.number, now
            reading = reading.model_copy(update={"notes": (*reading.notes, *notes)})
            self._lights[reading.light] += 1
            self._last = reading
            return reading

    def whole(self) -> Reading:
        """Measure all accepted texts so far, at 60,000 tokens of an even sample; judge them at 24,000.

        Without the run's own beginning, which is part of it, and what is suspicious is amber at once.
        """
        with self._lock:
            stream = self._stream
            texts, parts = zip(*stream.sample, strict=True) if stream.sample else ((), ())
            corpus, beside = _corpora(texts, parts)
            near = round(sum(near_copies(corpus)) / max(1, len(corpus)) * stream.texts)
            seen = [*signs(corpus), copies_sign(max(near, stream.repeats), stream.texts)]
            if stream.turned_away:
                seen.append(turned_away_sign(stream.turned_away, stream.texts))
            suspicious: Outside = {("itself", sign.figure): sign.loss for sign in seen}
            strata, away = dict(stream.strata), stream.turned_away
            view = _View("run", stream.batches, corpus, beside, strata, away)
            return self._judged(view, [], seen, suspicious)[0]

    def summary(self) -> Json:
        """Return counts, how often each light was lit, and the last reading, as plain JSON."""
        with self._lock:
            return {
                "texts": self._stream.texts,
                "batches": self._stream.batches,
                "repeats": self._stream.repeats,
                "turned_away": self._stream.turned_away,
                "light": worst(self._lights),
                "lights": {light: self._lights[light] for light in LIGHTS},
                "last": self._last.model_dump(mode="json") if self._last else None,
            }

    def _judged(
        self, view: _View, drift: list[_Against], seen: list[Sign], before: Outside
    ) -> tuple[Reading, Outside]:
        """Return the reading of a view and what lies outside, to be remembered."""
        seen = [sign for sign in seen if sign.figure not in view.excuses(self._excused)]
        measured, budget = view.budgets
        found = [one for a in self._against for one in a.compare(view.beside, budget)]
        found += [one for a in drift for one in a.compare(view.corpus, budget)]
        lights, reasons = judge(found, seen, before)
        figures = measure(
            view.corpus,
            budget_tokens=measured,
            reference=self._reference,
            beside=view.beside,
            strata=view.strata,
            planned=self._planned,
        )
        reading = Reading(
            view=view.view,
            number=view.number,
            light=worst(lights.values()),
            lights=lights,
            reasons=tuple(reasons),
            notes=(*(note for a in self._against for note in a.notes), *self._other_kind),
            another_kind=self._shown(view),
            figures=figures,
            compared=tuple(found),
            turned_away=view.turned_away,
        )
        return reading, outside(found, seen)

    @property
    def _other_kind(self) -> list[str]:
        """Say that the reference raises no alarm."""
        other = self._reference is not None and not self._same_kind
        return ["the reference is of another kind: it is shown and never alarms"] if other else []

    def _shown(self, view: _View) -> Figures | None:
        """Return the figures of a reference of another kind, for a whole run."""
        if self._reference is None or self._same_kind or view.view != "run":
            return None
        return measure(self._reference.corpus, budget_tokens=min(LARGE, view.corpus.tokens))

    def _drift(self, number: int) -> tuple[list[_Against], list[str]]:
        """Return the run's own beginning to compare a later batch with, or why there is none."""
        first, batches = self._stream.first, self._stream.first_batches
        if not first or number <= batches:
            return [], [f"no drift is measured within the first {ENOUGH} texts"]
        if self._own is None:
            self._own = _Against("first batches", Reference(first))
        return [self._own], []

    def _copied(self, batch: Batch, corpus: Corpus) -> Sign:
        """Count the copies among the last texts."""
        near = near_copies(corpus)
        near += [False] * (len(corpus) - len(near))
        self._copies.extend(a or b for a, b in zip(near, batch.repeats, strict=True))
        return copies_sign(sum(self._copies), len(self._copies))


def _corpora(texts: Sequence[str], beside: Sequence[str]) -> tuple[Corpus, Corpus]:
    """Return the corpora of texts and of their parts beside a reference; one where those are all."""
    corpus = Corpus(texts)
    return corpus, corpus if beside == texts else Corpus(beside)
