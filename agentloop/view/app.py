"""The pages of one store: its items, an item's story, candidates to label.

Enters: requests that the guard let pass. Leaves: HTML, counts as JSON, labels in the store's inbox.
Refuses to know: who may ask (`guard`), how a store is read.

Every page opens the store, reads, and closes it: a run that writes it meanwhile waits for nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from agentloop.errors import AgentloopError, CalibrationError, StoreError
from agentloop.labelled import find_rubric
from agentloop.plain import harmless
from agentloop.records import Item, Json
from agentloop.rubric import Rubric
from agentloop.store import VERDICTS, Store
from agentloop.store.browse import Wanted, criteria_of, read_page
from agentloop.store.files import StoreBusy, connect
from agentloop.store.inbox import SAID
from agentloop.store.labelled import Shown, read_shown, to_label
from agentloop.store.labels import Label, Place, read_labels, say, say_level
from agentloop.tally import clock, money
from agentloop.view import showing

HERE = Path(__file__).parent
QUEUE = 500  # candidates in the order to label them


class Pages:
    """What is shown of one store, to one person."""

    def __init__(self, store: Store, run: str | None = None, who: str = ""):
        self._store = store
        self._run = run
        self._who = who
        self._orders: dict[str, list[tuple[str, int, int]]] = {}
        self._revealed: set[tuple[str, str]] = set()
        """Run and item of those whose grade was shown."""
        self._rubrics: dict[str, Rubric | None] = {}
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"visible": harmless, "text": showing.as_text}

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

    def _reading(self, show: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """Open the store once for all that a page reads."""

        def shown(request: Request) -> Response:
            with connect(self._store.path, write=False):
                return show(request)

        return shown

    # What is asked

    def _chosen(self, request: Request) -> tuple[str, int]:
        """Return the run and the grading that an address names."""
        run = self._store.run(request.query_params.get("run") or self._run)
        number = request.query_params.get("grading") or "0"
        return run, self._store.grading(int(number) if number.isdecimal() else -1, run)

    def _rubric(self, run: str) -> Rubric | None:
        """Return the run's rubric where it is found: it names the levels that a person may give."""
        if run not in self._rubrics:
            try:
                self._rubrics[run] = find_rubric(self._store, run)
            except CalibrationError:
                self._rubrics[run] = None
        return self._rubrics[run]

    def _labels(self, run: str) -> dict[Place, Label]:
        """Return what this person said, by the candidate."""
        labels = read_labels(self._store, run)
        return {label.place: label for label in labels if label.who == self._who}

    # Pages

    def _items(self, request: Request) -> Response:
        run, grading = self._chosen(request)
        wanted = _wanted(request)
        page = read_page(self._store, run, wanted, grading=grading, after=_after(request))
        following = None
        if page.next is not None:
            query = {"after": repr(page.next[0]), "last": page.next[1]}
            following = f"/?{request.url.include_query_params(**query).query}"
        return self._show(
            "items.html",
            run,
            grading,
            page=page,
            wanted=wanted,
            following=following,
            reasons=sorted(self._store.reasons(run, grading)),
            criteria=criteria_of(self._store, run, grading),
            labels={place.item: label.said for place, label in self._labels(run).items()},
            first=_after(request) is None,
        )

    def _item(self, request: Request) -> Response:
        run, grading = self._chosen(request)
        story = self._store.item(request.path_params["item"], run, grading)
        beside = request.query_params.get("beside", "")
        other = None
        if beside.isdecimal():
            number = self._store.grading(int(beside), run)
            other = self._store.item(story.item.id, run, number)
        shown = self._kept(run, story.item, grading)
        self._revealed.add((run, story.item.id))
        return self._show(
            "item.html",
            run,
            grading,
            story=story,
            item=story.item,
            other=other,
            beside=int(beside) if other else None,
            seed=showing.seed_fields(story),
            drafts=showing.drafts(story, other),
            shown=shown,
            label=self._labels(run).get(shown.place) if shown else None,
            rubric=self._rubric(run),
            cost=money(story.cost_usd),
        )

    def _label(self, request: Request) -> Response:
        """Show one candidate, and nothing that the machine says of it until it is labelled."""
        run, grading = self._chosen(request)
        labels, rubric = self._labels(run), self._rubric(run)
        at = request.query_params.get("at", "")
        if not at.isdecimal() or run not in self._orders:
            done = [place.item for place, label in labels.items() if label.said]
            accept_at = rubric.accept_at if rubric else 0.5
            order = to_label(self._store, run, accept_at, done=done, most=QUEUE)
            self._orders[run] = order
            return RedirectResponse(f"/label?{request.url.include_query_params(at=0).query}", 303)
        order = self._orders[run]
        if int(at) >= len(order):
            return self._show("done.html", run, grading, count=len(order))
        shown = self._place(run, *order[int(at)])
        label = labels.get(shown.place)
        hidden = (run, shown.place.item) not in self._revealed
        if label and label.said:
            self._revealed.add((run, shown.place.item))
            hidden = False
        return self._show(
            "label.html",
            run,
            grading,
            shown=shown,
            seed=showing.plain_fields(shown.seed),
            candidate=showing.plain_fields(shown.candidate),
            label=label,
            hidden=hidden,
            rubric=rubric,
            at=int(at),
            count=len(order),
            labelled=sum(bool(label.said) for label in labels.values()),
        )

    async def _said(self, request: Request) -> Response:
        """Take a label, and show what the machine said."""
        try:
            told = await request.json()
        except ValueError as error:
            raise HTTPException(400, "this is no JSON") from error
        return await run_in_threadpool(self._take, told)

    def _take(self, told: Any) -> Response:
        run, shown, rubric = self._read_label(told)
        place, key = shown.place, (run, shown.place.item)
        if "criterion" in told:
            level = told.get("level") or None
            known = {c.name: c.levels for c in rubric.judged} if rubric else {}
            if level is not None and level not in known.get(told["criterion"], ()):
                raise HTTPException(400, "there is no such level")
            say_level(self._store, run, place, str(told["criterion"]), level, who=self._who)
        else:
            word = told.get("said") or None
            if word is not None and word not in SAID:
                raise HTTPException(400, "a candidate is good, bad or unsure")
            blind = key not in self._revealed
            say(self._store, run, place, word, who=self._who, blind=blind and word is not None)
            if word is not None:
                self._revealed.add(key)
        label = self._labels(run).get(place)
        machine = ""
        if key in self._revealed:
            machine = self._environment.get_template("machine.html").render(shown=shown, run=run)
        return JSONResponse(
            {
                "said": label.said if label else None,
                "levels": dict(label.levels) if label else {},
                "machine": machine,
            }
        )

    def _read_label(self, told: Any) -> tuple[str, Shown, Rubric | None]:
        if not isinstance(told, dict):
            raise HTTPException(400, "a label is an object")
        numbers = (told.get("opening"), told.get("round"))
        texts = (told.get("run"), told.get("item"))
        criterion = told.get("criterion", "")
        if not all(isinstance(text, str) for text in (*texts, criterion)):
            raise HTTPException(400, "`run`, `item` and `criterion` are names")
        if not all(type(number) is int for number in numbers):
            raise HTTPException(400, "`opening` and `round` are numbers")
        run = self._store.run(texts[0])
        return run, self._place(run, str(texts[1]), *numbers), self._rubric(run)  # type: ignore[arg-type]

    def _place(self, run: str, item: str, opening: int, number: int) -> Shown:
        for shown in read_shown(self._store, run, [item]).values():
            if shown.place[1:3] == (opening, number):
                return shown
        raise HTTPException(404, "there is no such attempt")

    def _kept(self, run: str, item: Item, grading: int) -> Shown | None:
        """Return the attempt that the verdict names."""
        if item.verdict is None or item.verdict.round is None:
            return None
        found = read_shown(self._store, run, [item.id], grading).values()
        kept = [shown for shown in found if shown.place.round == item.verdict.round]
        return max(kept, key=lambda shown: shown.place.opening, default=None)

    def _live(self, request: Request) -> Response:
        run, grading = self._chosen(request)
        return JSONResponse(self._counts(run, grading))

    def _counts(self, run: str, grading: int) -> Json:
        counts = self._store.counts(run, grading)
        return {
            **{verdict: counts[verdict] for verdict in VERDICTS},
            "settled": sum(counts[verdict] for verdict in VERDICTS),
            "calls": counts["calls"],
            "cost": money(counts["cost_usd"]),
            "time": clock(counts["seconds"]),
            "state": counts["stopped_by"] or "open",
        }

    # How it is shown

    def _show(self, template: str, run: str, grading: int, **values: Any) -> Response:
        text = self._environment.get_template(template).render(
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


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
