"""What every model is: a `Request` goes in, a `Reply` comes out, a `ModelError` if none does.

Enters: messages, parameters, perhaps a JSON schema. Leaves: text, finish reason, usage, cost, and the
answer tokens' log-probabilities when given. Refuses to know: roles, items, retries, the journal's file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from agentloop.records import Json, Usage, digest

Structured: TypeAlias = Literal["json_schema", "json_object", "prompt"]
"""How an endpoint is told to answer in JSON, strictest first."""

STRUCTURED: tuple[Structured, ...] = ("json_schema", "json_object", "prompt")


class CallKey(NamedTuple):
    """A call's place in its item, named by its caller and never counted on arrival."""

    role: str
    round: int = 0
    criterion: str = "-"
    look: int = 0
    sample: int = 0
    repair: int = 0

    def __str__(self) -> str:
        return "/".join(str(part) for part in self)


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model. `schema` asks for JSON; `top_logprobs` > 0 asks for that many."""

    messages: tuple[dict[str, str], ...]
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    schema: Json | None = None
    top_logprobs: int = 0
    extra: Json = field(default_factory=dict)
    timeout: float = 120.0
    """Seconds for one try; not part of the digest."""

    def content(self) -> Json:
        """Return everything about the request that can change its answer."""
        return {
            "messages": list(self.messages),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "schema": self.schema,
            "top_logprobs": self.top_logprobs,
            "extra": self.extra,
        }

    def digest(self, identity: Json) -> str:
        """Return the digest of this request to a model of that identity."""
        return digest({"model": identity, **self.content()})


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    text: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    cost_usd: float | None = None
    """None when the price is unknown."""
    logprobs: tuple[dict[str, float], ...] | None = None
    """For each answer token: candidate token → log-probability; None when not given."""
    tries: int = 1
    """Requests sent for this reply."""
    latency: float = 0.0
    """Seconds of the successful try."""
    raw: Json = field(default_factory=dict)
    """What the endpoint said besides: its model name, id, reasoning text."""


class Model(Protocol):
    """Anything that answers requests; one `complete` sends exactly one request."""

    @property
    def name(self) -> str:
        """The model as the user named it."""

    @property
    def identity(self) -> Json:
        """What makes another model: name and endpoint as the user named them, weights."""

    async def complete(self, request: Request, structured: Structured) -> Reply:
        """Answer, or raise a ModelError."""

    async def aclose(self) -> None:
        """Free connections and processes; safe to call twice."""


@dataclass(frozen=True)
class Traits:
    """What a model is known or told to do; settings override the guess."""

    structured: Structured = "json_schema"
    logprobs: bool = False
    """Whether levels are asked by log-probabilities."""
    concurrency: int = 16
    """Calls in flight that suit it."""
    temperature: float | None = None
    """For drafts; None leaves it to the role's default."""
    max_tokens: int | None = None
    """For drafts; None leaves it to the role's default."""
    timeout: float = 120.0
    """Seconds that one request may take."""
    notice: str = ""
    """What a person should know before its first call."""


class Call(NamedTuple):
    """One question of one item: what a journal knows it by."""

    item: str
    key: CallKey
    digest: str
    """Of the rendered request."""
    model: str
    """As the user named it."""


class Journal(Protocol):
    """Every paid call, once: what was answered is answered again from here.

    `row` names the row that says what was set aside for a call, where a budget is kept. What is awaited
    is safe when it returns: where the journal is another process's, that takes a while.
    """

    def recall(self, call: Call) -> Reply | None:
        """Return the journaled reply when key and digest agree."""

    async def announce(self, call: Call, usd: float) -> str:
        """Make safe, before a try is sent, what it may cost; return the name of its row."""

    async def record(self, call: Call, reply: Reply, row: str = "") -> None:
        """Make a reply safe before anyone sees it."""

    async def record_failure(
        self, call: Call, error: BaseException, tries: int, row: str = ""
    ) -> None:
        """Write down a call that got no reply, for its requests were sent."""


class NoJournal:
    """Remembers nothing: for a single look, as in LangGraph Studio."""

    def recall(self, *_: Any) -> None:
        """Know nothing."""

    async def announce(self, *_: Any) -> str:
        """Keep nothing."""
        return ""

    async def record(self, *_: Any) -> None:
        """Keep nothing."""

    async def record_failure(self, *_: Any) -> None:
        """Keep nothing."""
