"""Every packet that crossed the line: as objects to assert on, as text like tcpdump's, as a pcap file."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, overload

from proxy.lab.packets import Packet, decode
from proxy.lab.rules import Direction

What: TypeAlias = Literal["forwarded", "dropped", "rewritten", "injected"]
Side: TypeAlias = Literal["client", "server"]
Host: TypeAlias = str | tuple[str, int] | tuple[str, int, int, int]

Slice: TypeAlias = "slice[int | None, int | None, int | None]"

LINKTYPE_RAW = 101


@dataclass(frozen=True, slots=True)
class Captured:
    """One packet on the line. Times are `time.monotonic()`.

    `packet` is what entered at `entered`; `delivered` is what left at `left`: the same unless a middlebox rewrote it,
    None when it was dropped. `left` is also None while it is on its way.
    """

    direction: Direction
    entered: float
    left: float | None
    what: What
    middlebox: str
    packet: Packet
    delivered: Packet | None

    @property
    def dropped(self) -> bool:
        return self.what == "dropped"

    @property
    def payload(self) -> bytes:
        return self.packet.payload

    @property
    def cookie(self) -> bytes | None:
        return self.packet.cookie

    def seen_from(self, side: Side) -> tuple[float, Packet] | None:
        """When and how this end of the line saw the packet: what it sent itself, or what arrived.

        None if nothing did.
        """
        if (side == "client") == (self.direction is Direction.UP):
            return None if self.what == "injected" else (self.entered, self.packet)
        return None if self.left is None or self.delivered is None else (self.left, self.delivered)

    def text(self, origin: float = 0.0) -> str:
        """One line, times relative to `origin`."""
        line = f"{self.entered - origin:9.4f} {self.direction} {self.packet}"
        if self.what != "forwarded":
            line += f"  ({self.what} by {self.middlebox})"
        return line

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True, slots=True)
class Capture(Sequence[Captured]):
    """Packets in the order in which they entered the line. Selections are captures too.

    `epoch` added to a packet's time gives seconds since 1970.
    """

    packets: tuple[Captured, ...]
    epoch: float = 0.0

    def __len__(self) -> int:
        return len(self.packets)

    @overload
    def __getitem__(self, index: int) -> Captured: ...
    @overload
    def __getitem__(self, index: Slice) -> Capture: ...
    def __getitem__(self, index: int | Slice) -> Captured | Capture:
        if isinstance(index, slice):
            return Capture(self.packets[index], self.epoch)
        return self.packets[index]

    def __iter__(self) -> Iterator[Captured]:
        return iter(self.packets)

    def where(self, wanted: Callable[[Packet], bool]) -> Capture:
        """The packets for which `wanted(packet)` holds."""
        return Capture(tuple(item for item in self.packets if wanted(item.packet)), self.epoch)

    def between(self, one: Host, other: Host | None = None) -> Capture:
        """The packets from or to an address, or (address, port); with two, only those between them."""

        def touches(packet: Packet) -> bool:
            ends = ((packet.src, packet.sport), (packet.dst, packet.dport))
            return all(any(_matches(end, host) for end in ends) for host in (one, other) if host is not None)

        return self.where(touches)

    def syns(self, dst: Host | None = None, src: Host | None = None) -> Capture:
        """The SYNs (without ACK), retransmitted ones included."""
        return self.where(lambda packet: packet.is_syn and _is(packet, src, dst))

    def syn_acks(self, src: Host | None = None) -> Capture:
        """The SYN-ACKs, by the address they come from."""
        return self.where(lambda packet: packet.is_syn_ack and _is(packet, src, None))

    def resets(self) -> Capture:
        return self.where(lambda packet: packet.is_reset)

    def way(self, direction: Direction) -> Capture:
        """One direction only."""
        return Capture(tuple(item for item in self.packets if item.direction == direction), self.epoch)

    def dropped(self) -> Capture:
        return Capture(tuple(item for item in self.packets if item.dropped), self.epoch)

    def text(self) -> str:
        """All of it, one line a packet, times since the first."""
        origin = self.packets[0].entered if self.packets else 0.0
        return "\n".join(item.text(origin) for item in self.packets)

    def write_pcap(self, path: str | os.PathLike[str], seen_from: Side = "client") -> None:
        """Write what one end of the line saw, for tcpdump, tshark or Wireshark.

        The format is pcap with nanoseconds and link type RAW (draft-ietf-opsawg-pcap).
        """
        seen = [view for item in self.packets if (view := item.seen_from(seen_from))]
        with Path(path).open("wb") as file:
            file.write(struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, LINKTYPE_RAW))
            for moment, packet in sorted(seen, key=lambda view: view[0]):
                seconds, nanoseconds = divmod(round((moment + self.epoch) * 1e9), 10**9)
                file.write(struct.pack("=IIII", seconds, nanoseconds, len(packet.raw), packet.length))
                file.write(packet.raw)


def read_records(records: Iterable[object], epoch: float) -> Capture:
    """A capture from the forwarder's records (`forwarder.Record`)."""
    packets: list[Captured] = []
    for record in records:
        match record:
            case [
                int(way),
                float(entered),
                float() | None as left,
                str(what),
                str(middlebox),
                int(length),
                bytes(data),
                bytes(new),
            ]:
                packet = decode(data, length)
                if packet is None:
                    continue
                delivered = None if what == "dropped" else packet if not new else decode(new)
                fate = _what(what)
                packets.append(Captured(Direction(way), entered, left, fate, middlebox, packet, delivered))
            case _:
                raise ValueError(f"not a record: {record!r}")
    return Capture(tuple(sorted(packets, key=lambda item: item.entered)), epoch)


def _what(text: str) -> What:
    match text:
        case "forwarded" | "dropped" | "rewritten" | "injected":
            return text
        case _:
            raise ValueError(text)


def _matches(end: tuple[str, int], wanted: Host) -> bool:
    return end[0] == wanted if isinstance(wanted, str) else end == wanted[:2]


def _is(packet: Packet, src: Host | None, dst: Host | None) -> bool:
    return (src is None or _matches((packet.src, packet.sport), src)) and (
        dst is None or _matches((packet.dst, packet.dport), dst)
    )
