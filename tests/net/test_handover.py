"""Connections handed from one process to another: here both are this one."""

from __future__ import annotations

import socket

import pytest
import trio

from proxy.net.handover import Desk, hand_over
from tests.net.pairs import pair


async def test_a_connection_and_a_message_come_over() -> None:
    desk, came = Desk(), list[tuple[bytes, socket.socket]]()
    assert len(desk.name) == 14
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.serve, lambda message, sock: came.append((message, sock)))
        with pair() as (ours, theirs):
            hand_over(desk.name, b"hello", ours)
            ours.close()
            with trio.fail_after(30):
                while not came:  # noqa: ASYNC110  # whoever takes it is what is tested
                    await trio.sleep(0.001)
            message, sock = came[0]
            with sock:
                assert message == b"hello"
                assert not sock.getblocking()
                sock.send(b"still here")
                assert theirs.recv(100) == b"still here"
        nursery.cancel_scope.cancel()


async def test_a_desk_that_is_gone() -> None:
    desk = Desk()
    with trio.move_on_after(0):
        await desk.serve(lambda _message, sock: sock.close())
    with pair() as (ours, _), pytest.raises(ConnectionRefusedError):
        hand_over(desk.name, b"hello", ours)


async def test_who_brings_nothing_is_not_waited_for_long() -> None:
    desk, came = Desk(), list[bytes]()

    def taken(message: bytes, sock: socket.socket) -> None:
        sock.close()
        came.append(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.serve, taken)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as idle, pair() as (ours, _):
            idle.connect(b"\0" + desk.name)
            idle.send(b"nothing with it")
            hand_over(desk.name, b"second", ours)
            with trio.fail_after(30):
                while not came:  # noqa: ASYNC110  # as above
                    await trio.sleep(0.001)
        assert came == [b"second"]
        nursery.cancel_scope.cancel()
