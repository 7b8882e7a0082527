"""A loopback endpoint for the benchmarks, in a process of its own: OpenAI's chat completions.

It knows a role by the first word of the prompt, answers after a fixed time with words drawn by the
prompt's hash, so that no two items are alike, and does as little else as it can: one core is its own,
the other the client's. `python benchmarks/endpoint.py SECONDS` prints its URL and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDS = ("ban", "der", "fil", "gon", "kul", "lam", "mer", "nis", "por", "rus", "sel", "tav")
WORDS = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ENDS]
MARKS = json.dumps({name: {"reason": "", "level": "yes"} for name in ("right", "clear")})


def answer(prompt: str) -> str:
    """Return what the endpoint says to a prompt."""
    if prompt.startswith("CRITIQUE"):
        return MARKS
    chance = random.Random(zlib.crc32(prompt.encode()))
    said = " ".join(chance.choices(WORDS, k=30))
    question = " ".join(chance.choices(WORDS, k=8))
    made = {"question": f"What {question}?", "answer": said}
    if prompt.startswith("GENERATE"):
        made["answer"] = f"draft {said}"
    return json.dumps(made)


class Conversation(asyncio.Protocol):
    """One connection: requests one after the other, each answered after `latency` seconds."""

    latency = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, mark, rest = self.data.partition(b"\r\n\r\n")
        if not mark:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) < length:
            return
        self.data = rest[length:]
        asyncio.get_running_loop().call_later(self.latency, self.reply, json.loads(rest[:length]))

    def reply(self, body: dict[str, list[dict[str, str]]]) -> None:
        prompt = "\n".join(message["content"] for message in body["messages"])
        said = answer(prompt)
        data = json.dumps(
            {
                "id": "1",
                "object": "chat.completion",
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": said},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": len(prompt) // 4,
                    "completion_tokens": len(said) // 4,
                    "total_tokens": (len(prompt) + len(said)) // 4,
                },
            }
        ).encode()
        head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(data)}\r\n\r\n"
        self.transport.write(head.encode() + data)  # type: ignore[attr-defined]


@contextmanager
def serving(latency: float) -> Iterator[str]:
    """Run an endpoint beside this process; yields its base URL."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), str(latency)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.communicate()


async def main() -> None:
    Conversation.latency = float(sys.argv[1])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Conversation, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
