"""Calibration: a critic grades what people have labelled, and is measured by them.

    report = agentloop.calibrate.calibrate("grounded_qa", "labels.jsonl", store="qa.duckdb")

Enters: a recipe, a labels file, settings in the words of a run. Leaves: a `CalibrationReport`, also as a
row of the store; every call journaled, so that a second start pays for what is new only. Refuses to
know: the generator, graphs, how the figures are computed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentloop.agents import Agents
from agentloop.asking import all_of
from agentloop.calibration import TARGET
from agentloop.calibration_report import CalibrationReport
from agentloop.checks import run_checks
from agentloop.config import Settings, load_settings
from agentloop.errors import ReplyError, SettingsError
from agentloop.labels import Labelled, read_labels
from agentloop.measures import Outcome, figures
from agentloop.models.budget import Budget
from agentloop.models.channel import Channel, Endpoint, RoleSettings
from agentloop.plan import judge_identity
from agentloop.recipe import Kit, Recipe
from agentloop.recipes import FoundRecipe, find_recipe
from agentloop.records import Candidate, Json
from agentloop.roles import open_endpoints, role_identity, role_settings
from agentloop.rows import calibration_line
from agentloop.store import read_spending
from agentloop.store.journal import RunJournal
from agentloop.store.writer import Writer
from agentloop.verdicts import failure, reply_reason

REPEATED = 50  # items that are graded again to see how the judge varies

Note = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """Everything that is decided before the first call; nothing is written yet."""

    kit: Kit
    settings: Settings
    labels: Sequence[Labelled]
    seen: int
    """Words in the labels file that were given after a grade was seen, and count for nothing."""
    store: Path
    endpoint: Endpoint
    role: RoleSettings
    judge: Json
    width: int
    target: float
    repeats: int

    @property
    def name(self) -> str:
        """What its calls are journaled under: one name a critic, so that rubrics share replies."""
        return f"calibration:{self.endpoint.name}"


def calibrate(
    recipe: str | Recipe | FoundRecipe,
    labels: str | Path,
    *,
    target: float = TARGET,
    repeats: int = 0,
    note: Note = lambda _: None,
    **settings: Any,
) -> CalibrationReport:
    """Let the critic grade labelled items, and return how it stands beside people.

    `target` is the precision that a threshold is to promise; `repeats` says how often up to 50 items
    are graded again. `settings` are those of a run. Raises UserError before any call; AccessError,
    UnreachableError or BudgetReached from the endpoint: what was graded stays in the store.
    """
    job = prepare(recipe, labels, load_settings(_for_critic(settings)), target, repeats)
    return asyncio.run(play(job, note))


def _for_critic(given: Mapping[str, Any]) -> Json:
    """Return settings whose base URL is the critic's: no other model is asked here."""
    kept = {key: value for key, value in given.items() if key != "base_url"}
    if given.get("base_url") is None:
        return kept
    roles = dict(kept.get("roles", {}))
    roles["critic"] = {"base_url": given["base_url"]} | dict(roles.get("critic", {}))
    return {**kept, "roles": roles}


def prepare(
    recipe: str | Recipe | FoundRecipe,
    labels: str | Path,
    settings: Settings,
    target: float = TARGET,
    repeats: int = 0,
) -> Job:
    """Check everything that can be checked without a call. Raises UserError."""
    if settings.store is None:
        raise SettingsError("no store is named: `--store FILE.duckdb`")
    if not 0 < target < 1:
        raise SettingsError(f"`target`: must lie between 0 and 1 (got `{target:g}`)")
    if repeats < 0:
        raise SettingsError(f"`repeats`: must be 0 or more (got `{repeats}`)")
    found = find_recipe(recipe)
    kit = found.recipe.load(settings.rubric, *([settings.prompts] if settings.prompts else []))
    read, seen = read_labels(labels, kit)
    own = settings.role("critic")
    endpoints, width = open_endpoints(settings, {"critic": own})
    endpoint = endpoints["critic"]
    if settings.budget_usd is not None:
        endpoint.known_price()
    role = role_settings(own, "critic", endpoint)
    return Job(
        kit=kit,
        settings=settings,
        labels=read,
        seen=seen,
        store=settings.store,
        endpoint=endpoint,
        role=role,
        judge=judge_identity(kit, role_identity(own, "critic", endpoint)),
        width=width,
        target=target,
        repeats=repeats,
    )


async def play(job: Job, note: Note = lambda _: None) -> CalibrationReport:
    """Grade, measure, and write the report into the store."""
    fresh, written = not job.store.exists(), False
    job.endpoint.note = job.endpoint.limits.note = note
    if job.seen:
        note(f"{job.seen:,} labels left out: given after the grade was seen")
    writer = Writer(job.store)
    journal = RunJournal(writer, job.name)
    try:
        grading = Grading(job, journal, _take_up(job, writer, journal), note)
        await grading.all()
        report = grading.report()
        writer.append(calibration_line(report, writer.row_id()))
        written = True
    finally:
        await job.endpoint.limits.model.aclose()
        writer.close(discard=fresh and journal.silent and not written)
    return report


def _take_up(job: Job, writer: Writer, journal: RunJournal) -> Budget | None:
    """Load what was paid for already; return what is left to spend, where there is a budget."""
    with writer.reading() as connection:
        journal.load(connection, [label.item for label in job.labels])
        spent = read_spending(connection, job.name)
    if job.settings.budget_usd is None:
        return None
    if spent["cost_usd"] is None:
        raise SettingsError(
            f"`{job.store}` holds calibrating calls of unknown cost, so that no budget can be kept: "
            "calibrate in another store"
        )
    return Budget(job.settings.budget_usd, spent["cost_usd"] + spent["unsettled_usd"])


class Grading:
    """The labelled items on their way past checks and critic."""

    def __init__(self, job: Job, journal: RunJournal, budget: Budget | None, note: Note):
        self._job = job
        self._note = note
        critic = Channel("critic", job.endpoint, journal, job.role, job.settings.seed, budget)
        self._channels = {"critic": critic}
        self._outcomes: dict[str, Outcome] = {}
        self._again: dict[str, list[Outcome]] = {}
        self._abstained: Counter[str] = Counter()
        self._done = 0

    async def all(self) -> None:
        """Grade every item that people agree on, then a sample of them again."""
        clear = [label for label in self._job.labels if label.good is not None]
        self._note(f"{self._job.endpoint.name} grades {len(clear)} labelled items")
        await self._work([(label, 0) for label in clear])
        graded = [label for label in clear if label.item in self._outcomes]
        sample = sorted(graded, key=lambda label: label.item)[:REPEATED]
        again = [(label, n + 1) for label in sample for n in range(self._job.repeats)]
        await self._work([(label, n) for label, n in again if self._scored(label)])

    def _scored(self, label: Labelled) -> bool:
        return self._outcomes[label.item].score is not None

    async def _work(self, tasks: Sequence[tuple[Labelled, int]]) -> None:
        """Work tasks off, so many at once; after an error those begun still come home."""
        todo, self._done = deque(tasks), 0

        async def worker() -> None:
            while todo:
                label, sample = todo.popleft()
                try:
                    await self._one(label, sample)
                except BaseException:
                    todo.clear()
                    raise
                self._tell(len(tasks))

        await all_of([worker() for _ in range(min(self._job.width, len(tasks)))])

    def _tell(self, total: int) -> None:
        """Say how far it is, ten times."""
        before, self._done = self._done, self._done + 1
        if 10 * before // total < 10 * self._done // total and total >= 10:
            self._note(f"{self._done} of {total} graded")

    async def _one(self, label: Labelled, sample: int) -> None:
        try:
            outcome = await self._grade(label, sample)
        except ReplyError as error:
            reason = reply_reason(error)
        except Exception as error:
            reason = failure(error)["reason"]
        else:
            if sample:
                self._again.setdefault(label.item, []).append(outcome)
            else:
                self._outcomes[label.item] = outcome
            return
        if not sample:
            self._abstained[reason] += 1

    async def _grade(self, label: Labelled, sample: int) -> Outcome:
        kit, good = self._job.kit, bool(label.good)
        words = _words(kit.recipe.candidate, label)
        results = await run_checks(kit.checks, label.candidate, label.seed)
        if any(result.veto and not result.passed for result in results):
            return Outcome(label, good, refused=True, words=words)
        agents = Agents(
            label.item,
            self._channels,
            kit.prompts,
            kit.rubric,
            kit.recipe.candidate,
            kit.checks,
            sample=sample,
        )
        own = await agents.write_criteria(label.seed) if kit.rubric.per_item else ()
        grade = await agents.grade(label.seed, label.candidate, 0, results, own)
        reason, _ = kit.rubric.with_criteria(own).decide(grade)
        refused = reason not in (None, "below_threshold")
        return Outcome(label, good, grade.score, refused, grade.marks, words)

    def report(self) -> CalibrationReport:
        """Return what was measured."""
        job, at = self._job, self._job.kit.rubric.accept_at
        labels, rubric = job.labels, job.kit.rubric
        outcomes = [o for label in labels if (o := self._outcomes.get(label.item)) is not None]
        repeats = [
            tuple(o.accepted(at) for o in (self._outcomes[item], *again))
            for item, again in self._again.items()
        ]
        return CalibrationReport(
            rubric=rubric.hash,
            rubric_name=rubric.name,
            critic=job.endpoint.name,
            judge=job.judge,
            time=time.time(),
            annotations=sum(len(label.annotations) for label in labels),
            annotators=len({a.annotator for label in labels for a in label.annotations}),
            disputed=sum(label.good is None for label in labels),
            abstained=dict(sorted(self._abstained.items())),
            repeats=job.repeats,
            **figures(outcomes, labels, repeats, rubric, job.target),
        )


def _words(kind: type[Candidate], label: Labelled) -> int:
    """Return the length of the answer that a trainer would read."""
    messages = kind.model_validate(label.candidate).messages(label.seed)
    return len(messages[-1]["content"].split())
