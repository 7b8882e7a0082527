"""The tests' side of a program whose code runs in a process of its own (`apart`).

Enters: the code's parts. Leaves: a module's names for tests to run in, those of the code among them.
Refuses to know: what the tests claim, and everything that happens in the code's process but what it
answers. This process holds what decides; nothing of the code's ever runs in it.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` takes as long as all the others
import builtins
import os

from agentloop.checks.apart import (
    BINARY,
    CHANGING,
    TWO_SIDED,
    UNARY,
    Beyond,
    Closed,
    Kept,
    Link,
    Raised,
    Reader,
    carried,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

LASTING = (signal.SIGKILL, signal.SIGSTOP)  # signals that cannot be handled


class Asking(Kept):
    """The link to the code's process."""

    def __init__(self, link: Link, child: int):
        self.link = link
        self.child = child

    def keep(self, value: object) -> str:
        """Return the number of an object of the code's; raises Beyond for any other."""
        if type(value) is Remote:
            return f"o{value._number};n"
        raise Beyond

    def find(self, number: int, shadow: object) -> object:
        """Return something to have in an object's stead."""
        return Remote(self, number, shadow)

    def ask(self, operation: str, *arguments: Any, **named: Any) -> Any:
        """Have something done in the code's process; raises what it raised, Beyond, SystemExit."""
        try:
            text = carried((operation, arguments, named), self)
        except Beyond:
            if operation == "call":
                raise
            raise TypeError("the code's object does not go with this one") from None
        try:
            self.link.send(text)
        except BrokenPipeError:
            self.mirror()
        result, after = self.hear()
        for old, new in zip(
            [a for a in arguments if type(a) in CHANGING], after or [], strict=False
        ):
            _update(old, new)
        return result

    def hear(self) -> tuple[Any, Any]:
        """Return what an answer holds; raises what the code raised."""
        try:
            fine, result, more = Reader(self.link.receive(), self).value()
        except Closed:
            self.mirror()
        if fine is True:
            return result, more
        kind = getattr(builtins, str(result), None)
        usual = isinstance(kind, type) and issubclass(kind, Exception)
        error: Any = Raised(more[1])
        if usual and kind and not issubclass(kind, UnicodeError | BaseExceptionGroup):
            error = kind(more[1])
        error.told = [str(text) for text in more]
        raise error

    def end(self) -> None:
        """Let the code's process end and wait until it has; its exit code is its own affair."""
        self.link.close()
        os.waitpid(self.child, 0)

    def mirror(self) -> NoReturn:
        """End as the code's process did, so that the keeper sees how."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        if code < 0:
            if -code not in LASTING:
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code)


class Remote:
    """An object of the code's. What is done to it is done in the code's process."""

    __slots__ = ("_asking", "_number", "_shadow")

    def __init__(self, asking: Asking, number: int, shadow: object):
        object.__setattr__(self, "_asking", asking)
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_shadow", shadow)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the code's object."""
        return self._asking.ask("call", self, *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return self._asking.ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._asking.ask("setattr", self, name, value)

    def __eq__(self, other: object) -> bool:
        if type(other) is Remote:
            return bool(self._asking.ask("eq", self, other))
        return self._shadow is not None and bool(self._shadow == other)

    def __hash__(self) -> int:
        return int(self._asking.ask("hash", self))


def _forward(name: str, *, turned: bool = False) -> Callable[..., Any]:
    if turned:
        return lambda self, other: self._asking.ask(name, other, self)
    return lambda self, *others: self._asking.ask(name, self, *others)


for _name in {**UNARY, **BINARY}:
    if _name != "hash":
        setattr(Remote, f"__{_name}__", _forward(_name))
for _name in TWO_SIDED:
    setattr(Remote, f"__r{_name}__", _forward(_name, turned=True))


class Names(dict[str, object]):
    """The names of the tests' module: its own, else the code's."""

    def __init__(self, asking: Asking):
        super().__init__(__name__="candidate", __builtins__=builtins)
        self.asking = asking
        super().__setitem__("isinstance", self._isinstance)

    def __missing__(self, name: str) -> Any:
        there, value = self.asking.ask("global", name)
        if there is not True:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        if not name.startswith("__"):
            try:
                self.asking.ask("assign", name, value)
            except (TypeError, RecursionError):  # the tests' own functions stay with them
                return

    def _isinstance(self, value: Any, kind: Any) -> bool:
        if type(value) is not Remote:
            return isinstance(value, kind)
        try:
            return bool(self.asking.ask("instancecheck", kind, value))
        except TypeError:  # the tests' own class
            return False


def _update(old: Any, new: Any) -> None:
    """Give a list, dict or set what the code's copy of it holds after a call."""
    if type(new) is not type(old):
        return
    if isinstance(old, list):
        old[:] = [_merged(o, n) for o, n in zip(old, new, strict=False)] + new[len(old) :]
    elif isinstance(old, dict):
        merged = {key: _merged(old.get(key), value) for key, value in new.items()}
        old.clear()
        old.update(merged)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    else:
        old[:] = new


def _merged(old: Any, new: Any) -> Any:
    """Return the old object where it can be given what the new one holds."""
    if type(old) is not type(new) or type(old) not in CHANGING:
        return new
    _update(old, new)
    return old
