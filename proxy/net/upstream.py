"""What dialling yields: a connected socket and what it showed, or a reason why there is none."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass, field

from proxy.core.address import Endpoint
from proxy.core.clusters import Source
from proxy.core.errnos import Call, meaning
from proxy.core.evidence import Evidence, TcpInfo
from proxy.core.outcomes import EndedBy, Reason
from proxy.core.record import Dial
from proxy.net import sockopt

_OURS = frozenset(
    {Reason.NO_PORTS, Reason.NO_SOURCE, Reason.NO_DESCRIPTORS, Reason.NO_MEMORY, Reason.NOT_PERMITTED,
     Reason.NO_ENDPOINT}
)  # fmt: skip

# A server that refuses tells more than a host that is silent, and that more than a network without a route.
_TELLING = {
    Reason.NO_DESCRIPTORS: 0, Reason.NO_MEMORY: 0, Reason.REFUSED: 1, Reason.UNREACHABLE: 3, Reason.NET_UNREACHABLE: 4,
    Reason.NO_SOURCE: 5,
}  # fmt: skip


class DialFailed(Exception):
    """No dial got through. ``errno`` is the kernel's, or 0 when the time ran out."""

    def __init__(self, reason: Reason, code: int = 0, why: str = "") -> None:
        text = f"{reason} ({sockopt.errno_name(code)})" if code else str(reason)
        super().__init__(f"{text}: {why}" if why else text)
        self.reason = reason
        self.errno = code
        self.tried: dict[Endpoint, DialFailed] = {}  # by address, where several were dialled

    @property
    def rank(self) -> int:
        """The lower, the more it says of a destination several addresses of which failed."""
        return _TELLING.get(self.reason, 2)

    @property
    def blame(self) -> EndedBy:
        """Whose doing it was."""
        if self.reason is Reason.CONNECT_TIMEOUT:
            return EndedBy.TIMEOUT
        return EndedBy.PROXY if self.reason in _OURS else EndedBy.UPSTREAM

    @classmethod
    def because(cls, code: int, why: str = "", call: Call = Call.HANDSHAKE) -> DialFailed:
        """From an errno of ``call``; ``why`` adds what the number does not tell."""
        return cls(meaning(call, code), code, why)


@dataclass
class Upstream:
    """A connected socket, how it came about, and what it showed. Times are trio's clock."""

    endpoint: Endpoint
    sock: socket.socket
    sent: int  # early bytes that are on their way already
    evidence: Evidence
    syn_bytes: int  # carried by the SYN of the fast open, whether it won or not
    started: float  # of the first attempt
    connected: float
    info: TcpInfo | None  # of this socket; None for unix sockets
    hedged: bool = field(default=False, init=False)  # a second dial ran beside the first
    redialled: bool = field(default=False, init=False)  # refused at first, then dialled plainly
    repeated: int = field(default=0, init=False)  # early bytes the endpoint may have been sent twice
    spoke: bool = field(default=False, init=False)  # it has been heard already
    heard: bytes = field(default=b"", init=False)  # what the client has said since, for it: a part of `sent`
    plain: bool = field(default=False, init=False)  # the connection in use came from a plain dial
    unanswered: bool = field(
        default=False, init=False
    )  # the fast-opened one before it was ended without a byte
    late: Upstream | None = field(
        default=None, init=False
    )  # open still, and not answered yet: the caller's to close
    source: Source | None = field(default=None, init=False)  # where it was asked to come from
    unavailable: int = field(default=0, init=False)  # errno when the kernel would not fast-open at all
    overtaken: bool = field(default=False, init=False)  # the answer came before the SYN-ACK, and was dropped
    dial: Dial | None = field(default=None, init=False)  # what is told of this socket
    dials: list[Dial] = field(default_factory=list[Dial], init=False)  # and of all others of its session
    doubted: float = field(default=0.0, init=False)  # seconds with a second connection until one had answered
    dialled: int = field(default=1, init=False)  # addresses that were dialled for it
    passed_over: dict[Endpoint, tuple[float, DialFailed | None]] = field(
        default_factory=dict[Endpoint, tuple[float, DialFailed | None]], init=False
    )  # those that were dialled before it: when, and how they failed; None: they had not answered yet


class Near:
    """A socket that was dialled plainly, and told the first bytes at once: less than an `Upstream` shows, for less."""

    __slots__ = ("connected", "dial", "endpoint", "heard", "made", "sent", "sock", "source", "started")

    def __init__(
        self, endpoint: Endpoint, sock: socket.socket, source: Source | None, started: float, dial: Dial
    ) -> None:
        self.endpoint = endpoint
        self.sock = sock
        self.source = source
        self.dial = dial  # what is told of it
        self.started = self.made = started  # when the dial began, and when it had been made
        self.connected = False  # the handshake is over
        self.sent = 0  # early bytes that are on their way already
        self.heard = b""  # as `Upstream.heard`


def close_dialled(sock: socket.socket, dial: Dial, now: float) -> None:
    """Close a socket that is not wanted, and write down when, and how often its kernel repeated a segment."""
    dial.ended = dial.ended or now
    if sock.family != socket.AF_UNIX:
        with suppress(OSError):
            dial.retransmits = sockopt.tcp_info(sock).retransmits
    sock.close()
