"""What can go wrong on a path, by name. Each factory makes a fresh rule; its docstring's first line is what
`tfo-proxy demo --list` shows. The letters in brackets are rows of the situation table in the kernel facts.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from proxy.lab.packets import ACK, EXPERIMENTAL, FAST_OPEN, FIN, RST, SYN, Packet
from proxy.lab.rewrite import (
    end_of,
    reset_to,
    too_big,
    unreachable,
    with_addresses,
    with_payload,
    without_options,
)
from proxy.lab.rules import DROP, Direction, Flow, Injection, Rule, Verdict, answer, connection

# Every factory has defaults for all it takes; `build` checks what else is given.
Factory: TypeAlias = Callable[[], Rule]
F = TypeVar("F", bound=Factory)

_REGISTRY: dict[str, Factory] = {}


def _middlebox(factory: F) -> F:
    _REGISTRY[factory.__name__.replace("_", "-")] = factory
    return factory


@_middlebox
def strips_option_from_syn(*, kinds: tuple[int, ...] = (FAST_OPEN, EXPERIMENTAL)) -> Rule:
    """Overwrites the Fast Open option of SYNs with NOPs [G; with kinds=(34,) Linux heals itself]."""

    def rule(packet: Packet, _: Direction) -> Verdict | None:
        if packet.is_syn and any(kind in kinds for kind, _ in packet.options):
            return Verdict(without_options(packet, kinds))
        return None

    return rule


@_middlebox
def strips_option_from_syn_ack(*, kinds: tuple[int, ...] = (FAST_OPEN, EXPERIMENTAL)) -> Rule:
    """Overwrites the Fast Open option of SYN-ACKs with NOPs, so that no cookie ever arrives [H]."""

    def rule(packet: Packet, _: Direction) -> Verdict | None:
        if packet.is_syn_ack and any(kind in kinds for kind, _ in packet.options):
            return Verdict(without_options(packet, kinds))
        return None

    return rule


@_middlebox
def drops_syn_data() -> Rule:
    """Drops every SYN that carries data [I]."""
    return lambda packet, _: DROP if packet.has_syn_data else None


@_middlebox
def drops_option() -> Rule:
    """Drops every SYN that carries the Fast Open option, data or not [J]."""
    return lambda packet, _: DROP if packet.is_syn and packet.fast_open else None


@_middlebox
def resets_syn_data(*, hop: float = 0.5) -> Rule:
    """Answers a SYN with data with a RST, as if the port were closed [R]."""
    return lambda packet, direction: answer(direction, reset_to(packet), hop) if packet.has_syn_data else None


@_middlebox
def rejects_syn_data(*, hop: float = 0.5) -> Rule:
    """Answers a SYN with data with ICMP "administratively prohibited" [R2]."""
    return lambda packet, direction: (
        answer(direction, unreachable(packet), hop) if packet.has_syn_data else None
    )


@_middlebox
def cuts_syn_data_off(*, keep: int = 0) -> Rule:
    """Takes the data out of SYNs and leaves the cookie, as a splitting proxy does [P; Q with keep=40]."""

    def rule(packet: Packet, _: Direction) -> Verdict | None:
        if packet.is_syn and packet.payload_length > keep:
            return Verdict(with_payload(packet, packet.payload[:keep]))
        return None

    return rule


@_middlebox
def cuts_syn_data_short() -> Rule:
    """Leaves only the first 40 bytes of SYN data [Q]."""
    return cuts_syn_data_off(keep=40)


@_middlebox
def loses_first_syn() -> Rule:
    """Loses the first SYN of every connection, whatever it carries (chance loss) [I']."""
    seen: set[Flow] = set()

    def rule(packet: Packet, _: Direction) -> Verdict | None:
        if packet.is_syn and packet.flow not in seen:
            seen.add(packet.flow)
            return DROP
        return None

    return rule


@_middlebox
def loses_first_syn_ack() -> Rule:
    """Loses the first SYN-ACK of every connection: the server has the data, the client does not know [K]."""
    seen: set[Flow] = set()

    def rule(packet: Packet, _: Direction) -> Verdict | None:
        if packet.is_syn_ack and packet.flow not in seen:
            seen.add(packet.flow)
            return DROP
        return None

    return rule


@_middlebox
def loses_every_syn_ack() -> Rule:
    """Loses all SYN-ACKs: nothing ever opens, but the server has taken the data [K3]."""
    return lambda packet, _: DROP if packet.is_syn_ack else None


@_middlebox
def silent_after_handshake(*, both_ways: bool = False, option: bool = False) -> Rule:
    """Drops what the server sends after the SYN-ACK, where the SYN carried data [L2; both_ways: L3].

    With option=True connections whose SYN carried only a cookie suffer as well.
    """
    marked: dict[Flow, int] = {}

    def rule(packet: Packet, direction: Direction) -> Verdict | None:
        flow = connection(packet, direction)
        if packet.is_syn:
            if packet.has_syn_data or (option and packet.cookie):
                marked[flow] = packet.seq
            elif marked.get(flow) != packet.seq:  # a new connection on an old port
                marked.pop(flow, None)
            return None
        if flow not in marked or packet.is_syn_ack:
            return None
        return DROP if direction is Direction.DOWN or both_ways else None

    return rule


@_middlebox
def drops_server_data() -> Rule:
    """Drops the server's data segments where the SYN carried data; ACKs pass, so keepalive sees nothing."""
    silent = silent_after_handshake()

    def rule(packet: Packet, direction: Direction) -> Verdict | None:
        verdict = silent(packet, direction)
        return verdict if packet.payload_length or packet.flags & FIN else None

    return rule


@_middlebox
def drops_client_after_syn() -> Rule:
    """Drops what the client sends after a SYN with data [L1, L5]."""
    marked: set[Flow] = set()

    def rule(packet: Packet, direction: Direction) -> Verdict | None:
        if direction is Direction.DOWN:
            return None
        if packet.is_syn:
            if packet.has_syn_data:
                marked.add(packet.flow)
            return None
        return DROP if packet.flow in marked else None

    return rule


def _marks(*, option: bool) -> Callable[[Packet, Direction], Flow | None]:
    """Tells the flow of a packet behind a SYN that carried data (with ``option``: a cookie, with or without data)."""
    marked: dict[Flow, int] = {}

    def marks(packet: Packet, direction: Direction) -> Flow | None:
        flow = connection(packet, direction)
        if packet.is_syn:
            if packet.has_syn_data or (option and packet.cookie):
                marked[flow] = packet.seq
            elif marked.get(flow) != packet.seq:  # a new connection on an old port
                marked.pop(flow, None)
            return None
        return None if packet.is_syn_ack or flow not in marked else flow

    return marks


@_middlebox
def reset_at_first_answer(*, option: bool = False, fin: bool = False) -> Rule:
    """Ends a connection with a RST to both sides when the server's first bytes come, where the SYN carried data.

    With option=True connections whose SYN carried only a cookie suffer as well; with fin=True the client gets a FIN.
    """
    marks = _marks(option=option)
    over: set[Flow] = set()

    def rule(packet: Packet, direction: Direction) -> Verdict | None:
        flow = marks(packet, direction)
        if packet.is_syn:
            over.discard(connection(packet, direction))
        if flow is None or not packet.is_tcp:
            return None
        if flow in over:
            return DROP
        if direction is Direction.UP or not packet.payload_length:
            return None
        over.add(flow)
        end = end_of(packet, FIN if fin else RST)
        return Verdict(end, (Injection(Direction.UP, reset_to(packet), hops=0.5),))

    return rule


@_middlebox
def silent_to_server(*, after: int = 0, option: bool = False) -> Rule:
    """Drops what the client sends behind a SYN with data, once `after` packets have passed."""
    return _silent(Direction.UP, after, option=option)


@_middlebox
def silent_to_client(*, after: int = 0, option: bool = False) -> Rule:
    """Drops what the server sends behind the SYN-ACK of a SYN with data, once `after` packets have passed."""
    return _silent(Direction.DOWN, after, option=option)


def _silent(way: Direction, after: int, *, option: bool) -> Rule:
    marks = _marks(option=option)
    passed: dict[Flow, int] = {}

    def rule(packet: Packet, direction: Direction) -> Verdict | None:
        if packet.is_syn:
            passed.pop(connection(packet, direction), None)
        flow = marks(packet, direction)
        if flow is None or direction is not way:
            return None
        passed[flow] = passed.get(flow, 0) + 1
        return DROP if passed[flow] > after else None

    return rule


@_middlebox
def small_path_mtu(*, mtu: int = 1400, icmp: bool = True, hop: float = 0.5) -> Rule:
    """A link of MTU 1400 in the middle, whose router says so by ICMP [S]."""

    def rule(packet: Packet, direction: Direction) -> Verdict | None:
        if packet.length <= mtu:
            return None
        return answer(direction, too_big(packet, mtu), hop) if icmp else DROP

    return rule


@_middlebox
def path_mtu_black_hole(*, mtu: int = 1400) -> Rule:
    """A link of MTU 1400 in the middle, whose router says nothing [S2]."""
    return small_path_mtu(mtu=mtu, icmp=False)


@_middlebox
def nat_changes_source() -> Rule:
    """NAT that gives every connection another source address, so that no cookie fits [M]."""
    outside: dict[Flow, str] = {}
    inside: dict[Flow, str] = {}

    def rule(packet: Packet, direction: Direction) -> Verdict | None:
        if not packet.is_tcp:
            return None
        if direction is Direction.DOWN:
            original = inside.get(packet.reverse_flow)
            return Verdict(with_addresses(packet, dst=original)) if original else None
        address = outside.get(packet.flow)
        if address is None:
            pool = ipaddress.ip_address("10.79.0.0" if packet.version == 4 else "fd77:9::")
            address = outside[packet.flow] = str(pool + len(outside) + 1)
            inside[(address, *packet.flow[1:])] = packet.src
        return Verdict(with_addresses(packet, src=address))

    return rule


@_middlebox
def duplicates_syn_data(*, after: float = 0.4) -> Rule:
    """Delivers a second copy of every SYN with data, 0.4 s after the first."""
    return lambda packet, direction: (
        Verdict(packet, (Injection(direction, packet, after),)) if packet.has_syn_data else None
    )


@_middlebox
def delays_syn_ack(*, after: float = 0.02, every: int = 1) -> Rule:
    """Holds back every SYN-ACK for 20 ms, so that the answer to SYN data overtakes it."""
    seen = 0

    def rule(packet: Packet, direction: Direction) -> Verdict | None:
        nonlocal seen
        if not packet.is_syn_ack:
            return None
        seen += 1
        return Verdict(None, (Injection(direction, packet, after),)) if seen % every == 0 else None

    return rule


@_middlebox
def random_loss(*, rate: float = 0.1, seed: int = 7413, direction: str = "") -> Rule:
    """Loses 10 % of all packets, by a fixed seed."""
    dice = random.Random(seed)
    return lambda _, way: DROP if direction in ("", str(way)) and dice.random() < rate else None


@_middlebox
def jitter(*, most: float = 0.02, seed: int = 7413) -> Rule:
    """Holds every packet back for up to 20 ms, by a fixed seed, so that some overtake others."""
    dice = random.Random(seed)
    return lambda packet, direction: Verdict(None, (Injection(direction, packet, dice.random() * most),))


@_middlebox
def drops(
    *, direction: str = "", flags: str = "", data: bool | None = None, skip: int = 0, count: int = 1 << 62
) -> Rule:
    """For tests: drops the packets that match, leaving out the first `skip`, at most `count` of them.

    `direction` is "C>S", "S>C" or both; `flags` such as "S", "S.", "F." or "R" must all be set ("." is ACK).
    """
    letters = {"S": SYN, "F": FIN, "R": RST, ".": ACK, "P": 8}
    wanted = sum(letters[letter] for letter in flags)
    matched = 0

    def rule(packet: Packet, way: Direction) -> Verdict | None:
        nonlocal matched
        if not packet.is_tcp or direction not in ("", str(way)) or packet.flags & wanted != wanted:
            return None
        if data is not None and data != bool(packet.payload_length):
            return None
        matched += 1
        return DROP if skip < matched <= skip + count else None

    return rule


@_middlebox
def later(*, name: str = "drops-syn-data", skip: int = 3) -> Rule:
    """For tests: lets the first three connections through, and then does what another middlebox does."""
    other = build(name, {})
    seen: set[Flow] = set()

    def rule(packet: Packet, direction: Direction) -> Verdict | None:
        flow = connection(packet, direction)
        if packet.is_syn and len(seen) < skip:
            seen.add(flow)
        return None if flow in seen else other(packet, direction)

    return rule


MIDDLEBOXES: Mapping[str, Factory] = _REGISTRY


def described() -> dict[str, str]:
    """Every middlebox's name and what it does, in one line."""
    return {name: (factory.__doc__ or "").partition("\n")[0] for name, factory in MIDDLEBOXES.items()}


def build(name: str, params: Mapping[str, object]) -> Rule:
    """A fresh rule by its name. Raises ValueError for a name nobody knows or parameters it does not take."""
    factory = MIDDLEBOXES.get(name)
    if factory is None:
        raise ValueError(f"no middlebox is called {name!r}; there are {', '.join(MIDDLEBOXES)}")
    try:
        return factory(**params)
    except TypeError as error:
        raise ValueError(f"middlebox {name!r}: {error}") from None
