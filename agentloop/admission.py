"""Admission: the serial door before the store.

Enters: an item that its graph has finished, in the order of finishing. Leaves: its final verdict. An
accepted one is no copy of one already in, nor nearly; it repeats no text that a model shall be tested
with; enough of its kind come from real text; and the target is not yet met. Refuses to know: models,
graphs, where the texts lie.

One place, no concurrency: two twins that finish together cannot both pass. The order is by price, and
so that the reason named is the one that a person would mend first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agentloop.checks.quotes import normalise
from agentloop.novelty.contamination import Contamination
from agentloop.novelty.near import Near
from agentloop.records import Json, Reason, Verdict, digest


class Known(Protocol):
    """Texts that an item must not come near."""

    def nearest(self, text: str) -> Near | None:
        """Return a text that is near, or None."""


class Index(Known, Protocol):
    """Texts by item, and the nearest of them: `NearIndex`, `SemanticIndex`."""

    def add(self, item: str, text: str) -> None:
        """Hold one more text."""


class Earlier(Protocol):
    """What earlier sessions have accepted: `store.names.Fingerprints`."""

    def __len__(self) -> int:
        """Return how many fingerprints there are."""

    def get(self, print_: str) -> str | None:
        """Return the item of a fingerprint, or None."""


@dataclass(frozen=True)
class Rules:
    """What an accepted item must be besides good."""

    target: int | None = None
    real_share: float = 0.0
    """At least this share of the accepted items is made from a seed that people wrote."""
    full: Callable[[Json], str] = lambda _: ""
    """Why one more item with such inputs is too many; nothing where it is not."""
    contamination: Contamination | None = None
    indexes: Sequence[Known] = ()
    """Of what was accepted, and of what is to stay apart from it."""
    growing: Sequence[Index] = field(default=())
    """Those of `indexes` that take in what is accepted."""


@dataclass(frozen=True)
class Applicant:
    """A finished item, as the door sees it."""

    item: str
    messages: Sequence[dict[str, str]] = ()
    text: str = ""
    """What must be new about it."""
    parts: Sequence[str] = ()
    """Every text of it besides its messages."""
    real: bool = True
    """Whether its seed was written by people."""
    inputs: Json = field(default_factory=dict)


def fingerprint(messages: Sequence[dict[str, str]]) -> str:
    """Return the hash of a conversation without regard to case, spacing and kind of quotes."""
    return digest("\0".join(f"{m['role']}:{normalise(m['content'])}" for m in messages), 8)


class Admission:
    """Knows what was accepted, and how many may be."""

    def __init__(
        self,
        rules: Rules,
        accepted: Iterable[tuple[str, str]] = (),
        made: int = 0,
        earlier: Earlier | None = None,
    ):
        """`accepted` are fingerprint and name of what is in, and so are those of `earlier` sessions.

        `made` of them come from no real seed.
        """
        self._rules = rules
        self._known = dict(accepted)
        self._earlier = earlier
        self._made = made
        self.accepted = len(self._known) + (len(earlier) if earlier else 0)

    def admit(self, applicant: Applicant, verdict: Verdict) -> tuple[Verdict, str]:
        """Return the final verdict and the fingerprint that it was admitted under."""
        if verdict.verdict != "accepted":
            return verdict, ""
        print_ = fingerprint(applicant.messages)
        if refused := self._refused(applicant, print_):
            reason, detail = refused
            update = {"verdict": "rejected", "reason": reason, "detail": detail}
            return verdict.model_copy(update=update), print_
        self._known[print_] = applicant.item
        self.accepted += 1
        for index in self._rules.growing:
            index.add(applicant.item, applicant.text)
        self._made += not applicant.real
        return verdict, print_

    def has_room(self, made: int = 0) -> bool:
        """Whether an item of a made seed may be accepted, and so many more of them before it."""
        real, all_in = self.accepted - self._made, self.accepted + made + 1
        return real >= round(self._rules.real_share * all_in, 9)  # 0.07 × 100 is above 7

    @property
    def crowded(self) -> str:
        """Why an item of a made seed has no room."""
        share = f"{self._rules.real_share:.0%}"
        return f"{share} of what is accepted must come from people's own text"

    def _refused(self, applicant: Applicant, print_: str) -> tuple[Reason, str] | None:
        rules = self._rules
        if why := rules.full(applicant.inputs):
            return "over_quota", why
        if rules.contamination is not None:
            said = [message["content"] for message in applicant.messages]
            parts = (*said, *applicant.parts, applicant.text)
            if (found := rules.contamination.find("\n".join(said), parts)) is not None:
                return "contaminated", str(found)
        twin = self._known.get(print_) or (self._earlier and self._earlier.get(print_))
        if twin and twin != applicant.item:
            return "duplicate", f"the same as item {twin}"
        for index in rules.indexes:
            near = index.nearest(applicant.text)
            if near and near.item != applicant.item:  # an index may know more than the store
                return "too_similar", f"{near.measure} {near.similarity:.2f} with {near.item}"
        if not applicant.real and not self.has_room():
            return "over_quota", self.crowded
        if rules.target is not None and self.accepted >= rules.target:
            return "over_target", "good, but the target was reached"
        return None
