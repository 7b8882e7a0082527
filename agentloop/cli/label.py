"""`agentloop label`: people say in the terminal what is good, before they see what the machine says."""

from __future__ import annotations

import json
import os
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from agentloop.cli.look import RUN, look
from agentloop.plain import plain

if TYPE_CHECKING:
    from agentloop.records import Json
    from agentloop.rubric import Criterion
    from agentloop.store import Store
    from agentloop.store.labelled import Shown
    from agentloop.store.labels import Said

SHOWN = 4000  # characters of one field
KEYS = "1 good · 2 bad · 3 unsure · u undo · q quit"


@click.command()
@click.argument("store")
@RUN
@click.option("--annotator", default="", metavar="NAME", help="who labels, where several do")
@click.option("--criteria", is_flag=True, help="ask for the levels of the criteria, too")
@click.option("--rubric", default="", metavar="FILE", help="whose criteria  [the run's own]")
@click.option("--seed", type=int, default=0, metavar="N", help="another order  [0]")
@click.option(
    "--export", "output", metavar="FILE", help="write the labels as JSONL, and label nothing"
)
def label(store: str, run_name: str | None, output: str | None, **given: str | int | bool) -> None:
    """Say of a run's items whether they are good, for `agentloop calibrate STORE`.

    One item at a time; what the machine says of it is shown once you have. Scores of all heights have
    their turn, those near the threshold more often. A label is safe at once, also while a run goes on.
    """
    with look(store, run_name) as (opened, run):
        if output is not None:
            _export(opened, run, output)
            return
    _sit_down(opened, run, given)


def _export(store: Store, run: str, output: str) -> None:
    from agentloop import export
    from agentloop.labelled import export_labels

    lines = list(export_labels(store, run))
    if output == "-":
        export.copy(sys.stdout.buffer, iter(lines))
        sys.stdout.buffer.flush()
    else:
        export.write(output, iter(lines))
        click.echo(f"{len(lines):,} labels in {output}", err=True)


def _sit_down(store: Store, run: str, given: dict[str, str | int | bool]) -> None:
    from agentloop.errors import CalibrationError, UserError
    from agentloop.labelled import find_rubric, threshold_of
    from agentloop.store.labelled import to_label
    from agentloop.store.labels import read_done

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(
            "`agentloop label` asks a person, in a terminal; `--export FILE` asks nobody"
        )
    who = str(given["annotator"])
    rubric = None
    try:
        rubric = find_rubric(store, run, str(given["rubric"]))
    except CalibrationError as error:
        if given["criteria"] or given["rubric"]:
            raise
        click.echo(plain(f"{error}; until then no levels of criteria are asked for"), err=True)
    done = read_done(store, run, who)
    accept_at = threshold_of(store, run, rubric)
    order = to_label(store, run, accept_at, done=done, seed=int(given["seed"]))
    if not order:
        raise UserError(f"run `{run}` has nothing to label yet: no graded candidate is settled")
    click.echo(f"run {plain(run)} · {KEYS} · {len(done):,} labelled before", err=True)
    criteria = rubric.judged if rubric and given["criteria"] else ()
    with _Keys() as keys:
        said = _Sitting(store, run, who, criteria, keys).through(order)
    click.echo(f"{said:,} labels; what they say: agentloop calibrate {store.path}", err=True)


class _Sitting:
    """One person in front of one run's items."""

    def __init__(
        self, store: Store, run: str, who: str, criteria: tuple[Criterion, ...], keys: _Keys
    ):
        self._store = store
        self._run = run
        self._who = who
        self._criteria = criteria
        self._keys = keys

    def through(self, order: list[tuple[str, int, int]]) -> int:
        """Ask for one item after the other; return how many labels stand at the end."""
        from agentloop.store.labelled import read_shown
        from agentloop.store.labels import take_back

        said: list[Shown] = []
        while len(said) < len(order):
            item, opening, number = order[len(said)]
            found = read_shown(self._store, self._run, [item]).values()
            shown = next(s for s in found if s.place[1:3] == (opening, number))
            key = self._keys.ask("\n".join(_told(shown, len(said) + 1)), "123uq")
            if key == "q":
                break
            if key == "u":
                if said:
                    take_back(self._store, self._run, said.pop().place, who=self._who)
                continue
            self._say(shown, key)
            said.append(shown)
        return len(said)

    def _say(self, shown: Shown, key: str) -> None:
        from agentloop.store.labels import has_told, say, say_level

        words: dict[str, Said] = {"1": "good", "2": "bad", "3": "unsure"}
        blind = not has_told(self._store, self._run, shown.place.item, self._who)
        say(self._store, self._run, shown.place, words[key], who=self._who, blind=blind)
        click.echo(f"  {words[key]}")
        for criterion in self._criteria:
            numbers = "123456789"[: len(criterion.levels)]
            levels = zip(numbers, criterion.levels, strict=False)
            listed = " · ".join(f"{number} {level}" for number, level in levels)
            asked = plain(f"{criterion.ask}  {listed} · Enter skips")
            if (chosen := self._keys.ask(asked, numbers + "\n")) in numbers:
                level = criterion.levels[numbers.index(chosen)]
                at = (self._store, self._run, shown.place)
                say_level(*at, criterion.name, level, who=self._who, blind=blind)
        click.echo("\n".join(_machine(shown)))


class _Keys:
    """Single keys from the terminal, which gives them unasked for while this is entered."""

    def __init__(self) -> None:
        self._file = sys.stdin.fileno()
        self._typed: list[str] = []

    def __enter__(self) -> _Keys:
        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file, termios.TCSADRAIN)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def ask(self, question: str, known: str) -> str:
        """Show a question and return the next of some keys; Abort at the end of what is typed.

        Keys that were typed before it stood there answer nothing.
        """
        self._typed.clear()
        termios.tcflush(self._file, termios.TCIFLUSH)
        click.echo(question)
        while True:
            while not self._typed:
                read = os.read(self._file, 64).decode("latin-1")
                if read in ("", "\x04"):
                    raise click.Abort
                self._typed += [] if read.startswith("\x1b") else read  # an arrow is `ESC [ 1 …`
            if (key := self._typed.pop(0)) in known:
                return key


def _told(shown: Shown, number: int) -> Iterator[str]:
    yield f"\n{'─' * 24} {number}"
    yield from _fields("seed", shown.seed)
    yield ""
    yield from _fields("candidate", shown.candidate)
    yield f"\n{KEYS}"


def _fields(title: str, fields: Json) -> Iterator[str]:
    yield title
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines = text[:SHOWN].split("\n")
        yield f"  {plain(name)}: {plain(lines[0])}"
        yield from (f"    {plain(line)}" for line in lines[1:])
        if len(text) > SHOWN:
            yield f"    … {len(text) - SHOWN:,} more characters"


def _machine(shown: Shown) -> Iterator[str]:
    from agentloop.records import floored

    if shown.grade is None:
        yield f"  the machine: no grade ({shown.reason})"
        return
    why = f", {shown.reason}" if shown.reason else ""
    marks = " · ".join(f"{mark.criterion}: {mark.level}" for mark in shown.grade.marks)
    yield plain(f"the machine: score {floored(shown.grade.score)}{why} · {marks}")
