"""The vocabulary of middleboxes: what a rule is asked, what it may answer, how it tells connections apart."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from proxy.lab.packets import Packet

Flow = tuple[str, int, str, int]


class Direction(enum.IntEnum):
    """Which way a packet goes. The client's packets go up."""

    UP = 0
    DOWN = 1

    def __str__(self) -> str:
        return "C>S" if self is Direction.UP else "S>C"

    @property
    def back(self) -> Direction:
        return Direction.DOWN if self is Direction.UP else Direction.UP


@dataclass(frozen=True, slots=True)
class Injection:
    """A packet the middlebox sends by itself, `after` seconds from now.

    `hops` is how far it has to go, as a part of the whole line: 1.0 for a copy that enters where the original
    did, and for an answer from the middle (there and back).
    """

    direction: Direction
    packet: Packet
    after: float = 0.0
    hops: float = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet: `packet` goes on (perhaps rewritten), None drops it; `injected` besides."""

    packet: Packet | None
    injected: tuple[Injection, ...] = ()


DROP = Verdict(None)

# A rule sees every IP packet once, with its direction; None means: let it pass as it is.
Rule = Callable[[Packet, Direction], Verdict | None]


def answer(direction: Direction, reply: Packet, hop: float) -> Verdict:
    """Drop the packet that goes in this direction, and send a reply back from a middlebox that stands `hop` of
    the way (0 at the client's end, 1 at the server's).
    """
    far = hop if direction is Direction.UP else 1 - hop
    return Verdict(None, (Injection(direction.back, reply, hops=2 * far),))


def connection(packet: Packet, direction: Direction) -> Flow:
    """The connection a packet belongs to, the same for both directions: client first."""
    return packet.flow if direction is Direction.UP else packet.reverse_flow
