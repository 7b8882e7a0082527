"""Secrets and personal data: what is found, what may stand, what evidence shows."""

from __future__ import annotations

import json
import os
import random
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks import Finding
from agentloop.checks.credentials import find_secrets
from agentloop.checks.personal import find_pii
from agentloop.checks.privacy import no_pii, no_secrets

SHARED = Path(
    os.environ.get("AGENTLOOP_SHARED") or Path(__file__).resolve().parents[2].parent / "shared"
)
GSM8K = SHARED / "data" / "gsm8k" / "test.jsonl"
LETTERS = string.ascii_letters + string.digits


def drawn(size: int) -> str:
    """Return letters and digits as a key generator would draw them, the same each time."""
    return "k7Rq" + "".join(random.Random(size).choices(LETTERS, k=size - 4))


SECRETS = [  # put together here, so that no scanner takes this file for a leak
    ("an AWS access key", "AK" + "IA" + "Q3EGRZ7LWN2KDPVM"),
    ("a GitHub token", "gh" + "p_" + drawn(36)),
    ("a GitHub token", "github" + "_pat_" + drawn(82)),
    ("a GitLab token", "gl" + "pat-" + drawn(20)),
    ("an API key", "s" + "k-" + drawn(48)),
    ("an API key", "s" + "k-proj-" + drawn(64)),
    ("a Google API key", "AI" + "za" + drawn(35)),
    ("a Google token", "ya" + "29." + drawn(60)),
    ("a Slack token", "xo" + "xb-2041837465-" + drawn(24)),
    ("a Stripe key", "s" + "k_live_" + drawn(24)),
    ("a Hugging Face token", "h" + "f_" + drawn(34)),
    ("a package registry's token", "np" + "m_" + drawn(36)),
    ("a JSON web token", "ey" + "J" + drawn(30) + ".ey" + "J" + drawn(40) + "." + drawn(43)),
]


@pytest.mark.parametrize(("kind", "secret"), SECRETS)
@pytest.mark.parametrize("form", ["{}", "use `{}` here", 'curl -H "Key: {}"', "({}),"])
def test_keys_of_known_shape_are_found(kind: str, secret: str, form: str) -> None:
    assert [(found.kind, found.text) for found in find_secrets(form.format(secret))] == [
        (kind, secret)
    ]


PEM = "-----BEGIN {}PRIVATE KEY-----\n{}\n-----END {}PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PEM.format("RSA ", drawn(64), "RSA "), "a private key"),
        (PEM.format("", drawn(64), ""), "a private key"),
        (f"Authorization: Bearer {drawn(40)}", "a bearer token"),
        (
            f"https://hooks.slack.com/services/T{'0A1B2C3'}/B{'4D5E6F7'}/{drawn(24)}",
            "a Slack webhook",
        ),
        ("postgres://admin:h8Kq_w2Zp@db.internal/x", "a password in an address"),
        ("password = h8Kq!w2Zp", "a password or key"),
        ('"db_password": "h8Kq!w2Zp"', "a password or key"),
        (f"export AWS_SECRET_ACCESS_KEY={drawn(40)}", "a password or key"),
        ("The password is h8Kq!w2Zp.", "a password or key"),
        ("api-key: '9f86d081884c7d65'", "a password or key"),
    ],
)
def test_what_is_used_as_a_secret_is_found(text: str, kind: str) -> None:
    assert [found.kind for found in find_secrets(text)] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "AK" + "IAIOSFODNN7EXAMPLE",
        "s" + "k-your-api-key-goes-here-0123",
        "s" + "k-" + "x" * 40,
        "a task-oriented-dialogue-benchmark-v2",
        "sk-learn-like-estimators-everywhere",
        PEM.format("", "YOUR KEY HERE", ""),
        "A PEM file begins with -----BEGIN PRIVATE KEY-----.",
        "Authorization: Bearer <token>",
        "password = getpass()",
        "password = os.environ['PASSWORD_2024']",
        "token = tokens[17]",
        "password: at least 8 characters",
        "the secret is patience",
        "password = correcthorsebatterystaple",
        "secret: https://site.org/a1b2c3d4",
        "http://localhost:8000/a@b",
        "http://user:<password>@db.internal",
        "eyJust a word.eyJ",
    ],
)
def test_placeholders_and_prose_are_no_secrets(text: str) -> None:
    assert find_secrets(text) == []


PERSONAL = [
    ("an e-mail address", "jane.doe+x@corp.co.uk"),
    ("an e-mail address", "JD@mail.corp.de"),
    ("a payment card's number", "4539 1488 0343 6467"),
    ("a payment card's number", "4539148803436467"),
    ("a payment card's number", "3782-822463-10013"),
    ("an IBAN", "DE44 5001 0517 5407 3249 31"),
    ("an IBAN", "NL91ABNA0417164300"),
    ("a social security number", "536-22-8145"),
    ("a phone number", "+49 30 901820"),
    ("a phone number", "+1 (650) 253-0000"),
    ("a phone number", "(650) 253-0000"),
    ("a phone number", "650-253-0000"),
    ("an IP address", "93.184.215.14"),
    ("an IP address", "2a00:1450:4001:830::200e"),
]


@pytest.mark.parametrize(("kind", "text"), PERSONAL)
@pytest.mark.parametrize("form", ["{}", "It is {}.", "({})", "a: {}, b", "<{}>\n"])
def test_what_leads_to_a_person_is_found(kind: str, text: str, form: str) -> None:
    assert [(found.kind, found.text) for found in find_pii(form.format(text))] == [(kind, text)]


def test_a_number_of_any_land_is_found_after_a_word_for_it() -> None:
    assert [found.text for found in find_pii("Tel.: 030 901820, room 12")] == ["030 901820"]
    assert find_pii("room 030 901820") == []


@pytest.mark.parametrize(
    "text",
    [
        "me@example.com, you@sub.example.org, a@b.test, root@localhost",
        "user@host, a @b.com, @handle, x@y.z",
        "^(.+@mysite.com)$",
        "4111 1111 1111 1111 and 4242424242424242 and 378282246310005",
        "4539 1488 0343 6468",
        "1234 5678 9012 3456",
        "0.4539148803436467",
        "DE89 3704 0044 0532 0130 00, GB82WEST12345698765432",
        "DE45 5001 0517 5407 3249 31",
        "AB12 CDEF GHIJ KLMN",
        "078-05-1120, 123-45-6789, 000-12-3456, 666-12-3456, 900-12-3456, 536-22-81456",
        "650-555-0123, (212) 555-0199, +1 650 555 0100, +44 20 7946 0958",
        "123-456-7890, 555-555-5555",
        "2024-05-03, 1999-2003-2010, 12:30:45",
        "192.0.2.1, 198.51.100.7, 203.0.113.9, 10.0.0.1, 127.0.0.1, 192.168.1.1, 8.8.8.8, 0.0.0.0",
        "999.1.1.1, 1.2.3, 1.2.3.4.5, v1.20.3.4",
        "2001:db8::1, ::1, fe80::1, std::vector, a::b, dead::beef",
        "16 + 20 + 30 = 66, 1,000,000,000",
    ],
)
def test_reserved_examples_and_other_numbers_are_nobodys(text: str) -> None:
    assert find_pii(text) == []


@given(st.integers(0, 10**9 - 1))
def test_one_check_digit_of_ten_makes_a_card(middle: int) -> None:
    cards = [f"453914{middle:09}{last}" for last in range(10)]
    assert len([card for card in cards if find_pii(card)]) == 1


@given(st.integers(0, 10**17 - 1), st.integers(0, 9))
def test_an_iban_with_another_digit_is_none(account: int, digit: int) -> None:
    body = f"7{account:017}"
    check = 98 - int(body + "131400") % 97  # D and E are 13 and 14
    found = [one.kind for one in find_pii(f"DE{check:02}{body}")]
    assert found == ["an IBAN"]
    assert find_pii(f"DE{check:02}{(int(body[0]) + 1) % 10}{body[1:]}") == []


@given(st.text())
def test_any_text_gets_an_answer(text: str) -> None:
    for found in [*find_secrets(text), *find_pii(text)]:
        assert found.text


def secret(candidate: dict[str, object], *fields: str) -> Finding:
    return no_secrets(*fields).run(candidate, {})


def test_evidence_names_kind_and_beginning_and_never_the_whole() -> None:
    for _, text in SECRETS:
        evidence = secret({"a": f"use {text}"}, "a").evidence
        assert text[:4] in evidence
        assert text[:9] not in evidence
    for _, text in PERSONAL:
        found = no_pii("a").run({"a": text}, {})
        assert not found.passed
        assert text[: len(text) // 4 + 1] not in found.evidence
    key = SECRETS[0][1]
    assert secret({"a": f"{key} {key}"}).evidence == (
        f"`a` holds what looks like an AWS access key ({key[:4]}…): "
        "leave it out, or put a placeholder in its place"
    )


def test_many_finds_are_counted() -> None:
    mails = " ".join(f"a{n}@corp.de" for n in range(5))
    evidence = no_pii("a").run({"a": mails}, {}).evidence
    assert evidence.startswith("`a` holds what looks like an e-mail address (a0…), an e-mail")
    assert " and 2 more: leave it out, or use one that is reserved" in evidence


def test_the_named_fields_are_looked_at_or_all_of_them() -> None:
    key = SECRETS[0][1]
    assert secret({"a": key, "b": ""}, "b").passed
    assert not secret({"a": "", "b": key}, "a", "b").passed
    assert not secret({"a": "", "b": ["x", {"c": key}]}).passed
    assert secret({"b": "x"}, "a").passed
    assert [no_secrets().name, no_pii("a", "b").name] == ["no_secrets", "no_pii_a_b"]


HOSTILE = ["a", "1", "@", "a@a.", "eyJ", "eyJa.", "secret=", "1.", "::1", "ab12 ", "-----BEGIN "]
HOSTILE += [
    "(",
    "AB12",
    "tel ",
    "tel 1",
    "1 ",
    "a:b@c://",
    "bearer a",
    "GB82 ",
    "+1 ",
    "\0",
    "\ud800",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_million_hostile_characters_hold_nothing(piece: str) -> None:
    text = piece * (10**6 // len(piece))
    assert find_secrets(text) == []
    assert find_pii(text) == []


@pytest.mark.skipif(not GSM8K.exists(), reason="no GSM8K in the shared data")
def test_problems_full_of_numbers_hold_nothing() -> None:
    for line in GSM8K.read_text().splitlines():
        problem = json.loads(line)
        text = problem["question"] + problem["answer"]
        assert [*find_secrets(text), *find_pii(text)] == []
