"""Personal data in a text: addresses and numbers that lead to somebody.

Enters: a text. Leaves: what looks like a person's. Refuses to know: names, postal addresses, languages.

What is reserved for examples, or plainly a placeholder, is nobody's: example.com (RFC 2606), 555-0100
to 555-0199, Ofcom's numbers for drama, 192.0.2.1 (RFC 5737), test card numbers. Numbers with check
digits must pass them.
"""

from __future__ import annotations

import ipaddress
import re

from agentloop.checks.finds import Find, found, kind


def find_pii(text: str) -> list[Find]:
    """Return the personal data in a text, each once."""
    return found(text, _KINDS)


_RESERVED = re.compile(
    r"(?:^|[@.])(?:example\.(?:com|net|org|edu)|example|test|invalid|localhost)$", re.IGNORECASE
)


def _email(address: str) -> bool:
    return not _RESERVED.search(address)


_PLAIN_PHONE = re.compile(r"(\d)\1{5}|123456|9876543")
_FICTION = re.compile(r"55501\d\d$|^44(?:2079460|1632960|7700900)\d{3}$")


def _phone(written: str) -> bool:
    """Whether somebody may answer."""
    digits = re.sub(r"\D", "", written)
    nobody = _FICTION.search(digits) or _PLAIN_PHONE.search(digits)
    return 7 <= len(digits) <= 15 and not nobody


_TEST_CARDS = re.compile(  # of Stripe's and PayPal's documentation
    "4111111111111111|4242424242424242|4012888888881881|4000056655665556|4222222222222|5555555555554444|5105105105105100|5200828282828210|2223003122003222|378282246310005|371449635398431|378734493671000|6011111111111117|6011000990139424|30569309025904|38520000023237|3056930009020004|3566002020360505|3530111333300000"
)
_ISSUERS = re.compile(
    r"(?:4\d{12}|4\d{15}|4\d{18}|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|2720\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12})"
)


def _card(written: str) -> bool:
    digits = re.sub(r"\D", "", written)
    if not _ISSUERS.fullmatch(digits) or _TEST_CARDS.fullmatch(digits) or len(set(digits)) < 3:
        return False
    return _luhn(digits)


def _luhn(digits: str) -> bool:
    """Whether the check digit is right (ISO/IEC 7812-1)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


_IBANS = (  # ISO 13616: countries by the length of their account numbers
    ("NO", 15),
    ("BE", 16),
    ("DK FI FO GL NL", 18),
    ("MK SI", 19),
    ("AT BA EE KZ LT LU XK", 20),
    ("CH CR HR LI LV", 21),
    ("BG BH DE GB GE IE ME RS VA", 22),
    ("AE GI IL IQ TL", 23),
    ("AD CZ ES MD PK RO SA SE SK TN VG", 24),
    ("LY PT ST", 25),
    ("IS TR", 26),
    ("FR GR IT MC MR SM", 27),
    ("AL AZ BY CY DO EG GT HU LB PL SV", 28),
    ("BR PS QA UA", 29),
    ("JO KW MU", 30),
    ("MT SC", 31),
    ("LC", 32),
)
_IBAN = "|".join(
    rf"(?:{'|'.join(countries.split())})[0-9]{{2}}(?:[ -]?[A-Z0-9]){{{size - 4}}}"
    for countries, size in _IBANS
)
_TEST_IBANS = frozenset(
    ("GB82WEST12345698765432", "GB29NWBK60161331926819", "DE89370400440532013000")
)


def _iban(written: str) -> bool:
    """Whether the check digits are right (ISO 7064, mod 97)."""
    account = re.sub(r"[ -]", "", written)
    turned = account[4:] + account[:4]
    number = int("".join(str(int(sign, 36)) for sign in turned))
    return number % 97 == 1 and account not in _TEST_IBANS


_SHOWN_SSN = frozenset(
    ("078-05-1120", "219-09-9999", "123-45-6789")
)  # printed in public since long


def _ssn(written: str) -> bool:
    return written not in _SHOWN_SSN


_PUBLIC_SERVERS = frozenset(
    (
        *("1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9"),
        *("2001:4860:4860::8888", "2001:4860:4860::8844", "2606:4700:4700::1111"),
    )
)


def _address(written: str) -> bool:
    """Whether an address is somebody's: public, and no well-known name server's."""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    if address.version == 6 and written[0] not in "23":  # only 2000::/3 is given out
        return False
    return address.is_global and not address.is_multicast and written not in _PUBLIC_SERVERS


_DIGITS = "0 1 2 3 4 5 6 7 8 9"
_KINDS = (
    kind(
        "an e-mail address",
        "@",
        r"(?<![\w.+%-])\w[\w.+%-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])",
        _email,
    ),
    kind(
        "a payment card's number",
        _DIGITS,
        r"(?<![\w.-])(?:[0-9]{13,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}"
        r"|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5})(?![\w-]|\.[0-9])",
        _card,
    ),
    kind(
        "an IBAN",
        _DIGITS,
        rf"(?<![A-Za-z0-9])(?=[A-Z]{{2}}[0-9]{{2}})(?:{_IBAN})(?![A-Za-z0-9])",
        _iban,
    ),
    kind(
        "a social security number",
        _DIGITS,
        r"(?<![\w-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-])",
        _ssn,
    ),
    kind(
        "a phone number", _DIGITS, r"(?<![\w+.])\+[1-9](?:[ .()-]{0,2}[0-9]){7,14}(?![0-9])", _phone
    ),
    kind(
        "a phone number",
        _DIGITS,  # North American
        r"(?<![\w.+-])(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.-])[2-9][0-9]{2}[ .-][0-9]{4}"
        r"(?![\w-])",
        _phone,
    ),
    kind(
        "a phone number",
        _DIGITS,  # of any land, after a word for it
        r"(?i:\b(?:tele)?phone|\btel|\bmobile|\bfax|\bwhatsapp)\b[^\n0-9+]{0,16}"
        r"(?P<found>\(?[0-9]{2,5}\)?(?:[ .-]?[0-9]{2,5}){1,4})(?![\w-])",
        _phone,
    ),
    kind(
        "an IP address",
        _DIGITS,
        r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-]|\.[0-9])",
        _address,
    ),
    kind(
        "an IP address",
        _DIGITS,
        r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])",
        _address,
    ),
)
