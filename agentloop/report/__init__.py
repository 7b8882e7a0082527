"""The report of a run: one HTML file that opens without a network and says what came of it, and why.

Enters: a store, a run, a grading, a path. Leaves: the file, whole or not at all; it holds its style and
its charts, no script, and asks for nothing. Refuses to know: how a figure came about.

Whatever a seed or a model wrote goes through one gate on its way into the page: control and direction
characters are written out, then all is escaped.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from agentloop.calibration_report import told as shown_estimate
from agentloop.errors import UserError
from agentloop.export import refuse_store, write
from agentloop.plain import shown
from agentloop.records import Json, floored
from agentloop.report.contents import contents, percent

if TYPE_CHECKING:
    from agentloop.store import Store


def save_report(store: Store, target: str | Path, run: str | None = None, grading: int = 0) -> int:
    """Write the report of a run, the latest by default; return its size in bytes.

    Raises UserError for a file that cannot be written or is a store, StoreError for what there is not.
    """
    path = Path(target).resolve()
    if path.is_dir():
        raise UserError(f"`{target}` is a folder: name a file, as in `report.html`")
    refuse_store(path)
    name = store.run(run)
    data = page(store, name, store.grading(grading, name)).encode()
    write(target, [data])
    return len(data)


def page(store: Store, run: str, grading: int = 0) -> str:
    """Return the report of a run as HTML."""
    return _rendered(contents(store, run, grading))


def _rendered(values: Json) -> str:
    folder = files("agentloop.report")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
    )
    environment.filters |= {
        "count": "{:,}".format,
        "share": _share,
        "percent": percent,
        "score": floored,
        "usd": _usd,
        "figure": _figure,
        "interval": _interval,
        "estimate": shown_estimate,
    }
    return environment.get_template("page.html.j2").render(values)


def _share(value: float) -> str:
    return f"{value:.1%}".replace("%", " %")


def _usd(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.2f}" if value >= 10 or not value else f"{value:.4g}"


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _interval(estimate: Any) -> str:
    found = estimate if isinstance(estimate, dict) else vars(estimate)
    low, high = (f"{100 * found[name]:.0f}" for name in ("low", "high"))
    return f"{100 * found['value']:.0f} % [{low}, {high}]"
