"""LLMBar's pairs with what recorded judges replied to each output.

Enters: the folder with the five subsets and `judge_logs`. Leaves: an `Output` for each text, by pairs.
Refuses to know: statistics; a scripted model may replay `replies` as well.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUBSETS = ("Natural", *(f"Adversarial_{x}" for x in ("GPTInst", "GPTOut", "Manual", "Neighbor")))
CHATGPT, PLAIN = "ChatGPT/Rating", "GPT-4/Rating"
BEST = "GPT-4/Rating_Metrics_Reference"
FOUR = (PLAIN, "GPT-4/Rating_Metrics", "GPT-4/Rating_Reference", BEST)
TOP = 9  # ratings are 0 to 9


@dataclass(frozen=True)
class Output:
    """One answer to an instruction, whether people call it the better one, and the judges' replies."""

    pair: tuple[str, int]
    good: bool
    instruction: str
    text: str
    replies: dict[str, str] = field(default_factory=dict)
    """The recorded reply by judge and prompt; empty where a filter answered in its place."""

    @property
    def adversarial(self) -> bool:
        return self.pair[0] != "Natural"

    def rating(self, judge: str) -> int | None:
        reply = self.replies[judge].strip()
        return int(reply) if reply else None

    def ratings(self) -> list[int]:
        found = [self.rating(judge) for judge in FOUR]
        return [rating for rating in found if rating is not None]


def data_folder(given: Path | None) -> Path:
    shared = os.environ.get("AGENTLOOP_SHARED") or ROOT.parent / "shared"
    return given or Path(shared) / "data" / "llmbar"


def read_outputs(folder: Path) -> list[Output]:
    """Return the outputs of all pairs, two by two."""
    outputs = []
    for subset in SUBSETS:
        pairs = json.loads((folder / f"{subset}.json").read_text(encoding="utf-8"))
        logs = {judge: read_log(folder, judge, subset) for judge in (CHATGPT, *FOUR)}
        for number, pair in enumerate(pairs):
            for side in (1, 2):
                replies = {judge: log[number][side - 1] for judge, log in logs.items()}
                good, text = pair["label"] == side, pair[f"output_{side}"]
                outputs.append(Output((subset, number), good, pair["input"], text, replies))
    return outputs


def read_log(folder: Path, judge: str, subset: str) -> list[tuple[str, str]]:
    path = folder / "judge_logs" / judge / f"{subset}.json"
    last = [row["results"][-1] for row in json.loads(path.read_text(encoding="utf-8"))]
    return [(result["score_1"][0], result["score_2"][0]) for result in last]


def both(outputs: Sequence[Output]) -> Iterator[tuple[Output, Output]]:
    """Yield (good, bad) of each pair."""
    for one, other in zip(outputs[::2], outputs[1::2], strict=True):
        yield (one, other) if one.good else (other, one)
