"""A real calibration on real labels: `agentloop calibrate` with a judge that replies what GPT-4 replied.

    python benchmarks/judged.py [--prompt 0..3]

The labels are LLMBar's (419 pairs that people agree on, 838 outputs), the replies GPT-4's recorded
ratings from 0 to 9 by one of four prompts; 3, with criteria and a reference, is the best. The recipe's
checks are left out, so that the judge alone is measured. Prints what the command prints. The data is
read as in `benchmarks/llmbar.py`.
"""

import argparse
import dataclasses
import json
import re
import tempfile
from pathlib import Path

from judge_logs import FOUR, data_folder, read_outputs

import agentloop as al
from agentloop.calibrate import calibrate
from agentloop.cli.calibrate import told
from agentloop.models.base import Request
from agentloop.recipes import find_recipe

RUBRIC = """
name: llmbar
accept_at: 0.77
criteria:
  - name: quality
    ask: How well does the response follow the instruction?
    levels: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt", type=int, default=3, choices=range(len(FOUR)))
    judge = FOUR[parser.parse_args().prompt]
    outputs = read_outputs(data_folder(None))
    rated = {" ".join(o.text.split()): o.rating(judge) for o in outputs}

    def reply(request: Request) -> str:
        shown = re.search(
            r"--- (\w+) response ---\n(.*)\n--- \1 end ---",
            request.messages[-1]["content"],
            re.DOTALL,
        )
        rating = rated.get(" ".join(shown.group(2).split())) if shown else None
        level = "" if rating is None else str(rating)
        return json.dumps({"quality": {"reason": "", "level": level}})

    with tempfile.TemporaryDirectory() as folder:
        labels, rubric = Path(folder) / "labels.jsonl", Path(folder) / "rubric.yaml"
        rubric.write_text(RUBRIC)
        labels.write_text(
            "".join(
                json.dumps(
                    {
                        "seed": {"task": o.instruction},
                        "candidate": {"instruction": o.instruction, "response": o.text},
                        "good": o.good,
                    }
                )
                + "\n"
                for o in outputs
            )
        )
        report = calibrate(
            dataclasses.replace(find_recipe("instructions").recipe, checks=()),
            labels,
            rubric=str(rubric),
            store=Path(folder) / "s.duckdb",
            model=al.ScriptedModel(reply, name=f"recorded/{judge}"),
        )
    print("\n".join(told(report)))


if __name__ == "__main__":
    main()
