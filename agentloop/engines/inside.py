"""The engine of one process: items are walked where they are driven.

Enters: tasks. Leaves: what became of them. Refuses to know: how an item is walked.
"""

from __future__ import annotations

from agentloop.engines import Driver, Task, Walked
from agentloop.engines.walk import Walker
from agentloop.plan import Plan


class Inside:
    """Walks items by a plain call."""

    def __init__(self, plan: Plan):
        self._plan = plan

    async def start(self, driver: Driver) -> None:
        """Be ready at once."""
        for endpoint in set(self._plan.endpoints.values()):
            endpoint.note = endpoint.limits.note = driver.note
            endpoint.limits.on_refusal = driver.refused
        self._walker = Walker(self._plan, self._plan.run, driver.journal, driver.budget)

    async def walk(self, task: Task) -> Walked:
        """Return what becomes of an item."""
        return await self._walker.walk(task)

    @property
    def answered(self) -> bool:
        """Whether a call was ever answered."""
        return any(endpoint.limits.answered for endpoint in self._plan.endpoints.values())

    async def close(self) -> None:
        """Let go of connections."""
        for endpoint in set(self._plan.endpoints.values()):
            await endpoint.limits.model.aclose()
