"""The process between two ends, in a thread here, with socket pairs for ends: what goes in comes out, in time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from proxy.lab.forwarder import Forwarder, Message, receive, send
from proxy.lab.packets import decode
from proxy.lab.rewrite import with_addresses
from tests.lab.segments import segment

PACKET = segment().raw
DELAY = 0.05


class End:
    """A port over a socket; `far` is where the test puts packets in and takes them out."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.setblocking(False)
        self.far.settimeout(30)

    def fileno(self) -> int:
        return self.near.fileno()

    def read(self) -> bytes | None:
        try:
            return self.near.recv(65535)
        except BlockingIOError:
            return None

    def write(self, data: bytes) -> None:
        self.near.send(data)


class Room:
    def __init__(self, control: socket.socket, client: End, server: End) -> None:
        self.control, self.client, self.server = control, client, server

    def order(self, *message: object) -> Message:
        send(self.control, message)
        answer = receive(self.control)
        assert answer is not None
        return answer


@pytest.fixture
def room() -> Iterator[Room]:
    control, theirs = socket.socketpair()
    client, server = End(), End()
    thread = threading.Thread(target=Forwarder([client, server]).serve, args=(theirs,))
    thread.start()
    yield Room(control, client, server)
    control.close()
    thread.join(30)
    assert not thread.is_alive(), "it ends when its control socket does"
    for sock in (theirs, client.near, client.far, server.near, server.far):
        sock.close()


def test_both_directions_have_their_delay(room: Room) -> None:
    room.order("delays", DELAY, 0.0)
    began = time.monotonic()
    room.client.far.send(PACKET)
    assert room.server.far.recv(65535) == PACKET
    assert time.monotonic() - began >= DELAY
    room.server.far.send(PACKET)
    assert room.client.far.recv(65535) == PACKET
    up, down = room.order("capture")
    assert isinstance(up, list)
    assert isinstance(down, list)
    assert (up[0], down[0]) == (0, 1)
    assert up[3:7] == ["forwarded", "", len(PACKET), PACKET]
    assert up[2] - up[1] >= DELAY


def test_order_is_kept(room: Room) -> None:
    room.order("delays", 0.01, 0.0)
    packets = [with_addresses(segment(), src=f"10.77.1.{n}").raw for n in range(1, 40)]
    for packet in packets:
        room.client.far.send(packet)
    assert [room.server.far.recv(65535) for _ in packets] == packets


def test_chatter_does_not_cross(room: Room) -> None:
    room.client.far.send(with_addresses(segment(), dst="224.0.0.1").raw)
    room.client.far.send(PACKET)
    assert room.server.far.recv(65535) == PACKET
    assert len(room.order("capture")) == 1


def test_a_middlebox_drops_and_the_capture_says_so(room: Room) -> None:
    room.order("rules", [("drops-syn-data", {}, "")])
    room.client.far.send(PACKET)
    plain = segment(payload=b"").raw
    room.client.far.send(plain)
    assert room.server.far.recv(65535) == plain
    dropped, passed = room.order("capture")
    assert isinstance(dropped, list)
    assert isinstance(passed, list)
    assert (dropped[2], *dropped[3:5], passed[3]) == (None, "dropped", "drops-syn-data", "forwarded")
    room.order("forget")
    assert room.order("capture") == []


def test_a_middlebox_answers_in_the_servers_place(room: Room) -> None:
    room.order("rules", [("resets-syn-data", {}, "")])
    room.client.far.send(PACKET)
    answer = decode(room.client.far.recv(65535))
    assert answer is not None
    assert answer.is_reset
    assert answer.flow == segment().reverse_flow


def test_messages_are_cut_where_they_were_joined() -> None:
    one, other = socket.socketpair()
    with one, other:
        send(one, ["a", 1.5, b"\0" * 1000])
        send(one, [])
        assert receive(other) == ["a", 1.5, b"\0" * 1000]
        assert receive(other) == []
        one.sendall(b"\0\0")
        one.close()
        assert receive(other) is None
