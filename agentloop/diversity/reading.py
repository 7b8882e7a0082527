"""What a watch says of a batch: records and the words in which they are shown.

Enters: figures and bands. Leaves: `Comparison`, `Reading`, sentences. Refuses to know: how lights
follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from agentloop.diversity.band import Band
from agentloop.diversity.collapse import Loss, Sign
from agentloop.diversity.measures import Figures
from agentloop.records import Record

Light: TypeAlias = Literal["green", "amber", "red"]
Source: TypeAlias = Literal["reference", "first batches", "itself"]

LIGHTS: tuple[Light, ...] = ("green", "amber", "red")

_WORDS = {
    "compression_ratio": "the texts compress {0}-fold",
    "distinct_2": "{0} of the word pairs are different",
    "entropy": "a word carries {0} bits",
    "self_repetition": "{0} of the 5-word phrases stand in several texts",
    "opening_share": "{0} of the last {1} begin with the same words",
    "neighbour_similarity": "a text is {0} like its nearest neighbour",
    "vendi": "the last {1} texts are worth {0} different ones",
    "tail_coverage": "{0} of the rare words are reached",
}
_SHARES = ("distinct_2", "self_repetition", "opening_share", "tail_coverage")


class Comparison(Record):
    """A figure beside its band, both at the band's number of texts and tokens."""

    source: Source
    value: float
    band: Band
    loss: Loss


class Reading(Record):
    """A batch, or a whole run so far, measured and judged."""

    view: Literal["batch", "run"]
    number: int
    """Of the batch, from 1; of a run, how many batches it has so far."""
    light: Light
    lights: dict[Source, Light]
    """By what the texts were compared with; `itself` is certain collapse whatever the kind."""
    reasons: tuple[str, ...]
    """Why it is not green."""
    notes: tuple[str, ...]
    """What could not be compared, and what lies outside a band for the first time."""
    figures: Figures
    compared: tuple[Comparison, ...]
    another_kind: Figures | None = None
    """The reference's own figures at as many tokens, where it is of another kind: only shown."""
    turned_away: int = 0
    """Good candidates refused as copies meanwhile."""


Outside: TypeAlias = Mapping[tuple[Source, str], Loss]
"""What lay outside, and how far, to be remembered until the next batch."""


def judge(
    found: Sequence[Comparison], seen: Sequence[Sign], before: Outside
) -> tuple[dict[Source, Light], list[str]]:
    """Return the light of each source and the reasons, given what lay outside a batch earlier."""
    lights: dict[Source, Light] = {"itself": "green"}
    reasons = []
    for sign in seen:
        light = _light(sign.loss, before.get(("itself", sign.figure), "none"))
        lights["itself"] = worst([lights["itself"], light])
        reasons += [sign.words] if light != "green" else []
    for one in found:
        earlier = before.get((one.source, one.band.figure), "none")
        judged = _drifted if one.source == "first batches" else _light
        light = judged(one.loss, earlier)
        lights[one.source] = worst([lights.get(one.source, "green"), light])
        reasons += [sentence(one)] if light != "green" else []
    return lights, reasons


def outside(found: Sequence[Comparison], seen: Sequence[Sign]) -> Outside:
    """Return what lies outside its band or is suspicious."""
    mine: Outside = {("itself", sign.figure): sign.loss for sign in seen}
    beside: Outside = {(one.source, one.band.figure): one.loss for one in found}
    return {name: loss for name, loss in {**mine, **beside}.items() if loss != "none"}


def worst(lights: Iterable[Light]) -> Light:
    """Return the worst of some lights."""
    return max(lights, key=LIGHTS.index, default="green")


def sentence(found: Comparison) -> str:
    """Return a comparison in words, with the central 95 % of what it is compared with."""
    name, band = found.band.figure, found.band
    said = _WORDS[name].format(_shown(name, found.value), band.texts)
    real = found.source == "reference"
    beside = "real text of this kind" if real else "this run's first texts"
    return f"{said}; {beside}: {_shown(name, band.low)}–{_shown(name, band.high)}"


def _light(loss: Loss, earlier: Loss) -> Light:
    """Judge what is certain at once, and what is not when it comes twice in a row."""
    if loss == "far":
        return "red"
    return "amber" if loss == "outside" and earlier != "none" else "green"


def _drifted(loss: Loss, earlier: Loss) -> Light:
    """Judge two batches in a row: one odd batch is no drift."""
    if "none" in (loss, earlier):
        return "green"
    return "red" if loss == earlier == "far" else "amber"


def _shown(figure: str, value: float) -> str:
    if figure not in _SHARES:
        return f"{value:.2f}" if value < 100 else f"{value:.0f}"
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"
