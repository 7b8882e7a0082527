"""The pages of one store: its items, an item's story, candidates to label.

Enters: requests that the guard let pass. Leaves: HTML, counts as JSON, labels in the store's inbox.
Refuses to know: who may ask (`guard`), how a store is read.

Every page opens the store, reads, and closes it: a run that writes it meanwhile waits for nobody.

Whose verdict or score a list or a story has shown, that item is labelled no longer blind, and comes
late in the order to label. An earlier server's lists are not remembered; labels are, by the store.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from agentloop.errors import AgentloopError, CalibrationError, StoreError
from agentloop.labelled import find_rubric, threshold_of
from agentloop.plain import shown as shown_text
from agentloop.records import Item, Json, digest, floored
from agentloop.rubric import Rubric
from agentloop.store import VERDICTS, Store
from agentloop.store.browse import Wanted, criteria_of, read_page
from agentloop.store.evidence import read_variety
from agentloop.store.files import StoreBusy, connect
from agentloop.store.inbox import SAID
from agentloop.store.labelled import Shown, read_shown, to_label
from agentloop.store.labels import (
    UNSURE,
    Label,
    Place,
    has_told,
    read_done,
    read_labels,
    say,
    say_level,
    take_back,
)
from agentloop.store.now import Now, read_now
from agentloop.tally import clock, goal_told, money, state_told, variety_told
from agentloop.view import showing

Made: TypeAlias = Callable[[], Response]
"""Makes an answer of what was read, without the store."""

HERE = Path(__file__).parent
QUEUE = 500  # candidates in the order to label them
DIGITS = 9  # of a number in an address


class Pages:
    """What is shown of one store, to one person."""

    def __init__(self, store: Store, run: str | None = None, who: str = "", rubric: str = ""):
        self._store = store
        self._run = run
        self._who = who
        self._file = rubric
        self._orders: dict[str, list[tuple[str, int, int]]] = {}
        self._revealed: set[tuple[str, str]] = set()
        """Run and item of those whose verdict or score a list or a story has shown."""
        self._rubrics: dict[str, tuple[Rubric | None, str]] = {}
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=shown_text,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"short": showing.short, "score": floored, "named": named}

    @property
    def app(self) -> Starlette:
        """The application, without its guard."""
        routes = [
            Route("/", self._reading(self._items)),
            Route("/item/{item}", self._reading(self._item)),
            Route("/label", self._reading(self._label)),
            Route("/label", self._said, methods=["POST"]),
            Route("/live", self._reading(self._live)),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]
        handlers: Any = {AgentloopError: self._failed, HTTPException: self._failed}
        return Starlette(routes=routes, exception_handlers=handlers)

    def _reading(self, show: Callable[[Request], Made]) -> Callable[[Request], Response]:
        """Open the store once for all that a page reads, and make the page when it is closed."""

        def shown(request: Request) -> Response:
            with connect(self._store.path, write=False):
                made = show(request)
            return made()

        return shown

    # What is asked

    def _chosen(self, request: Request) -> tuple[str, int]:
        """Return the run and the grading that an address names."""
        run = self._store.run(request.query_params.get("run") or self._run)
        number = _whole(request.query_params.get("grading") or "0")
        return run, self._store.grading(number, run)

    def _rubric(self, run: str) -> tuple[Rubric | None, str]:
        """Return the run's rubric, which names the levels that people may give, or why it lacks."""
        if run not in self._rubrics:
            self._rubrics[run] = self._find_rubric(run)
        return self._rubrics[run]

    def _find_rubric(self, run: str) -> tuple[Rubric | None, str]:
        with contextlib.suppress(CalibrationError):  # another run's may be found by itself
            return find_rubric(self._store, run, self._file), ""
        try:
            return find_rubric(self._store, run), ""
        except CalibrationError as error:
            return None, f"{error}; until then no levels of criteria are asked for"

    def _labels(self, run: str, *items: str) -> dict[Place, Label]:
        """Return what this person said of some items, by the candidate."""
        labels = read_labels(self._store, run, items=items, who=self._who)
        return {label.place: label for label in labels}

    def _blind(self, run: str, item: str) -> bool:
        """Whether this person was shown no grade of an item, as far as is known."""
        shown = (run, item) in self._revealed
        return not shown and not has_told(self._store, run, item, self._who)

    # Pages

    def _items(self, request: Request) -> Made:
        run, grading = self._chosen(request)
        wanted = _wanted(request)
        page = read_page(self._store, run, wanted, grading=grading, after=_after(request))
        following = None
        if page.next is not None:
            query = {"after": repr(page.next[0]), "last": page.next[1]}
            following = f"/?{request.url.include_query_params(**query).query}"
        items = [row.item for row in page.rows]
        self._revealed.update((run, item) for item in items)
        return self._show(
            "items.html",
            run,
            grading,
            page=page,
            wanted=wanted,
            following=following,
            reasons=sorted(self._store.reasons(run, grading)),
            criteria=criteria_of(self._store, run, grading),
            labels={place.item: label.said for place, label in self._labels(run, *items).items()},
            first=_after(request) is None,
        )

    def _item(self, request: Request) -> Made:
        run, grading = self._chosen(request)
        story = self._store.item(request.path_params["item"], run, grading)
        beside = request.query_params.get("beside", "")
        other = None
        if beside:
            number = self._store.grading(_whole(beside), run)
            other = self._store.item(story.item.id, run, number)
        shown = self._kept(run, story.item, grading)
        label = self._labels(run, story.item.id).get(shown.place) if shown else None
        rubric, lacking = self._rubric(run)
        self._revealed.add((run, story.item.id))
        return self._show(
            "item.html",
            run,
            grading,
            story=story,
            item=story.item,
            other=other,
            beside=int(beside) if other else None,
            told=partial(showing.told, story, other),
            listed=showing.LISTED,
            listed_calls=showing.CALLS,
            shown=shown,
            label=label,
            blind=bool(label and label.said and label.blind),
            rubric=rubric,
            lacking=lacking,
            cost=money(story.cost_usd),
        )

    def _label(self, request: Request) -> Made:
        """Show one candidate, and nothing that the machine says of it until it is labelled."""
        run, grading = self._chosen(request)
        rubric, lacking = self._rubric(run)
        at = _whole(request.query_params.get("at", ""))
        if at < 0 or run not in self._orders:
            self._orders[run] = self._order(run, rubric)
            query = request.url.include_query_params(at=0).query
            return partial(RedirectResponse, f"/label?{query}", 303)
        order = self._orders[run]
        if at >= len(order):
            return self._show("done.html", run, grading, count=len(order))
        item, *place = order[at]
        found = read_shown(self._store, run, [item]).values()
        shown = next(shown for shown in found if [*shown.place[1:3]] == place)
        label = self._labels(run, item).get(shown.place)
        said = label is not None and label.said is not None
        return self._show(
            "label.html",
            run,
            grading,
            shown=shown,
            seed=showing.plain_fields(shown.seed),
            candidate=showing.plain_fields(shown.candidate),
            label=label,
            blind=label.blind if label and said else self._blind(run, item),
            hidden=not has_told(self._store, run, item, self._who),
            rubric=rubric,
            lacking=lacking,
            at=at,
            count=len(order),
            labelled=len(read_done(self._store, run, self._who)),
        )

    def _order(self, run: str, rubric: Rubric | None) -> list[tuple[str, int, int]]:
        """Choose what to label next: what was seen comes late, what was labelled last."""
        done = read_done(self._store, run, self._who)
        seen = {item for of, item in self._revealed if of == run}
        accept_at = threshold_of(self._store, run, rubric)
        order = to_label(self._store, run, accept_at, done=done | seen, most=QUEUE)
        return sorted(order, key=lambda candidate: candidate[0] in done)

    async def _said(self, request: Request) -> Response:
        """Take a label, and show what the machine said."""
        try:
            told = orjson.loads(await request.body())
        except orjson.JSONDecodeError as error:
            raise HTTPException(400, "this is no JSON") from error
        return await run_in_threadpool(self._take, told)

    def _take(self, told: Any) -> Response:
        run, shown, rubric = self._read_label(told)
        place, who, store = shown.place, self._who, self._store
        blind = self._blind(run, place.item)
        if "criterion" in told:
            level = told.get("level") or None
            known = {c.name: (*c.levels, UNSURE) for c in rubric.judged} if rubric else {}
            if level is not None and level not in known.get(told["criterion"], ()):
                raise HTTPException(400, "there is no such level")
            say_level(store, run, place, told["criterion"], level, who=who, blind=blind)
        elif word := told.get("said") or None:
            if word not in SAID:
                raise HTTPException(400, "a candidate is good, bad or unsure")
            say(store, run, place, word, who=who, blind=blind)
        else:
            take_back(store, run, place, who=who)
        label = self._labels(run, place.item).get(place)
        machine = ""
        if has_told(store, run, place.item, who):
            machine = self._environment.get_template("machine.html").render(shown=shown, run=run)
        return JSONResponse(
            {
                "said": label.said if label else None,
                "levels": dict(label.levels) if label else {},
                "blind": label.blind if label and label.said else self._blind(run, place.item),
                "machine": machine,
            }
        )

    def _read_label(self, told: Any) -> tuple[str, Shown, Rubric | None]:
        if not isinstance(told, dict):
            raise HTTPException(400, "a label is an object")
        texts = [told.get(name) for name in ("run", "item", "candidate")]
        if not all(isinstance(text, str) for text in (*texts, told.get("criterion", ""))):
            raise HTTPException(400, "`run`, `item`, `candidate` and `criterion` are names")
        name, item, candidate = map(str, texts)
        run = self._store.run(name)
        for shown in read_shown(self._store, run, [item]).values():
            if named(shown.place) == candidate:
                return run, shown, self._rubric(run)[0]
        raise HTTPException(404, "there is no such candidate")

    def _kept(self, run: str, item: Item, grading: int) -> Shown | None:
        """Return the attempt that the verdict names."""
        if item.verdict is None or item.verdict.round is None:
            return None
        found = read_shown(self._store, run, [item.id], grading).values()
        kept = [shown for shown in found if shown.place.round == item.verdict.round]
        return max(kept, key=lambda shown: shown.place.opening, default=None)

    def _live(self, request: Request) -> Made:
        run, grading = self._chosen(request)
        return partial(JSONResponse, self._counts(run, grading))

    def _counts(self, run: str, grading: int) -> Json:
        counts = self._store.counts(run, grading)
        with connect(self._store.path, write=False) as connection:
            now = read_now(connection, counts, grading)
            variety = None if grading else read_variety(connection, run)
        light = "".join(variety_told(variety)) if variety and variety.batches else "not watched"
        return {
            **{verdict: counts[verdict] for verdict in VERDICTS},
            "settled": sum(counts[verdict] for verdict in VERDICTS),
            "target": goal_told(counts, now) if now.target else "none",
            "calls": f"{counts['calls']:,}{_pace(now)}",
            "cost": money(counts["cost_usd"]),
            "time": clock(counts["seconds"]),
            "variety": "none yet" if now.watched and light == "not watched" else light,
            "state": state_told(counts, now),
        }

    # How it is shown

    def _show(self, template: str, run: str, grading: int, **values: Any) -> Made:
        return partial(
            self._made,
            template,
            store=self._store.path.name,
            run=run,
            runs=self._store.runs(),
            grading=grading,
            gradings=self._store.gradings(run),
            counts=self._counts(run, grading),
            verdicts=VERDICTS,
            page_name=template.removesuffix(".html"),
            **values,
        )

    def _made(self, template: str, **values: Any) -> Response:
        text = self._environment.get_template(template).render(values)
        return HTMLResponse(text.encode("utf-8", "backslashreplace"))

    def _failed(self, request: Request, error: Exception) -> Response:
        """Say what went wrong, as a page, or as JSON to our own script."""
        code = 404 if isinstance(error, StoreError) else 400
        code = 503 if isinstance(error, StoreBusy) else code
        said = str(error)
        if isinstance(error, HTTPException):
            code, said = error.status_code, error.detail
        if request.method == "POST" or request.url.path == "/live":
            return JSONResponse({"error": said}, code)
        text = self._environment.get_template("error.html").render(said=said)
        return HTMLResponse(text.encode("utf-8", "backslashreplace"), code)


def _pace(now: Now) -> str:
    if not now.running:
        return ""
    flying = "" if now.on_the_way is None else f", {now.on_the_way:,} items in flight"
    return f", {now.calls_per_second:.1f}/s{flying}"


def _wanted(request: Request) -> Wanted:
    given = request.query_params
    names = ("verdict", "reason", "criterion", "text")
    return Wanted(
        **{name: given.get(name, "").strip() for name in names},
        low=_number(given.get("low", "")),
        high=_number(given.get("high", "")),
    )


def _after(request: Request) -> tuple[float, str] | None:
    time, item = _number(request.query_params.get("after", "")), request.query_params.get("last")
    return None if time is None or item is None else (time, item)


def named(place: Place) -> str:
    """Return a candidate's name that does not tell which attempt it is."""
    return digest([*place], 8)


def _whole(text: str) -> int:
    """Return a number in an address; -1 for what is none, or too long to be one."""
    return int(text) if text.isdecimal() and len(text) <= DIGITS else -1


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
