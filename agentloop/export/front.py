"""The front matter of a dataset card, and the commands that make the data again.

Enters: the facts of a manifest. Leaves: YAML as Hugging Face reads it; lines for a shell, with what
anybody may have named as plain words. Refuses to know: the card's text.
"""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from agentloop.export.tally import NOT_STATED
from agentloop.plain import plain
from agentloop.records import Json

SIZES = {
    "n<1K": 1_000, "1K<n<10K": 10_000, "10K<n<100K": 100_000, "100K<n<1M": 1_000_000,
    "1M<n<10M": 10_000_000, "10M<n<100M": 100_000_000, "100M<n<1B": 1_000_000_000,
}  # fmt: skip
LICENCES = {
    "apache-2.0", "mit", "isc", "zlib", "unlicense", "wtfpl", "bsd", "bsd-2-clause", "bsd-3-clause",
    "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "odc-by", "odbl", "pddl",
    "mpl-2.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-3.0", "agpl-3.0", "gfdl", "etalab-2.0",
    "eupl-1.1", "eupl-1.2", "openrail", "unknown", "other",
}  # fmt: skip
"""Names that Hugging Face has for licences of data and code."""
SHORT = {"cc0": "cc0-1.0", "public-domain": "cc0-1.0", "apache": "apache-2.0"}
ROLES = ("critic", "reviser", "auditor")
_LANGUAGE = re.compile(r"([a-zA-Z]{2,3})([-_][a-zA-Z0-9]{2,8}){0,3}")


def front_matter(facts: Json) -> str:
    """Return the front matter, its lines of dashes included."""
    licences = licence_names(facts)
    languages = language_codes(facts["tally"]["languages"])
    front = {
        "pretty_name": plain(facts["file"]),
        "license": licences[0] if len(licences) == 1 else licences,
        **({"license_name": "see-card"} if "other" in licences else {}),
        **({"language": languages} if languages else {}),
        "task_categories": ["text-generation"],
        "size_categories": [_size(facts["lines"])],
        "tags": ["synthetic", "agentloop"],
        "configs": [{"config_name": "default", "data_files": _data_files(facts)}],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False).rstrip()}\n---"


def licence_names(facts: Json) -> list[str]:
    """Return Hugging Face's names of what the seeds state; `unknown` where something states nothing."""
    found = {_licence(name) for name in facts["tally"]["licences"]}
    silent = {"unknown"} if facts["by_people"] or not found else set[str]()
    return sorted(found | silent)


def language_codes(stated: Mapping[str, int]) -> list[str]:
    """Return the codes of the languages that seeds state."""
    matches = (_LANGUAGE.fullmatch(name) for name in stated)
    return sorted({match[1].lower() for match in matches if match})


def commands(facts: Json) -> list[str]:
    """Return the lines that make the data again, but for the names of files, which are no facts."""
    runs = [" ".join(_quoted(_run(run))) for run in facts["runs"]]
    return [*runs, " ".join(_quoted(_export(facts)))]


def _licence(stated: str) -> str:
    if stated == NOT_STATED:
        return "unknown"
    name = "-".join(stated.lower().split())
    name = SHORT.get(name, name)
    return name if name in LICENCES else "other"


def _size(lines: int) -> str:
    return next((name for name, most in SIZES.items() if lines < most), "n>1T")


def _data_files(facts: Json) -> str | list[dict[str, str]]:
    """Return what holds lines; a reader of a file without any would not know its columns."""
    if facts["split"] is None:
        return glob.escape(str(facts["files"][0]["file"]))
    return [
        {"split": file["side"], "path": glob.escape(file["file"])}
        for file in facts["files"]
        if file["lines"]
    ]


def _quoted(words: Iterator[Any]) -> Iterator[str]:
    return (shlex.quote(plain(word)) for word in words)


def _run(run: Json) -> Iterator[Any]:
    yield from ("agentloop", "run", run["named"], "--seeds", "SEEDS", "--store", "STORE")
    yield from ("--run", run["run"], "--seed", run["seed"] or 0)
    yield from _models(run["specs"], run["shares"] or [])
    for name in ("accept", "items", "max_rounds"):
        if (value := run["settings"].get(name)) is not None:
            yield from (f"--{name.replace('_', '-')}", value)


def _models(specs: Mapping[str, str], shares: list[float]) -> Iterator[Any]:
    """Return role → model as options; of a mix and a panel the others are numbered from 2."""
    mixed = iter(shares)
    for role, model in specs.items():
        kind, _, number = role.partition(".")
        if kind == "generator":
            share = next(mixed, None)
            yield from ("--generator", model if share is None else f"{model}@{share:g}")
        elif kind == "escalation":
            yield from ("--escalate", model)
        elif not number:
            yield from (f"--{role}", model) if role in ROLES else ("--role", f"{role}={model}")
    if panel := [model for role, model in specs.items() if role.startswith("critic.")]:
        yield from ("--panel", ",".join(panel))


def _export(facts: Json) -> Iterator[Any]:
    yield from ("agentloop", "export", "STORE", "--shape", facts["shape"])
    several = len(facts["runs"]) != 1
    yield from ["--all-runs"] if several else ("--run", facts["runs"][0]["run"])
    if facts["grading"]:
        yield from ("--grading", facts["grading"])
    yield from ("--verdict", facts["verdict"])
    if facts["where"]:
        yield from ("--where", facts["where"])
    if facts["mix"]:
        yield from ("--mix", f"PEOPLE:{facts['mix']:g}")
    if facts["split"]:
        yield from (
            "--split",
            ",".join(f"{side}:{share:g}" for side, share in facts["split"].items()),
        )
    yield from ("-o", facts["file"])
