"""The process between the two ends: takes packets from one, asks the middleboxes, keeps them for the delay,
gives them to the other, and remembers everything. Started by `line.Line`: ``python -m proxy.lab.forwarder FD``.

It is a process of its own so that its clock does not wait for anybody's interpreter lock. select() rather than
epoll: its timeout has microseconds. It ends when its control socket does.
"""

from __future__ import annotations

import contextlib
import heapq
import marshal
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from typing import cast

from proxy.lab.middleboxes import build
from proxy.lab.packets import Packet, decode
from proxy.lab.ports import Port, is_unicast, open_port
from proxy.lab.rules import Direction, Injection, Rule

BATCH = 64
CAPTURE_BUDGET = 64 << 20  # bytes kept whole; after that only the headers of each packet
SNAP = 128

# One packet in the capture: direction, entered, left (None: dropped or still on its way), what happened, which
# middlebox, length, bytes as it entered, and as it left if that differs. A list, because `left` comes later.
Record = list[int | float | str | bytes | None]
Message = list[object]
End = Mapping[str, object]
Rules = list[tuple[str, dict[str, object], str]]
LEFT, WHAT, CHANGED = 2, 3, 7


class Forwarder:
    """The line itself: two ports, two delays, rules, what is on its way, what has been."""

    def __init__(self, ports: Sequence[Port]) -> None:
        self._ports = ports
        self._delays = [0.0, 0.0]
        self._rules: list[tuple[str, Rule]] = []  # for every packet
        self._rules_of: dict[str, list[tuple[str, Rule]]] = {}  # for the packets of one address of the server
        self._flying: list[tuple[float, int, Direction, bytes, Record]] = []
        self._count = 0
        self._records: list[Record] = []
        self._kept = 0

    def serve(self, control: socket.socket) -> None:
        """Forward until the control socket ends."""
        sources: list[socket.socket | Port] = [control, *self._ports]
        while True:
            timeout = max(0.0, self._flying[0][0] - time.monotonic()) if self._flying else None
            ready, _, _ = select.select(sources, (), (), timeout)
            self._release()
            for direction in Direction:
                if self._ports[direction] in ready:
                    self._take(direction)
            self._release()
            if control in ready:
                request = receive(control)
                if request is None:
                    return
                send(control, self._obey(request))

    def _take(self, direction: Direction) -> None:
        port = self._ports[direction]
        for _ in range(BATCH):
            data = port.read()
            if data is None:
                return
            # Neighbour and multicast chatter belongs to the devices, not to the path.
            if not is_unicast(data):
                continue
            now = time.monotonic()
            packet = decode(data) if self._rules or self._rules_of else None
            if packet is None:
                self._send(direction, data, now + self._delays[direction], self._record(direction, now, data))
            else:
                self._judge(direction, packet, now)

    def _judge(self, direction: Direction, packet: Packet, now: float) -> None:
        record = self._record(direction, now, packet.raw)
        original = packet
        of_host = self._rules_of.get(packet.dst if direction is Direction.UP else packet.src, ())
        for name, rule in (*self._rules, *of_host):
            verdict = rule(packet, direction)
            if verdict is None:
                continue
            for injection in verdict.injected:
                self._inject(injection, now, name)
            if verdict.packet is None:
                record[WHAT : WHAT + 2] = "dropped", name
                return
            if verdict.packet is not packet:
                packet = verdict.packet
                record[WHAT : WHAT + 2] = "rewritten", name
        if packet is not original:
            record[CHANGED] = packet.raw
        self._send(direction, packet.raw, now + self._delays[direction], record)

    def _inject(self, injection: Injection, now: float, author: str) -> None:
        way, data, entered = injection.direction, injection.packet.raw, now + injection.after
        record = self._record(way, entered, data)
        record[WHAT : WHAT + 2] = "injected", author
        self._send(way, data, entered + injection.hops * self._delays[way], record)

    def _record(self, direction: Direction, now: float, data: bytes) -> Record:
        size = len(data)
        if self._kept + size > CAPTURE_BUDGET:
            data = data[:SNAP]
        self._kept += len(data)
        record: Record = [int(direction), now, None, "forwarded", "", size, data, b""]
        self._records.append(record)
        return record

    def _send(self, direction: Direction, data: bytes, due: float, record: Record) -> None:
        self._count += 1
        heapq.heappush(self._flying, (due, self._count, direction, data, record))

    def _release(self) -> None:
        while self._flying:
            now = time.monotonic()
            if self._flying[0][0] > now:
                return
            _, _, direction, data, record = heapq.heappop(self._flying)
            self._ports[direction.back].write(data)
            record[LEFT] = now

    def _obey(self, request: Message) -> list[Record]:
        match request:
            case ["capture"]:
                return self._records
            case ["forget"]:
                self._records, self._kept = [], 0
            case ["delays", float(up), float(down)]:
                self._delays = [up, down]
            case ["rules", rules]:
                self._set_rules(cast("Rules", rules))
            case _:
                raise ValueError(f"no such request: {request!r}")
        return []

    def _set_rules(self, rules: Rules) -> None:
        self._rules, self._rules_of = [], {}
        for name, params, host in rules:
            chain = self._rules_of.setdefault(host, []) if host else self._rules
            chain.append((name, build(name, params)))


def send(control: socket.socket, message: Sequence[object]) -> None:
    """One message of plain values, preceded by its length."""
    data = marshal.dumps(message)  # type: ignore[arg-type]  # plain values, not known to be
    control.sendall(struct.pack("!I", len(data)) + data)


def receive(control: socket.socket) -> Message | None:
    """The next message; None at the end."""
    header = _receive_exactly(control, 4)
    if len(header) < 4:
        return None
    data = _receive_exactly(control, struct.unpack("!I", header)[0])
    value = marshal.loads(data)  # noqa: S302  (from our own parent or child)
    return cast("Message", value)


def _receive_exactly(control: socket.socket, size: int) -> bytearray:
    data = bytearray()
    while len(data) < size and (chunk := control.recv(min(size - len(data), 1 << 20))):
        data += chunk
    return data


def _go_first() -> None:
    """A line waits for nobody's processor: the kernel runs this process before all ordinary ones, where it may."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def main(control: socket.socket) -> None:
    """Wait for the description of the wire, then forward."""
    greeting = receive(control)
    if greeting is None:
        return
    match greeting:
        case [str(kind), client, server]:
            ports = [open_port(kind, cast("End", end)) for end in (client, server)]
        case _:
            raise ValueError(f"no such wire: {greeting!r}")
    _go_first()
    send(control, [])
    Forwarder(ports).serve(control)


if __name__ == "__main__":
    with (
        socket.socket(fileno=int(sys.argv[1])) as channel,
        contextlib.suppress(KeyboardInterrupt, ConnectionError),
    ):
        main(channel)
