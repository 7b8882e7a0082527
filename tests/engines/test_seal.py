"""The door between machines: nobody comes in without the secret, and no frame is changed on the way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentloop.engines.seal import SIZE, Seals, Stranger, fresh, shake, welcomed
from agentloop.engines.wire import HEAD, Message, Wire

Meddle = Callable[[bytes], bytes]


def met(one: bytes, other: bytes) -> tuple[Any, Any]:
    """Let two ends with a secret each meet; return the seals of both, or why there are none."""
    ours, theirs = socket.socketpair()
    found: list[Any] = []

    def there() -> None:
        with theirs:
            try:
                found.append(asyncio.run(shake(theirs, other, driver=False)))
            except (Stranger, OSError) as error:
                found.append(error)

    thread = threading.Thread(target=there)
    thread.start()
    with ours:
        try:
            here: Any = asyncio.run(shake(ours, one, driver=True))
        except (Stranger, OSError) as error:
            here = error
    thread.join()
    return here, found[0]


def test_those_who_know_the_secret_understand_each_other() -> None:
    secret = fresh()
    here, there = met(secret, secret)
    frame = memoryview(b"something")
    there.theirs.check(frame, here.ours.of(frame))
    here.theirs.check(frame, there.ours.of(frame))
    assert here.ours.key != here.theirs.key


def test_no_two_meetings_have_the_same_seals() -> None:
    secret = fresh()
    assert met(secret, secret)[0].ours.key != met(secret, secret)[0].ours.key


def test_one_without_the_secret_stays_outside_and_learns_that() -> None:
    here, there = met(fresh(), fresh())
    assert isinstance(here, Stranger)
    assert isinstance(there, Stranger)


@pytest.mark.parametrize("guests", [64, 8])
def test_those_who_say_nothing_keep_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, guests: int
) -> None:
    """Where they are many, the first of them are put out before somebody has come."""
    monkeypatch.setattr("agentloop.engines.seal.PATIENCE", 3600.0)
    monkeypatch.setattr("agentloop.engines.seal.GUESTS", guests)
    secret = fresh()

    async def meet() -> None:
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.setblocking(False)
            strangers = [
                stack.enter_context(socket.create_connection(listener.getsockname()))
                for _ in range(40)
            ]
            guest = stack.enter_context(socket.create_connection(listener.getsockname()))
            async with asyncio.timeout(60):
                (end, here), there = await asyncio.gather(
                    welcomed(listener, secret), shake(guest, secret, driver=False)
                )
            with end:
                frame = memoryview(b"something")
                there.theirs.check(frame, here.ours.of(frame))
            for stranger in strangers:
                stranger.settimeout(60)
                assert len(stranger.recv(2 * SIZE)) == SIZE
                assert stranger.recv(1) == b""  # put out

    asyncio.run(meet())


def test_one_who_takes_too_long_is_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentloop.engines.seal.PATIENCE", 0.01)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        asyncio.run(shake(ours, fresh(), driver=True))


def test_one_who_says_back_what_he_hears_stays_outside() -> None:
    """The driver's own proof, sent back to it, is none of a worker's."""
    ours, theirs = socket.socketpair()

    def echo() -> None:
        with theirs:
            for _ in range(2):
                theirs.sendall(theirs.recv(SIZE))

    thread = threading.Thread(target=echo)
    thread.start()
    with ours, pytest.raises(Stranger):
        asyncio.run(shake(ours, fresh(), driver=True))
    thread.join()


def heard(meddle: Meddle, frames: int = 2) -> tuple[list[Message], bool]:
    """Send frames past somebody who meddles with the bytes; return what arrives, and if it is cut."""
    here, there = met(*[fresh()] * 2)

    async def work() -> tuple[list[Message], bool]:
        (a, b), (c, d) = socket.socketpair(), socket.socketpair()
        arrived, cut = list[Message](), asyncio.Event()
        sender = await Wire.over(a, lambda _: None, lambda: None, here)
        receiver = await Wire.over(d, arrived.append, cut.set, there)
        for number in range(frames):
            sender.send("number", number)
            sender.flush()
        sender.close()
        b.setblocking(False)
        data, loop = b"", asyncio.get_running_loop()
        while more := await loop.sock_recv(b, 2**16):
            data += more
        c.setblocking(False)
        await loop.sock_sendall(c, meddle(data))
        c.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(cut.wait(), 10)
        receiver.close()
        b.close()
        c.close()
        return arrived, cut.is_set()

    return asyncio.run(work())


def frames_of(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = HEAD.unpack_from(data)
        found.append(data[: HEAD.size + length])
        data = data[HEAD.size + length :]
    return found


@pytest.mark.parametrize(
    ("meddle", "arrives"),
    [
        pytest.param(lambda data: data, [0, 1], id="nothing"),
        pytest.param(lambda data: data[:-3] + b"XXX", [0], id="changed at its end"),
        pytest.param(lambda data: data[:8] + bytes([data[8] ^ 1]) + data[9:], [], id="its seal"),
        pytest.param(lambda data: frames_of(data)[1], [], id="one left out"),
        pytest.param(lambda data: frames_of(data)[0] * 2, [0], id="one sent again"),
        pytest.param(lambda data: b"".join(frames_of(data)[::-1]), [], id="another order"),
        pytest.param(lambda data: HEAD.pack(4) + b"abcd", [], id="shorter than a seal"),
    ],
)
def test_what_was_meddled_with_is_never_opened(meddle: Meddle, arrives: list[int]) -> None:
    arrived, _ = heard(meddle)
    assert arrived == [("number", number) for number in arrives]


def test_seals_are_of_both_directions() -> None:
    here, _ = met(*[fresh()] * 2)
    assert isinstance(here, Seals)
    frame = memoryview(b"something")
    with pytest.raises(Stranger):
        here.theirs.check(frame, here.ours.of(frame))
