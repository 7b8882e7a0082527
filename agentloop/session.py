"""One sitting of a run: workers, resume, signals, from the first item taken to the last fold.

Enters: a plan. Leaves: settled items in the store, and how the sitting ended. Only this module knows
graph and store both. Refuses to know: what a graph does with an item, how models are reached.

Workers take items from one iterator, so that nothing waits for a stage to end and no data set is ever
held whole. An item that is stopped on its way has no verdict; the journal answers when it replays.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from agentloop import __version__
from agentloop.admission import Admission
from agentloop.agents import Agents
from agentloop.config import ROLES
from agentloop.errors import AgentloopError, UnreachableError
from agentloop.loop import Context, recursion_limit
from agentloop.models.base import Reply
from agentloop.models.channel import Channel
from agentloop.plan import Plan, check_identity
from agentloop.progress import Progress, Tally
from agentloop.records import Attempt, Event, Json, Seed, Verdict, digest
from agentloop.store import COUNT_KEYS, Store
from agentloop.store.files import connect
from agentloop.store.journal import Line, RunJournal
from agentloop.store.resume import Earlier, Owed, read_earlier
from agentloop.store.writer import Writer
from agentloop.verdicts import failure

StoppedBy: TypeAlias = Literal["accept", "items", "seeds", "interrupt", "endpoint", "error"]
GRACE = 20.0  # seconds that items in flight get after the first Ctrl-C
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
        self._stopped_by: StoppedBy | None = None
        self._error: AgentloopError | None = None
        self._workers: list[asyncio.Task[None]] = []
        self._settled: set[str] = set()
        self._started = 0
        self._begun = time.time()
        self._ended = asyncio.Event()
        """Set, and replaced, whenever an item ends."""

    async def play(self) -> Ending:
        """Work until the target, a cap, the end of the seeds, or a signal."""
        plan = self._plan
        fresh = not plan.store.exists()
        writer = Writer(plan.store)
        try:
            self._writer = writer
            self._journal = RunJournal(writer, plan.run, on_call=self._on_call)
            self._resume()
            await self._work()
        finally:
            for endpoint in set(plan.endpoints.values()):
                await endpoint.limits.model.aclose()
            self._progress.stop()
            writer.close()
            if fresh and self._journal.silent:
                writer.files.discard()
        ending = self._result()
        if self._error is not None:
            self._error.counts = ending.counts
            raise self._error
        return ending

    def _resume(self) -> None:
        """Take up what the store knows of this run, or refuse another identity."""
        plan, journal = self._plan, self._journal
        with connect(plan.store, write=False) as connection:
            earlier = read_earlier(connection, plan.run)
            if earlier.identity is not None:
                check_identity(earlier.identity, plan)
                journal.load(connection)
        self._admission = Admission(earlier.accepted, plan.settings.accept)
        self._owed_before = earlier.owed
        self._new = earlier.identity is None
        self._count_earlier(earlier)
        if self._new:
            journal.hold(("runs", self._run_row()))

    def _count_earlier(self, earlier: Earlier) -> None:
        tally, settings = self._tally, self._plan.settings
        for item, verdict, reason in earlier.verdicts:
            self._settled.add(item)
            tally.verdicts[verdict] += 1
            if reason:
                tally.reasons[reason] += 1
        self._started = len(self._settled)
        tally.target_kind = "accepted" if settings.accept else "items"
        tally.target = settings.accept or settings.items or self._plan.seeds.count
        tally.before = tally.done
        for name in ("calls", "requests", "prompt_tokens", "completion_tokens", "cost_usd"):
            setattr(tally, name, earlier.counts.get(name, 0))

    def _run_row(self) -> Json:
        plan = self._plan
        packages = ("langgraph", "litellm", "duckdb", "pydantic")
        return {
            "run": plan.run,
            "recipe": plan.found.recipe.name,
            "recipe_ref": plan.found.ref,
            "time": self._begun,
            "identity": plan.identity,
            "versions": {"agentloop": __version__}
            | {name: importlib.metadata.version(name) for name in packages},
            "parent": None,
        }

    async def _work(self) -> None:
        from langsmith import tracing_context

        for endpoint in set(self._plan.endpoints.values()):
            endpoint.note = self._note
        self._progress.start(self._tally)
        self._tell("started", text=self._greeting())
        for notice in {endpoint.notice for endpoint in self._plan.endpoints.values()} - {""}:
            self._note(notice)
        items = self._items()
        width = self._plan.concurrency
        with self._signals(), tracing_context(enabled=False):
            self._workers = [asyncio.create_task(self._worker(items)) for _ in range(width)]
            beat = asyncio.create_task(self._heartbeat())
            await asyncio.gather(*self._workers, return_exceptions=True)
            beat.cancel()
        accept = self._plan.settings.accept
        if accept and self._stopped_by in ("seeds", "items") and self._admission.accepted >= accept:
            self._stopped_by = "accept"  # the last ones in flight made it
        self._raise_bug()
        if not self._journal.silent:
            self._journal.write(self._session_row())
        self._tell("stopped", stopped_by=self._stopped_by)

    def _raise_bug(self) -> None:
        """Surface what no worker could make a verdict or a clean stop of."""
        for worker in self._workers:
            if not worker.cancelled() and (error := worker.exception()):
                raise error

    def _greeting(self) -> str:
        plan, models = self._plan, []
        for role in ROLES:
            models.append(f"{role} {plan.endpoints[role].name}")
        again = f", {len(self._settled)} items settled before" if self._settled else ""
        twice = f", {plan.seeds.duplicates} given twice" if plan.seeds.duplicates else ""
        return (
            f"run {plan.run} · recipe {plan.found.recipe.name} · {plan.seeds.count} seeds"
            f"{twice}{again} · {' · '.join(models)}"
        )

    def _items(self) -> Iterator[Owed]:
        """Yield items without a verdict, those begun before first, until nothing is owed."""
        begun = {owed.item for owed in self._owed_before}
        yield from self._owed_before
        settings = self._plan.settings
        with_target = settings.accept or settings.items
        for sample in range(settings.per_seed if with_target else 1):
            for seed in self._plan.seeds:
                item = item_id(seed, sample)
                if item not in self._settled and item not in begun:
                    yield Owed(item, seed, sample)

    def _owed(self) -> StoppedBy | None:
        """Return why no further item should be started; None when one should."""
        settings = self._plan.settings
        if self._stopped_by:
            return self._stopped_by
        if settings.accept and self._admission.accepted >= settings.accept:
            return "accept"
        if settings.items and self._started >= settings.items:
            return "items"
        return None

    async def _worker(self, items: Iterator[Owed]) -> None:
        while True:
            while self._enough_in_flight() and not self._owed():
                await self._ended.wait()
            if why := self._owed():
                self._stopped_by = self._stopped_by or why
                return
            taken = next(items, None)
            if taken is None:
                self._stopped_by = self._stopped_by or "seeds"
                return
            self._started += 1
            self._tally.in_flight += 1
            try:
                await self._settle(taken)
            except AgentloopError as error:
                self._stop(error)
                return
            finally:
                self._tally.in_flight -= 1
                self._wake()

    def _enough_in_flight(self) -> bool:
        """Whether the items in flight will probably reach the accept target."""
        accept = self._plan.settings.accept
        if not accept:
            return False
        tally = self._tally
        share = (tally.verdicts["accepted"] + 1) / (tally.settled + 2)
        return tally.in_flight * share >= accept - self._admission.accepted

    def _wake(self) -> None:
        """Let workers that wait for an item's end look again."""
        self._ended.set()
        self._ended = asyncio.Event()

    async def _settle(self, owed: Owed) -> None:
        """Walk one item through the graph and the door, and write it down."""
        item = owed.item
        attempts: list[Attempt] = []
        try:
            inputs = self._begin(owed)
            state = await self._plan.found.graph.ainvoke(
                {"item": item, "seed": owed.seed.fields, "inputs": inputs},
                context=Context(
                    agents=self._agents(item), max_rounds=self._plan.settings.max_rounds
                ),
                config={"recursion_limit": recursion_limit(self._plan.settings.max_rounds)},
            )
            verdict = Verdict.model_validate(state["verdict"])
            attempts = [Attempt.model_validate(a) for a in state.get("attempts", [])]
        except AgentloopError:
            raise
        except Exception as error:  # a bug in `draw` or in a node of one's own costs one item
            verdict = Verdict.model_validate(failure(error))
        kept = next((a for a in attempts if a.round == verdict.round), None)
        verdict, fingerprint = self._admission.admit(item, verdict, kept.messages if kept else ())
        self._journal.settle(*self._settled_lines(item, attempts, verdict, fingerprint))
        self._count(item, verdict)

    def _begin(self, owed: Owed) -> Json:
        """Return an item's inputs: drawn once and written down before its first call."""
        if owed.inputs is not None:
            return owed.inputs
        recipe, settings = self._plan.found.recipe, self._plan.settings
        inputs: Json = {"sample": owed.sample}
        try:
            inputs = recipe.inputs(owed.seed.fields, owed.sample, settings.seed)
        finally:
            self._journal.write(("items", self._item_row(owed, inputs)))
        return inputs

    def _agents(self, item: str) -> Agents:
        plan = self._plan
        channels: dict[str, Channel] = {
            role: Channel(
                role, plan.endpoints[role], self._journal, plan.roles[role], plan.settings.seed
            )
            for role in ROLES
        }
        return Agents(
            item, channels, plan.kit.prompts, plan.kit.rubric, plan.found.recipe.candidate
        )

    def _item_row(self, owed: Owed, inputs: Json) -> Json:
        return {
            "run": self._plan.run,
            "item": owed.item,
            "seed_id": owed.seed.id,
            "sample": owed.sample,
            "seed": owed.seed.fields,
            "inputs": inputs,
            "time": time.time(),
        }

    def _settled_lines(
        self, item: str, attempts: list[Attempt], verdict: Verdict, fingerprint: str
    ) -> list[Line]:
        """Return an item's attempts, grades and verdict; the verdict last, for a torn write."""
        place = {"run": self._plan.run, "item": item, "opening": 0}
        lines: list[Line] = []
        for attempt in attempts:
            data = attempt.model_dump(mode="json")
            grade = {key: data.pop(key) for key in ("grade", "accepted", "reason", "detail")}
            at = {**place, "round": attempt.round}
            lines.append(("attempts", data | at))
            lines.append(("grades", {**at, "grading": 0, **grade}))
        row = {**place, **verdict.model_dump(), "fingerprint": fingerprint, "time": time.time()}
        lines.append(("verdicts", row))
        return lines

    def _count(self, item: str, verdict: Verdict) -> None:
        tally = self._tally
        self._settled.add(item)
        tally.verdicts[verdict.verdict] += 1
        if verdict.reason:
            tally.reasons[verdict.reason] += 1
        self._tell(
            "settled",
            item=item,
            verdict=verdict.verdict,
            reason=verdict.reason,
            score=verdict.score,
            counts=tally.as_dict(),
        )

    def _on_call(self, reply: Reply | None, tries: int) -> None:
        tally = self._tally
        tally.requests += tries
        if reply is None:
            return
        tally.calls += 1
        tally.session_calls += 1
        tally.prompt_tokens += reply.usage.prompt_tokens
        tally.completion_tokens += reply.usage.completion_tokens
        if tally.cost_usd is not None:
            tally.cost_usd = None if reply.cost_usd is None else tally.cost_usd + reply.cost_usd

    def _session_row(self) -> Line:
        return "sessions", {
            "rid": self._writer.row_id(),
            "run": self._plan.run,
            "session": f"{self._begun:.6f}",
            "time": time.time(),
            "seconds": self._tally.seconds,
            "stopped_by": self._stopped_by,
            "settings": self._plan.settings.model_dump(mode="json", include=_TOLD),
        }

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            self._tell("counts", counts=self._tally.as_dict())
            if not self._journal.silent:
                self._journal.write(self._session_row())

    def _tell(self, kind: Any, **data: Any) -> None:
        self._progress.event(Event(kind=kind, run=self._plan.run, at=time.time(), data=data))

    def _note(self, text: str) -> None:
        self._tell("note", text=text)

    def _stop(self, error: AgentloopError) -> None:
        """End the run for a reason that is no item's: the others stop too and will replay."""
        if self._error is None:
            self._error = error
            self._stopped_by = "endpoint" if isinstance(error, UnreachableError) else "error"
            self._cancel()

    def _cancel(self) -> None:
        current = asyncio.current_task()
        for worker in self._workers:
            if worker is not current:
                worker.cancel()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """First Ctrl-C or SIGTERM: start nothing new, give items in flight a while; second: now."""
        loop = asyncio.get_running_loop()
        handled = []
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(number, self._interrupt)
                handled.append(number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        if self._stopped_by == "interrupt":
            self._cancel()
            return
        self._stopped_by = "interrupt"
        self._wake()
        self._note(f"stopping: items in flight get {GRACE:.0f} s; press again to stop at once")
        asyncio.get_running_loop().call_later(GRACE, self._cancel)

    def _result(self) -> Ending:
        plan = self._plan
        if self._new and self._journal.silent:
            counts: Json = dict.fromkeys(COUNT_KEYS, 0)
            counts |= {"run": self._tally.run, "recipe": self._tally.recipe}
        else:
            counts = Store(plan.store).counts(plan.run)
        counts["stopped_by"] = self._stopped_by
        return Ending(counts, self._exit_code())

    def _exit_code(self) -> int:
        settings = self._plan.settings
        if self._stopped_by == "interrupt":
            return 130
        if self._stopped_by == "accept":
            return 0
        if self._stopped_by == "items":
            return 3 if settings.accept else 0
        return 3 if settings.accept or settings.items else 0


_TOLD = {"accept", "items", "per_seed", "max_rounds", "concurrency"}


def item_id(seed: Seed, sample: int) -> str:
    """Return an item's name, from its seed's content and sample index: 12 hex digits."""
    return digest([seed.id, sample], 6)
