"""A programming problem from a real snippet, and code that passes tests; failures are repaired.

After Llama 3 (Grattafiori et al. 2024, arXiv 2407.21783, § 4.3.1): problems from code snippets,
solved, checked by parser, linter and model-written tests in a container; on a failure the model sees
stdout, stderr and return code, and may mend the code or its tests. As published: about one million
dialogs, and about 20 % of the kept solutions were wrong at first and then repaired.

What we do differently: who writes the tests (role `tester`) never sees the solution; tests run one by
one, and the reviser is shown how each failed with the values; a check counts the asserts that tell
something, so that tests cannot be gutted to pass; a critic asks whether the tests follow from the
problem. `agentloop rounds` tells the repaired share.
"""

from __future__ import annotations

from pydantic.json_schema import SkipJsonSchema

import agentloop as al
from agentloop.asking import all_of
from agentloop.checks.asserts import asserts_kept, telling
from agentloop.checks.form import length
from agentloop.checks.python import extract_code, python_tests


class Solved(al.Candidate):
    """A problem, code that solves it, tests that the code passes."""

    problem: str
    code: str
    tests: str
    asserts: SkipJsonSchema[int] = 0
    """How many telling asserts the first tests had."""

    def conversation(self, seed: dict[str, object]) -> list[tuple[str, str]]:
        """The tests are evidence, not training text."""
        return [("user", self.problem), ("assistant", f"```python\n{self.code}\n```")]

    def novelty(self, seed: dict[str, object]) -> str:
        """Another solution of a known problem is nothing new."""
        return self.problem


async def pose(agents: al.Agents, state: al.State) -> al.State:
    """Write a problem that the snippet inspires."""
    return {"made": {"problem": await agents.say(state, "pose", wishes=True)}}


async def solve(agents: al.Agents, state: al.State) -> al.State:
    """Let one write the code and another the tests, neither seeing what the other writes."""
    asked = [agents.say(state, "solve"), agents.say(state, "test", role="tester")]
    code, tests = map(extract_code, await all_of(asked))
    return {"made": {"code": code, "tests": tests, "asserts": telling(tests, code)}}


async def repair(agents: al.Agents, state: al.State) -> al.State:
    """Let the reviser say whether code or tests are wrong, and write that one anew."""
    said = await agents.say(state, "repair", role="reviser")
    wrong = "tests" if said.lstrip("*`# ").lower().startswith("test") else "code"
    return {"made": {wrong: extract_code(said)}}


recipe = al.Recipe(
    name="llama3_exec",
    about="a code snippet → problem, solution and tests; run, and code or tests repaired",
    reads=("snippet",),
    candidate=Solved,
    steps=(pose, solve),
    asks=("pose", "solve", "test", "repair"),
    revision=repair,
    roles=("tester",),
    calls=4,
    checks=(
        length("problem", words=(8, 300)),
        asserts_kept("tests", "code", "asserts"),
        python_tests("code", tests="candidate.tests"),
    ),
)
graph = recipe.compile()
