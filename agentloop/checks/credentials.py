"""Secrets in a text: keys, tokens, passwords.

Enters: a text. Leaves: what looks like a working secret. Refuses to know: whether it works.
"""

from __future__ import annotations

import math
import re
from collections import Counter

from agentloop.checks.finds import Find, found, kind

ENTROPY = 3.0  # bits a character, in what is assigned to a password or key

_PLACEHOLDER = re.compile(
    r"example|placeholder|changeme|dummy|sample|redacted|your|getenv|environ|https?:|x{4}|\*{3}|\.{3}"
    r"|[<{$]|0000|1234|abcd|(.)\1{4}",
    re.IGNORECASE,
)


def find_secrets(text: str) -> list[Find]:
    """Return the secrets in a text, each once."""
    return found(text, _KINDS)


def _token(token: str) -> bool:
    """Whether nobody plainly made it up."""
    return not _PLACEHOLDER.search(token) and any(sign.isdigit() for sign in token)


def _random(value: str) -> bool:
    """Whether a value mixes letters and digits and has the entropy of a password."""
    if not _token(value) or not any(sign.isalpha() for sign in value):
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares) >= ENTROPY


def _always(text: str) -> bool:
    return True


_START = r"(?<![A-Za-z0-9_-])"
_END = r"(?![A-Za-z0-9_-])"
_KINDS = (
    kind(
        "an AWS access key",
        "AKIA ASIA ABIA ACCA",
        rf"{_START}(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{{16}}{_END}",
        _token,
    ),
    kind(
        "a GitHub token",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        rf"{_START}(?:gh[pousr]_[A-Za-z0-9]{{36,255}}|github_pat_[A-Za-z0-9_]{{40,255}}){_END}",
        _token,
    ),
    kind("a GitLab token", "glpat-", rf"{_START}glpat-[A-Za-z0-9_-]{{20,64}}{_END}", _token),
    kind(
        "a Stripe key",
        "_live_ _test_ whsec_",
        rf"{_START}(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{{16,255}}{_END}",
        _token,
    ),
    kind(
        "an API key", "sk-", rf"{_START}sk-(?:[a-z]{{2,10}}-)?[A-Za-z0-9_-]{{20,255}}{_END}", _token
    ),
    kind("a Google API key", "AIza", rf"{_START}AIza[A-Za-z0-9_-]{{35}}{_END}", _token),
    kind(
        "a Google token",
        "ya29. GOCSPX-",
        rf"{_START}(?:ya29\.|GOCSPX-)[A-Za-z0-9_-]{{20,255}}",
        _token,
    ),
    kind(
        "a Slack token",
        "xox xapp-",
        rf"{_START}(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{{10,255}}{_END}",
        _token,
    ),
    kind(
        "a Slack webhook",
        "hooks.slack.com",
        r"hooks\.slack\.com/services/(?P<found>T[A-Z0-9]{6,16}/B[A-Z0-9]{6,16}/[A-Za-z0-9]{16,40})",
        _token,
    ),
    kind("a Hugging Face token", "hf_", rf"{_START}hf_[A-Za-z0-9]{{30,64}}{_END}", _always),
    kind(
        "a package registry's token",
        "npm_ pypi-",
        rf"{_START}(?:npm_[A-Za-z0-9]{{36}}|pypi-[A-Za-z0-9_-]{{50,255}}){_END}",
        _token,
    ),
    kind(
        "a private key",
        "-----BEGIN",
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?=[^-]{0,300}?[A-Za-z0-9+/]{32})",
        _always,
    ),
    kind(
        "a JSON web token",
        "eyJ",
        rf"{_START}eyJ[A-Za-z0-9_-]{{10,}}+\.eyJ[A-Za-z0-9_-]{{10,}}+\.[A-Za-z0-9_-]{{16,}}+",
        _always,
    ),
    kind(
        "a bearer token",
        "earer",
        r"\b[Bb]earer[ \t]{1,4}(?P<found>[A-Za-z0-9._~+/-]{20,2000})(?![A-Za-z0-9])",
        _token,
    ),
    kind(
        "a password in an address",
        "://",
        r"://[^\s/:@]{1,64}:(?P<found>[^\s/@:]{6,64})@[A-Za-z0-9]",
        lambda text: not _PLACEHOLDER.search(text),
    ),
    kind(
        "a password or key",
        "= : is",
        r"(?=[PpSsTtAaCc])(?i:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key"
        r"|auth[_-]?key|credential)[A-Za-z0-9_]{0,16}[\"'`]?\s{0,4}(?:=>|:=|=|:|\bis\b)\s{0,4}[\"'`]?"
        r"(?P<found>[^\s\"'`,;()\[\]<>]{8,200}+)(?![^\s\"'`,;)\]>])",
        _random,
    ),
)
