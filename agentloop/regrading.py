"""One start of a grading beside the run's own: workers, resume, signals.

Enters: a task. Leaves: grades and verdicts in the store, and how the start ended. Refuses to know: how
an attempt is graded (`grading`), what a task was made from (`regrade`).

A reply that the run or another grading has paid for answers the same question again: a rubric that
moves only thresholds, floors or weights costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agentloop.admission import Admission, Applicant, Rules
from agentloop.agents import Agents
from agentloop.config import Settings
from agentloop.crew import Crew
from agentloop.errors import (
    AgentloopError,
    BudgetReached,
    SettingsError,
    TransientError,
)
from agentloop.grading import grade_again
from agentloop.models.base import Reply
from agentloop.models.budget import Budget
from agentloop.models.channel import Channel, Endpoint
from agentloop.progress import Progress
from agentloop.recipe import Kit
from agentloop.recipes import FoundRecipe
from agentloop.records import Json
from agentloop.roles import asked_roles, role_settings
from agentloop.rows import graded_lines, grading_line
from agentloop.store import VERDICTS, Store, calls_name, read_counts
from agentloop.store.gradings import (
    Settled,
    accepted_texts,
    answered_by,
    number_of,
    owed_items,
    read_settled,
)
from agentloop.store.journal import RunJournal
from agentloop.store.writer import Writer
from agentloop.tally import Tally, told

BATCH = 256  # items that are read together


@dataclass(frozen=True)
class Regrading:
    """A grading that has ended, for now: its counts over all its starts."""

    store: Path
    run: str
    grading: int
    counts: Json
    exit_code: int

    def __str__(self) -> str:
        return told(self.counts)


@dataclass(frozen=True)
class Task:
    """Everything that is decided before the first call; nothing is written yet."""

    store: Path
    run: str
    found: FoundRecipe
    kit: Kit
    settings: Settings
    endpoints: Mapping[str, Endpoint]
    """The judges by their roles; none where checks decide everything."""
    concurrency: int
    identity: Json
    notice: str = ""
    """What whoever watches is told at the start."""

    @property
    def critic(self) -> str:
        """Who grades, as it stands in a grade."""
        return self.endpoints["critic"].name if self.endpoints else "checks"


class Regrader:
    """One start of a grading, from the first item taken to the last fold."""

    def __init__(self, task: Task, progress: Progress):
        self._task = task
        self._progress = progress
        self._tally = Tally()
        self._left: list[str] = []
        """What went wrong with items that are left for the next start."""
        self._ready: deque[Settled] = deque()
        self._taking = asyncio.Lock()
        self._begun = time.time()
        self._budget: Budget | None = None

    async def play(self) -> Regrading:
        """Grade what is owed until nothing is, the budget is reached, or a signal comes."""
        task = self._task
        self._writer = Writer(task.store)
        try:
            self._take_up()
            await self._work()
            self._mark()
        finally:
            for endpoint in set(task.endpoints.values()):
                await endpoint.limits.model.aclose()
            with contextlib.suppress(OSError):
                self._progress.stop()
            self._writer.close()
        counts = Store(task.store).counts(task.run, self._grading)
        counts |= {"grading": self._grading, "left": len(self._left)}
        counts["stopped_by"] = self._crew.stopped_by
        if self._crew.error is not None:
            self._crew.error.counts = counts
            raise self._crew.error
        code = {"items": 0, "interrupt": 130}.get(str(self._crew.stopped_by), 3)
        return Regrading(task.store, task.run, self._grading, counts, code)

    def _take_up(self) -> None:
        """Go on from what the store knows of this grading."""
        task, tally = self._task, self._tally
        with self._writer.reading() as connection:
            self._grading, new = number_of(connection, task.run, task.identity)
            self._owed = deque(owed_items(connection, task.run, self._grading))
            self._answers = answered_by(connection, task.run, self._grading)
            self._door = Admission(Rules(), accepted_texts(connection, task.run, self._grading))
            earlier = read_counts(connection, task.run, self._grading)
        self._name = calls_name(task.run, self._grading)
        self._crew = Crew(self._progress, self._name)
        self._journal = RunJournal(self._writer, self._name, on_call=self._on_call)
        if new:
            row = (task.run, self._grading, task.kit.rubric, task.critic, task.identity)
            self._journal.hold(grading_line(*row))
        tally.run, tally.recipe = self._name, task.found.recipe.name
        for verdict in VERDICTS:
            tally.verdicts[verdict] = earlier[verdict]
        for name in ("calls", "requests", "prompt_tokens", "completion_tokens", "cost_usd"):
            setattr(tally, name, earlier[name])
        tally.before = tally.settled
        tally.target = tally.settled + len(self._owed)
        tally.budget_usd = task.settings.budget_usd
        if task.settings.budget_usd is not None:
            if tally.cost_usd is None:
                raise SettingsError(
                    f"grading {self._grading} of run `{task.run}` holds calls of unknown cost, so "
                    "that no budget can be kept"
                )
            spent = tally.cost_usd + earlier["unsettled_usd"]
            self._budget = Budget(task.settings.budget_usd, spent)

    async def _work(self) -> None:
        task = self._task
        self._progress.start(self._tally)
        self._crew.tell("started", text=self._greeting())
        for endpoint in set(task.endpoints.values()):
            endpoint.note = endpoint.limits.note = self._crew.note
            endpoint.limits.on_refusal = self._tally.note_refusal
        for notice in {task.notice, *(e.notice for e in task.endpoints.values())} - {""}:
            self._crew.note(notice)
        await self._crew.work(self._worker, task.concurrency)
        if self._left:
            self._crew.note(
                f"{len(self._left)} items are left for the next start, their endpoint failed: "
                f"{self._left[0]}"
            )
        self._crew.stopped_by = self._crew.stopped_by or ("endpoint" if self._left else "items")
        self._crew.tell("stopped", stopped_by=self._crew.stopped_by)

    def _greeting(self) -> str:
        task, rubric = self._task, self._task.kit.rubric
        before = f", {self._tally.before} graded before" if self._tally.before else ""
        named = [f"{role} {endpoint.name}" for role, endpoint in task.endpoints.items()]
        judges = " · ".join(named or ["critic checks"])
        return (
            f"run {task.run} · grading {self._grading} · rubric {rubric.name} {rubric.hash[:8]} · "
            f"{judges} · {len(self._owed)} items{before}"
        )

    async def _worker(self) -> None:
        while not self._crew.stopped_by:
            try:
                settled = await self._take()
                if settled is None:
                    return
                await self._grade(settled)
            except TransientError as error:
                self._left.append(str(error))
            except BudgetReached as error:
                if self._crew.stopped_by is None:
                    self._crew.note(str(error))
                    self._crew.stopped_by = "budget"
            except AgentloopError as error:
                self._crew.stop(error)
            await asyncio.sleep(0)  # checks never wait, and Ctrl-C must get in

    async def _take(self) -> Settled | None:
        """Return the next item that is owed, with its replies at hand; None when there is none."""
        async with self._taking:
            if not self._ready and self._owed:
                batch = [self._owed.popleft() for _ in range(min(BATCH, len(self._owed)))]
                self._ready.extend(await asyncio.to_thread(self._read, batch))
            return self._ready.popleft() if self._ready else None

    def _read(self, batch: list[str]) -> list[Settled]:
        with self._writer.reading() as connection:
            self._journal.load(connection, batch, self._answers)
            return read_settled(connection, self._task.run, batch)

    async def _grade(self, settled: Settled) -> None:
        """Grade one item and write it down."""
        self._tally.in_flight += 1
        try:
            attempts, verdict = await grade_again(
                self._agents(settled), settled, self._task.found.recipe.refuse
            )
        finally:
            self._tally.in_flight -= 1
        kept = next((a for a in attempts if a.round == verdict.round), None)
        verdict, text = self._door.admit(
            Applicant(settled.item, kept.messages if kept else ()), verdict
        )
        at = (self._task.run, self._grading)
        self._journal.settle(settled.item, *graded_lines(at, settled, attempts, verdict, text))
        self._tally.note_verdict(verdict)
        self._crew.tell(
            "settled",
            item=settled.item,
            verdict=verdict.verdict,
            reason=verdict.reason,
            score=verdict.score,
            counts=self._tally.as_dict(),
        )

    def _agents(self, settled: Settled) -> Agents:
        task = self._task
        roles = asked_roles(task.settings)
        channels = {
            role: Channel(
                role,
                endpoint,
                self._journal,
                role_settings(roles[role], role, endpoint),
                task.settings.seed,
                self._budget,
            )
            for role, endpoint in task.endpoints.items()
        }
        return Agents(
            settled.item,
            channels,
            task.kit.prompts,
            task.kit.rubric,
            task.found.recipe.candidate,
            task.kit.checks,
            settled.opening,
        )

    def _on_call(self, reply: Reply | None, tries: int) -> None:
        self._tally.note_call(reply, tries, booked=self._budget is not None)

    def _mark(self) -> None:
        """Note in the store how long this start took and what ended it."""
        if self._journal.silent:
            return
        row = {
            "rid": self._writer.row_id(),
            "run": self._name,
            "session": f"{self._begun:.6f}",
            "time": time.time(),
            "seconds": self._tally.seconds,
            "stopped_by": self._crew.stopped_by,
            "refused": self._tally.refusals,
        }
        self._journal.write(("sessions", row))
