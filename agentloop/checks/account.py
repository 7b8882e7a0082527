"""The account that a failed program gives of itself, in the sandbox's process.

Enters: the exception, the program's parts, expressions worth showing. Leaves: short texts. Refuses to
know: whether they are true. The program could have forged each of them, so nothing is decided by them:
they tell a reviser what to mend.
"""

from __future__ import annotations

import errno

from agentloop.checks.guard import REFUSALS

SHOWN = 600  # characters of one value, message or line
NO_FILE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
TOO_LARGE = (errno.EFBIG, errno.ENOSPC)
NO_WAY_OUT = (errno.ENETUNREACH, errno.EADDRNOTAVAIL)

Parts = list[tuple[str, str]]


def account(error: BaseException, parts: Parts) -> list[str]:
    """Return the limit that an error speaks of, the error, its place, and the part that failed."""
    part, place = _place(error, parts)
    return [clip(text) for text in (_limit(error), _words(error), place, part)]


def clip(text: str) -> str:
    """Return a text that is short and can be a field of a report."""
    text = text.replace("\0", "\\0")
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def value(expression: str, space: dict[str, object]) -> str:
    """Return what an expression gives, or why it gives nothing."""
    try:
        return repr(eval(expression, space))  # noqa: S307 - behind the walls
    except Exception as error:
        return _words(error)


def _words(error: BaseException) -> str:
    """Return an error as the last line of a traceback."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # its own `__str__` may
        return name
    return f"{name}: {text}" if text else name


def _place(error: BaseException, parts: Parts) -> tuple[str, str]:
    """Return the part that was running and the innermost of its lines, as far as they are known."""
    sources = dict(parts)
    first, last = "", ("", 0)  # of a chain that may hold millions
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename.strip("<>")
        if name in sources:
            first, last = first or name, (name, trace.tb_lineno)
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and (error.filename or "").strip("<>") in sources:
        last = ((error.filename or "").strip("<>"), error.lineno or 1)
        first = first or last[0]
    name, number = last
    if not name:
        return "", ""
    text = sources[name].split("\n")[number - 1 : number]
    shown = f": `{text[0].strip()}`" if text else ""
    return first, f"line {number} of the {name}{shown}"


def _limit(error: BaseException) -> str:
    """Name the limit that an error comes from; empty for an error of the program's own."""
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "processes"
    if isinstance(error, KeyError) and _innermost(error).endswith(("os.py", "<frozen os>")):
        return "environment"
    return _limit_of_system(error) if isinstance(error, OSError) else ""


def _limit_of_system(error: OSError) -> str:
    if error.strerror in REFUSALS:
        return REFUSALS[error.strerror]
    number, names = error.errno, (error.filename, error.filename2)
    if number in TOO_LARGE:
        return "files"
    if number == errno.ENOMEM:
        return "memory"
    if number == errno.EMFILE:
        return "open"
    if number == errno.EAGAIN:
        return "processes"
    if number in NO_WAY_OUT or type(error).__name__ == "gaierror":
        return "network"
    if number in NO_FILE and any(isinstance(n, str) and n.startswith(("/", "..")) for n in names):
        return "outside"
    return "signals" if number == errno.EPERM and names[0] is None else ""


def _innermost(error: BaseException) -> str:
    """Return the file of the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename if trace is not None else ""
