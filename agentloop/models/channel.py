"""One role's way to its model: journal, then limits, then client.

Enters: an item, a call key, messages, a schema. Leaves: a reply that is already safe in the journal.
Refuses to know: what the reply means. A model's ability to answer by schema or with log-probabilities
is learnt here, once for the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import orjson

from agentloop.errors import BudgetReached, ModelError, RefusedRequest, SettingsError
from agentloop.models.base import (
    STRUCTURED,
    Call,
    CallKey,
    Journal,
    Reply,
    Request,
    Structured,
    Traits,
)
from agentloop.models.budget import Bank, Stake, worst_case
from agentloop.models.limits import Limits
from agentloop.models.prices import Price
from agentloop.records import Json

TOP_LOGPROBS = 20
Note = Callable[[str], None]
"""Called with one line for the person who watches, once per fact."""

DEFAULT_TEMPERATURE = {"generator": 0.8, "reviser": 0.6}  # judges: 0
DEFAULT_MAX_TOKENS = {"generator": 2048, "reviser": 2048}
JUDGES_MAX_TOKENS = 1024


@dataclass(frozen=True)
class RoleSettings:
    """Sampling parameters of one role; None leaves it to the defaults above."""

    temperature: float | None = None
    max_tokens: int | None = None
    timeout: float = 120.0
    extra: Json = field(default_factory=dict)

    def identity(self, role: str) -> Json:
        """Return what of it belongs to a run's identity; a timeout does not."""
        return {
            "temperature": self.temperature_of(role),
            "max_tokens": self.max_tokens_of(role),
            "extra": self.extra,
        }

    def temperature_of(self, role: str) -> float:
        """Return the temperature for a role."""
        return DEFAULT_TEMPERATURE.get(role, 0.0) if self.temperature is None else self.temperature

    def max_tokens_of(self, role: str) -> int:
        """Return the answer's limit in tokens."""
        return self.max_tokens or DEFAULT_MAX_TOKENS.get(role, JUDGES_MAX_TOKENS)


class Endpoint:
    """A model with its limits and what was learnt of it; shared by the roles that name it."""

    def __init__(self, limits: Limits, traits: Traits, note: Note = lambda _: None):
        self.limits = limits
        self.structured: Structured = traits.structured
        self.logprobs = traits.logprobs
        self.temperature = traits.temperature
        self.max_tokens = traits.max_tokens
        self.timeout = traits.timeout
        self.notice = traits.notice
        self.note = note
        self._proven = False
        self._gave_logprobs = False

    @property
    def name(self) -> str:
        """The model as the user named it."""
        return self.limits.model.name

    @property
    def price(self) -> Price | None:
        """What its tokens cost; None when nobody knows."""
        found = getattr(self.limits.model, "price", None)
        return found if isinstance(found, Price) else None

    def known_price(self) -> Price:
        """Return the price; SettingsError with the way out when nobody knows it."""
        if self.price is None:
            raise SettingsError(
                f"a budget needs the price of `{self.name}`, which is unknown: write it into "
                f'`agentloop.toml` as [prices."{self.name}"] with `input` and `output` in USD per '
                "million tokens"
            )
        return self.price

    @property
    def identity(self) -> Json:
        """The model's part in the digest."""
        return self.limits.model.identity

    def gave_logprobs(self) -> None:
        """Take note that it can: from now on a refusal is the request's own fault."""
        self._gave_logprobs = True

    def may_lack_logprobs(self) -> bool:
        """Whether it never gave any yet."""
        return not self._gave_logprobs

    def no_logprobs(self) -> None:
        """Fall back to written levels for the rest of the run."""
        if self.logprobs:
            self.logprobs = False
            self.note(f"`{self.name}` gives no log-probabilities: levels are written from here on")

    async def complete(self, request: Request, stake: Stake | None = None) -> Reply:
        """Ask, stepping down to the next way of asking for JSON when the endpoint refuses one.

        A lower way is kept for the run once it has worked; once any way has worked, a refusal is the
        request's own fault and is not asked differently.
        """
        tries = 0
        mode = self.structured
        while True:
            try:
                reply = await self.limits.complete(_told(request, mode), mode, stake)
            except RefusedRequest as error:
                tries += error.tries
                settled = self._proven and mode == self.structured
                if settled or request.schema is None or mode == STRUCTURED[-1]:
                    error.tries = tries
                    raise
                lower = STRUCTURED[STRUCTURED.index(mode) + 1]
                mode = self.structured if self._proven else lower
            except (ModelError, BudgetReached) as error:
                error.tries += tries
                raise
            else:
                self._learn(request, mode)
                return replace(reply, tries=reply.tries + tries) if tries else reply

    def _learn(self, request: Request, mode: Structured) -> None:
        if request.schema is None or self._proven:
            return
        self._proven = True
        if mode != self.structured:
            refused, self.structured = self.structured, mode
            self.note(f"`{self.name}` refuses `{refused}`: asking by `{mode}` from here on")


class Channel:
    """One role of one run."""

    def __init__(
        self,
        role: str,
        endpoint: Endpoint,
        journal: Journal,
        settings: RoleSettings,
        seed: int,
        bank: Bank | None = None,
    ):
        self.role = role
        self.endpoint = endpoint
        self.settings = settings
        self._journal = journal
        self._seed = seed
        self._bank = bank

    async def ask(
        self,
        item: str,
        key: CallKey,
        messages: tuple[dict[str, str], ...],
        *,
        schema: Json | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        logprobs: bool = False,
    ) -> Reply:
        """Answer from the journal, or ask and journal. Raises ModelError or BudgetReached."""
        own = self.settings
        request = Request(
            messages=messages,
            temperature=own.temperature_of(self.role) if temperature is None else temperature,
            max_tokens=max_tokens or own.max_tokens_of(self.role),
            seed=call_seed(self._seed, item, key),
            schema=schema,
            top_logprobs=TOP_LOGPROBS if logprobs else 0,
            extra=own.extra,
            timeout=own.timeout,
        )
        digest = request.digest(self.endpoint.identity)
        call = Call(item, key, digest, self.endpoint.name)
        if known := self._journal.recall(call):
            return known
        stake = self._stake(call, request)
        try:
            reply = await self.endpoint.complete(request, stake)
        except BaseException as error:
            await self._failed(call, stake, error)
            raise
        try:
            await self._journal.record(call, reply, stake.row)
        finally:
            stake.settle(reply.cost_usd)
        return reply

    def _stake(self, call: Call, request: Request) -> Stake:
        if self._bank is None:
            return Stake()
        amount = worst_case(request, self.endpoint.known_price())
        purse = self._bank.purse(call)
        return Stake(purse, amount, lambda usd: self._journal.announce(call, usd))

    async def _failed(self, call: Call, stake: Stake, error: BaseException) -> None:
        """Write down what was sent in vain; an endpoint that refuses asks no money."""
        if not isinstance(error, ModelError):
            stake.cut_off()
        try:
            if stake.tries or stake.row:
                await self._journal.record_failure(call, error, stake.tries, stake.row)
        finally:
            stake.settle(0.0)


def call_seed(seed: int, item: str, key: CallKey) -> int:
    """Return a 31-bit seed from the run's seed and the call's place; repeats differ by their key."""
    text = f"{seed}/{item}/{key}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1


def _told(request: Request, mode: Structured) -> Request:
    """Write the schema into the last message where the endpoint does not enforce it."""
    if request.schema is None or mode == "json_schema":
        return request
    schema = orjson.dumps(request.schema).decode()
    *before, last = request.messages
    told = f"{last['content']}\n\nAnswer with one JSON object only, by this JSON schema:\n{schema}"
    return replace(request, messages=(*before, {**last, "content": told}))
