"""`agentloop view`: a run in the browser, on this machine alone."""

from __future__ import annotations

import click

from agentloop.cli.look import RUN
from agentloop.plain import plain

EXTRA = (
    "the live page needs its extra: `pip install 'agentloop-data[view]'` "
    "(`agentloop status`, `why` and `label` need nothing)"
)


@click.command()
@click.argument("store")
@RUN
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N",
              help="which port  [a free one]")  # fmt: skip
@click.option("--annotator", default="", metavar="NAME", help="who labels, where several do")
@click.option("--rubric", default="", metavar="FILE", help="whose criteria  [the run's own]")
@click.option("--no-browser", is_flag=True, help="print the address, open nothing")
def view(
    store: str, run_name: str | None, port: int, annotator: str, rubric: str, no_browser: bool
) -> None:
    """Show a store in the browser: follow a run, search its items, read their stories, label them.

    It answers on 127.0.0.1 only, to who has the address that it prints, until Ctrl-C. Keys: j and k go
    on and back, Enter opens, / searches; 1 is good, 2 bad, 3 unsure, u takes back; a letter goes to a
    criterion. What you label after you saw its grade, in a list too, no calibration counts.
    """
    from agentloop.errors import SettingsError

    try:
        from agentloop.view.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise SettingsError(EXTRA) from error

    serve(
        store,
        run_name,
        port=port,
        browser=not no_browser,
        annotator=annotator,
        rubric=rubric,
        told=click.echo,
        note=lambda line: click.echo(plain(line), err=True),
    )
    raise click.Abort  # nothing else ends it
