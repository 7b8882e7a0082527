"""The command line: thin commands over the Python API, the same words in both.

Enters: arguments. Leaves: data on stdout, people's lines on stderr, an exit code: 0 done, 1 unexpected,
2 usage or settings, 3 stopped short or flagged, 130 interrupted. Refuses to know: how anything is done.
Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

import click

from agentloop import __version__
from agentloop.cli.calibrate import calibrate
from agentloop.cli.compare import diff, rounds
from agentloop.cli.doctor import doctor
from agentloop.cli.label import label
from agentloop.cli.look import export, status, why
from agentloop.cli.merge import merge
from agentloop.cli.recipes import init, recipes
from agentloop.cli.regrade import regrade
from agentloop.cli.report import report
from agentloop.cli.rubric import rubric
from agentloop.cli.run import run
from agentloop.cli.view import view
from agentloop.errors import AgentloopError, did_you_mean
from agentloop.plain import plain


class Commands(click.Group):
    """Commands in the order of a day's work, with a hint for a mistyped one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands as they were added."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which one was probably meant."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            hint = did_you_mean(args[0], self.commands)
            raise click.UsageError(f"there is no command `{args[0]}`{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; where nobody reads on, as in `agentloop status … | head`, it is done."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would call it an error
            _drop(sys.stdout)
            return 0


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="agentloop", message="%(prog)s %(version)s")
def cli() -> None:  # the backslash must reach click as a backspace
    """Make training data from real seeds: generate, check, grade, repair, and ask why.

    \b
    agentloop run grounded_qa --seeds passages.jsonl --store qa.duckdb --accept 20
    agentloop why qa.duckdb 7f3a
    agentloop export qa.duckdb -o qa.jsonl
    """  # noqa: D301


for command in (
    run, status, why, report, view, label, export, calibrate, regrade, diff, rounds,
    merge, recipes, init, rubric, doctor,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: more threads only spin
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, as a daemon starts us
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    code = run_cli(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # who read it is gone
            _drop(stream)
    sys.exit(code)


def run_cli(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    try:
        code = cli.main(arguments, prog_name="agentloop", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _fail(error.format_message(), 2)
    except AgentloopError as error:
        return _fail(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except BrokenPipeError:  # `agentloop export … | head`: nobody reads on
        _drop(sys.stdout)
        return 0
    except OSError as error:
        _drop(sys.stdout)
        return _fail(f"the output cannot be written: {error.strerror or error}", 2)


def _drop(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, so that it is not tried again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(message: str, code: int) -> int:
    click.echo(f"agentloop: {plain(message)}", err=True)
    return code
