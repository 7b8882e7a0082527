"""Requests and tokens per minute.

Enters: what the user allows in a minute; what a request is thought to take, and what it took. Leaves:
the seconds until another may go. Refuses to know: who waits and in which order, tries, replies.

Each allowance is kept twice. A bucket that refills all the time and never holds more than one second's
worth (or one request) lets requests go evenly. A ledger of the last minute keeps the promise: what is
booked in any 60 s never passes the allowance, save by a single request that is larger than all of it and
goes alone. Booked is the estimate when a request is sent, corrected in place once its reply says what
it took: only where an estimate was too low may more be spent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from agentloop.models.base import Request
from agentloop.models.estimate import answer_tokens, prompt_tokens

MINUTE = 60.0
TICK = 1e-6  # what floats may be off by, in seconds and in tokens


@dataclass(frozen=True, slots=True)
class Rate:
    """What an endpoint may be asked in a minute, both above zero; None leaves it unlimited."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


UNLIMITED = Rate()


class Entry:
    """One amount in a ledger."""

    __slots__ = ("amount", "at", "listed")

    def __init__(self, at: float, amount: int):
        self.at = at
        self.amount = amount
        self.listed = True


class Allowance:
    """What may be taken of one thing in a minute: evenly, and never more."""

    def __init__(self, per_minute: float):
        self._limit = per_minute
        self._per_second = per_minute / MINUTE
        self._burst = max(1.0, self._per_second)
        self._level = self._burst
        self._at = 0.0
        self._ledger: deque[Entry] = deque()
        self._booked = 0

    def delay(self, now: float, amount: int) -> float:
        """Return the seconds until so much may be taken; zero when it may be now."""
        self._advance(now)
        # what is larger than the bucket leaves a debt behind it, or it would wait for ever
        missing = min(amount, self._burst) - self._level
        delay = max(missing / self._per_second, self._crowded(now, amount))
        return delay if delay > TICK else 0.0

    def take(self, now: float, amount: int) -> Entry:
        """Book an amount."""
        self._advance(now)
        self._level -= amount
        self._booked += amount
        entry = Entry(now, amount)
        self._ledger.append(entry)
        return entry

    def correct(self, entry: Entry, amount: int) -> None:
        """Book another amount in an entry's place; one that is older than a minute counts no more."""
        if entry.listed:
            self._level = min(self._burst, self._level + entry.amount - amount)
            self._booked += amount - entry.amount
            entry.amount = amount

    def _advance(self, now: float) -> None:
        if now > self._at:
            self._level = min(self._burst, self._level + (now - self._at) * self._per_second)
            self._at = now
        while self._ledger and self._ledger[0].at + MINUTE <= now + TICK:
            old = self._ledger.popleft()
            old.listed = False
            self._booked -= old.amount

    def _crowded(self, now: float, amount: int) -> float:
        """Return the seconds until enough of the ledger is a minute old."""
        excess = self._booked + amount - self._limit
        wait = 0.0
        for entry in self._ledger:
            if excess <= 0:
                break
            excess -= entry.amount
            wait = entry.at + MINUTE - now
        return wait


class Booking(NamedTuple):
    """What one request was booked as."""

    request: Entry | None
    tokens: Entry | None


class Pacing(Protocol):
    """Who says when the next request may go. What it books is its own; nobody else looks into it."""

    def estimate(self, request: Request) -> int:
        """Return the tokens that a request may take; zero where nobody counts them."""

    def delay(self, now: float, tokens: int) -> float:
        """Return the seconds until a request of so many tokens may be sent; inf to be woken instead."""

    def book(self, now: float, tokens: int) -> Any:
        """Book a request that is sent now."""

    def settle(self, booking: Any, tokens: int, *, sent: bool = True) -> None:
        """Correct a booking by the tokens that it took; one that was never sent was no request."""


class Pace:
    """Both allowances of one endpoint."""

    def __init__(self, rate: Rate):
        requests, tokens = rate.requests_per_minute, rate.tokens_per_minute
        self._requests = Allowance(requests) if requests is not None else None
        self._tokens = Allowance(tokens) if tokens is not None else None

    def estimate(self, request: Request) -> int:
        """Return the tokens that a request may take; zero where nobody counts them."""
        if self._tokens is None:
            return 0
        return prompt_tokens(request) + answer_tokens(request)

    def delay(self, now: float, tokens: int) -> float:
        """Return the seconds until a request of so many tokens may be sent."""
        delay = 0.0
        if self._requests is not None:
            delay = self._requests.delay(now, 1)
        if self._tokens is not None:
            delay = max(delay, self._tokens.delay(now, tokens))
        return delay

    def book(self, now: float, tokens: int) -> Booking | None:
        """Book a request that is sent now."""
        if self._requests is None and self._tokens is None:
            return None
        return Booking(
            self._requests.take(now, 1) if self._requests is not None else None,
            self._tokens.take(now, tokens) if self._tokens is not None else None,
        )

    def settle(self, booking: Booking | None, tokens: int, *, sent: bool = True) -> None:
        """Correct a booking by the tokens that it took; one that was never sent was no request."""
        if booking is None:
            return
        if self._tokens is not None and booking.tokens is not None:
            self._tokens.correct(booking.tokens, tokens)
        if self._requests is not None and booking.request is not None and not sent:
            self._requests.correct(booking.request, 0)
