"""One sitting of a run: workers, resume, signals, from the first item taken to the last fold.

Enters: a plan. Leaves: settled items in the store, and how the sitting ended. Refuses to know: what a
graph does with an item and in which process (`engines`), how models are reached.

Workers take items from one iterator, so that nothing waits for a stage to end and no data set is ever
held whole. An item that is stopped on its way has no verdict; the journal answers when it replays.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from agentloop.calibration_report import standing
from agentloop.crew import Crew, StoppedBy
from agentloop.engines import Driver, Task, Walked, engine_for, items_at_once
from agentloop.errors import AgentloopError, BudgetReached, SettingsError
from agentloop.feed import Feed
from agentloop.intake import Intake
from agentloop.interrupts import cut_off_by_interrupt
from agentloop.models.base import Reply
from agentloop.models.budget import Budget
from agentloop.models.family import family
from agentloop.plan import Plan
from agentloop.progress import Progress
from agentloop.records import Json, Verdict
from agentloop.rows import (
    calibration_line,
    item_line,
    reading_line,
    reopened_line,
    run_line,
    session_line,
    verdict_line,
)
from agentloop.store import COUNT_KEYS, Store
from agentloop.store.journal import Line, RunJournal
from agentloop.store.resume import Owed
from agentloop.store.writer import Writer
from agentloop.tally import Tally
from agentloop.variety import Variety
from agentloop.verdicts import failure

HEARTBEAT = 5.0  # seconds between the session's marks in the store, and counts told


@dataclass(frozen=True)
class Ending:
    """How a sitting ended: the run's counts over all its resumes, and the exit code."""

    counts: Json
    exit_code: int


class Session:
    """One sitting of a run, from the first item taken to the last fold."""

    def __init__(self, plan: Plan, progress: Progress):
        self._plan = plan
        self._progress = progress
        self._tally = Tally(run=plan.run, recipe=plan.found.recipe.name)
        self._crew = Crew(progress, plan.run, self._wake)
        self._started = 0
        self._begun = time.time()
        self._ended = asyncio.Event()
        """Set, and replaced, whenever an item ends."""
        self._budget: Budget | None = None
        self._failed = self._sent = 0
        self._variety = None
        if plan.settings.on_collapse != "off":
            self._variety = Variety(plan, self._crew.note, self._collapsed)
        self._last = contextlib.ExitStack()
        """What is closed at the end."""
        self._engine = engine_for(plan)

    async def play(self) -> Ending:
        """Work until the target, a cap, the end of the seeds, or a signal."""
        plan = self._plan
        fresh = not plan.store.exists()
        writer = Writer(plan.store)
        try:
            self._writer = writer
            self._journal = RunJournal(writer, plan.run, on_call=self._on_call)
            self._feed = Feed(plan, writer, self._journal)
            self._take_up()
            await self._work()
        finally:
            try:
                await self._engine.close()
            finally:
                self._let_go(writer, fresh)
        ending = self._result()
        if self._crew.error is not None:
            self._crew.error.counts = ending.counts
            raise self._crew.error
        return ending

    def _let_go(self, writer: Writer, fresh: bool) -> None:
        """Close all that is open, each whatever becomes of the others."""
        with contextlib.ExitStack() as end:
            end.callback(lambda: writer.close(discard=fresh and self._journal.silent))
            end.callback(self._last.close)
            with contextlib.suppress(OSError):
                self._progress.stop()

    def _take_up(self) -> None:
        """Go on from what the store knows of this run."""
        plan, tally, settings = self._plan, self._tally, self._plan.settings
        earlier = self._feed.earlier
        for (verdict, reason), count in earlier.verdicts.items():
            tally.verdicts[verdict] += count
            if reason:
                tally.reasons[reason] += count
        self._started = earlier.verdicts.total()
        tally.target_kind = "accepted" if settings.accept else "items"
        tally.target = settings.accept or settings.items or plan.seeds.count
        tally.before = tally.done
        for name in ("calls", "requests", "prompt_tokens", "completion_tokens", "cost_usd"):
            setattr(tally, name, earlier.counts.get(name, 0))
        self._intake = Intake(plan, self._feed, self._crew.note, self._variety)
        self._last.callback(self._intake.close)
        if self._variety is not None:
            tally.note_reading(self._variety.latest)
        tally.budget_usd = settings.budget_usd
        if settings.budget_usd is not None:
            if tally.cost_usd is None:
                raise SettingsError(
                    f"run `{plan.run}` holds calls of unknown cost, so that no budget can be kept: "
                    "`--fork NEW` starts to count anew"
                )
            spent = tally.cost_usd + earlier.counts.get("unsettled_usd", 0.0)
            self._budget = Budget(settings.budget_usd, spent)
        if self._feed.new:
            self._journal.hold(run_line(plan, self._begun), self._marked())
            if plan.calibration is not None and plan.calibration.state == "calibrated":
                line = calibration_line(plan.calibration, plan.calibration.digest)
                self._journal.hold(line)

    async def _work(self) -> None:
        from langsmith import tracing_context

        self._progress.start(self._tally)
        self._crew.tell("started", text=self._greeting())
        notices = {endpoint.notice for endpoint in self._plan.endpoints.values()} - {""}
        for notice in (*sorted(notices), *self._plan.kit.notices):
            self._crew.note(notice)
        told = (self._crew.note, self._tally.note_refusal)
        with cut_off_by_interrupt():
            await self._engine.start(Driver(self._journal, self._budget, *told))
        beat, clock = asyncio.create_task(self._heartbeat()), self._clock()
        try:
            with tracing_context(enabled=False):
                await self._crew.work(self._worker, items_at_once(self._plan.concurrency))
        finally:
            beat.cancel()
            if clock is not None:
                clock.cancel()
        if self._variety is not None:
            await self._variety.end()
            self._write_readings()
        accept = self._plan.settings.accept
        made_it = accept is not None and self._intake.accepted >= accept
        if made_it and self._crew.stopped_by in ("seeds", "items", "budget", "seconds"):
            self._crew.stopped_by = "accept"  # the last ones in flight made it
        if self._unanswered() and self._crew.stopped_by in ("seeds", "items"):
            self._crew.stopped_by = "endpoint"
            self._crew.note("no call was answered: `--retry failed` opens these items again")
        self._mark()
        self._crew.tell("counts", counts=self._tally.in_full())
        self._crew.tell("stopped", stopped_by=self._crew.stopped_by)

    def _unanswered(self) -> bool:
        """Whether items failed in this sitting and nobody answered a single call."""
        return self._failed > 0 and self._sent > 0 and not self._engine.answered

    def _clock(self) -> asyncio.TimerHandle | None:
        """Set the alarm for `--max-seconds`."""
        seconds = self._plan.settings.max_seconds
        if seconds is None:
            return None
        loop = asyncio.get_running_loop()
        return loop.call_later(seconds, self._crew.wind_up, "seconds")

    def _greeting(self) -> str:
        plan, models = self._plan, []
        for role in ("generator", "critic", "reviser"):
            models.append(f"{role} {plan.endpoints[role].name}")
        before = self._tally.settled
        again = f", {before} items settled before" if before else ""
        twice = f", {plan.seeds.duplicates} given twice" if plan.seeds.duplicates else ""
        return (
            f"run {plan.run} · recipe {plan.found.recipe.name} · {plan.seeds.told}"
            f"{twice}{again} · {' · '.join(models)}{self._own_grades} · {standing(plan.calibration)}"
        )

    @property
    def _own_grades(self) -> str:
        """Say so where a judge is of a writer's family: allowed, and no good witness."""
        by_task: dict[bool, set[str]] = {True: set(), False: set()}
        for role, endpoint in self._plan.endpoints.items():
            if role != "auditor":
                by_task[role in ("generator", "reviser")].add(family(endpoint.name))
        both = ", ".join(sorted(by_task[True] & by_task[False]))
        return f" · self-graded ({both})" if both else ""

    def _why_stop(self) -> StoppedBy | None:
        """Return why no further item should be started; None when one should."""
        settings = self._plan.settings
        if self._crew.stopped_by:
            return self._crew.stopped_by
        if settings.accept and self._intake.accepted >= settings.accept:
            return "accept"
        if settings.items and self._started >= settings.items:
            return "items"
        return None

    async def _worker(self) -> None:
        while True:
            while self._enough_in_flight() and not self._why_stop():
                await self._ended.wait()
            if why := self._why_stop():
                self._crew.stopped_by = self._crew.stopped_by or why
                return
            try:
                taken = await self._next()
            except AgentloopError as error:
                self._crew.stop(error)
                return
            if taken is None:
                self._crew.stopped_by = self._why_stop() or "seeds"
                return
            if why := self._why_stop():  # it took a while
                self._feed.give_back(taken)
                self._crew.stopped_by = self._crew.stopped_by or why
                return
            self._started += 1
            self._tally.in_flight += 1
            try:
                await self._settle(taken)
            except BudgetReached as error:
                if self._crew.stopped_by != "budget":
                    self._crew.note(str(error))
                self._crew.stopped_by = self._crew.stopped_by or "budget"
                return
            except AgentloopError as error:
                self._crew.stop(error)
                return
            finally:
                self._tally.in_flight -= 1
                self._feed.ended(taken)
                self._wake()

    async def _next(self) -> Owed | None:
        """Return the next item, once there is room for it; None when there is none, or none wanted."""
        while not self._why_stop():
            ended = self._ended
            taken = await self._feed.take(self._intake.has_room)
            if taken is not None or not self._feed.waits:
                return taken
            await ended.wait()
        return None

    def _enough_in_flight(self) -> bool:
        """Whether the items in flight will probably reach the accept target."""
        accept = self._plan.settings.accept
        if not accept:
            return False
        tally = self._tally
        share = (tally.verdicts["accepted"] + 1) / (tally.settled + 2)
        return tally.in_flight * share >= accept - self._intake.accepted

    def _wake(self) -> None:
        """Let workers that wait for an item's end look again."""
        self._ended.set()
        self._ended = asyncio.Event()

    async def _settle(self, owed: Owed) -> None:
        """Walk one item through the graph and the door, and write it down."""
        inputs: Json = {}
        try:
            inputs = self._begin(owed)
            refused = self._intake.refused(owed, inputs)
            walked = Walked(refused) if refused else await self._walk(owed, inputs)
        except (AgentloopError, asyncio.CancelledError):
            self._intake.dropped(inputs)
            raise
        except Exception as error:  # a bug in a `draw` of one's own costs one item
            walked = Walked(Verdict.model_validate(failure(error)))
        verdict, fingerprint = self._intake.admit(owed, inputs, walked.verdict, walked.kept)
        last = verdict_line(self._plan.run, owed, verdict, fingerprint)
        self._journal.settle(owed.item, *walked.lines, last)
        self._count(owed.item, verdict)

    async def _walk(self, owed: Owed, inputs: Json) -> Walked:
        rounds = inputs.get("rounds", self._plan.max_rounds)
        task = Task(owed.item, owed.opening, owed.seed.fields, inputs, rounds)
        return await self._engine.walk(task)

    def _begin(self, owed: Owed) -> Json:
        """Return an item's inputs: drawn once and written down before its first call."""
        if owed.opening:
            self._journal.write(reopened_line(self._plan.run, owed))
        inputs: Json = {"sample": owed.sample}
        try:
            inputs = self._intake.inputs(owed)
        finally:
            self._journal.write(item_line(self._plan.run, owed, inputs))
        return inputs

    def _count(self, item: str, verdict: Verdict) -> None:
        self._tally.note_verdict(verdict)
        self._failed += verdict.verdict == "failed"
        self._crew.tell(
            "settled",
            item=item,
            verdict=verdict.verdict,
            reason=verdict.reason,
            score=verdict.score,
            counts=self._tally.as_dict(),
        )

    def _on_call(self, reply: Reply | None, tries: int) -> None:
        self._sent += tries
        self._tally.note_call(reply, tries, booked=self._budget is not None)

    def _mark(self) -> None:
        """Note in the store how far this session has come."""
        if not self._journal.silent:
            self._journal.write(self._marked())

    def _marked(self) -> Line:
        """Return a mark of how far this session has come."""
        rid = self._writer.row_id()
        return session_line(self._plan, rid, self._begun, self._tally, self._crew.stopped_by)

    def _write_readings(self) -> None:
        """Write down what was read of the variety of accepted texts."""
        if self._variety is None or self._journal.silent:
            return
        self._tally.note_reading(self._variety.latest)
        while self._variety.readings:
            reading = self._variety.readings.pop(0)
            self._journal.write(reading_line(self._plan.run, self._writer.row_id(), reading))

    def _collapsed(self) -> None:
        self._crew.wind_up("collapse")

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            self._write_readings()
            self._crew.tell("counts", counts=self._tally.in_full())
            self._intake.flush()
            self._mark()

    def _result(self) -> Ending:
        plan = self._plan
        if self._feed.new and self._journal.silent:
            counts: Json = dict.fromkeys(COUNT_KEYS, 0)
            counts |= {"run": self._tally.run, "recipe": self._tally.recipe}
        else:
            counts = Store(plan.store).counts(plan.run)
        counts["stopped_by"] = self._crew.stopped_by
        return Ending(counts, self._exit_code())

    def _exit_code(self) -> int:
        settings = self._plan.settings
        if self._crew.stopped_by == "interrupt":
            return 130
        if self._crew.stopped_by == "accept":
            return 0
        if self._crew.stopped_by == "items":
            return 3 if settings.accept else 0
        if self._crew.stopped_by in ("budget", "seconds", "collapse", "endpoint"):
            return 3
        return 3 if settings.accept or settings.items else 0
