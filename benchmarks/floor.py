"""What the libraries below cost by themselves: the same calls by a bare client, and a bare graph.

    python benchmarks/floor.py

CPU ms for an item of three calls, 64 at once, to the endpoint of `benchmarks/items.py` in another
process: by aiohttp and orjson, and by litellm; and for LangGraph to walk a state like ours through one
node and through five. Each is the slope between few items and many. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import operator
import os
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

from endpoint import serving

CALLS = 3
FEW, MANY = 100, 1000
BODY = {"model": "fake", "messages": [{"role": "user", "content": "GENERATE " + "word " * 150}]}

Work = Callable[[int], Awaitable[Any]]


class Carried(TypedDict, total=False):
    """As many channels as an item's state has."""

    item: str
    seed: dict[str, Any]
    inputs: dict[str, Any]
    round: int
    made: Annotated[dict[str, Any], operator.or_]
    candidate: dict[str, Any]
    parent: int
    drafts: list[Any]
    critique: dict[str, Any]
    messages: list[Any]
    checks: list[Any]
    wrote: dict[str, str]
    criteria: list[Any]
    attempts: Annotated[list[Any], operator.add]
    verdict: dict[str, Any]


async def cpu(work: Work, width: int) -> float:
    """Return CPU ms a piece of work, between few and many of them."""
    spent = {}
    for count in (FEW, FEW, MANY):  # the first round loads what is loaded late
        numbers = iter(range(count))

        async def worker(numbers: Any = numbers) -> None:
            for number in numbers:
                await work(number)

        start = time.process_time()
        await asyncio.gather(*(worker() for _ in range(width)))
        spent[count] = time.process_time() - start
    return round(1000 * (spent[MANY] - spent[FEW]) / (MANY - FEW), 2)


async def by_aiohttp(url: str, width: int) -> float:
    """Three posts an item over one session, read and parsed."""
    import aiohttp
    import orjson

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def item(_: int) -> None:
            for _ in range(CALLS):
                async with session.post(
                    f"{url}/chat/completions", data=orjson.dumps(BODY)
                ) as response:
                    orjson.loads(await response.read())

        return await cpu(item, width)


async def by_litellm(url: str, width: int) -> float:
    """Three completions an item, with litellm's own retries off."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    async def item(_: int) -> None:
        for _ in range(CALLS):
            await litellm.acompletion(
                model="openai/fake",
                messages=BODY["messages"],
                api_base=url,
                api_key="none",
                num_retries=0,
            )

    return await cpu(item, width)


async def by_langgraph(nodes: int, width: int) -> float:
    """So many nodes in a row, each of which lets others go before it answers."""
    from langgraph.graph import END, START, StateGraph
    from langsmith import tracing_context

    async def node(state: Carried) -> Carried:
        await asyncio.sleep(0)
        return {"round": 1, "candidate": {}, "messages": [], "checks": []}

    graph: Any = StateGraph(Carried)
    names = [f"n{n}" for n in range(nodes)]
    for name in names:
        graph.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    compiled = graph.compile()
    with tracing_context(enabled=False):

        async def item(number: int) -> None:
            await compiled.ainvoke({"item": str(number), "seed": {}, "inputs": {}})

        return await cpu(item, width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.005, help="seconds a call")
    options = parser.parse_args()
    with serving(options.latency) as url:
        found = {
            "aiohttp, three calls": asyncio.run(by_aiohttp(url, options.width)),
            "litellm, three calls": asyncio.run(by_litellm(url, options.width)),
            "langgraph, one node": asyncio.run(by_langgraph(1, options.width)),
            "langgraph, five nodes": asyncio.run(by_langgraph(5, options.width)),
        }
    load = round(os.getloadavg()[0], 2)
    print(json.dumps({"load": load, **vars(options), "cpu_ms_an_item": found}, indent=2))


if __name__ == "__main__":
    main()
