"""IPv4, IPv6, TCP and ICMP, decoded from the bytes of one packet (RFC 791, 8200, 9293, 792, 4443, 7413)."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

TCP, ICMP, ICMPV6 = 6, 1, 58
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
FLAG_LETTERS = ((SYN, "S"), (FIN, "F"), (RST, "R"), (PSH, "P"), (ACK, "."))

MSS, WINDOW_SCALE, SACK_PERMITTED, SACK, TIMESTAMPS = 2, 3, 4, 5, 8
FAST_OPEN, EXPERIMENTAL = 34, 254
FAST_OPEN_MAGIC = b"\xf9\x89"

Option = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Packet:
    """One IP packet. Ports, sequence numbers, options and payload are TCP's, and empty for anything else.

    `length` is the packet's true length; `raw` may be shorter when a capture kept only the beginning.
    """

    raw: bytes = field(repr=False)
    length: int
    version: int
    src: str
    dst: str
    protocol: int
    ip_header: int
    sport: int = 0
    dport: int = 0
    seq: int = 0
    ack: int = 0
    flags: int = 0
    window: int = 0
    options: tuple[Option, ...] = ()
    payload: bytes = b""
    payload_length: int = 0
    icmp: tuple[int, int] | None = None

    @property
    def is_tcp(self) -> bool:
        return self.protocol == TCP

    @property
    def is_syn(self) -> bool:
        """A SYN without ACK: somebody dials."""
        return self.flags & (SYN | ACK | RST) == SYN

    @property
    def is_syn_ack(self) -> bool:
        return self.flags & (SYN | ACK | RST) == SYN | ACK

    @property
    def is_reset(self) -> bool:
        return bool(self.flags & RST)

    @property
    def is_fin(self) -> bool:
        return bool(self.flags & FIN)

    @property
    def has_syn_data(self) -> bool:
        return self.is_syn and self.payload_length > 0

    def option(self, kind: int) -> bytes | None:
        """The value of the first TCP option of that kind, or None."""
        return next((value for found, value in self.options if found == kind), None)

    @property
    def mss(self) -> int | None:
        value = self.option(MSS)
        return int.from_bytes(value, "big") if value is not None else None

    @property
    def window_scale(self) -> int | None:
        value = self.option(WINDOW_SCALE)
        return value[0] if value else None

    @property
    def sack_permitted(self) -> bool:
        return self.option(SACK_PERMITTED) is not None

    @property
    def timestamps(self) -> tuple[int, int] | None:
        """(TSval, TSecr)"""
        value = self.option(TIMESTAMPS)
        if value is None or len(value) != 8:
            return None
        sent, echoed = struct.unpack("!II", value)
        return sent, echoed

    @property
    def fast_open(self) -> Option | None:
        """(option kind, cookie): kind 34, or the experimental 254 (magic 0xF989). A request's cookie is empty."""
        for kind, value in self.options:
            if kind == FAST_OPEN:
                return kind, value
            if kind == EXPERIMENTAL and value[:2] == FAST_OPEN_MAGIC:
                return kind, value[2:]
        return None

    @property
    def cookie(self) -> bytes | None:
        """The Fast Open cookie: bytes when one is carried, empty for a request, None without the option."""
        found = self.fast_open
        return None if found is None else found[1]

    @property
    def flow(self) -> tuple[str, int, str, int]:
        return self.src, self.sport, self.dst, self.dport

    @property
    def reverse_flow(self) -> tuple[str, int, str, int]:
        return self.dst, self.dport, self.src, self.sport

    def __str__(self) -> str:
        if self.icmp is not None:
            name = "ICMP6" if self.version == 6 else "ICMP"
            return f"{self.src} > {self.dst}: {name} type {self.icmp[0]} code {self.icmp[1]}"
        if not self.is_tcp:
            return f"{self.src} > {self.dst}: protocol {self.protocol}, length {self.length}"
        letters = "".join(letter for bit, letter in FLAG_LETTERS if self.flags & bit)
        ends = f"{_endpoint(self.src, self.sport)} > {_endpoint(self.dst, self.dport)}"
        text = f"{ends}: [{letters}] seq {self.seq}"
        if self.flags & ACK:
            text += f" ack {self.ack}"
        shown = ",".join(_option_text(kind, value) for kind, value in self.options if kind > 1)
        return (
            f"{text} <{shown}> length {self.payload_length}"
            if shown
            else f"{text} length {self.payload_length}"
        )


def decode(raw: bytes, length: int | None = None) -> Packet | None:
    """Read one packet; None if it is not IP, or too damaged to say where it goes.

    `length` is the true length of a packet of which `raw` is only the beginning.
    """
    length = len(raw) if length is None else length
    if len(raw) >= 20 and raw[0] >> 4 == 4:
        header, protocol = (raw[0] & 15) * 4, raw[9]
        source, destination = _ipv4(raw[12:16]), _ipv4(raw[16:20])
        first_fragment = not int.from_bytes(raw[6:8], "big") & 0x1FFF
    elif len(raw) >= 40 and raw[0] >> 4 == 6:
        header, protocol, first_fragment = 40, raw[6], True
        source, destination = str(ipaddress.IPv6Address(raw[8:24])), str(ipaddress.IPv6Address(raw[24:40]))
    else:
        return None
    version = raw[0] >> 4
    if protocol == TCP and first_fragment and len(raw) >= header + 20:
        return _decode_tcp(raw, length, version, source, destination, header)
    icmp = None
    if protocol in (ICMP, ICMPV6) and first_fragment and len(raw) >= header + 2:
        icmp = raw[header], raw[header + 1]
    return Packet(raw, length, version, source, destination, protocol, header, icmp=icmp)


def _decode_tcp(raw: bytes, length: int, version: int, source: str, destination: str, header: int) -> Packet:
    sport, dport, seq, ack, offset, flags, window = struct.unpack_from("!HHIIBBH", raw, header)
    start = header + max(20, (offset >> 4) * 4)
    return Packet(
        raw, length, version, source, destination, TCP, header, sport, dport, seq, ack, flags, window,
        tuple(decode_options(raw[header + 20 : start])), raw[start:], max(0, length - start),
    )  # fmt: skip


def decode_options(raw: bytes) -> list[Option]:
    """TCP options as (kind, value), padding included as (1, b""); stops at the end mark or at nonsense."""
    options: list[Option] = []
    at = 0
    while at < len(raw) and raw[at] != 0:
        if raw[at] == 1:
            options.append((1, b""))
            at += 1
            continue
        size = raw[at + 1] if at + 1 < len(raw) else 0
        if size < 2 or at + size > len(raw):
            break
        options.append((raw[at], raw[at + 2 : at + size]))
        at += size
    return options


def _ipv4(packed: bytes) -> str:
    return f"{packed[0]}.{packed[1]}.{packed[2]}.{packed[3]}"


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _option_text(kind: int, value: bytes) -> str:
    if kind == FAST_OPEN or (kind == EXPERIMENTAL and value[:2] == FAST_OPEN_MAGIC):
        cookie = value if kind == FAST_OPEN else value[2:]
        name = "tfo" if kind == FAST_OPEN else "exp-tfo"
        return f"{name} cookie {cookie.hex()}" if cookie else f"{name} cookiereq"
    if kind == MSS:
        return f"mss {int.from_bytes(value, 'big')}"
    if kind == WINDOW_SCALE and value:
        return f"wscale {value[0]}"
    return {SACK_PERMITTED: "sackOK", TIMESTAMPS: "TS", SACK: "sack"}.get(kind, f"option {kind}")
