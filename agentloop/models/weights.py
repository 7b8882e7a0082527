"""The embedded model's weights: which there are, where they lie, how they come.

Enters: a name (`local`, `local:smollm2`) or a path. Leaves: a GGUF file whose sha256 is the
publisher's, or an error. Refuses to know: servers, prompts.

The package index carries the weights in wheels of an anonymous packager. Only their bytes are
wanted: pip downloads them by hash, nothing is installed or imported, the file is put together once in
the user's cache, and it is kept only if its sha256 is that of the publisher's own file.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

from agentloop.errors import SettingsError, UserError
from agentloop.filelock import FileLock

Tell = Callable[[str, int, int], None]
"""Called with what happens, how much is done, how much there is (bytes or files)."""


@dataclass(frozen=True)
class Weights:
    """One GGUF file that the package index carries in wheels."""

    name: str
    title: str
    file: str
    size: int
    sha256: str
    member: str
    """Pattern of the wanted file in each wheel."""
    licence: str = "Apache-2.0"

    @property
    def path(self) -> Path:
        """Where the file lies, or will."""
        return cache_folder() / "models" / self.file

    @property
    def present(self) -> bool:
        """Whether the whole file is there (its hash was checked when it came)."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    def requirements(self) -> str:
        """Return pip's hashed list of the wheels."""
        return (files("agentloop.models") / f"weights-{self.name}.txt").read_text("utf-8")


DEFAULT = Weights(
    name="qwen2.5-coder-1.5b",
    title="Qwen2.5-Coder-1.5B-Instruct Q4_K_M",
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    member=r"/data/part\d+\.bin$",
)
SMALL = Weights(
    name="smollm2",
    title="SmolLM2-135M-Instruct Q4_1",
    file="smollm2-135m-instruct-q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    member=r"\.gguf$",
)
KNOWN = {"local": DEFAULT, "local:smollm2": SMALL}


def cache_folder() -> Path:
    """Return agentloop's cache folder: `AGENTLOOP_CACHE_DIR`, else the user's own."""
    if own := os.environ.get("AGENTLOOP_CACHE_DIR"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "agentloop"


def find(spec: str) -> tuple[Path, str]:
    """Return the GGUF file that `local…` names and its sha256.

    Raises SettingsError with the command that fetches it.
    """
    if weights := KNOWN.get(spec):
        if not weights.present:
            name = "" if weights is DEFAULT else f" {weights.name}"
            raise SettingsError(
                f"the embedded model's weights are not here: run `agentloop doctor --fetch-model"
                f"{name}` ({weights.size / 1e9:.1f} GB, {weights.licence}, kept in the user's cache)"
            )
        return weights.path, weights.sha256
    path = Path(spec.removeprefix("local:")).expanduser()
    if not path.is_file():
        known = ", ".join(f"`{name}`" for name in KNOWN)
        raise SettingsError(f"`{spec}`: there is no file `{path}` (known: {known}, a GGUF's path)")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise SettingsError(f"`{path}` is not a GGUF file")
    return path, _sha256(path.resolve())


def _sha256(path: Path) -> str:
    """Return a file's sha256, remembered in the cache as long as size and time stay."""
    state = path.stat()
    place = f"{path}:{state.st_size}:{state.st_mtime_ns}"
    remembered = cache_folder() / "sha256" / hashlib.sha256(place.encode()).hexdigest()
    with suppress(OSError):
        return remembered.read_text("ascii")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(OSError):  # a cache that cannot be written only costs time
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.write_text(found, "ascii")
    return found


def fetch(weights: Weights, tell: Tell) -> Path:
    """Fetch and verify one set of weights; does nothing when they are there.

    Raises UserError when pip cannot download the parts or the result is not the publisher's file.
    """
    folder = weights.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{weights.file}.lock", wait=True):
        if weights.present:
            return weights.path
        _require_space(folder, 2 * weights.size)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as scratch:
            wheels = _download(weights, Path(scratch), tell)
            whole = Path(scratch) / weights.file
            _assemble(weights, wheels, whole, tell)
            whole.replace(weights.path)
    return weights.path


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"`{folder}` has {free / 1e9:.1f} GB free, fetching needs {needed / 1e9:.1f} GB: "
            "free some, or set `AGENTLOOP_CACHE_DIR`"
        )


def _download(weights: Weights, folder: Path, tell: Tell) -> list[Path]:
    """Download every wheel by its hash, with the user's own pip settings; return them in order."""
    lines = [x for x in weights.requirements().splitlines() if x and not x.startswith("#")]
    listing = folder / "parts.txt"
    for done, line in enumerate(lines):
        tell("downloading", done, len(lines))
        listing.write_text(line + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--require-hashes", "--no-cache-dir"]
        command += ["--disable-pip-version-check", "-r", str(listing), "-d", str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            errors = [x for x in result.stderr.splitlines() if x.startswith("ERROR:")]
            said = (errors or result.stderr.splitlines() or ["pip is not installed here"])[-1]
            raise UserError(
                f"`{line.split()[0]}` cannot be downloaded: {said}; "
                "any GGUF file serves instead: `--model local:PATH.gguf`"
            )
    tell("downloading", len(lines), len(lines))
    return sorted(folder.glob("*.whl"), key=_part_number)


def _part_number(wheel: Path) -> int:
    found = re.search(r"part(\d+)", wheel.name)
    return int(found[1]) if found else 0


def _assemble(weights: Weights, wheels: list[Path], target: Path, tell: Tell) -> None:
    """Stream the bytes out of the wheels, deleting each, and accept only the known hash."""
    found = hashlib.sha256()
    done = 0
    with target.open("wb") as out:
        for wheel in wheels:
            for chunk in _chunks(wheel, weights.member):
                found.update(chunk)
                out.write(chunk)
                done += len(chunk)
                tell("assembling", done, weights.size)
            wheel.unlink()
    if found.hexdigest() != weights.sha256:
        raise UserError(
            f"the fetched weights are not the publisher's file (sha256 {found.hexdigest()}, "
            f"expected {weights.sha256}): refused and deleted"
        )


def _chunks(wheel: Path, member: str) -> Iterator[bytes]:
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if re.search(member, n)]
        if len(names) != 1:
            raise UserError(f"`{wheel.name}` does not hold the weights that it should")
        with archive.open(names[0]) as part:
            yield from _blocks(part)


def _blocks(part: IO[bytes]) -> Iterator[bytes]:
    while block := part.read(1 << 20):
        yield block
