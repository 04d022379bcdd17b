"""TLS behind a socket's face: what a relay expects of sockets holds for it."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trustme

from proxy.core.clusters import Tls
from proxy.net import sockopt
from proxy.net.relay import Relay
from proxy.net.sheath import BadTls, Sheath, Sheathed, context
from proxy.net.watch import Watch
from tests.net.pairs import pair

NAME = "gw.example.com"


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tls, Tls]:
    """The near and the far side's settings: each knows who has signed the other's."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name in ("near", NAME):
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    ca = str(folder / "ca.pem")
    return Tls(ca, str(folder / "near.pem")), Tls(ca, str(folder / f"{NAME}.pem"))


@asynccontextmanager
async def sheathed(
    sides: tuple[Tls, Tls], *, small: bool = False
) -> AsyncIterator[tuple[Sheathed, Sheathed]]:
    near_side, far_side = sides
    with pair(small=small) as (one, other):
        near = Sheathed(one, Sheath(context(near_side, far=False), NAME))
        far = Sheathed(other, Sheath(context(far_side, far=True)))
        with near, far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.shake_hands)
                nursery.start_soon(far.shake_hands)
            yield near, far


async def heard(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        try:
            more = sock.recv(size - len(found))
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
            continue
        if not more:
            break
        found += more
    return found


async def test_it_reads_and_looks_like_a_socket(sides: tuple[Tls, Tls]) -> None:
    async with sheathed(sides) as (near, far):
        with pytest.raises(BlockingIOError):
            far.recv(10)
        assert near.send(b"hello") == 5
        await trio.lowlevel.wait_readable(far)
        assert far.recv(3, socket.MSG_PEEK) == b"hel"
        assert far.recv(100, socket.MSG_PEEK) == b"hello"
        buffer = bytearray(4)
        assert (far.recv_into(buffer), bytes(buffer)) == (4, b"hell")
        assert far.recv(100) == b"o"
        with pytest.raises(BlockingIOError):
            far.recv(10)


async def test_each_side_ends_by_itself(sides: tuple[Tls, Tls]) -> None:
    async with sheathed(sides) as (near, far):
        near.send(b"request")
        near.shutdown(socket.SHUT_WR)
        assert await heard(far, 100) == b"request"
        assert far.recv(1) == b""
        far.send(b"answer")
        far.shutdown(socket.SHUT_WR)
        assert await heard(near, 100) == b"answer"
        assert near.recv(1) == b""


async def test_an_end_without_a_word_is_a_reset(sides: tuple[Tls, Tls]) -> None:
    async with sheathed(sides) as (near, far):
        near.send(b"half of")
        with near.dup() as raw:
            raw.shutdown(socket.SHUT_WR)
        await trio.sleep(0.01)
        with pytest.raises(ConnectionResetError):
            await heard(far, 100)


async def test_a_close_is_an_end_in_order_and_a_reset_is_none(sides: tuple[Tls, Tls]) -> None:
    async with sheathed(sides) as (near, far):
        near.send(b"all of it")
        near.close()
        await trio.sleep(0.01)
        assert await heard(far, 100) == b"all of it"
    async with sheathed(sides) as (near, far):
        near.send(b"not all")
        sockopt.reset_on_close(near)
        near.close()
        await trio.sleep(0.01)
        with pytest.raises(ConnectionResetError):
            await heard(far, 100)


async def test_what_is_not_tls_is_a_reset(sides: tuple[Tls, Tls]) -> None:
    async with sheathed(sides) as (near, far):
        with near.dup() as raw:
            raw.send(b"\x17\x03\x03\x00\x14" + bytes(20))
        await trio.lowlevel.wait_readable(far)
        with pytest.raises(ConnectionResetError) as error:
            far.recv(1)
        assert error.value.errno == errno.ECONNRESET


async def test_what_the_kernel_does_not_take_is_offered_again(sides: tuple[Tls, Tls]) -> None:
    blob = random.Random(1).randbytes(2_000_000)
    async with sheathed(sides, small=True) as (near, far), trio.open_nursery() as nursery:

        async def say() -> None:
            rest = memoryview(blob)
            while rest:
                try:
                    rest = rest[near.send(rest) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(near)

            near.shutdown(socket.SHUT_WR)

        nursery.start_soon(say)
        assert await heard(far, len(blob) + 1) == blob, "and the end, for which there was room"


async def test_what_was_not_asked_for_is_held(sides: tuple[Tls, Tls]) -> None:
    async with sheathed(sides) as (near, far):
        near.send(b"x" * 10_000)
        await trio.lowlevel.wait_readable(far)
        await trio.sleep(0.01)
        assert far.recv(10) == b"x" * 10
        assert far.held() == b"x" * 9_990
        assert far.held() == b""


async def test_a_relay_does_not_notice(sides: tuple[Tls, Tls]) -> None:
    blob, watch = random.Random(2).randbytes(3_000_000), Watch()
    async with sheathed(sides) as (near, far), trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        with pair() as (ours, client):
            relay = Relay(ours, near, watch, memoryview(bytearray(65536)), ours.close)
            relay.start(b"", downstream_ended=False)

            async def echo() -> None:
                while data := await heard(far, 1):
                    await say_all(far, data + await all_there(far))
                far.shutdown(socket.SHUT_WR)

            nursery.start_soon(echo)

            def talk() -> bytes:
                found = bytearray()
                client.settimeout(10)
                client.sendall(blob[:1000])
                client.sendall(blob[1000:200_000])
                while len(found) < 200_000:
                    found += client.recv(65536)
                client.shutdown(socket.SHUT_WR)
                while data := client.recv(65536):
                    found += data
                return bytes(found)

            assert await trio.to_thread.run_sync(talk) == blob[:200_000]
        nursery.cancel_scope.cancel()


async def all_there(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return b""


async def say_all(sock: socket.socket, data: bytes) -> None:
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)


async def test_names_and_signatures_are_checked(sides: tuple[Tls, Tls]) -> None:
    near_side, far_side = sides
    for near_tls, name, far_fails in (
        (near_side, "other.example.com", True),
        (replace(near_side, ca=None), NAME, True),
        (replace(near_side, cert=None), NAME, True),
    ):
        with pair() as (one, other):
            near = Sheathed(one, Sheath(context(near_tls, far=False), name))
            far = Sheathed(other, Sheath(context(far_side, far=True)))
            with near, far:
                failed: list[str] = []

                async def shake(sock: Sheathed, who: str, failed: list[str] = failed) -> None:
                    try:
                        await sock.shake_hands()
                    except (BadTls, OSError):
                        failed.append(who)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(shake, near, "near")
                    nursery.start_soon(shake, far, "far")
                assert ("far" in failed) is far_fails


def test_files_that_do_not_do(tmp_path: Path, sides: tuple[Tls, Tls]) -> None:
    for bad in (Tls(cert=str(tmp_path / "nothing.pem")), Tls(ca=__file__), Tls(cert=__file__)):
        with pytest.raises(BadTls):
            context(bad, far=True)
    assert context(sides[1], far=True) is context(sides[1], far=True), "read once"
