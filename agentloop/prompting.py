"""Prompts: Markdown files with sandboxed Jinja2, found yours before ours, hashed by content.

A line that is exactly `## system`, `## user` or `## assistant` starts a message; a file without one is
one user message. The split is made before rendering, so text from a seed can never open a message.

Enters: file names, folders, then plain values. Leaves: messages and content hashes; PromptError
before any call when a template is broken or names a variable that does not exist.
Refuses to know: models, rubrics' meaning, what a reply will look like.

(The packaged files are `agentloop.prompts`, mapped from the top-level `prompts/`.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agentloop.errors import PromptError, boundary, did_you_mean
from agentloop.records import digest

Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": text}`."""

COMMON = "common"
_SECTION = re.compile(r"^## (system|user|assistant)[ \t]*$", re.MULTILINE)
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
)

VARIABLES: Mapping[str, frozenset[str]] = {
    "generate": frozenset({"seed", "inputs"}),
    "reference": frozenset({"seed", "candidate", "fence"}),
    "criteria": frozenset({"seed", "count", "criteria", "fence"}),
    "critique": frozenset({"seed", "candidate", "criteria", "reference", "fence"}),
    "audit": frozenset({"seed", "candidate", "criteria", "reference", "fence"}),
    "ask": frozenset({"seed", "candidate", "criterion", "options", "reference", "fence"}),
    "audit_ask": frozenset({"seed", "candidate", "criterion", "options", "reference", "fence"}),
    "evidence": frozenset({"seed", "candidate", "wanted", "reference", "fence"}),
    "wishes": frozenset({"attributes", "avoid"}),
    "verbalise": frozenset({"among"}),
    "revise": frozenset({"seed", "inputs", "candidate", "marks", "checks"}),
}
"""What each prompt may name; another name is an error before the first call. `fence` is a line that no
text of the item can contain. Other wordings (`critique_2`, `ask_3`) may name what the first may."""
STEPS = frozenset({"seed", "inputs", "made", "candidate", "marks", "checks", "given", "fence"})
"""What the prompts of a recipe's own steps may name."""
_NUMBERED = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Prompt:
    """One prompt file: its sections compiled once."""

    name: str
    text: str
    where: str

    @cached_property
    def hash(self) -> str:
        """Content hash, stored with every attempt."""
        return digest(self.text)

    @cached_property
    def _sections(self) -> tuple[tuple[str, Template], ...]:
        return tuple((role, _compile(body, self.where)) for role, body in _split(self.text))

    def render(self, **values: Any) -> tuple[Message, ...]:
        """Return the messages; PromptError names what a template lacks."""
        try:
            rendered = [(role, part.render(values).strip()) for role, part in self._sections]
        except Exception as error:  # a template is untrusted code: whatever it raises is its fault
            raise PromptError(f"prompt `{self.where}` cannot be rendered: {error}") from error
        if not (messages := tuple({"role": r, "content": text} for r, text in rendered if text)):
            raise PromptError(f"prompt `{self.where}` says nothing")
        return messages

    def check(self) -> None:
        """Raise PromptError for bad syntax or a variable that this prompt is never given."""
        known = VARIABLES.get(_NUMBERED.sub("", self.name), STEPS)
        used: set[str] = set()
        for tree in self._trees:
            with boundary(PromptError, f"prompt `{self.where}`", TemplateError):
                used |= meta.find_undeclared_variables(tree)
        for name in sorted(used - known):
            raise PromptError(
                f"prompt `{self.where}` uses `{name}`, which `{self.name}` is not given"
                + did_you_mean(name, known)
            )
        _ = self._sections

    def fields_of(self, variable: str) -> set[str]:
        """Return the fields of a variable that the template cannot do without.

        `seed.x` and `seed["x"]` count; not where the template asks `seed.x is defined` or gives a
        `default` for it.
        """
        found: set[str] = set()
        spared: set[str] = set()
        for tree in self._trees:
            for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
                found |= _field_of(variable, node)
            for test in tree.find_all((nodes.Test, nodes.Filter)):
                if test.name in ("defined", "undefined", "default", "d") and test.node is not None:
                    spared |= _field_of(variable, test.node)
        return found - spared - set(dir(dict))

    @property
    def shows_unfenced(self) -> bool:
        """Whether it lets a judge see the candidate without `fence`, by which data is told from task."""
        if "fence" not in VARIABLES.get(_NUMBERED.sub("", self.name), ()):
            return False
        used = set().union(*(meta.find_undeclared_variables(tree) for tree in self._trees))
        return "candidate" in used and "fence" not in used

    @cached_property
    def _trees(self) -> tuple[nodes.Template, ...]:
        """Each section's syntax tree; a section stands on its own, so nothing is shared by `set`."""
        trees = []
        for _, body in _split(self.text):
            above = self.text[: self.text.index(body)].count("\n")
            try:
                trees.append(_ENVIRONMENT.parse(body))
            except TemplateSyntaxError as error:
                line = above + error.lineno
                raise PromptError(f"prompt `{self.where}`, line {line}: {error.message}") from error
        return tuple(trees)


def _field_of(variable: str, node: nodes.Node) -> set[str]:
    """Return the field that a node reads from a variable, if it is one written out."""
    if not isinstance(node, nodes.Getattr | nodes.Getitem):
        return set()
    if not isinstance(node.node, nodes.Name) or node.node.name != variable:
        return set()
    if isinstance(node, nodes.Getattr):
        return {node.attr}
    return {str(node.arg.value)} if isinstance(node.arg, nodes.Const) else set()


def _compile(body: str, where: str) -> Template:
    with boundary(PromptError, f"prompt `{where}`", TemplateError):
        template = _ENVIRONMENT.from_string(body)
    template.globals = dict(template.globals)  # a chain of maps is walked again at each rendering
    return template


def _split(text: str) -> list[tuple[str, str]]:
    parts = _SECTION.split(text)
    sections = list(zip(parts[1::2], parts[2::2], strict=True))
    if not sections:
        return [("user", text)]
    if parts[0].strip():
        sections.insert(0, ("system", parts[0]))
    return sections


@dataclass(frozen=True)
class PromptFolder:
    """Where a recipe's prompts and rubric are looked for, first match wins."""

    recipe: str
    folders: tuple[Traversable, ...]

    @classmethod
    def of(cls, recipe: str, *mine: str | Path) -> PromptFolder:
        """Search `mine/<recipe>/` and `mine/` before the packaged `<recipe>/` and `common/`."""
        own: list[Traversable] = []
        for folder in map(Path, mine):
            if not folder.is_dir():
                raise PromptError(f"there is no prompt folder `{folder}`")
            own += [folder / recipe, folder]
        packaged = files("agentloop.prompts")
        return cls(recipe, (*own, packaged / recipe, packaged / COMMON))

    @property
    def own(self) -> list[Traversable]:
        """What lies in the recipe's own folder."""
        found = next((f for f in self.folders[:-1] if f.name == self.recipe and f.is_dir()), None)
        return list(found.iterdir()) if found else []

    def find(self, file: str) -> Traversable | None:
        """Return the first existing file of this name."""
        for folder in self.folders:
            if (found := folder / file).is_file():
                return found
        return None

    def prompt(self, name: str) -> Prompt:
        """Return a checked prompt; PromptError when no folder has it."""
        found = self.find(f"{name}.md")
        if found is None:
            raise PromptError(
                f"recipe `{self.recipe}` has no prompt `{name}.md` "
                f"(looked in {', '.join(f'`{folder}`' for folder in self.folders)})"
            )
        return _load(name, found)

    def prompts(self, names: Iterable[str]) -> dict[str, Prompt]:
        """Return several prompts by name."""
        return {name: self.prompt(name) for name in names}

    def wordings(self, name: str, count: int) -> dict[str, Prompt]:
        """Return up to so many wordings of a prompt: `critique`, `critique_2`, as far as there are."""
        found = {name: self.prompt(name)}
        first = self.find(f"{name}.md")
        for number in range(2, count + 1):
            other = self.find(f"{name}_{number}.md")
            if other is None or not _beside(first, other):
                break
            found[f"{name}_{number}"] = _load(f"{name}_{number}", other)
        return found


def _beside(first: Traversable | None, other: Traversable) -> bool:
    """Whether two files lie in one folder: a recipe's own wording is not mixed with the common ones."""
    return str(first).rpartition("/")[0] == str(other).rpartition("/")[0]


def _load(name: str, file: Traversable) -> Prompt:
    try:
        text = file.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"prompt `{file}` cannot be read: {error}") from error
    return _checked(name, text, str(file))


@lru_cache(maxsize=256)
def _checked(name: str, text: str, where: str) -> Prompt:
    prompt = Prompt(name, text, where)
    prompt.check()
    return prompt
