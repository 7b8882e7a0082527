"""What a store says of the runs that a file was exported from.

Enters: a store, names of runs. Leaves: JSON values: what was told, what it came to, what speaks for it
and what was not measured. Refuses to know: the file, its lines, how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agentloop.calibration_report import Known, known_of, trust_in
from agentloop.diversity.bias import acceptance
from agentloop.records import Json
from agentloop.store import Store
from agentloop.store.about import read_about
from agentloop.store.trust import NO_EVIDENCE, Judged


def run_facts(store: Store, run: str, grading: int = 0) -> Json:
    """Return what is known of one run; of another grading of it, only what that came to."""
    about = read_about(store, run)
    evidence = store.evidence(run)
    known = known_of(store, run)
    identity, settings = about["identity"], about["settings"]
    shown = evidence.as_dict()
    trust = trust_in(known, Judged(*store.judged(run)))
    if grading:
        trust = {"state": "uncalibrated", "line": NO_EVIDENCE}
    return {
        **{name: about[name] for name in ("run", "recipe", "parent", "time", "versions")},
        "named": Path(about["recipe_ref"] or about["recipe"]).name,
        "models": _models(identity),
        "specs": {role: str(said.get("model")) for role, said in _roles(identity)},
        "shares": identity.get("generator.mix"),
        "hashes": _hashes(identity),
        "seed": identity.get("seed"),
        "settings": settings,
        "counts": store.counts(run, grading),
        "reasons": store.reasons(run, grading),
        "calibration": trust,
        "evidence": shown,
        "lines": [] if grading else evidence.lines(),
        "reading": about["reading"],
        "acceptance": _acceptance(shown["strata"]),
        "contaminated": about["contaminated"],
        "not_measured": list(_not_measured(shown, settings, known)),
    }


def _models(identity: Json) -> dict[str, str]:
    """Return role → model, with what its weights hash to where that is known."""
    return {
        role: f"{said.get('model')} ({weights[:12]})"
        if (weights := said.get("weights"))
        else str(said.get("model"))
        for role, said in _roles(identity)
    }


def _roles(identity: Json) -> Iterator[tuple[str, Json]]:
    for key, said in sorted(identity.items()):
        if key.startswith("models.") and isinstance(said, dict):
            yield key.removeprefix("models."), said


def _hashes(identity: Json) -> dict[str, str]:
    """Return the hashes of what a user can edit: rubric, prompts, checks, steps."""
    kinds = ("prompts.", "checks.", "steps.")
    return {
        key: str(said)
        for key, said in sorted(identity.items())
        if key in ("rubric", "candidate", "recipe.source") or key.startswith(kinds)
    }


def _acceptance(strata: list[Json]) -> Json:
    """Return acceptance by attribute: its strata beside the one that does best."""
    found = {}
    for name in dict.fromkeys(stratum["attribute"] for stratum in strata):
        mine = [s for s in strata if s["attribute"] == name]
        rows = acceptance({s["value"]: (s["accepted"], s["settled"]) for s in mine})
        found[name] = [row.model_dump(mode="json") for row in rows]
    return found


def _not_measured(evidence: Json, settings: Json, known: Known | None) -> Iterator[str]:
    if known is None or known.report.state == "uncalibrated":
        yield "Whether the critic agrees with people: it was not calibrated on labels."
    if not any(evidence["audits"][kind]["audited"] for kind in ("accepted", "rejected")):
        yield "Whether a second judge agrees: no item was audited."
    if not evidence["canaries"]:
        yield "Whether the critic notices planted faults: it was shown no canaries."
    if not settings.get("decontaminate"):
        yield "Contamination with a benchmark: no file to keep apart from was named."
    if not settings.get("reference"):
        yield "Variety beside people's text of the user's choice: no reference was named."
    if settings.get("novelty") == "exact":
        yield "Near-duplicates: only exact copies were refused."
    elif settings.get("novelty") != "semantic":
        yield "Paraphrases: near-duplicates are found by their words, not by their meaning."
    yield "Toxicity, dialects, languages other than English in the figures on people."
    yield "What a model becomes that is trained on this."
