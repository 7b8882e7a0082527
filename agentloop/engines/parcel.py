"""The parcel that a worker is sent: all that it needs to open a workshop of its own.

Enters: a plan. Leaves: bytes; in the worker, a workshop that is the driver's, or UserError. Refuses to
know: seeds, the store, processes.

A recipe is named, and found again there; one that is an object travels by reference, and so do Model
objects' classes. What stands in the script that was started cannot: it would have to run again. Model
objects and what recipes' functions remember are copied: each process has a state of its own.

To another machine a recipe's file, its prompts and the rubric travel too (`luggage`); what else it reads
must be there. Wherever it is opened, a workshop that differs from the driver's is refused.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType
from typing import Any

from agentloop.config import Settings
from agentloop.engines.luggage import Luggage
from agentloop.errors import IdentityError, SettingsError
from agentloop.models.embedded import Address
from agentloop.models.limits import Limits
from agentloop.models.scripted import ScriptedModel
from agentloop.plan import Judged, Plan, Workshop, differing, equip
from agentloop.recipe import Recipe
from agentloop.recipes import FoundRecipe, find_recipe
from agentloop.records import Json


@dataclass(frozen=True)
class Parcel:
    """What is decided before the first call, as far as walking an item depends on it."""

    run: str
    recipe: bytes
    settings: bytes
    judged: Judged
    identity: Json
    luggage: Luggage | None = None
    """Where the files of this machine are not at hand."""


@dataclass(frozen=True)
class Place:
    """A worker's place among all."""

    number: int
    among: int

    def share(self, whole: int) -> int:
        """Return its part of something that is divided; all parts make up the whole."""
        return whole * (self.number + 1) // self.among - whole * self.number // self.among


@dataclass(frozen=True)
class Orders:
    """What a worker is told when it starts."""

    parcel: Parcel
    number: int
    """By which a person is told of it."""
    place: Place
    budget: bool
    """Whether money must be set aside."""
    served: Mapping[str, Address]
    """Where embedded models run already, by name."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What endpoints know the user by, for a machine whose environment lacks it."""
    report: float = 0.0
    """Seconds after which it says how busy it was, again and again; never where that is zero."""


def limits_of(shop: Workshop) -> dict[str, Limits]:
    """Return the limits of each model once, by the first role that asks it."""
    found: dict[int, tuple[str, Limits]] = {}
    for role, endpoint in shop.endpoints.items():
        found.setdefault(id(endpoint.limits), (role, endpoint.limits))
    return dict(found.values())


def pack(plan: Plan, luggage: Luggage | None = None) -> Parcel:
    """Return the parcel of a plan. Raises SettingsError for an object that cannot be sent."""
    named = plan.found.file.is_file()
    if not named and not plan.found.compiled:
        raise SettingsError(
            "`workers`: a graph that stands in no file cannot be sent to another process: name the "
            "recipe's file, or give the recipe itself where its graph is its own"
        )
    recipe: str | Recipe = plan.found.ref if named else plan.found.recipe
    return Parcel(
        run=plan.run,
        recipe=_packed(recipe, "the recipe", "name it, or its file"),
        settings=_packed(
            plan.settings.model_copy(update={"seeds": None, "store": None}),
            "a Model object",
            "name the model, or import its class from a module",
        ),
        judged=plan.judged,
        identity=plan.identity,
        luggage=luggage,
    )


def unpack(parcel: Parcel) -> Workshop:
    """Open a workshop. Raises UserError; IdentityError where it is not the one that was packed."""
    settings: Settings = _opened(parcel.settings, "a Model object")
    recipe = _opened(parcel.recipe, "the recipe")
    if parcel.luggage is not None:
        home = parcel.luggage.laid_out()
        recipe = parcel.luggage.recipe_in(home) or recipe
        settings = settings.model_copy(update=parcel.luggage.settings_in(home))
    found: FoundRecipe = find_recipe(recipe)
    shop = equip(found, settings, parcel.judged)
    if listed := differing(parcel.identity, shop.identity):
        raise IdentityError(
            f"a worker finds another {listed} than the process that started it: "
            "did a file change meanwhile?"
        )
    return shop


def _packed(value: Any, what: str, way_out: str) -> bytes:
    file = io.BytesIO()
    try:
        _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception as error:  # an object's own code may raise anything
        raise SettingsError(
            f"`workers`: {what} cannot be sent to another process: {_said(error)}; {way_out}"
        ) from error
    return file.getvalue()


def _opened(data: bytes, what: str) -> Any:
    try:
        return pickle.loads(data)  # noqa: S301  # from the process that started this one
    except Exception as error:
        raise SettingsError(
            f"`workers`: {what} cannot be opened in another process: {_said(error)}"
        ) from error


def _said(error: Exception) -> str:
    """Return the first line of an error's text; its type's name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _Pickler(pickle.Pickler):
    """Refuses what can only be found again by running the started script a second time."""

    def reducer_override(self, value: Any) -> Any:
        """Raise PicklingError for classes and functions of the script, and for scripts in order.

        Everything else is left to Python.
        """
        kinds = (type, FunctionType, BuiltinFunctionType)
        if isinstance(value, kinds) and value.__module__ == "__main__":
            raise pickle.PicklingError(f"`{value.__qualname__}` stands in the script itself")
        if isinstance(value, ScriptedModel) and value.in_order:
            raise pickle.PicklingError(
                f"`{value.name}` answers in order, and each would begin anew: give it a function"
            )
        return NotImplemented
