"""Checks of privacy: no secrets, no personal data.

Enters: the names of fields, given once; then candidates. Leaves: the kind of what was found and its
masked beginning, for evidence is stored and shown. Refuses to know: what the kinds look like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentloop.checks import Check, Finding, fail, passed
from agentloop.checks.credentials import find_secrets
from agentloop.checks.finds import Find
from agentloop.checks.personal import find_pii
from agentloop.records import Json

LISTED = 3  # finds that evidence names


def no_secrets(*fields: str) -> Check:
    """Fields hold no keys, tokens, passwords; without names, no field of the candidate does.

    Known shapes (AWS, GitHub, GitLab, OpenAI and alike, Google, Slack, Stripe, Hugging Face, npm, PyPI,
    private keys, JSON web tokens, bearer tokens, passwords in addresses), and what is assigned to a
    name like `password` or `api_key`, where it mixes digits and letters at 3 bits a character or more.
    """

    def run(candidate: Json, seed: Json) -> Finding:
        return _without(find_secrets, candidate, fields, "put a placeholder in its place")

    return Check("_".join(["no_secrets", *fields]), run, {"fields": list(fields)})


def no_pii(*fields: str) -> Check:
    """Fields hold no personal data; without names, no field of the candidate does.

    E-mail addresses, phone numbers, payment cards (Luhn), IBANs (mod 97 and the country's length),
    US social security numbers, public IP addresses.
    """

    def run(candidate: Json, seed: Json) -> Finding:
        advice = "use one that is reserved for examples (name@example.com, 555-0100, 192.0.2.1)"
        return _without(find_pii, candidate, fields, advice)

    return Check("_".join(["no_pii", *fields]), run, {"fields": list(fields)})


def _without(
    find: Callable[[str], list[Find]], candidate: Json, fields: Sequence[str], advice: str
) -> Finding:
    for field in fields or candidate:
        if found := find(str(candidate.get(field, ""))):
            told = ", ".join(f"{one.kind} ({one.masked})" for one in found[:LISTED])
            more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
            return fail(f"`{field}` holds what looks like {told}{more}: leave it out, or {advice}")
    return passed()
