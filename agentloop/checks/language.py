"""Which language a text is written in.

Enters: a text and an ISO 639-1 code. Leaves: whether it is that language, with evidence. A script that
one language alone uses decides in code; languages that share a script are told apart by py3langid (the
`language` extra), loaded on first use. Refuses to know: dialects, and passages in other languages.

The library was chosen among four by what its first use costs and how many of 99 phrases, of up to eight
words, in 40 languages it gets wrong: py3langid 0.4 (1.1 s CPU, 120 MB, 4.6 MB to fetch) 5; lingua 2.1
(12 s, 900 MB, 96 MB to fetch) 11; fastText's small model 11; langdetect 1.0 14.
"""

from __future__ import annotations

import importlib.util
import unicodedata
from collections import Counter

from agentloop.checks import Check, Finding, fail, passed
from agentloop.errors import RecipeError, SettingsError, did_you_mean
from agentloop.records import Json

_LANGUAGES = {
    "ARABIC": "ar fa ps ug ur",
    "ARMENIAN": "hy",
    "BENGALI": "as bn",
    "CYRILLIC": "ba be bg kk ky mk mn ru sr tg tt uk",
    "DEVANAGARI": "hi mr ne sa",
    "ETHIOPIC": "am",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HAN": "zh",
    "HANGUL": "ko",
    "HEBREW": "he",
    "KANA": "ja",
    "KANNADA": "kn",
    "KHMER": "km",
    "LAO": "lo",
    "LATIN": "af an az br bs ca cs cy da de en eo es et eu fi fo fr fy ga gd gl ha hr ht hu id ig is it"
    " jv ku la lb lg ln lt lv mg ms mt nl nn no oc om pl pt qu ro rw se sk sl sn so sq sr st sv sw tk tl"
    " tr uz vi vo wa xh yo zu",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
}
WRITTEN = {script: frozenset(codes.split()) for script, codes in _LANGUAGES.items()}
"""The languages that are told apart here, by the script they are written in."""
CODES = frozenset().union(*WRITTEN.values())
_JAPANESE = 0.1  # share of kana among Chinese characters; a Chinese text quotes few
_NO_LANGUAGE = "zxx"  # the model's name for numbers, markup, identifiers


def language(field: str, code: str) -> Check:
    """A text field is written in the language with an ISO 639-1 code, as `de` or `pt-BR`.

    RecipeError for an unknown code; SettingsError where the language shares its script and the
    `language` extra is not installed.
    """
    try:
        wanted = known_code(code)
    except ValueError as error:
        raise RecipeError(f"check `language`: {error}") from error
    if any(wanted in codes and len(codes) > 1 for codes in WRITTEN.values()):
        _need_model(wanted)

    def run(candidate: Json, seed: Json) -> Finding:
        found = written_in(str(candidate.get(field, "")), wanted)
        return found if found.passed else fail(f"`{field}` {found.evidence}")

    return Check(f"language_{field}", run, {"field": field, "code": wanted})


def known_code(code: str) -> str:
    """Return the language of a code as `pt` or `pt-BR`; ValueError where it is none known here."""
    wanted = code.lower().partition("-")[0]
    if wanted not in CODES:
        raise ValueError(f"unknown language `{code}`{did_you_mean(code, CODES)}")
    return wanted


def written_in(text: str, code: str) -> Finding:
    """Whether most of a text is in a language of `CODES`; SettingsError where the extra is needed."""
    script = script_of(text)
    if script is None:
        return fail(f"has no letters; the language `{code}` is asked")
    known = WRITTEN.get(script, frozenset())
    if code not in known:
        return fail(f"is written in {script.title()} letters; the language `{code}` is asked")
    found = code if len(known) == 1 else _likeliest(text, known, code)
    if found == code:
        return passed()
    reads = f"reads as `{found}`" if found else "reads as no language"
    return fail(f"{reads}; the language `{code}` is asked")


def script_of(text: str) -> str | None:
    """Return the Unicode name of the script of most letters; KANA for Japanese, None for no letters."""
    counts: Counter[str] = Counter()
    for letter, number in Counter(text).items():
        if letter.isalpha():
            counts[unicodedata.name(letter, "UNKNOWN").split()[0]] += number
    kana, han = counts.pop("HIRAGANA", 0) + counts.pop("KATAKANA", 0), counts.pop("CJK", 0)
    if kana or han:
        counts["KANA" if kana >= _JAPANESE * (kana + han) else "HAN"] = kana + han
    return counts.most_common(1)[0][0] if counts else None


def _likeliest(text: str, known: frozenset[str], code: str) -> str | None:
    """Return the likeliest of the languages of one script; None for what is no language."""
    _need_model(code)
    import py3langid

    ranked = (str(label) for label, _ in py3langid.rank(text))
    best = next((label for label in ranked if label in known or label == _NO_LANGUAGE), None)
    return None if best == _NO_LANGUAGE else best


def _need_model(code: str) -> None:
    if importlib.util.find_spec("py3langid") is None:
        raise SettingsError(
            f"telling `{code}` from the languages of the same letters needs the language extra: "
            "`pip install 'agentloop-data[language]'`"
        )
