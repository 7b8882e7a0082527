"""The runner: a recipe, seeds and settings to a run that one can ask, export and start again.

    run = agentloop.run("grounded_qa", seeds="passages.jsonl", store="qa.duckdb", accept=20)

Enters: what `Settings` knows, in the same words. Leaves: a `Run`. Refuses to know: how items are walked
(`session`), what was decided before (`plan`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentloop.calibration_report import CalibrationReport, Known, known_of, summary_line, trust_in
from agentloop.config import ROLES, Settings, load_settings
from agentloop.errors import UserError
from agentloop.forecast import Forecast, forecast
from agentloop.plan import prepare
from agentloop.progress import Callback, Progress, progress_for
from agentloop.recipe import Recipe
from agentloop.recipes import FoundRecipe
from agentloop.records import Event, Json
from agentloop.session import Session
from agentloop.store import Store
from agentloop.store.evidence import Evidence
from agentloop.store.trust import Judged
from agentloop.tally import told


@dataclass(frozen=True)
class Run:
    """A run that has ended, for now: its counts, and what can be done with them."""

    store: Path
    counts: Json
    exit_code: int
    calibration: CalibrationReport | None = None
    """What is known of its critic."""

    @property
    def name(self) -> str:
        """The run's name in its store."""
        return str(self.counts["run"])

    @property
    def stopped_by(self) -> str:
        """What ended it: `accept`, `items`, `seeds`, `budget`, `seconds` or `interrupt`."""
        return str(self.counts["stopped_by"])

    @property
    def trust(self) -> str:
        """One line on what its verdicts are worth: the critic beside people, the corrected quality."""
        return summary_line(self._known(), self._judged())

    def _known(self) -> Known | None:
        if self.calibration is not None:
            return Known(self.calibration)
        return known_of(Store(self.store), self.name) if self.counts["attempts"] else None

    def _judged(self) -> Judged:
        return Judged(*Store(self.store).judged(self.name) if self.counts["attempts"] else (0, 0))

    def items(self, verdict: str = "accepted", where: str = "") -> Iterator[Json]:
        """Yield rows of the view `examples`."""
        return Store(self.store).examples(self.name, verdict=verdict, where=where)

    def export(
        self,
        path: str | Path,
        *,
        shape: str = "messages",
        where: str = "",
        verdict: str = "",
        mix: str = "",
        split: str = "",
        all_runs: bool = False,
    ) -> int:
        """Write JSONL, or Parquet, with its card and manifest; return the number of lines.

        `mix` puts people's examples among them: `FILE:SHARE`; `split` makes a file for each side:
        `0.1` or `train:0.9,validation:0.1`; `all_runs` takes all runs of the store. Without a
        `verdict` those of accepted items, for the shape `kto` of all.
        """
        from agentloop.export.mixing import Mixture
        from agentloop.export.saving import save
        from agentloop.export.splitting import Split

        store = Store(self.store)
        return save(
            store,
            path,
            runs=store.runs() if all_runs else [self.name],
            shape=shape,
            verdict=verdict,
            where=where,
            mix=Mixture.of(mix) if mix else None,
            split=Split.of(split) if split else None,
        )

    def report(self, path: str | Path) -> int:
        """Write one HTML file that says what came of it, and why; return its size in bytes."""
        from agentloop.report import save_report

        return save_report(Store(self.store), path, self.name)

    def evidence(self) -> Evidence:
        """Return what audits and canaries say of its grades; nothing of a run without an item."""
        return Store(self.store).evidence(self.name) if self.counts["seeds"] else Evidence()

    def as_dict(self) -> Json:
        """Return its counts, and what its verdicts are worth, as JSON values."""
        return {
            **self.counts,
            "evidence": self.evidence().as_dict(),
            "calibration": trust_in(self._known(), self._judged()),
        }

    def __str__(self) -> str:
        costs = self.evidence().costs.line
        return "\n".join(filter(None, [told(self.counts), costs]))


def run(recipe: str | Recipe | FoundRecipe, **settings: Any) -> Run:
    """Run a recipe to its target and return what came of it; see `Settings` for the words.

    Raises UserError for wrong settings, AccessError or UnreachableError for an endpoint that cannot
    serve. In a notebook a loop is already running: `await agentloop.arun(…)` there.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(arun(recipe, **settings))
    raise UserError("an event loop is running here (a notebook?): use `await agentloop.arun(…)`")


async def arun(
    recipe: str | Recipe | FoundRecipe,
    *,
    config: str | Path | None = None,
    models: Mapping[str, Any] | None = None,
    progress: str | Progress | Callable[[Event], Any] | None = "none",
    **settings: Any,
) -> Run:
    """Run a recipe inside a running event loop; like `run`.

    `models` maps roles to names or Model objects; `progress` is a mode, a function of events, or a
    `Progress`.
    """
    own, mode = watcher(progress)
    merged = _settings(settings, models, config, mode)
    plan = prepare(recipe, merged)
    ending = await Session(plan, own or progress_for(merged.progress)).play()
    return Run(plan.store, ending.counts, ending.exit_code, plan.calibration)


def dry_run_of(
    recipe: str | Recipe | FoundRecipe,
    *,
    config: str | Path | None = None,
    models: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Forecast:
    """Return what a run would do and cost, without a call or a store; raises UserError like `run`."""
    return forecast(prepare(recipe, _settings(settings, models, config)))


def _settings(
    given: Mapping[str, Any],
    models: Mapping[str, Any] | None,
    config: str | Path | None,
    progress: str | None = None,
) -> Settings:
    named = dict(models or {})
    usual = {role: named.pop(role) for role in ROLES if role in named}
    roles = {role: {"model": model} for role, model in named.items()}
    if roles:
        given = {**given, "roles": {**given.get("roles", {}), **roles}}
    return load_settings({**given, **usual, "progress": progress}, file=config)


def watcher(progress: Any) -> tuple[Progress | None, str | None]:
    """Return who watches, or the mode that says who will."""
    if progress is None or isinstance(progress, str):
        return None, progress
    if callable(progress):
        return Callback(progress), "none"
    return progress, "none"
