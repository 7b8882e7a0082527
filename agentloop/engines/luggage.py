"""What a recipe of one's own takes along to another machine: its file, its prompts, the rubric.

Enters: a plan. Leaves: files by name, and there a folder in which they lie as they lay here. Refuses to
know: what stands in them (who opens them compares), how they travel.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from agentloop.errors import SettingsError
from agentloop.plan import Plan
from agentloop.recipes import PACKAGE, packaged, words_of

MOST = 2**24  # bytes of all files
GIVEN = "given"  # the folder of what the settings name


@dataclass(frozen=True)
class Luggage:
    """Files by their place, and what is to be found among them."""

    files: Mapping[str, bytes] = field(repr=False)
    recipe: str = ""
    """The recipe's own words with its file's place in them; empty for one that is found by name."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The places of those that the settings name."""

    @classmethod
    def of(cls, plan: Plan) -> Luggage:
        """Return what a plan's recipe needs elsewhere. Raises SettingsError where that is too much."""
        recipe, taken = _recipe_of(plan)
        settings = {}
        for name in ("rubric", "prompts"):
            said = getattr(plan.settings, name)
            if said and Path(said).exists():
                settings[name] = place = f"{GIVEN}/{name}/{Path(said).name}"
                taken |= {f"{place}{rest}": file for rest, file in _under(Path(said))}
        return cls(_read(taken), recipe, settings)

    def laid_out(self) -> Path:
        """Return a folder with the files in it, until they are put away."""
        home = Path(tempfile.mkdtemp(prefix="agentloop-"))
        _laid_out.append(home)
        for name, content in self.files.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(content)
        return home

    def recipe_in(self, home: Path) -> str:
        """Return the words that find the recipe there; nothing where its name does."""
        return f"{home / self.recipe}" if self.recipe else ""

    def settings_in(self, home: Path) -> dict[str, str]:
        """Return the settings that name files, with where they are there."""
        return {name: str(home / place) for name, place in self.settings.items()}


_laid_out: list[Path] = []
"""The folders of this process."""


def put_away() -> None:
    """Remove what was laid out here: who is killed when it has done its work does not see its end."""
    while _laid_out:
        shutil.rmtree(_laid_out.pop(), ignore_errors=True)


def _recipe_of(plan: Plan) -> tuple[str, dict[str, Path]]:
    """Return the words that find a recipe among files, and the files; nothing for one of ours."""
    found = plan.found
    if not found.file.is_file() or (found.ref in packaged() and _is_ours(found.file)):
        return "", {}
    file, recipe = found.file.resolve(), found.recipe
    prompts = Path(recipe.prompts) if recipe.prompts else Path("prompts", recipe.name)
    folder = (recipe.home / prompts).resolve()
    beside = recipe.home.resolve() == file.parent and not prompts.is_absolute() and folder.is_dir()
    root = Path(os.path.commonpath([file.parent, folder])) if beside else file.parent
    place = str(file.relative_to(root))
    taken = {place: file}
    if beside:
        inside = f"{folder.relative_to(root)}"
        taken |= {f"{inside}{rest}": entry for rest, entry in _under(folder)}
    attribute = words_of(found.ref).partition(".py:")[2]
    return place + (f":{attribute}" if attribute else ""), taken


def _is_ours(file: Path) -> bool:
    return file.resolve().parent == Path(str(files(PACKAGE))).resolve()


def _under(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a folder, or a file, with what comes after its name; none that is hidden."""
    if path.is_file():
        yield "", path
        return
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in inside.parts):
            yield f"/{inside}", file


def _read(taken: Mapping[str, Path]) -> dict[str, bytes]:
    size = sum(file.stat().st_size for file in taken.values())
    if size > MOST:
        raise SettingsError(
            f"the recipe's prompts and rubric are {size / 2**20:.0f} MiB: "
            f"{MOST // 2**20} MiB at most go to other machines"
        )
    return {name: file.read_bytes() for name, file in taken.items()}
