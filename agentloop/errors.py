"""Errors, by the person or part they speak to.

    AgentloopError
    ├── UserError               you wrote it wrong: one line, exit 2, nothing written
    │   ├── SettingsError       a flag, variable or config key
    │   ├── SeedError           the seed file or its records
    │   ├── RubricError         rubric.yaml
    │   ├── PromptError         a prompt template
    │   ├── RecipeError         the recipe or graph file
    │   ├── IdentityError       the same run name with other settings (DESIGN: identity of a run)
    │   ├── StoreError          the store's file: locked, missing, newer, broken
    │   ├── CalibrationError    labels or a judge that cannot carry what is asked of them
    │   └── WorkerError         a process that was to walk items does not start, or dies again and again
    ├── ModelError              a call to a model ended without a usable reply
    │   ├── AccessError         401, 403, unknown model: no call can succeed (exit 2)
    │   ├── UnreachableError    nobody answers at the endpoint (exit 3)
    │   ├── RefusedRequest      400-like: this request will never be answered
    │   └── TransientError      429, 5xx, reset, time-out: worth another try
    ├── BudgetReached           the next call may cost more than is left (exit 3)
    ├── Filtered                a recipe's own step drops the item, and says why
    └── ReplyError              a reply that does not say what was asked
        ├── MalformedReply      not the JSON, type, level or quote that was asked for
        ├── Disagreement        judges that are too far apart
        └── RefusedReply        the model or its filter declined to answer

Enters: a sentence with names in backticks: what, where, what is allowed, the way out.
Leaves: `exit_code` for the command line. Refuses to know: who catches it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class AgentloopError(Exception):
    """Root of every error that agentloop raises on purpose."""

    exit_code = 1
    counts: dict[str, Any] | None = None
    """The counts of the run that it ended, if one had begun."""


class UserError(AgentloopError):
    """Something the person running agentloop can mend."""

    exit_code = 2


class SettingsError(UserError):
    """A flag, environment variable or config key is wrong."""


class SeedError(UserError):
    """The seeds cannot be used."""


class RubricError(UserError):
    """The rubric cannot be used."""


class PromptError(UserError):
    """A prompt template cannot be used."""


class RecipeError(UserError):
    """The recipe cannot be found or loaded."""


class IdentityError(UserError):
    """A run of this name exists with another identity."""


class StoreError(UserError):
    """The store cannot be opened, read or written."""


class CalibrationError(UserError):
    """The labels are too few, or the judge tells too little."""


class WorkerError(UserError):
    """Worker processes do not start, or die again and again."""


class ModelError(AgentloopError):
    """A model call ended without a usable reply; `tries` requests were sent for it."""

    tries: int = 1


class AccessError(ModelError):
    """The endpoint refuses this key or model, whatever is asked."""

    exit_code = 2


class UnreachableError(ModelError):
    """Nobody answers at the endpoint."""

    exit_code = 3


class RefusedRequest(ModelError):
    """The endpoint will never answer this request."""


class TransientError(ModelError):
    """The endpoint may answer later.

    `connected`: whether anybody listened. `busy`: whether it says that it is asked too much (429, 503,
    529, any Retry-After, whose wish in seconds is `retry_after`). `billed`: whether the try may have to
    be paid although it brought nothing: it was cut off, timed out, or what came is no completion.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        connected: bool = True,
        busy: bool = False,
        billed: bool = False,
    ):
        super().__init__(message)
        self.retry_after = retry_after
        self.connected = connected
        self.busy = busy or retry_after is not None
        self.billed = billed


class BudgetReached(AgentloopError):
    """The next try may cost more than the budget leaves; `tries` were made before it."""

    exit_code = 3
    tries: int = 0


class Filtered(AgentloopError):
    """A recipe's own step drops the item: a verdict, with the reason in words."""


class ReplyError(AgentloopError):
    """A reply was paid for and cannot be used; `text` is what the model wrote."""

    def __init__(self, message: str, text: str = ""):
        super().__init__(message)
        self.text = text


class MalformedReply(ReplyError):
    """The reply is not what its schema asks."""


class Disagreement(ReplyError):
    """Judges, or the looks of one, are too far apart to believe any of them."""


class RefusedReply(ReplyError):
    """The model, or a filter before it, declined to answer."""


@contextmanager
def boundary(kind: type[AgentloopError], what: str, *causes: type[BaseException]) -> Iterator[None]:
    """Turn third-party `causes` into `kind`, keeping the cause and one line of its text."""
    try:
        yield
    except causes as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise kind(f"{what}: {first}") from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean `x`?)`, or the allowed words when nothing is close."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f" (did you mean `{close[0]}`?)"
    return f" (known: {', '.join(f'`{name}`' for name in names)})" if names else ""
