"""`agentloop doctor`: what is installed, and the embedded model's weights."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

PACKAGES = ("langgraph", "litellm", "pydantic", "duckdb", "rich", "aiohttp", "xllamacpp")


@click.command()
@click.option(
    "--fetch-model",
    is_flag=False,
    flag_value="local",
    metavar="[NAME]",
    help="fetch the embedded model's weights (1.1 GB; `smollm2`: 0.1 GB, for tests)",
)
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout")
def doctor(fetch_model: str | None, as_json: bool) -> None:
    """Say what works here; with --fetch-model, make the embedded model work."""
    if fetch_model is not None:
        _fetch(fetch_model)
    report = _report()
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(f"agentloop {report['agentloop']} on Python {report['python']}")
    for name, version in report["packages"].items():
        click.echo(f"  {name:<10} {version or 'not installed'}")
    for name, state in report["weights"].items():
        click.echo(f"  {name:<16} {state}")
    keys = ", ".join(report["keys"]) or "none"
    click.echo(f"  keys set in the environment: {keys}")
    click.echo(f"  default model: {report['default_model']}")
    click.echo("  walls around generated code:")
    for what, stands in report["sandbox"].items():
        click.echo(f"    {'yes' if stands else 'NO ':<4}{what}")


def _fetch(name: str) -> None:
    from agentloop.errors import UserError, did_you_mean
    from agentloop.models.weights import KNOWN, fetch

    by_name = KNOWN | {weights.name: weights for weights in KNOWN.values()}
    if name not in by_name:
        raise UserError(f"unknown weights `{name}`{did_you_mean(name, by_name)}")
    weights = by_name[name]
    if weights.present:
        click.echo(f"{weights.title} is here: {weights.path}", err=True)
        return
    size = weights.size / 1e9
    click.echo(f"fetching {weights.title} ({size:.1f} GB, {weights.licence})", err=True)
    fetch(weights, _teller())
    click.echo(f"verified, kept in {weights.path}", err=True)


def _teller() -> Any:
    """Return a progress function: one moving line on a terminal, tenths elsewhere."""
    shown: dict[str, int] = {}

    def tell(what: str, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if percent == shown.get(what) or (not sys.stderr.isatty() and percent % 10):
            return
        shown[what] = percent
        ending = "" if sys.stderr.isatty() and percent < 100 else "\n"
        start = "\r" if sys.stderr.isatty() else ""
        click.echo(f"{start}{what} {percent:3d} %{ending}", err=True, nl=False)

    return tell


def _report() -> dict[str, Any]:
    import platform

    from agentloop import __version__
    from agentloop.checks.sandbox import WALLS, walls
    from agentloop.models.choose import OPENAI_COMPATIBLE
    from agentloop.models.embedded import installed
    from agentloop.models.weights import KNOWN

    variables = [p.key for p in OPENAI_COMPATIBLE.values() if p.key]
    variables += ["ANTHROPIC_API_KEY", "GEMINI_API_KEY"]
    standing = walls()
    return {
        "agentloop": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "weights": {
            name: "here" if weights.present else "not fetched" for name, weights in KNOWN.items()
        },
        "keys": sorted(name for name in variables if os.environ.get(name)),
        "default_model": "local" if installed() else None,
        "sandbox": {what: wall in standing for wall, what in WALLS.items()},
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
