from __future__ import annotations

import socket

import pytest
import trio

from proxy.core.reader import Parser, Reader
from proxy.net.sniff import MOST_EARLY_DATA, NOTHING_YET, HungUp, Incoming, early_data, early_data_now
from tests.net.pairs import pair, reset


def test_what_is_there_already() -> None:
    with pair() as (ours, peer):
        assert early_data_now(ours) is NOTHING_YET
        peer.sendall(b"hello")
        assert early_data_now(ours) == (b"hello", False, 0.0)
        peer.shutdown(socket.SHUT_WR)
        assert early_data_now(ours) == (b"", True, 0.0)


def test_a_client_that_hung_up_rudely() -> None:
    with pair() as (ours, peer):
        reset(peer)
        with pytest.raises(ConnectionResetError):
            early_data_now(ours)


async def test_it_waits_no_longer_than_for_the_first_bytes() -> None:
    with pair() as (ours, peer):
        async with trio.open_nursery() as nursery:

            async def late() -> None:
                await trio.sleep(0.05)
                peer.sendall(b"late")

            nursery.start_soon(late)
            early = await early_data(ours, 60.0)
    assert early.data == b"late"
    assert 0.04 <= early.waited < 60


async def test_patience_ends() -> None:
    with pair() as (ours, _):
        early = await early_data(ours, 0.05)
    assert (early.data, early.ended) == (b"", False)
    assert 0.04 <= early.waited < 60


async def test_a_client_that_ends_without_a_word() -> None:
    with pair() as (ours, peer):
        peer.shutdown(socket.SHUT_WR)
        early = await early_data(ours, 60.0)
    assert (early.data, early.ended) == (b"", True)


async def test_one_reads_worth_and_no_more() -> None:
    with pair() as (ours, peer):
        peer.setblocking(False)
        sent = 0
        while sent < 3 * MOST_EARLY_DATA:
            sent += peer.send(bytes(MOST_EARLY_DATA))
        await trio.sleep(0.02)
        assert 0 < len((await early_data(ours, 1.0)).data) <= MOST_EARLY_DATA


def word(reader: Reader) -> Parser[bytes]:
    return (yield from reader.read_until(b" ", 100))


def test_a_message_is_read_as_far_as_it_has_come() -> None:
    with pair() as (ours, peer):
        incoming = Incoming(ours)
        assert incoming.read_now(word, 100) is None
        for part in (b"on", b"e "):
            assert incoming.read_now(word, 100, to_the_end=False) is None
            peer.sendall(part)
        assert incoming.read_now(word, 100, to_the_end=False) == b"one"
        peer.sendall(b"two three fo")
        assert [incoming.read_now(word, 100) for _ in range(3)] == [b"two", b"three", None]
        incoming.give_up()
        assert (incoming.data, incoming.consumed) == (b"fo", 14)
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(HungUp):
            incoming.read_now(word, 100)
        assert incoming.data == b"fo"


def test_a_read_that_comes_back_short_may_be_the_last() -> None:
    with pair() as (ours, peer):
        incoming = Incoming(ours)
        peer.sendall(b"on")
        peer.shutdown(socket.SHUT_WR)
        assert incoming.read_now(word, 100, to_the_end=False) is None, "the end behind it was not looked for"
        with pytest.raises(HungUp):
            incoming.read_now(word, 100, to_the_end=True)


async def test_a_message_that_is_waited_for() -> None:
    with pair() as (ours, peer):
        incoming = Incoming(ours)
        async with trio.open_nursery() as nursery:

            async def say() -> None:
                for byte in b"slowly and":
                    await trio.sleep(0.002)
                    peer.sendall(bytes([byte]))

            nursery.start_soon(say)
            assert await incoming.read(word, 100) == b"slowly"
        with trio.move_on_after(0.02):
            await incoming.read(word, 100)
        assert incoming.data == b"and", "whoever is no longer waited for has said it nevertheless"
