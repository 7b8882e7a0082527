"""`agentloop report`: one HTML file that says what came of a run, and why.

Enters: a store, which run, a path. Leaves: the file; one line on stderr. Refuses to know: what stands in
it, how it looks.
"""

from __future__ import annotations

import click

from agentloop.cli.look import GRADING, RUN, look, say_which_grading


@click.command()
@click.argument("store")
@click.option("-o", "--output", required=True, metavar="FILE", help="where to, as in report.html")
@RUN
@GRADING
def report(store: str, output: str, run_name: str | None, grading: int) -> None:
    """Write a run's report: one HTML file that opens without a network.

    From seeds to accepted, verdicts, scores by criterion, what revisions fixed and broke, agreement and
    calibration, variety over time, acceptance by stratum, cost, and the 20 items to read first.
    """
    with look(store, run_name) as (opened, run):
        chosen = say_which_grading(opened, run, grading)
        from agentloop.report import save_report

        size = save_report(opened, output, run, chosen)
    click.echo(f"report of run {run} in {output}, {size / 1000:,.0f} kB", err=True)
