"""Which client serves a name, and the line to type when none does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agentloop.errors import SettingsError
from agentloop.models import embedded
from agentloop.models.base import Model, Traits
from agentloop.models.choose import (
    OPENAI_COMPATIBLE,
    ClientChoice,
    ModelChoice,
    check_url,
    default_model,
    is_loopback,
    open_model,
    traits_of,
)
from agentloop.models.direct import DirectModel
from agentloop.models.prices import Price
from agentloop.models.scripted import ScriptedModel
from agentloop.models.via_litellm import LitellmModel, load
from tests.endpoint import Endpoint
from tests.models.asking import one

URL = "http://127.0.0.1:8000/v1"


def refused(spec: str, *words: str, url: str | None = None, client: ClientChoice = "auto") -> None:
    with pytest.raises(SettingsError) as caught:
        open_model(ModelChoice(spec, url, client))
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("spec", "url", "client", "kind"),
    [
        ("openai/x", URL, "auto", DirectModel),
        ("hosted_vllm/org/x", URL, "auto", DirectModel),
        ("ollama/llama3", URL, "auto", DirectModel),
        ("openai/x", URL, "direct", DirectModel),
        ("ollama/llama3", None, "auto", LitellmModel),
        ("openai/x", None, "auto", LitellmModel),
        ("openai/x", URL, "litellm", LitellmModel),
        ("anthropic/x", URL, "auto", LitellmModel),
        ("gemini/x", None, "litellm", LitellmModel),
    ],
)
def test_a_name_an_address_and_a_choice_make_a_client(
    spec: str, url: str | None, client: ClientChoice, kind: type[Model]
) -> None:
    model = open_model(ModelChoice(spec, url, client))
    assert type(model) is kind
    assert model.name == spec
    assert model.identity["model"] == spec


def test_a_public_provider_needs_no_address_for_the_direct_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "k")
    model = open_model(ModelChoice("groq/x", client="direct"))
    assert model.identity == {"model": "groq/x", "endpoint": "https://api.groq.com/openai/v1"}


def test_the_key_comes_from_the_providers_variable(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "other")
    monkeypatch.setenv("HOSTED_VLLM_API_KEY", "mine\n")
    one(open_model(ModelChoice("hosted_vllm/x", endpoint.url)))
    assert endpoint.headers[0]["Authorization"] == "Bearer mine"


def test_a_loopback_address_needs_no_key(endpoint: Endpoint) -> None:
    for client in ("direct", "litellm"):
        assert one(open_model(ModelChoice("openai/x", endpoint.url, client))).text


def test_every_short_listed_prefix_is_one_of_litellms() -> None:
    known = {getattr(p, "value", str(p)) for p in load().provider_list}
    assert [prefix for prefix in OPENAI_COMPATIBLE if prefix not in known] == []


@pytest.mark.parametrize("spec", ["gpt-5", "", "opnai/gpt-5", "/x", "openai/", "openai/ "])
def test_a_wrong_name_is_refused(spec: str) -> None:
    refused(spec, f"`{spec}`")


def test_a_wrong_name_is_shown_the_way_out() -> None:
    refused("gpt-5", "`openai/gpt-5`")
    refused("opnai/gpt-5", "did you mean `openai`", "--base-url")
    refused("mine/x", "unknown model prefix `mine/`", "`openai/mine/x` with `--base-url`")


def test_the_direct_client_says_what_it_lacks() -> None:
    refused("anthropic/x", "cannot serve `anthropic/x`", "--client litellm", client="direct")
    refused("gpt-5", "`openai/gpt-5` with `--base-url`", client="direct")
    refused("ollama/x", "needs its address", "--base-url http://", client="direct")
    refused("openai/x", "needs its key in `OPENAI_API_KEY`", client="direct")


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000/v1", "localhost", "ftp://h/v1", "http://", "", "http://[::1", "http://h:99999",
     "http://h:port/v1", "file:///etc/passwd"],
)  # fmt: skip
def test_a_wrong_address_is_refused_before_any_call(url: str) -> None:
    with pytest.raises(SettingsError, match=r"write `http://HOST:PORT/v1`"):
        check_url(url)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    for client in ("direct", "litellm"):
        with pytest.raises(SettingsError, match="must not carry a password") as caught:
            open_model(ModelChoice("openai/x", "http://me:secret@h/v1", client))
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", [URL, "https://api.example.com", "http://[::1]:8000/v1"])
def test_a_right_address_is_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "here"),
    [(URL, True), ("http://localhost:1", True), ("http://LOCALHOST", True), ("http://[::1]:1", True),
     ("http://127.8.9.1", True), ("http://127.evil.com", False), ("http://10.0.0.1", False),
     ("http://127.0.0.1.evil.com", False), ("http://localhost.evil.com", False)],
)  # fmt: skip
def test_loopback_is_this_machine_only(url: str, here: bool) -> None:
    assert is_loopback(url) is here


def test_a_price_is_the_publics_unless_the_address_is_ones_own() -> None:
    usage_price = Price(input=1, output=1)
    own = {"openai/gpt-4o": usage_price}
    with Endpoint() as server:
        mine = open_model(ModelChoice("openai/gpt-4o", server.url, prices=own))
        unknown = open_model(ModelChoice("openai/gpt-4o", server.url))
        assert (one(mine).cost_usd or 0) > 0
        assert one(unknown).cost_usd is None


def test_traits_are_guessed_from_the_name() -> None:
    assert traits_of(ScriptedModel([])) == Traits()
    assert traits_of(open_model(ModelChoice("openai/x", URL))) == Traits()
    assert traits_of(open_model(ModelChoice("openai/gpt-4o"))).structured == "json_schema"
    assert traits_of(open_model(ModelChoice("ollama/no-such"))).structured == "prompt"
    local = traits_of(ScriptedModel([], name="local"))
    assert (local.logprobs, local.structured, local.concurrency) == (True, "json_schema", 2)


class TestLocal:
    @pytest.fixture(autouse=True)
    def _empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AGENTLOOP_CACHE_DIR", str(tmp_path))

    def test_without_its_extra_the_line_to_type_is_shown(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "xllamacpp", None)
        assert not embedded.installed()
        refused("local", "pip install 'agentloop-data[local]'")
        with pytest.raises(SettingsError, match=r"--model openai/.*agentloop-data\[local\]"):
            default_model()

    @pytest.mark.skipif(not embedded.installed(), reason="the `local` extra is not installed")
    def test_it_is_the_default_and_a_key_picks_no_paid_model(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        assert default_model() == "local"

    @pytest.mark.skipif(not embedded.installed(), reason="the `local` extra is not installed")
    def test_missing_weights_show_the_line_that_fetches_them(self) -> None:
        refused("local", "agentloop doctor --fetch-model`", "1.1 GB", "Apache-2.0")
        refused("local:smollm2", "agentloop doctor --fetch-model smollm2`", "0.1 GB")

    @pytest.mark.skipif(not embedded.installed(), reason="the `local` extra is not installed")
    def test_a_file_must_be_there_and_be_a_gguf(self, tmp_path: Path) -> None:
        (tmp_path / "x.gguf").write_bytes(b"no")
        refused("local:gone.gguf", "there is no file `gone.gguf`", "`local:smollm2`")
        refused(f"local:{tmp_path}", "there is no file")
        refused(f"local:{tmp_path}/x.gguf", "is not a GGUF file")
        (tmp_path / "x.gguf").write_bytes(b"GGUF and more")
        model = open_model(ModelChoice(f"local:{tmp_path}/x.gguf"))
        assert len(model.identity["weights"]) == 64
