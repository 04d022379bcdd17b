"""Messages and descriptors, whole and in pieces."""

from __future__ import annotations

import os
import socket
import struct

import pytest
import trio

from proxy.service.crew.channel import LARGEST, MOST_DESCRIPTORS, Broken, Channel


def pair() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    return Channel(ours), Channel(theirs)


async def test_messages_arrive_whole_and_in_order_with_their_descriptors() -> None:
    here, there = pair()
    read, write = os.pipe()
    bodies = [b"", b"x", os.urandom(3_000_000), b"last"]
    descriptors = [[], [write], [], [write, write]]

    async def send() -> None:
        for body, several in zip(bodies, descriptors, strict=True):
            await here.send(body, several)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        for body, several in zip(bodies, descriptors, strict=True):
            message = await there.receive()
            assert message.body == body
            assert len(message.descriptors) == len(several)
            for fd in message.descriptors:
                assert not os.get_inheritable(fd)
                os.write(fd, b"!")
                os.close(fd)
    assert os.read(read, 10) == b"!!!"
    os.close(read)
    os.close(write)
    here.close()
    with pytest.raises(Broken):
        await there.receive()
    with pytest.raises(Broken):
        await there.send(b"x")
    there.close()


async def test_many_descriptors_at_once() -> None:
    here, there = pair()
    fd = os.open("/dev/null", os.O_RDONLY)
    await here.send(b"", [fd] * MOST_DESCRIPTORS)
    message = await there.receive()
    assert len(message.descriptors) == MOST_DESCRIPTORS
    for one in (fd, *message.descriptors):
        os.close(one)
    with pytest.raises(ValueError, match="too much"):
        await here.send(b"", [0] * (MOST_DESCRIPTORS + 1))
    here.close()
    there.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"\0" * 7,
        struct.pack("=II", LARGEST + 1, 0),
        struct.pack("=II", 1, 1000),
        struct.pack("=II", 2, 0) + b"x",
    ],
)
async def test_what_is_no_message_is_the_end(raw: bytes) -> None:
    ours, theirs = socket.socketpair()
    there = Channel(theirs)
    ours.sendall(raw)
    ours.close()
    with pytest.raises(Broken):
        await there.receive()
    there.close()


async def test_descriptors_that_were_announced_and_did_not_come() -> None:
    ours, theirs = socket.socketpair()
    there = Channel(theirs)
    ours.sendall(struct.pack("=II", 0, 1))
    with pytest.raises(Broken, match="missing"):
        await there.receive()
    ours.close()
    there.close()


async def test_descriptors_that_nobody_takes_are_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    here, there = pair()
    await here.send(b"one")
    read, write = os.pipe()
    await here.send(b"two", [write])
    os.close(write)
    here.close()
    assert (await there.receive()).body == b"one"
    there.close()
    assert os.read(read, 1) == b"", "nobody can write there any more"
    os.close(read)
    assert len(os.listdir("/proc/self/fd")) == before
