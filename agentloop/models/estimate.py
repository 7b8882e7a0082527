"""How many tokens a request may take: the one estimate that budgets, rates and forecasts share.

Enters: a request. Leaves: tokens of its prompt and of its answer, estimated to the safe side.
Refuses to know: tokenizers (each model has its own), prices, minutes.
"""

from __future__ import annotations

import orjson

from agentloop.models.base import Request

BYTES_A_TOKEN = 3  # of UTF-8; English has about four, so this errs to the safe side
TOKENS_A_MESSAGE = 8
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def prompt_tokens(request: Request) -> int:
    """Return how many tokens a request's prompt has at most, its schema included."""
    size = sum(len(message["content"].encode()) for message in request.messages)
    if request.schema is not None:
        size += len(orjson.dumps(request.schema))
    return size // BYTES_A_TOKEN + TOKENS_A_MESSAGE * len(request.messages)


def answer_tokens(request: Request) -> int:
    """Return the most tokens that may be answered; parameters of one's own win, as in the request."""
    asked = [request.max_tokens, *(request.extra.get(name) for name in LIMITS)]
    most = max(n for n in [0, *asked] if isinstance(n, int))
    copies = request.extra.get("n", 1)
    return most * (copies if isinstance(copies, int) and copies > 0 else 1)
