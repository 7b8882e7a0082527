"""Settings: flag > variable > file > default, and errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentloop.config import ROLES, RoleConfig, Settings, load_settings
from agentloop.errors import SettingsError
from agentloop.models.prices import Price
from agentloop.models.scripted import ScriptedModel

TOML = """
model = "openai/from-file"
accept = 7
map = { passage = "body" }

[roles.critic]
model = "anthropic/judge"
temperature = 0.0
extra = { top_p = 0.5 }

[prices."openai/from-file"]
input = 1
output = 2
"""


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(given: dict[str, Any] | None = None, *, file: Any = None, **environ: str) -> Settings:
    return load_settings(given or {}, file=file, environ=environ)


def refused(*words: str, given: dict[str, Any] | None = None, file: Any = None, **env: str) -> None:
    """Assert one line that names all of this."""
    with pytest.raises(SettingsError) as caught:
        load(given, file=file, **env)
    said = str(caught.value)
    assert "\n" not in said
    assert [word for word in words if word not in said] == []


def write(text: str, name: str = "agentloop.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


class TestOrder:
    def test_without_anything_there_are_defaults(self) -> None:
        assert load() == Settings()
        assert load().role("critic") == RoleConfig(client="auto")

    def test_a_flag_beats_a_variable_beats_the_file(self) -> None:
        write(TOML)
        assert load().accept == 7
        assert load(AGENTLOOP_ACCEPT="8").accept == 8
        assert load({"accept": 9}, AGENTLOOP_ACCEPT="8").accept == 9
        assert load({"accept": None}, AGENTLOOP_ACCEPT="8").accept == 8
        assert load(AGENTLOOP_ACCEPT="").accept == 7

    def test_a_named_file_replaces_the_folders_own(self) -> None:
        write(TOML)
        other = write("items = 3", "other.toml")
        assert load(file=other) == load(AGENTLOOP_CONFIG="other.toml") == Settings(items=3)
        assert load(file="agentloop.toml", AGENTLOOP_CONFIG="other.toml").accept == 7

    def test_variables_of_other_programs_and_of_the_cache_are_no_settings(self) -> None:
        assert load(PATH="x", AGENTLOOP_CACHE_DIR="y", AGENTLOOP_SERVE_KEY="z") == Settings()

    def test_variables_are_read_by_type(self) -> None:
        settings = load(AGENTLOOP_MAX_ROUNDS="0", AGENTLOOP_STORE="a.duckdb", AGENTLOOP_SEED="-1")
        assert (settings.max_rounds, settings.store, settings.seed) == (0, Path("a.duckdb"), -1)

    def test_workers_are_a_number_or_auto(self) -> None:
        assert load(AGENTLOOP_WORKERS="3").workers == load({"workers": 3}).workers == 3
        assert load(AGENTLOOP_WORKERS="auto").workers == "auto"

    def test_paths_may_be_given_as_paths(self) -> None:
        assert load({"rubric": Path("r.yaml")}).rubric == "r.yaml"


class TestRoles:
    def test_a_role_takes_its_own_model_before_the_runs(self) -> None:
        write(TOML)
        settings = load()
        assert settings.role("generator").model == "openai/from-file"
        assert settings.role("critic").model == "anthropic/judge"
        assert load({"critic": "x/y"}).role("critic").model == "x/y"

    def test_a_role_keeps_its_parameters_and_inherits_the_address(self) -> None:
        write(TOML.replace("anthropic/", "openai/"))
        critic = load({"base_url": "http://h/v1", "client": "direct"}).role("critic")
        assert (critic.base_url, critic.client) == ("http://h/v1", "direct")
        assert (critic.temperature, critic.extra) == (0.0, {"top_p": 0.5})

    def test_an_address_is_one_providers_and_no_key_goes_to_anothers(self) -> None:
        write(TOML)
        settings = load({"base_url": "http://h/v1"})
        assert {settings.role(r).base_url for r in ("generator", "reviser")} == {"http://h/v1"}
        assert settings.role("critic").base_url is None
        own = load({"base_url": "http://h/v1", "roles": {"critic": {"base_url": "http://j/v1"}}})
        assert own.role("critic").base_url == "http://j/v1"
        none = load({"base_url": "http://h/v1", "roles": {"reviser": {"base_url": ""}}})
        assert none.role("reviser").base_url is None

    def test_a_model_that_was_typed_beats_every_models_of_the_file(self) -> None:
        write("critic = 'openai/paid'\n" + TOML)
        settings = load({"model": "local"})
        assert [settings.role(role).model for role in ROLES] == ["local"] * len(ROLES)
        assert settings.role("critic").extra == {"top_p": 0.5}
        assert load({"model": "local", "critic": "x/y"}).role("critic").model == "x/y"

    def test_roles_of_python_add_to_those_of_the_file(self) -> None:
        write(TOML)
        settings = load({"roles": {"generator": RoleConfig(timeout=3), "critic": {"timeout": 4}}})
        assert settings.role("generator").timeout == 3
        assert (settings.role("critic").timeout, settings.role("critic").temperature) == (4, 0.0)

    def test_prices_are_read(self) -> None:
        write(TOML)
        assert load().prices == {"openai/from-file": Price(input=1, output=2)}

    def test_a_model_may_be_an_object(self) -> None:
        model = ScriptedModel(["x"])
        assert load({"model": model}).role("reviser").model is model


class TestErrors:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"acept": 5}, ["unknown setting `acept`", "did you mean `accept`?"]),
            ({"accept": 0}, ["`accept`", "greater than or equal to 1", "`0`"]),
            ({"accept": "many"}, ["`accept`", "integer", "`many`"]),
            ({"accept": "a\nb"}, ["`accept`"]),
            ({"max_rounds": 21}, ["`max_rounds`"]),
            ({"client": "lite"}, ["`client`", "'litellm'", "`lite`"]),
            ({"progress": "fancy"}, ["`progress`", "'rich'"]),
            ({"run": ""}, ["`run`"]),
            ({"workers": 0}, ["`workers`", "auto, or a number from 1 to 1024", "`0`"]),
            ({"workers": "all"}, ["`workers`", "auto, or a number", "`all`"]),
            ({"workers": True}, ["`workers`", "`True`"]),
            ({"engine": "dask"}, ["`engine`", "'ray'", "`dask`"]),
            ({"roles": {"critic": {"temprature": 1}}}, ["did you mean `temperature`?"]),
            ({"roles": {"critic": {"temperature": -1}}}, ["`roles.critic.temperature`"]),
            ({"roles": {"critic": {"structured": "xml"}}}, ["`roles.critic.structured`"]),
            ({"roles": {"critic": {"timeout": 0}}}, ["`roles.critic.timeout`"]),
            ({"roles": 5}, ["`roles`"]),
            ({"prices": {"a/b": {"input": -1, "output": 1}}}, ["`prices.a/b.input`"]),
            ({"prices": {"a/b": {"input": float("inf"), "output": 1}}}, ["`prices.a/b.input`"]),
            (
                {"prices": {"a/b": {"input": 1, "output": 1, "cache": 1}}},
                ["`prices.a/b.cache`", "did you mean `cached`?"],
            ),
        ],
    )
    def test_a_wrong_setting_is_named(self, given: dict[str, Any], words: list[str]) -> None:
        refused(*words, given=given)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("acept = 5", ["`agentloop.toml`", "`acept`", "did you mean `accept`?"]),
            ("accept = x", ["`agentloop.toml`", "cannot be read", "line 1"]),
            ("[roles.critic]\ntemprature = 1", ["did you mean `temperature`?"]),
            ("model = 5", ["`model`"]),
            ("seeds = 5", ["`seeds`"]),
        ],
    )
    def test_a_wrong_file_is_named(self, text: str, words: list[str]) -> None:
        write(text)
        refused(*words)

    def test_a_file_that_is_no_text_is_named(self) -> None:
        Path("agentloop.toml").write_bytes(b"\xff")
        refused("`agentloop.toml` cannot be read")

    def test_a_missing_file_is_named_whoever_named_it(self) -> None:
        refused("there is no settings file `gone.toml`", file="gone.toml")
        refused("there is no settings file `gone.toml`", AGENTLOOP_CONFIG="gone.toml")

    @pytest.mark.parametrize(
        ("variable", "words"),
        [
            ("AGENTLOOP_ACEPT", ["unknown variable `AGENTLOOP_ACEPT`", "`AGENTLOOP_ACCEPT`"]),
            ("AGENTLOOP_ROLES", ["unknown variable `AGENTLOOP_ROLES`"]),
            ("AGENTLOOP_ACCEPT", ["`accept`", "`x`"]),
        ],
    )
    def test_a_wrong_variable_is_named(self, variable: str, words: list[str]) -> None:
        with pytest.raises(SettingsError) as caught:
            load_settings({}, environ={variable: "x"})
        assert [word for word in words if word not in str(caught.value)] == []
