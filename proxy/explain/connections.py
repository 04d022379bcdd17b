"""Connections of a capture, as the side that dialled sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from proxy.lab.packets import ACK, Packet, decode

Flow: TypeAlias = tuple[str, int, str, int]


@dataclass(slots=True)
class Connection:
    """What one connection's packets say, seen from the side that dialled. Times are seconds since 1970."""

    local: tuple[str, int]
    remote: tuple[str, int]
    isn: int
    packets: list[tuple[float, bool, Packet]] = field(default_factory=list[tuple[float, bool, Packet]])
    syns: list[float] = field(default_factory=list[float])
    syn_bytes: int = 0  # of the first SYN
    cookie: bytes | None = None  # of the first SYN; empty: it asks for one; None: no Fast Open option
    new_cookie: bool = False  # the SYN-ACK brought one
    syn_ack: float | None = None
    acked: int = 0  # bytes of the SYN's that the SYN-ACK acknowledged
    answers_first: bool = (
        False  # the SYN-ACK answers the first of several SYNs: only the answer was late or lost
    )
    refused: float | None = None  # a RST came in place of a SYN-ACK
    too_big: bool = False  # a router said that the SYN was
    unreachable: bool = False  # a router or host said so
    overtook: float | None = None  # data came before the SYN-ACK
    answer: float | None = None  # the first byte that our kernel could hand over
    received: int = 0  # bytes from the server, each once
    sent: float | None = None  # when the first byte left that the server could use
    retransmits: int = 0
    reset_in: float | None = None
    fin_in: float | None = None
    _sent_up_to: int = 0

    def add(self, when: float, outgoing: bool, packet: Packet) -> None:
        """Take in the next packet."""
        self.packets.append((when, outgoing, packet))
        if outgoing:
            self._add_ours(when, packet)
        elif packet.icmp is not None:
            self.too_big = self.too_big or packet.icmp in {(3, 4), (2, 0)}
            self.unreachable = self.unreachable or packet.icmp[0] in {1, 3}
        else:
            self._add_theirs(when, packet)

    def _add_ours(self, when: float, packet: Packet) -> None:
        if packet.is_syn:
            if not self.syns:
                self.syn_bytes, self.cookie = packet.payload_length, packet.cookie
                self._sent_up_to = packet.payload_length
            else:
                self.retransmits += 1
            self.syns.append(when)
        elif packet.payload_length:
            begins = (packet.seq - self.isn - 1) & 0xFFFFFFFF
            self.retransmits += begins < self._sent_up_to
            self._sent_up_to = max(self._sent_up_to, begins + packet.payload_length)
            if self.sent is None:
                self.sent = when

    def _add_theirs(self, when: float, packet: Packet) -> None:
        if packet.is_syn_ack:
            if self.syn_ack is None:
                self._add_syn_ack(when, packet)
        elif packet.is_reset:
            self.reset_in = self.reset_in or when
            if self.syn_ack is None and self.refused is None and packet.flags & ACK:
                self.refused = when
        elif packet.payload_length and self.syn_ack is None:
            self.overtook = self.overtook or when
            return
        if packet.is_fin:
            self.fin_in = self.fin_in or when
        if packet.payload_length and self.syn_ack is not None:
            self._add_payload(when, packet)

    def _add_syn_ack(self, when: float, packet: Packet) -> None:
        self.syn_ack, self.new_cookie = when, bool(packet.cookie)
        self._irs = packet.seq
        self.acked = (packet.ack - self.isn - 1) & 0xFFFFFFFF
        echoed = packet.timestamps
        first = next((one.timestamps for _, ours, one in self.packets if ours and one.is_syn), None)
        if echoed is not None and first is not None:
            self.answers_first = len(self.syns) > 1 and echoed[1] == first[0]
        if self.syn_bytes and self.acked >= self.syn_bytes:
            self.sent = self.syns[0]

    _irs: int = 0
    _pieces: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def _add_payload(self, when: float, packet: Packet) -> None:
        begins = (packet.seq - self._irs - (0 if packet.is_syn_ack else 1)) & 0xFFFFFFFF
        self._pieces.append((begins, begins + packet.payload_length))
        self._pieces.sort()
        rest: list[tuple[int, int]] = []
        for first, last in self._pieces:
            if first <= self.received:
                self.received = max(self.received, last)
            else:
                rest.append((first, last))
        self._pieces = rest
        if self.answer is None and self.received:
            self.answer = when

    @property
    def key(self) -> tuple[tuple[str, int], tuple[str, int], int]:
        """What tells it from all other connections of a capture."""
        return self.local, self.remote, self.isn

    @property
    def took(self) -> float | None:
        """Seconds from the first SYN to the SYN-ACK."""
        return None if self.syn_ack is None else self.syn_ack - self.syns[0]

    def story(self, origin: float) -> list[str]:
        """One line for each thing that happened, with the time since ``origin``."""
        told: list[tuple[float, str]] = []
        option = (
            ""
            if self.cookie is None
            else f", cookie of {len(self.cookie)}"
            if self.cookie
            else ", asks for a cookie"
        )
        for number, when in enumerate(self.syns):
            told.append((when, f"SYN with {self.syn_bytes} bytes{option}" if not number else "SYN again"))
        if self.overtook is not None:
            told.append((self.overtook, "data before the SYN-ACK, which the kernel drops"))
        if self.syn_ack is not None:
            of = f", acknowledges {self.acked} of {self.syn_bytes} bytes" if self.syn_bytes else ""
            told.append((self.syn_ack, f"SYN-ACK{of}{', new cookie' if self.new_cookie else ''}"))
        if self.answer is not None:
            told.append((self.answer, f"first answer ({self.received} bytes in all)"))
        if self.fin_in is not None:
            told.append((self.fin_in, "FIN from the server"))
        if self.reset_in is not None:
            told.append((self.reset_in, "RST from the server"))
        ended = [
            (when, packet)
            for when, ours, packet in self.packets
            if ours and (packet.is_fin or packet.is_reset)
        ]
        told += [(when, "RST from us" if packet.is_reset else "FIN from us") for when, packet in ended[:1]]
        if self.retransmits:
            told.append((self.packets[-1][0], f"{self.retransmits} segments of ours were repeated"))
        return [f"{when - origin:+9.4f} {text}" for when, text in sorted(told)]


def connections(packets: Iterable[tuple[float, Packet]]) -> dict[Flow, list[Connection]]:
    """All connections whose SYN is in the capture, by flow from the dialling side, in their order."""
    found: dict[Flow, list[Connection]] = {}
    for when, packet in packets:
        if packet.icmp is not None:
            _add_icmp(found, when, packet)
        elif packet.is_syn:
            known = found.setdefault(packet.flow, [])
            if not known or known[-1].isn != packet.seq:
                src, sport, dst, dport = packet.flow
                known.append(Connection((src, sport), (dst, dport), packet.seq))
            known[-1].add(when, True, packet)
        elif packet.flow in found:
            found[packet.flow][-1].add(when, True, packet)
        elif packet.reverse_flow in found:
            found[packet.reverse_flow][-1].add(when, False, packet)
    return found


def _add_icmp(found: Mapping[Flow, list[Connection]], when: float, packet: Packet) -> None:
    quoted = decode(packet.raw[packet.ip_header + 8 :] + bytes(40))  # of TCP there are 8 bytes at least
    if quoted is not None and quoted.is_tcp and (known := found.get(quoted.flow)):
        known[-1].add(when, False, packet)
