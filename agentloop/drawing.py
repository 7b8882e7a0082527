"""Drawing: everything that an item takes from outside besides its seed, once, before its first call.

Enters: a plan, an item, what the run has accepted so far. Leaves: the item's `inputs`, which the store
keeps and a replay reads. Refuses to know: graphs, prompts, why anything was accepted.

    sample       which time the seed is used        generator    which of a mix writes it
    attributes   what it is to be like              verbalised   how many drafts, which is taken
    examples     people's and the run's own         avoid        worn-out phrases
    rounds       revisions it may have, where its stratum is a hard one
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping

from agentloop.attributes import Attributes, stratum_of
from agentloop.errors import SettingsError
from agentloop.novelty.lineage import mark
from agentloop.plan import Plan
from agentloop.records import Json, digest
from agentloop.store.resume import Owed

PEOPLE = 5000  # seeds that examples are drawn from
KEPT = 5000  # accepted items that examples are drawn from, the latest
PURE = 0.5  # of items are shown people's examples only: as others are modelled on them, depth is capped
HARD = 0.5  # of the run's acceptance rate: a stratum below it gets a round more
ENOUGH = 8  # settled items of a stratum, until it is called hard


class Strata:
    """What became of items, by the values of their attributes."""

    def __init__(self, attributes: Attributes, quota: str, accept: int | None):
        """Raises SettingsError for a quota of a number that nobody said."""
        if quota and accept is None:
            raise SettingsError(
                f"`quota`: the shares of `{quota}` are kept of the accepted items: say how many, as in "
                "`--accept 100`"
            )
        self._attributes = attributes
        self._quota = quota
        self._rooms = _rooms(attributes.plan[quota], accept) if quota and accept else {}
        self._settled: Counter[tuple[str, str]] = Counter()
        self._accepted: Counter[tuple[str, str]] = Counter()
        self._open: Counter[tuple[str, str]] = Counter()
        self._all = [0, 0]

    def begun(self, inputs: Json) -> None:
        """Count an item that is on its way."""
        self._open.update(stratum_of(inputs).items())

    def ended(self, inputs: Json, accepted: bool) -> None:
        """Count an item that was on its way and is settled."""
        self.left(inputs)
        self.settled(stratum_of(inputs), accepted)

    def settled(self, drawn: Mapping[str, str], accepted: bool, items: int = 1) -> None:
        """Count settled items that were drawn alike."""
        values = dict.fromkeys(drawn.items(), items)
        self._settled.update(values)
        self._all[0] += items
        if accepted:
            self._accepted.update(values)
            self._all[1] += items

    def left(self, inputs: Json) -> None:
        """Forget an item that was begun and left without a verdict."""
        self._open.subtract(list(stratum_of(inputs).items()))

    def full(self, inputs: Json) -> str:
        """Return why one more accepted item of this stratum is too many; empty where it is not."""
        value = stratum_of(inputs).get(self._quota)
        if value is None or not self._rooms:
            return ""
        room = self._rooms.get(value, 0)
        return (
            f"{room} items of {self._quota} `{value}` were planned"
            if (self._accepted[self._quota, value] >= room)
            else ""
        )

    def lacking(self) -> Mapping[str, Mapping[str, float]]:
        """Return the weights by which to draw so that every quota is met."""
        wanted = {}
        for value, room in self._rooms.items():
            at = (self._quota, value)
            missing = room - self._accepted[at]
            wanted[value] = max(0.0, missing / self._rate(at) - self._open[at])
        if not any(wanted.values()):
            return {}
        return {self._quota: {value: weight for value, weight in wanted.items() if weight}}

    def hard(self, inputs: Json) -> bool:
        """Whether items like this are accepted much more rarely than others: repair before rejecting."""
        overall = self._all[1] / self._all[0] if self._all[0] else 0.0
        return any(
            self._settled[at] >= ENOUGH and self._accepted[at] / self._settled[at] < HARD * overall
            for at in stratum_of(inputs).items()
        )

    def _rate(self, at: tuple[str, str]) -> float:
        """Return the share of such items that is accepted, by a cautious guess at first."""
        return (self._accepted[at] + 1) / (self._settled[at] + 2)


def _rooms(shares: Mapping[str, float], accept: int) -> dict[str, int]:
    """Return how many items of each value make up `accept`, by the largest remainder (Hamilton)."""
    wanted = {value: round(accept * share, 9) for value, share in shares.items()}
    rooms = {value: int(exact) for value, exact in wanted.items()}
    by_rest = sorted(wanted, key=lambda value: rooms[value] - wanted[value])
    for value in by_rest[: accept - sum(rooms.values())]:
        rooms[value] += 1
    return rooms


class Pool:
    """Examples that a draft may be modelled on: people's seeds, and the run's own accepted ones."""

    def __init__(self, people: int, own: int, seeds: Iterable[Json]):
        self._people = people
        self._own = own
        self._seeds: list[Json] = []
        for fields in seeds:
            if len(self._seeds) == PEOPLE:
                break
            self._seeds.append(fields)
        self._accepted: dict[str, tuple[Json, int]] = {}

    def add(self, item: str, candidate: Json, depth: int) -> None:
        """Take in an accepted item; `depth` is how many generations it is away from people."""
        self._accepted[item] = (candidate, depth)
        if len(self._accepted) > KEPT:
            del self._accepted[next(iter(self._accepted))]

    def draw(self, chance: random.Random, seed: Json) -> list[Json]:
        """Return examples, never the seed itself; people fill in for what the run has not made yet."""
        own: list[tuple[str, tuple[Json, int]]] = []
        if chance.random() >= PURE:
            own = chance.sample(list(self._accepted.items()), min(self._own, len(self._accepted)))
        others = [fields for fields in self._seeds if fields != seed]
        wanted = min(self._people + self._own - len(own), len(others))
        drawn = [
            {"fields": fields, "item": "", "depth": 0} for fields in chance.sample(others, wanted)
        ]
        drawn += [
            {"fields": candidate, "item": item, "depth": depth, **mark(item, depth)}
            for item, (candidate, depth) in own
        ]
        chance.shuffle(drawn)
        return drawn


class Drawer:
    """Draws inputs for a run."""

    def __init__(self, plan: Plan, strata: Strata, pool: Pool | None):
        self._plan = plan
        self._strata = strata
        self._pool = pool
        self.avoid: tuple[str, ...] = ()
        """Phrases that the run has worn out."""
        self.under: Mapping[str, Mapping[str, float]] = {}
        """Weights of strata that steering asks for, by attribute."""

    def draw(self, owed: Owed) -> Json:
        """Return an item's inputs."""
        plan, settings = self._plan, self._plan.settings
        seed = owed.seed.fields
        chance = random.Random(digest([settings.seed, owed.item, "inputs"], 8))
        inputs = plan.found.recipe.inputs(seed, owed.sample, settings.seed)
        if plan.mix:
            (inputs["generator"],) = chance.choices(list(plan.mix), list(plan.mix.values()))
        if plan.attributes.plan:
            lacking = {**self.under, **self._strata.lacking()}
            inputs["attributes"] = plan.attributes.draw(chance, lacking)
            if self._strata.hard(inputs) and plan.max_rounds:
                inputs["rounds"] = plan.max_rounds + 1
        if settings.verbalise:
            inputs["verbalised"] = {"among": settings.verbalise, "pick": chance.random()}
        if self._pool is not None and "examples" not in inputs:
            inputs["examples"] = self._pool.draw(chance, seed)
        if self.avoid:
            inputs["avoid"] = list(self.avoid)
        return inputs
