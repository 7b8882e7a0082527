"""Finding recipes: by file, by the project's `langgraph.json`, or among those that come along.

Enters: `grounded_qa`, `my_graph.py`, `my_graph.py:graph`. Leaves: a recipe with its compiled graph and a
reference that finds it again. Refuses to know: what the graph does.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.graph.state import CompiledStateGraph

from agentloop.checks import source_hash
from agentloop.errors import RecipeError, did_you_mean
from agentloop.recipe import Recipe
from agentloop.records import digest

LISTING = "langgraph.json"
PACKAGE = "agentloop.graphs"


@dataclass(frozen=True)
class FoundRecipe:
    """A recipe, its graph, and the words that found it."""

    recipe: Recipe
    graph: CompiledStateGraph[Any, Any, Any, Any]
    ref: str
    file: Path
    compiled: bool = False
    """Whether the graph was made here of nothing but the recipe."""

    @property
    def source(self) -> str:
        """Content hash of what the recipe is written in: its file, else its types and functions."""
        if self.file.is_file():
            return digest(self.file.read_text(encoding="utf-8"), 8)
        parts = (self.recipe.candidate, self.recipe.build)
        return digest([source_hash(part) for part in parts if part is not None], 8)


def find_recipe(ref: str | Recipe | FoundRecipe) -> FoundRecipe:
    """Return a recipe by path, by name in `./langgraph.json`, or by packaged name.

    Raises RecipeError with the known names.
    """
    if isinstance(ref, FoundRecipe):
        return ref
    if isinstance(ref, Recipe):
        return FoundRecipe(ref, ref.compile(), ref.name, Path(), compiled=True)
    path, _, attribute = ref.rpartition(":") if ":" in ref else (ref, "", "")
    if path.endswith(".py"):
        return _from_file(Path(path), attribute or "graph", ref)
    own = _listed(Path(LISTING))
    if ref in own:
        path, _, attribute = own[ref].partition(":")
        return _from_file(Path(path), attribute or "graph", ref)
    if ref in packaged():
        module = importlib.import_module(f"{PACKAGE}.{ref}")
        return _from_module(module, "graph", ref)
    raise RecipeError(
        f"there is no recipe `{ref}`{did_you_mean(ref, {*own, *packaged()})}; "
        "a file of your own is named by its path: `my_graph.py`"
    )


def packaged() -> list[str]:
    """Return the names of the recipes that come with agentloop."""
    package = importlib.import_module(PACKAGE)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def known() -> list[str]:
    """Return every name that `find_recipe` knows here."""
    return sorted({*_listed(Path(LISTING)), *packaged()})


def words_of(ref: str) -> str:
    """Return a recipe's file and attribute where `./langgraph.json` lists it; else what was said."""
    return _listed(Path(LISTING)).get(ref, ref)


def _listed(listing: Path) -> dict[str, str]:
    """Read the graphs of a `langgraph.json`; none when there is no such file."""
    try:
        graphs = json.loads(listing.read_text(encoding="utf-8"))["graphs"]
        paths = {n: e["path"] if isinstance(e, dict) else e for n, e in graphs.items()}
        return {name: str(listing.parent / path) for name, path in paths.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RecipeError(
            f'`{listing}` must hold `"graphs": {{"NAME": "./FILE.py:graph"}}`: {error}'
        ) from error


def _from_file(path: Path, attribute: str, ref: str) -> FoundRecipe:
    if not path.is_file():
        raise RecipeError(f"there is no recipe file `{path}`")
    for name in packaged():  # the project's own checkout: one module, not a second copy
        module = sys.modules.get(f"{PACKAGE}.{name}")
        if module and Path(module.__file__ or "").resolve() == path.resolve():
            return _from_module(module, attribute, ref)
    unique = hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()
    spec = importlib.util.spec_from_file_location(f"agentloop_recipe_{unique}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise RecipeError(f"recipe file `{path}` fails: {type(error).__name__}: {error}") from error
    return _from_module(module, attribute, ref)


def _from_module(module: ModuleType, attribute: str, ref: str) -> FoundRecipe:
    file = Path(module.__file__ or "")
    recipe = getattr(module, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"`{file}` must define `recipe = Recipe(…)`")
    graph = getattr(module, attribute, None)
    if not isinstance(graph, CompiledStateGraph):
        raise RecipeError(
            f"`{file}` must define `{attribute}`, a compiled graph: `recipe.compile()`"
        )
    return FoundRecipe(recipe, graph, ref, file)
