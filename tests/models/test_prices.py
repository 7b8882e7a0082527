"""What a call costs."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentloop.models.prices import FREE, Price, find_price
from agentloop.records import Usage

TOKENS = st.integers(0, 10**7)
USD = st.floats(0, 1000)


def test_cached_and_reasoning_tokens_are_parts_priced_apart() -> None:
    usage = Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=200, reasoning_tokens=50)
    price = Price(input=10, output=100, cached=1, reasoning=1000)
    assert price.cost(usage) == pytest.approx((600 * 10 + 400 * 1 + 150 * 100 + 50 * 1000) / 1e6)
    assert Price(input=10, output=100).cost(usage) == pytest.approx((10_000 + 20_000) / 1e6)


@given(TOKENS, TOKENS, TOKENS, TOKENS, USD, USD, st.none() | USD)
@example(prompt=0, cached=1, completion=0, reasoning=0, into=1.0, out=0.0, cheap=0.0)
@example(prompt=0, cached=0, completion=0, reasoning=1, into=0.0, out=1.0, cheap=None)
def test_nothing_costs_less_than_nothing(
    prompt: int, cached: int, completion: int, reasoning: int, into: float, out: float,
    cheap: float | None,
) -> None:  # fmt: skip
    usage = Usage(
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        reasoning_tokens=reasoning,
    )
    assert Price(input=into, output=out, cached=cheap).cost(usage) >= 0
    assert FREE.cost(usage) == 0


@pytest.mark.parametrize("wrong", [{"input": -1}, {"input": float("nan")}, {"inptu": 1}])
def test_a_wrong_price_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Price.model_validate({"input": 1, "output": 1} | wrong)


def test_known_models_have_prices_per_million() -> None:
    price = find_price("openai/gpt-4o-mini", {})
    assert price is not None
    assert 0 < price.input < price.output < 10
    assert price.cached is not None
    assert price.cached < price.input


@pytest.mark.parametrize(
    "name",
    ["openai/no-such-model", "no-such-model", "", "openai/", "sample_spec", "lm_studio/gpt-4o",
     "groq/gpt-4o", "ollama/gpt-4o", "hosted_vllm/gpt-4o"],
)  # fmt: skip
def test_an_unknown_price_is_none_and_never_another_providers(name: str) -> None:
    assert find_price(name, {}) is None


@pytest.mark.parametrize("name", ["anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"])
def test_other_providers_models_are_found_by_their_full_name(name: str) -> None:
    assert find_price(name, {}) is not None


def test_ones_own_prices_come_first() -> None:
    own = {"openai/gpt-4o": Price(input=1, output=2), "mine/x": FREE}
    assert find_price("openai/gpt-4o", own) == Price(input=1, output=2)
    assert find_price("mine/x", own) == FREE
