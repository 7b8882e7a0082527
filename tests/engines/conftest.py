"""One Ray cluster for all tests that want one, on loopback alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.engines.acting import ACTORS


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Be connected to a cluster, and return its address."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the ray extra is not installed")
    from agentloop.engines.connected import started_here

    with started_here(ACTORS):
        import ray

        yield ray.get_runtime_context().gcs_address
