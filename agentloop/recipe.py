"""A recipe, and the kit that a run makes of it: candidate type, prompts, rubric, checks, graph.

    class QA(Candidate):
        question: str
        answer: str

    recipe = Recipe(name="my_qa", reads=("passage",), candidate=QA, prompts="prompts/my_qa")
    graph = recipe.compile()

Enters: a recipe's parts; on `load`, its prompts and its rubric. Leaves: a compiled graph; a `Kit` in
which whatever could only fail after the first paid call was checked. Refuses to know: models, items.
"""

from __future__ import annotations

import dataclasses
import random
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from agentloop.agents import wordings
from agentloop.canaries import FILE as CANARIES
from agentloop.canaries import Canary, read_planted
from agentloop.checks import Check, source_hash
from agentloop.checks.registry import fields_named, packaged_check
from agentloop.errors import PromptError, RecipeError, RubricError, boundary, did_you_mean
from agentloop.judging import few_shot, listed_options
from agentloop.loop import standard_graph
from agentloop.prompting import Prompt, PromptFolder
from agentloop.records import Candidate, Json, digest
from agentloop.rubric import Rubric, read_rubric
from agentloop.state import Step
from agentloop.verdicts import Refuse

REQUIRED_PROMPTS = ("generate", "critique", "ask", "evidence", "revise")
AUDIT_PROMPTS = ("audit", "audit_ask")
WISHES = ("wishes", "verbalise")
"""Prompts that say what a run asks of an item besides its recipe."""

Draw = Callable[[Json, int, random.Random], Json]
"""`draw(seed, sample, chance)`: an item's inputs from the seed's fields, the sample index and chance.

`chance` is the same for all samples of a seed in a run, so that they can be drawn without repeating:
`chance.sample(things, len(things))[sample % len(things)]`.
"""


def schema_hash(candidate: type[Candidate]) -> str:
    """Return what tells a candidate's type from those of other fields."""
    return digest(candidate.model_json_schema(), 8)


@dataclass(frozen=True)
class Recipe:
    """Candidate type, prompts, rubric, checks and graph under one name."""

    name: str
    candidate: type[Candidate]
    reads: tuple[str, ...] = ()
    """Seed fields that the prompts read; a seed without them is refused before the run."""
    checks: tuple[Check, ...] = ()
    prompts: str | Path = ""
    """Folder of its own prompts and `rubric.yaml`, from its file's folder; `prompts/NAME` if empty."""
    about: str = ""
    """One line for `agentloop recipes`."""
    draw: Draw | None = None
    """Draws an item's inputs before its first call."""
    steps: tuple[Step, ...] = ()
    """What makes a first draft, in a row, by the prompts in `asks`; else the generator alone."""
    asks: tuple[str, ...] = ()
    """Prompts that the steps and the revision ask by."""
    revision: Step | None = None
    """Rewrites some fields of a draft; else the reviser writes it anew."""
    refuse: Refuse | None = None
    """Drops an item that would be accepted, by how its several drafts compare (`ranked_graph`)."""
    own_evidence: bool = False
    """Whether the revision finds evidence of its own each round; else it waits for new findings."""
    roles: tuple[str, ...] = ()
    """Roles of its own; each has the generator's model unless it is given another."""
    alike: str = ""
    """The field of a seed that is of the kind that one of the candidate's is, for variety beside it.

    `instruction`: both have it, and what is like a seed's is refused at the door. `evolved=instruction`:
    the candidate's `evolved` is made from the seed's `instruction`, so that it may be like it.
    """
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What its items are to differ in, unless the run says otherwise (`agentloop.attributes`)."""
    pool: tuple[int, int] | None = None
    """How many examples an item is shown: people's seeds, and the run's own accepted ones."""
    max_rounds: int = 2
    """Revisions of one item, unless the run says otherwise."""
    calls: int = 2
    """Calls of an item that is accepted as it was first drafted, by a critic that writes its marks."""
    lists: tuple[str, ...] = ()
    """Files beside its prompts that `draw` takes from, one entry a line: `principles.txt`."""
    build: Callable[[Recipe], StateGraph[Any, Any, Any, Any]] | None = None
    """Makes another graph; the standard loop by default."""

    @property
    def home(self) -> Path:
        """The folder of the file that declares the candidate type: the recipe's own."""
        module = sys.modules.get(self.candidate.__module__)
        return Path(getattr(module, "__file__", None) or "").parent

    @property
    def likened(self) -> tuple[str, str]:
        """The candidate's field that `alike` names, and the seed's; both empty where it names none."""
        ours, _, theirs = self.alike.partition("=")
        return ours, theirs or ours

    def compile(self) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Return the compiled graph, without a checkpointer."""
        make = self.build or standard_graph
        return make(self).compile(name=self.name)

    def inputs(self, seed: Json, sample: int, seed_of_run: int = 0) -> Json:
        """Return everything that an item takes from outside besides its seed."""
        if self.draw is None:
            return {"sample": sample}
        chance = random.Random(digest([seed_of_run, seed], 8))
        drawn: Json = orjson.loads(orjson.dumps(self.draw(seed, sample, chance)))
        return {"sample": sample, **drawn}

    def listed(self, file: str) -> tuple[str, ...]:
        """Return the entries of one of its `lists`; RecipeError where there is none."""
        found = self.folder().find(file)
        if found is None:
            raise RecipeError(f"recipe `{self.name}` has no `{file}` beside its prompts")
        with boundary(RecipeError, f"`{found}`", OSError, UnicodeDecodeError):
            lines = found.read_text(encoding="utf-8").splitlines()
        if not (entries := tuple(line.strip() for line in lines if line.strip())):
            raise RecipeError(f"`{found}` holds no entry")
        return entries

    def folder(self, *mine: str | Path) -> PromptFolder:
        """Return where its prompts are looked for: `mine`, its own, the packaged ones."""
        beside = self.home / (self.prompts or Path("prompts") / self.name)
        own = [beside] if self.prompts or beside.is_dir() else []
        return PromptFolder.of(self.name, *mine, *own)

    def load(self, rubric: str | Path = "", *prompts: str | Path) -> Kit:
        """Read rubric and prompts. Raises RubricError or PromptError."""
        folder = self.folder(*prompts)
        found = _rubric_file(rubric, folder)
        loaded = read_rubric(found)
        unasked = {"generate"} if self.steps else set()
        unasked |= {"revise"} if self.revision or self.max_rounds == 0 else set()
        names = [n for n in REQUIRED_PROMPTS if n not in unasked] + [
            *self.asks,
            *AUDIT_PROMPTS,
            *WISHES,
        ]
        names += ["reference"] if loaded.reference is True else []
        names += ["criteria"] if loaded.per_item else []
        looks = loaded.looks.count + loaded.looks.extra
        others = folder.wordings("critique", looks) | folder.wordings("ask", looks)
        kit = Kit(self, loaded, folder.prompts(names) | others, self._planted(folder))
        kit.check()
        return kit

    def _planted(self, folder: PromptFolder) -> tuple[Canary, ...]:
        found = folder.find(CANARIES)
        if found is None:
            return ()
        with boundary(RecipeError, f"`{found}`", OSError, UnicodeDecodeError):
            text = found.read_text(encoding="utf-8")
        return read_planted(text, str(found), self.candidate)


@dataclass(frozen=True)
class Kit:
    """A recipe with its rubric and prompts read: all that a run needs besides models."""

    recipe: Recipe
    rubric: Rubric
    prompts: Mapping[str, Prompt]
    canaries: tuple[Canary, ...] = ()
    """Known good and known bad ones, from the recipe's `canaries.jsonl`."""

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Seed fields that the recipe declares, a prompt cannot do without, or a quote stands in."""
        named = {field for prompt in self.prompts.values() for field in prompt.fields_of("seed")}
        named |= {field for where, field in (*self._quoted, *self._checked) if where == "seed"}
        named |= {self.rubric.reference_field} - {""}
        return tuple(dict.fromkeys([*self.recipe.reads, *sorted(named)]))

    @property
    def _quoted(self) -> list[tuple[str, str]]:
        quoting = [c for c in self.rubric.criteria if c.evidence == "quote"]
        sources = [c.quote_from for c in quoting] + [c.quoted_by for c in quoting if c.quoted_by]
        return [(where, field) for where, _, field in (s.partition(".") for s in sources)]

    @property
    def _checked(self) -> list[tuple[str, str]]:
        own = {check.name for check in self.recipe.checks}
        named = [c for c in self.rubric.checked if c.check not in own]
        return [
            field
            for criterion in named
            for field in fields_named(criterion.check, criterion.settings)
        ]

    def check(self) -> None:
        """Raise PromptError or RubricError for what could only fail after the first paid call."""
        kind = self.recipe.candidate
        fields = kind.model_fields
        if len(fields) < 2 and kind.conversation is Candidate.conversation:
            raise RecipeError(
                f"`{kind.__name__}` has fewer than two fields: say with `conversation` what a trainer "
                "reads of it"
            )
        for prompt in self.prompts.values():
            for name in sorted(prompt.fields_of("candidate") - fields.keys()):
                raise PromptError(
                    f"prompt `{prompt.where}` uses `candidate.{name}`, which a `{kind.__name__}` "
                    f"lacks{did_you_mean(name, fields)}"
                )
        for verb, named in (("quotes from", self._quoted), ("checks", self._checked)):
            for where, name in named:
                if where == "candidate" and name not in fields:
                    raise RubricError(
                        f"rubric `{self.rubric.name}` {verb} `candidate.{name}`, which a "
                        f"`{kind.__name__}` lacks{did_you_mean(name, fields)}"
                    )
        self._check_names()
        for criterion in self.rubric.judged:
            few_shot(self.prompts["ask"], criterion, listed_options(criterion))
        _ = self.checks, self._lists

    def _check_names(self) -> None:
        """Raise RubricError where a criterion and a check could be taken for each other."""
        own = {check.name for check in self.recipe.checks}
        where = f"rubric `{self.rubric.name}`, criterion"
        for criterion in self.rubric.checked:
            if criterion.check in own and criterion.settings:
                raise RubricError(
                    f"{where} `{criterion.name}`: `with` belongs to a packaged check; "
                    f"`{criterion.check}` is the recipe's own"
                )
            if criterion.check not in own and criterion.name in own:
                raise RubricError(
                    f"{where} `{criterion.name}` has the name of a recipe's own check: give it another"
                )
        for criterion in self.rubric.criteria:
            if self.rubric.per_item and re.fullmatch(r"own_\d+", criterion.name):
                raise RubricError(
                    f"{where} `{criterion.name}` has the name of one that is written for an item: give "
                    "it another"
                )

    @property
    def _lists(self) -> Json:
        return {f"lists.{n}": digest([*self.recipe.listed(n)], 8) for n in self.recipe.lists}

    @property
    def _steps(self) -> tuple[Step, ...]:
        revision = self.recipe.revision
        return (*self.recipe.steps, *((revision,) if revision else ()))

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What its user should know before the run: grading prompts that are weaker than they look."""
        said = []
        bare = [f"`{name}.md`" for name, prompt in self.prompts.items() if prompt.shows_unfenced]
        if bare and self.rubric.judged:
            said.append(
                f"{', '.join(bare)}: the candidate stands without `{{{{ fence }}}}` around it, so that "
                "its text may pose as an instruction to the judge"
            )
        wanted = self.rubric.looks.count + self.rubric.looks.extra
        there = len(wordings(self.prompts, "critique"))
        if self.rubric.judged and wanted > there:
            said.append(
                f"the rubric asks for up to {wanted} looks, and there are {there} wordings of "
                "`critique`: some are asked in the same words (`critique_2.md` would be another)"
            )
        return tuple(said)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """The recipe's checks, then those that the rubric names; RubricError for an unknown one."""
        own = {check.name for check in self.recipe.checks}
        named = [
            dataclasses.replace(
                packaged_check(
                    criterion.check,
                    criterion.settings,
                    f"rubric `{self.rubric.name}`, criterion `{criterion.name}`",
                ),
                name=criterion.name,
                veto=criterion.veto,
            )
            for criterion in self.rubric.checked
            if criterion.check not in own
        ]
        vetoes = {c.check for c in self.rubric.checked if c.veto}
        mine = [
            dataclasses.replace(check, veto=check.veto or check.name in vetoes)
            for check in self.recipe.checks
        ]
        return (*mine, *named)

    @cached_property
    def identity(self) -> Json:
        """Everything here that makes another run: names to content hashes.

        An audit changes nothing that it looks at; wishes are told with what draws them.
        """
        apart = {*AUDIT_PROMPTS, *WISHES}
        prompts = {n: p.hash for n, p in sorted(self.prompts.items()) if n not in apart}
        return {
            "recipe": self.recipe.name,
            "candidate": schema_hash(self.recipe.candidate),
            "rubric": self.rubric.hash,
            **{f"prompts.{name}": hash for name, hash in prompts.items()},
            **{f"checks.{check.name}": check.hash for check in self.checks},
            **({"draw": source_hash(self.recipe.draw)} if self.recipe.draw else {}),
            **({"refuse": source_hash(self.recipe.refuse)} if self.recipe.refuse else {}),
            **self._lists,
            **{f"steps.{step.__name__}": source_hash(step) for step in self._steps},
        }


def _rubric_file(rubric: str | Path, folder: PromptFolder) -> Any:
    if rubric:
        path = Path(rubric)
        if path.is_file():
            return path
        named = folder.find(str(rubric)) or folder.find(f"{rubric}.yaml")
        if named is None:
            raise PromptError(f"there is no rubric `{rubric}`")
        return named
    found = folder.find("rubric.yaml")
    if found is None:
        raise RecipeError(
            f"recipe `{folder.recipe}` has no `rubric.yaml`; name one: `--rubric FILE`"
        )
    return found
