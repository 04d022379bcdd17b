"""What is fuzzed of what passes between our own processes, or comes from the kernel, the manager, or a file of ours."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import trio

from proxy.config.scalars import BadScalar, Scalar
from proxy.core import tunnel
from proxy.core.address import Authority, Endpoint
from proxy.core.reader import Malformed, Reading
from proxy.lab import packets
from proxy.net import sockopt
from proxy.service import systemd
from proxy.service.crew import channel, orders
from tests.fuzz.mutation import Fuzzed, without_data


def worker_says(data: bytes) -> str:
    shapes: list[str] = []
    for read in (orders.answer, orders.order):
        try:
            shapes.append(type(read(data)).__name__)
        except msgspec.DecodeError as refusal:
            shapes.append(without_data(str(refusal)))
    return " ".join(shapes)


def messages(data: bytes) -> str:
    async def hear(step: int) -> list[bytes]:
        ours, theirs = socket.socketpair()
        with theirs:
            end = channel.Channel(ours)
            heard: list[bytes] = []
            with suppress(channel.Broken):
                for at in range(0, len(data), step):
                    theirs.send(data[at : at + step])
                theirs.close()
                while True:
                    heard.append((await end.receive()).body)
            end.close()
            return heard

    whole, pieces = trio.run(hear, len(data) or 1), trio.run(hear, 97)
    assert whole == pieces
    return f"{len(whole)}"


KEY = bytes(range(16))
TICKET = tunnel.Ticket(bytes(16), 1e9, Authority("a.example.com", 443), Endpoint("192.0.2.1", 1))
_SEALED = tuple(
    tunnel.seal(KEY, TICKET._replace(dialled=Endpoint("192.0.2.2", 2)), number, b"hello", final=number > 1)
    + b"hello"
    for number in (1, 2)
)


def forged(data: bytes) -> str:
    """Nothing but what was sealed is believed."""
    try:
        parsed = Reading(tunnel.opening, tunnel.LIMIT).feed(data)
    except Malformed as refusal:
        return without_data(str(refusal))
    if parsed is None:
        return "more"
    try:
        tunnel.verify((b"another key, 16.", KEY), parsed.value, 1e9)
    except tunnel.Rejected as refusal:
        return str(refusal.reason)
    assert data[: parsed.consumed] in _SEALED
    return "believed"


def saved_syn(data: bytes) -> str:
    size = sockopt._payload_size(data)
    assert 0 <= size <= 0x10000 + 40
    return f"{size > 0} {data[0] >> 4 if data else ''}"


def packet(data: bytes) -> str:
    found = packets.decode(data)
    if found is None:
        return "none"
    str(found)
    return f"{found.version} {found.protocol in {6, 1, 58}} {len(found.options)} {found.payload_length > 0}"


def environment(data: bytes) -> str:
    words = [*data.decode("utf-8", "replace").split("\n"), "", "", ""][:3]
    names = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
    variables: dict[str, str] = dict(zip(names, words, strict=True))
    variables["LISTEN_PID"] = variables["LISTEN_PID"].replace("us", str(os.getpid()))
    passed = systemd.activated(variables, first=1 << 20)  # numbers that nobody has
    assert not variables
    assert not passed.sockets
    interval = systemd.watchdog_interval({"WATCHDOG_USEC": words[1]})
    assert interval is None or interval > 0
    return f"{len(passed.useless) > 0} {interval is None}"


def _leaves(of: type[Scalar[object]]) -> Iterator[type[Scalar[object]]]:
    for one in of.__subclasses__():
        yield one
        yield from _leaves(one)


_SCALARS = sorted(
    (one for one in _leaves(Scalar) if one.__module__.startswith("proxy.")), key=lambda one: one.__name__
)


def scalar(data: bytes) -> str:
    """The first byte chooses which; what it writes for itself it reads again."""
    kind, written = _SCALARS[data[0] % len(_SCALARS) if data else 0], data[1:].decode("utf-8", "replace")
    try:
        value = kind.read(written)
    except BadScalar as refusal:
        return f"{kind.__name__} {without_data(str(refusal))}"
    again = kind.read(str(value.plain()))
    assert kind.secret or again == value, (kind, value, again)
    return kind.__name__


_REPORT = orders.encode(
    orders.Report(
        open=[("web", "api", Endpoint("192.0.2.1", 1), 3)], oldest=[], recent=[], standings=[], patience=[],
        accounts=[], health=[(Endpoint("192.0.2.1", 1), True)], spares=(1, 2, 3), tasks=4,
    )
)  # fmt: skip
INSIDE: dict[str, Fuzzed] = {
    "worker_says": Fuzzed(
        worker_says,
        (_REPORT, orders.encode(orders.Serving(3)), orders.encode(orders.Begin(1, 2, "info", "json"))),
        (b"\xc0", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xcb\x7f\xf8\0\0\0\0\0\0"),
    ),
    "messages": Fuzzed(
        messages, (channel._HEADER.pack(5, 0) + b"hello" + channel._HEADER.pack(0, 0), channel._HEADER.pack(1, 1))
    ),
    "forged": Fuzzed(forged, _SEALED),
    "saved_syn": Fuzzed(saved_syn, (b"\x45\0\0\x2d" + bytes(28) + b"\x50" + bytes(7), b"\x60" + bytes(59))),
    "packet": Fuzzed(
        packet,
        (
            b"\x45\0\0\x30" + bytes(5) + b"\6" + bytes(22) + b"\x70\2" + bytes(6) + b"\x22\4ab\1\1\0\0",
            b"\x60" + bytes(5) + b"\6\0" + bytes(44) + b"\x50\x10" + bytes(6),
            b"\x45\0\0\x1c" + bytes(5) + b"\1" + bytes(10) + b"\3\4" + bytes(6),
        ),
        (b"\xfe\4\xf9\x89", b"\x22\x0a", b"\2\4", b"\x08\x0a"),
    ),
    "environment": Fuzzed(environment, (b"us\n2\na:b", b"us\n1\n"), (b"us", b"\xd9\xa3", b"4096", b"-1", b"::")),
    "scalar": Fuzzed(
        scalar,
        tuple(
            bytes([number]) + text
            for number in range(len(_SCALARS))
            for text in b"1h30m 64KiB 127.0.0.1:80 10.0.0.0/8 a.b:1-2 50% 0x7 0123456789abcdef0123456789abcdef".split()
        ),
        (b"\xd9\xa3", *b"ms 1e9 - inf _ unix:/ [::] *. ${ : auto never off".split()),
    ),
}  # fmt: skip
