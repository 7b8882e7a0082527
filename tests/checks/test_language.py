"""The language of a text: by its script, by the model, and what is refused."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks.language import CODES, language, script_of, written_in
from agentloop.errors import RecipeError, SettingsError

MODEL = importlib.util.find_spec("py3langid") is not None
NEEDS_MODEL = pytest.mark.skipif(not MODEL, reason="the language extra is not installed")
ALONE = {
    "ko": "가장 가까운 역이 어디에 있나요?",
    "th": "สถานีที่ใกล้ที่สุดอยู่ที่ไหน",
    "el": "Πού είναι ο σταθμός;",
    "ja": "一番近い駅はどこですか。",
    "zh": "最近的车站在哪里?",
    "ta": "அருகிலுள்ள நிலையம் எங்கே?",
    "pa": "ਨੇੜਲਾ ਸਟੇਸ਼ਨ ਕਿੱਥੇ ਹੈ?",
    "he": "איפה התחנה הקרובה?",
}
SHARED_SCRIPT = {
    "en": "I would like to know where the nearest station is.",
    "de": "Ich wüsste gern, wo der nächste Bahnhof ist.",
    "pt": "Eu gostaria de saber onde fica a estação mais próxima.",
    "ru": "Скажите, пожалуйста, где находится ближайший вокзал.",
    "bg": "Бихте ли ми казали къде се намира най-близката гара.",
    "ur": "براہ کرم بتائیں کہ قریب ترین اسٹیشن کہاں ہے۔",
    "mr": "कृपया मला सांगा की जवळचे स्टेशन कुठे आहे.",
}


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the language extra."""
    find = importlib.util.find_spec

    def found(name: str, *rest: Any) -> object:
        return None if name == "py3langid" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", found)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("code", ALONE)
def test_a_script_of_one_language_decides_without_the_extra(code: str) -> None:
    check = language("answer", code)
    assert check.name == "language_answer"
    assert check.run({"answer": ALONE[code]}, {}).passed
    for other in ALONE.keys() - {code}:
        assert not check.run({"answer": ALONE[other]}, {}).passed


@pytest.mark.usefixtures("no_model")
def test_another_script_is_another_language_without_the_extra() -> None:
    finding = language("answer", "ko").run({"answer": "in plain English"}, {})
    assert finding.evidence == ("`answer` is written in Latin letters; the language `ko` is asked")
    assert not written_in(ALONE["el"], "en").passed


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("code", SHARED_SCRIPT)
def test_languages_of_one_script_need_the_extra_and_say_so_at_once(code: str) -> None:
    with pytest.raises(SettingsError, match=r"pip install 'agentloop-data\[language\]'"):
        language("answer", code)
    with pytest.raises(SettingsError, match=f"telling `{code}` from"):
        written_in(SHARED_SCRIPT[code], code)


@NEEDS_MODEL
@pytest.mark.parametrize("code", SHARED_SCRIPT)
def test_languages_of_one_script_are_told_apart_in_any_case(code: str) -> None:
    for text in (SHARED_SCRIPT[code], SHARED_SCRIPT[code].upper(), SHARED_SCRIPT[code].lower()):
        assert written_in(text, code).passed
        for other in SHARED_SCRIPT.keys() - {code}:
            assert not written_in(text, other).passed


@NEEDS_MODEL
def test_evidence_says_what_the_text_reads_as() -> None:
    check = language("answer", "en-GB")
    assert check.settings == {"field": "answer", "code": "en"}
    finding = check.run({"answer": SHARED_SCRIPT["de"]}, {})
    assert finding.evidence == "`answer` reads as `de`; the language `en` is asked"
    markup = check.run({"answer": "x1 = 0x7f; id=3412 <br/>"}, {})
    assert markup.evidence == "`answer` reads as no language; the language `en` is asked"


@NEEDS_MODEL
@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    assert written_in(text, "en").passed in (True, False)


@pytest.mark.parametrize("text", ["", "12345", " \x00 🙂 \ud800"])
def test_a_text_without_letters_is_in_no_language(text: str) -> None:
    evidence = language("answer", "ko").run({"answer": text}, {}).evidence
    assert evidence == "`answer` has no letters; the language `ko` is asked"


@pytest.mark.parametrize("code", ["english", "", "xq", "zxx"])
def test_an_unknown_code_is_refused(code: str) -> None:
    with pytest.raises(RecipeError, match=f"unknown language `{code}`"):
        language("answer", code)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("abc где", "LATIN"),
        ("ab где", "CYRILLIC"),
        ("東京の駅", "KANA"),
        ("最近的车站在哪里? 非常感谢你, の", "HAN"),
        ("カタカナ", "KANA"),
        ("1 2 3", None),
    ],
)
def test_the_script_is_that_of_most_letters(text: str, script: str | None) -> None:
    assert script_of(text) == script


@given(st.text())
def test_every_text_has_a_script_where_it_has_letters(text: str) -> None:
    assert (script_of(text) is None) == (not any(map(str.isalpha, text)))


@NEEDS_MODEL
def test_the_model_knows_every_code_that_shares_its_script() -> None:
    import py3langid

    from agentloop.checks.language import WRITTEN

    labels = {label for label, _ in py3langid.rank("x")}
    shared = {code for codes in WRITTEN.values() if len(codes) > 1 for code in codes}
    assert shared <= labels
    assert {label for label in labels if len(label) == 2} - CODES == {"dz"}
