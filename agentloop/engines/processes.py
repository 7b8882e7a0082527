"""The engine of several processes: one drives, the others walk.

They run on this machine; `cluster` puts them elsewhere, and leaves all else to what stands here.

Enters: tasks. Leaves: what became of them, from workers that are started anew when they die. Refuses to
know: how an item is walked, which items there are.

The driver alone writes: pages that workers send are made safe in groups, all that have come in one turn
of the event loop in one write, and only then a graph sees its reply. An item whose worker dies goes on
in the next one, where the rows that were written of its calls answer again.

Who killed a worker is not known at first: all that it had in its hands may have. Those that had seen it
before are blamed before others, and an item that has seen it twice is walked without another such
beside it. So an innocent one is hardly ever blamed three times. Where workers die one after the other
and no item comes home, it is none of the items: the run ends before it has paid for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from agentloop.engines import Driver, Task, Walked, demand, items_at_once, processors
from agentloop.engines.bench import SUSPECT, Bench, Job
from agentloop.engines.demand import Load
from agentloop.engines.hand import Hand
from agentloop.engines.parcel import Orders, Parcel, limits_of, pack
from agentloop.engines.staff import Staff
from agentloop.engines.till import Permits, Till
from agentloop.engines.wire import Message
from agentloop.errors import AgentloopError, WorkerError
from agentloop.models.embedded import Address, EmbeddedModel
from agentloop.models.rate import UNLIMITED
from agentloop.plan import Plan
from agentloop.records import Verdict
from agentloop.store.journal import Page

GUILTY = 3  # deaths that an item has seen before it is given up
LEAVE = 5.0  # seconds that a worker has to stop an item that is cancelled


class Processes:
    """Walks items in processes of their own."""

    def __init__(self, plan: Plan):
        """Pack what workers need. Raises SettingsError for what cannot be sent to them."""
        self._plan = plan
        self._parcel = self._packed()
        self._limits = limits_of(plan)
        self._most = min(limits.concurrency for limits in self._limits.values())
        self._staff = Staff(self._fill, self._in_the_background, self._changed)
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._pages: list[tuple[Bench, int | None, str, Page]] = []
        self._numbers = itertools.count()
        self._told: Counter[str] = Counter()
        self._served: dict[str, Address] = {}
        self._permits: dict[str, Permits] = {}
        self._beside: set[asyncio.Task[None]] = set()
        self._closing = False
        self._deaths = 0
        """Workers that died since an item last came home."""
        self._error: AgentloopError | None = None
        """Why nothing can be walked any more."""
        self._answering: set[str] = set()
        """The models that have ever answered, each by the first role that asks it."""

    @property
    def answered(self) -> bool:
        """Whether a call was ever answered."""
        return bool(self._answering)

    async def start(self, driver: Driver) -> None:
        """Start the workers. Raises UserError where one of them cannot."""
        self._driver = driver
        wanted = self._at_first()
        count = min(wanted, self._most)
        if count < wanted and not self._scales():
            driver.note(
                f"workers: {count} and no more, for each needs a call of its own, and an "
                f"endpoint bears {self._most} at once"
            )
        self._staff.make(count, min(self._most, self._room()))
        for role, limits in self._limits.items():
            if limits.rate != UNLIMITED:
                self._permits[role] = Permits(limits.rate)
            if isinstance(limits.model, EmbeddedModel):
                self._served[limits.model.name] = await limits.model.serve()
        benches = self._staff.benches
        started = {asyncio.create_task(self._fill(bench)): bench for bench in benches}
        try:
            await self._assembled(started)
            await self._staff.begin()
        except BaseException:
            for task in started:
                task.cancel()
            await asyncio.gather(*started, return_exceptions=True)
            raise

    def _packed(self) -> Parcel:
        """Return what every worker is given."""
        return pack(self._plan)

    def _at_first(self) -> int:
        """Return how many workers there should be, as far as processors go."""
        said = self._plan.settings.workers
        return processors() if said == "auto" else said or 1

    def _scales(self) -> bool:
        """Whether there are more workers, or fewer, when there is more or less to do."""
        return self._plan.settings.workers == "auto"

    def _room(self) -> int:
        """Return how many workers there may ever be, as far as processors go."""
        return processors()

    async def _assembled(self, started: Mapping[asyncio.Task[None], Bench]) -> None:
        """Wait until there are workers enough to begin with. Raises UserError."""
        await asyncio.gather(*started)

    def _hire(
        self, orders: Orders, received: Callable[[Message], None], gone: Callable[[], None]
    ) -> Hand:
        """Return a worker that is still to be started."""
        return Hand(orders, received, gone)

    async def _fill(self, bench: Bench) -> None:
        """Start a worker for a place."""
        bench.told.clear()
        budget = self._driver.budget
        orders = Orders(
            self._parcel,
            bench.number,
            bench.place,
            budget is not None,
            self._served,
            report=demand.REPORT if self._scales() else 0.0,
        )
        hand = self._hire(orders, partial(self._take, bench), partial(self._lost, bench))
        bench.till = Till(budget, self._permits, hand.send)
        try:
            await hand.start()
        except BaseException:
            hand.kill()
            await hand.close()
            raise
        bench.stood(hand)
        for role in self._answering:
            hand.send("heard", role)
        self._assign()

    async def walk(self, task: Task) -> Walked:
        """Return what becomes of an item. Raises AgentloopError for what is the run's own."""
        if self._error is not None:
            raise self._error
        loop = asyncio.get_running_loop()
        memory = self._driver.journal.memory(task.item)
        job = Job(next(self._numbers), task, memory, loop.create_future())
        self._jobs[task.item] = job
        self._waiting.append(job)
        self._assign()
        try:
            return await job.done
        except asyncio.CancelledError:
            await self._leave(job)
            raise
        finally:
            del self._jobs[task.item]

    async def _leave(self, job: Job) -> None:
        """Have an item left where it is, and wait until what it has sent is written down."""
        if job.bench is None or job.bench.hand is None:
            return
        job.bench.hand.send("leave", job.number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(job.left.wait(), LEAVE)

    def _assign(self) -> None:
        """Hand out what waits: to whom has the least in hand, and no second suspect to anybody."""
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            if job.done.done():
                continue
            bench = self._free_bench(job)
            if bench is None or bench.hand is None:
                self._waiting.append(job)
                continue
            job.bench, bench.jobs[job.number] = bench, job
            bench.hand.send("walk", job.number, job.task, job.memory, job.lines)

    def _free_bench(self, job: Job) -> Bench | None:
        suspect = job.deaths >= SUSPECT
        free = [
            bench
            for bench in self._staff.benches
            if bench.hand is not None
            and bench.open
            and len(bench.jobs) < bench.place.share(items_at_once(self._plan.concurrency))
            and not (suspect and bench.suspects)
        ]
        return min(free, key=lambda bench: len(bench.jobs), default=None)

    def _take(self, bench: Bench, message: Message) -> None:
        """Do what a worker asks for."""
        kind, *parts = message
        own = getattr(self, f"_{kind}", None)
        if own is not None:
            own(bench, *parts)
        else:
            getattr(bench.till, kind)(*parts)

    def _page(self, bench: Bench, number: int | None, name: str, item: str, page: Page) -> None:
        if not self._pages:
            asyncio.get_running_loop().call_soon(self._commit)
        self._pages.append((bench, number, item, page))
        if bench.till is not None:
            bench.till.noted(name, page)

    def _commit(self) -> None:
        """Make safe what has come, in one write, and tell those who wait for it."""
        pages, self._pages = self._pages, []
        if not pages:
            return  # who could not wait has seen to them
        try:
            self._driver.journal.commit(*[page for *_, page in pages])
        except AgentloopError as error:
            self._fail(error)
            return
        safe: dict[Bench, list[int]] = {}
        for bench, number, item, page in pages:
            if page.kind in ("reply", "borrowed") and item in self._jobs:
                assert isinstance(page.line, bytes)
                self._jobs[item].lines.append(page.line)
            if number is not None:
                safe.setdefault(bench, []).append(number)
        for bench, numbers in safe.items():
            if bench.hand is not None:
                bench.hand.send("kept", numbers)

    def _walked(self, bench: Bench, number: int, walked: Walked) -> None:
        self._deaths = 0
        job = self._ended(bench, number)
        if not job.done.done():
            job.done.set_result(walked)

    def _raised(self, bench: Bench, number: int, error: Exception) -> None:
        self._deaths = 0
        job = self._ended(bench, number)
        if not job.done.done():
            job.done.set_exception(error)

    def _left(self, bench: Bench, number: int) -> None:
        self._ended(bench, number)

    def _ended(self, bench: Bench, number: int) -> Job:
        self._commit()
        job = bench.ended(number)
        self._assign()
        return job

    def _heard(self, bench: Bench, role: str) -> None:
        """Let everybody know that a model has answered: all are as patient with it from then on."""
        if role in self._answering:
            return
        self._answering.add(role)
        for other in self._staff.everybody:
            if other.hand is not None:
                other.hand.send("heard", role)

    def _note(self, bench: Bench, text: str) -> None:
        """Pass a word on, unless another worker has said as much."""
        bench.told[text] += 1
        if bench.told[text] > self._told[text]:
            self._told[text] += 1
            self._driver.note(text)

    def _obeyed(self, bench: Bench, number: int) -> None:
        bench.obeyed(number)

    def _load(self, bench: Bench, load: Load) -> None:
        if not self._closing:
            self._staff.weigh(bench, load)

    def _changed(self, text: str) -> None:
        """Tell of a change among workers; what waits may have somebody to go to."""
        self._driver.note(text)
        self._assign()

    def _busy(self, bench: Bench) -> None:
        """Pass on that a limit refused a request."""
        self._driver.refused()

    def _fail(self, error: AgentloopError) -> None:
        """End all that is on its way, and all that is still to come, with an error."""
        self._error = self._error or error
        for job in self._jobs.values():
            if not job.done.done():
                job.done.set_exception(error)

    def _lost(self, bench: Bench) -> None:
        if not self._closing:
            self._in_the_background(self._mend(bench))

    def _in_the_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside all else; what it raises ends all that is on its way."""
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._beside.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, AgentloopError):
            error = WorkerError(f"a worker cannot be replaced: {type(error).__name__}: {error}")
        if error is not None:
            self._fail(error)

    async def _mend(self, bench: Bench) -> None:
        """Have the items of a worker that died go on, and fill its place unless it was to go."""
        if bench.hand is None:
            return  # it was let go
        await self._take_over(bench)
        self._assign()
        if self._error is None and not bench.leaving:
            await self._refill(bench)

    async def _take_over(self, bench: Bench) -> None:
        """Have the items of a worker that died wait for another."""
        hand, bench.hand = bench.hand, None
        assert hand is not None
        assert bench.till is not None
        self._commit()
        bench.till.cut_off()
        jobs = bench.bereft()
        how = await hand.ended()
        self._blame(jobs, how)
        again = [job for job in jobs if not job.done.done()]
        self._waiting.extendleft(reversed(again))
        self._deaths += 1
        if self._deaths > GUILTY * (len(self._staff.everybody) + 1):
            raise WorkerError(
                f"{self._deaths} workers died one after the other, and no item came home between "
                f"them; the last {how}"
            )
        next_one = "it was to go" if bench.leaving else "another takes its place"
        self._driver.note(
            f"{hand.name} {how}: {next_one}, and what it had in hand ({len(again)}) goes on from the "
            "journal"
        )

    async def _refill(self, bench: Bench) -> None:
        """Fill the place of a worker that died; where nobody can, others go on. Raises for the last."""
        try:
            await self._fill(bench)
        except Exception as error:
            await self._staff.do_without(bench, error)

    def _blame(self, jobs: Sequence[Job], how: str) -> None:
        """Count a death for those that have seen most; give up what has seen too many."""
        most = max((job.deaths for job in jobs), default=0)
        for job in jobs:
            if job.deaths < most:
                continue
            job.deaths += 1
            if job.deaths >= GUILTY and not job.done.done():
                detail = f"{job.deaths} worker processes died over it; the last {how}"
                verdict = Verdict(verdict="failed", reason="error", detail=detail)
                job.done.set_result(Walked(verdict))

    async def close(self) -> None:
        """End the workers; what they still have to say is written down."""
        self._closing = True
        await asyncio.sleep(0)  # all that was begun has begun, and sees that it is cancelled
        for task in list(self._beside):
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        for permits in self._permits.values():
            permits.close()
        hands = [bench.hand for bench in self._staff.everybody if bench.hand is not None]
        await asyncio.gather(*[hand.close() for hand in hands])
        self._commit()
        for limits in self._limits.values():
            await limits.model.aclose()
