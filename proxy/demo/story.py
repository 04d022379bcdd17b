"""Packets as arrows between lifelines, labelled in a reader's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from proxy.demo.scenes import Scene
from proxy.lab.capture import Capture, Captured
from proxy.lab.loopback import Heard
from proxy.lab.packets import Packet
from proxy.lab.rules import Direction

Flow = tuple[str, int, str, int]
LEAST = 8  # bytes of a request or response here


class Lane(IntEnum):
    """Whose line an arrow begins or ends at."""

    CLIENT = 0
    PROXY = 1
    MIDDLEBOX = 2
    SERVER = 3  # who is at the other end of the path: in a tunnel a second proxy
    ORIGIN = 4  # behind that one, the server


class Look(StrEnum):
    """What an arrow means, for its colour."""

    ORDINARY = "ordinary"
    EARLY = "early"  # a SYN that carries the first bytes
    BAD = "bad"  # dropped, or a refusal
    ANSWER = "answer"  # the server's first bytes


@dataclass(frozen=True, slots=True)
class Arrow:
    """One packet. Times are seconds since the client's first packet; ``arrived`` is None for one that never did.

    ``changed`` is what it was when it arrived, where a middlebox rewrote it. ``bare`` packets carry nothing but an
    acknowledgement, or end a connection.
    """

    source: Lane
    target: Lane
    sent: float
    arrived: float | None
    label: str
    look: Look
    changed: str = ""
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One connection as it was seen. ``first_byte`` in seconds or None, ``session`` the proxy's log line."""

    lanes: tuple[Lane, ...]
    arrows: tuple[Arrow, ...]
    first_byte: float | None
    session: dict[str, object]

    def shown(self, *, everything: bool = False) -> tuple[Arrow, ...]:
        """The arrows worth drawing: up to the first byte of the answer, without bare acknowledgements."""
        if everything:
            return self.arrows
        end = self.first_byte if self.first_byte is not None else float("inf")
        return tuple(arrow for arrow in self.arrows if arrow.sent <= end and not arrow.bare)

    @property
    def gist(self) -> tuple[tuple[Lane, str, str, bool], ...]:
        """What happened on the line, without the times: equal for connections that went the same way."""
        return tuple(
            (arrow.source, arrow.label, arrow.changed, arrow.arrived is None)
            for arrow in self.shown()
            if Lane.CLIENT not in {arrow.source, arrow.target} or Lane.PROXY not in self.lanes
        )

    @property
    def rescued(self) -> bool:
        """Whether the answer came by another dial than the first."""
        return any(arrow.look is Look.ANSWER and arrow.label.endswith("dial)") for arrow in self.shown())


@dataclass(frozen=True, slots=True)
class Seen:
    """The packets of one connection: on the path, between the client and the proxy beside it, and, in a tunnel, between
    the far proxy and its server, which listens at ``server_port``.
    """

    line: Capture
    near: Sequence[Heard] = ()
    far: Sequence[Heard] = ()
    server_port: int = 0


class Teller:
    """Tells arrows from packets, for one scene."""

    def __init__(self, scene: Scene) -> None:
        self._request, self._reply = ("", "banner") if scene.server_first else ("request", "response")
        self._begun: dict[Flow, int] = {}  # initial sequence numbers of those who dialled
        self._seen: set[tuple[Flow, int, int]] = set()
        self._dials: list[Flow] = []

    def tell(self, seen: Seen, here: Lane, port: int = 0) -> list[Arrow]:
        """The arrows of one connection, in order; ``here`` is who dials the server, ``port`` the proxy's own."""
        arrows = [self._local(heard, port, (Lane.CLIENT, Lane.PROXY)) for heard in seen.near]
        arrows += [self._remote(item, here) for item in seen.line]
        arrows += [self._local(heard, seen.server_port, (Lane.SERVER, Lane.ORIGIN)) for heard in seen.far]
        return sorted(arrows, key=lambda arrow: arrow.sent)

    def _local(self, heard: Heard, port: int, ends: tuple[Lane, Lane]) -> Arrow:
        up = heard.packet.dport == port
        source, target = ends if up else (ends[1], ends[0])
        text, look = self._words(heard.packet, up=up), self._look(heard.packet, up=up)
        return Arrow(source, target, heard.at, heard.at, text, look, bare=_is_bare(heard.packet))

    def _remote(self, item: Captured, here: Lane) -> Arrow:
        up = item.direction is Direction.UP
        source, target = (here, Lane.SERVER) if up else (Lane.SERVER, here)
        number = self._number(item.packet if up else item.delivered or item.packet, up=up)
        text = self._words(item.packet, up=up) + number
        look = Look.BAD if item.dropped else self._look(item.packet, up=up)
        sent, changed = item.entered, ""
        if item.what == "injected":
            source = Lane.MIDDLEBOX
            sent = item.entered if item.left is None else (item.entered + item.left) / 2
        elif item.what == "rewritten" and item.delivered is not None:
            changed = self._words(item.delivered, up=up, again=False)
            changed = changed if changed + number != text else ""
        return Arrow(source, target, sent, item.left, text, look, changed, _is_bare(item.packet))

    def _number(self, packet: Packet, *, up: bool) -> str:
        """Which of several connections to the server a packet belongs to, from the second on."""
        if not packet.is_tcp:
            return ""
        flow = packet.flow if up else packet.reverse_flow
        if packet.is_syn and up and flow not in self._dials:
            self._dials.append(flow)
        at = self._dials.index(flow) if flow in self._dials else 0
        return f" ({_ORDINALS[min(at, len(_ORDINALS) - 1)]} dial)" if at else ""

    def _words(self, packet: Packet, *, up: bool, again: bool = True) -> str:
        if packet.icmp is not None:
            return _ICMP.get(packet.icmp, "ICMP")
        if not packet.is_tcp:
            return "not TCP"
        load = self._load(packet, up=up)
        repeated = self._repeated(packet) if again else ""
        if packet.is_syn:
            self._begun[packet.flow] = packet.seq
            words = ["SYN", _cookie(packet.cookie), load]
        elif packet.is_syn_ack:
            words = ["SYN-ACK", "cookie" if packet.cookie else ""]
        elif packet.is_reset:
            words = ["RST"]
        elif packet.payload_length:
            words = [load, "FIN" if packet.is_fin else ""]
        else:
            words = ["FIN" if packet.is_fin else "ACK"]
        taken = self._taken(packet) if packet.is_syn_ack else ""
        return " + ".join(word for word in words if word) + taken + repeated

    def _load(self, packet: Packet, *, up: bool) -> str:
        if not packet.payload_length:
            return ""
        if packet.payload_length < LEAST and not packet.is_syn:
            return f"signal, {packet.payload_length} B"  # the two ends of a tunnel, to each other
        name = self._request if up else self._reply
        return f"{name or 'data'}, {packet.payload_length} B" if not packet.is_syn else name or "data"

    def _taken(self, packet: Packet) -> str:
        """Whether a SYN-ACK acknowledges more than the SYN: that is how a server says it took the data."""
        begun = self._begun.get(packet.reverse_flow)
        more = 0 if begun is None else (packet.ack - begun - 1) & 0xFFFFFFFF
        return f", took {more} B" if 0 < more < 1 << 20 else ""

    def _repeated(self, packet: Packet) -> str:
        if not (packet.payload_length or packet.is_syn or packet.is_syn_ack):
            return ""
        key = packet.flow, packet.seq, packet.flags & 2
        again = key in self._seen
        self._seen.add(key)
        return ", again" if again else ""

    def _look(self, packet: Packet, *, up: bool) -> Look:
        if packet.is_reset or packet.icmp is not None:
            return Look.BAD
        if packet.has_syn_data:
            return Look.EARLY
        return Look.ANSWER if packet.payload_length >= LEAST and not up else Look.ORDINARY


_ORDINALS = ("first", "second", "third", "fourth", "another")
_ICMP = {
    (3, 13): "ICMP: prohibited",
    (3, 4): "ICMP: too big",
    (1, 1): "ICMP: prohibited",
    (2, 0): "ICMP: too big",
}


def _cookie(cookie: bytes | None) -> str:
    return "" if cookie is None else "cookie" if cookie else "cookie?"


def _is_bare(packet: Packet) -> bool:
    """Whether it carries nothing that matters for the first byte: an acknowledgement, an end in peace."""
    return packet.is_tcp and not (packet.payload_length or packet.flags & 2 or packet.is_reset)


def told(scene: Scene, seen: Seen, port: int = 0, session: dict[str, object] | None = None) -> Run:
    """One connection from its packets, through the proxy that listens at ``port``; 0: a client's own."""
    lanes = [Lane.CLIENT, Lane.PROXY, Lane.SERVER, Lane.ORIGIN]
    if not port:
        lanes = [Lane.CLIENT, Lane.SERVER]
    elif not seen.near:
        lanes = [Lane.PROXY, Lane.SERVER]
    elif not seen.far:
        lanes.remove(Lane.ORIGIN)
    arrows = Teller(scene).tell(seen, Lane.PROXY if port else Lane.CLIENT, port)
    origin = arrows[0].sent if arrows else 0.0
    moved = tuple(_since(arrow, origin) for arrow in arrows)
    answers = (arrow.arrived for arrow in moved if arrow.target is lanes[0] and arrow.look is Look.ANSWER)
    first = min((at for at in answers if at is not None), default=None)
    return Run(tuple(lanes), moved, first, session or {})


def _since(arrow: Arrow, origin: float) -> Arrow:
    arrived = None if arrow.arrived is None else arrow.arrived - origin
    return Arrow(
        arrow.source, arrow.target, arrow.sent - origin, arrived, arrow.label, arrow.look, arrow.changed, arrow.bare
    )  # fmt: skip
