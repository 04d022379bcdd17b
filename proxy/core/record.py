"""One session's row: everything the log line, the counters and the account are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from proxy.core.address import Endpoint, Target, join_host_port
from proxy.core.evidence import Evidence
from proxy.core.fastopen import State
from proxy.core.outcomes import EndedBy, Reason, Stage

Peer: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str | bytes
"""What accept(2) gives: an IPv4, IPv6 or unix socket's address."""


@dataclass(slots=True)
class Dial:
    """One socket that was dialled for a session: what its SYN carried, and what became of it."""

    endpoint: Endpoint
    open: str  # data | empty | plain | spare
    started: float  # monotonic, when its SYN was sent
    local: Endpoint | None  # its own address; None for unix sockets
    planned: int = 0  # bytes that its SYN was to carry
    syn_bytes: int = 0  # bytes that the kernel put into it (what ``sendto(MSG_FASTOPEN)`` returned)
    why: str = (
        "first"  # first | hedge (no handshake in time) | doubt (no answer in time) | redial (refused) | rival
    )
    result: str = "abandoned"  # won | lost (another one was used) | silent | a `Reason` where it failed
    ended: float | None = None  # monotonic: its handshake was over, or it had failed or was closed
    acked: int | None = None  # bytes of the SYN's that the SYN-ACK acknowledged; None: no handshake
    retransmits: int = 0  # segments that the kernel repeated until then
    evidence: Evidence | None = None  # what its handshake showed
    rtt: float | None = None  # of its handshake, as the kernel measured it; None where that was disturbed


@dataclass(slots=True)
class SessionRecord:
    """Filled in stage by stage.

    Times are seconds, durations unless they say otherwise; sizes are bytes.
    """

    number: int  # counts this worker's sessions
    listener: str
    peer: Peer  # the downstream's address as accept(2) gives it
    cluster: str
    began: float  # monotonic, when it was accepted
    endpoint: Endpoint | None = field(default=None, init=False)  # the one that was dialled last
    mode: str = field(default="", init=False)  # how the client said where it wants to go: socks5, connect ...
    authority: Target | None = field(default=None, init=False)  # and where that is
    user: str | None = field(default=None, init=False)  # as whom it has authenticated itself
    destination: Endpoint | None = field(default=None, init=False)  # the client's, if a PROXY header told it
    asked: float = field(default=0.0, init=False)  # from accepted until that was known
    reply: str = field(default="", init=False)  # when it was told "connected": optimistic | dialed
    protocol: str = field(default="", init=False)  # what the early data looked like
    early_bytes: int = field(default=0, init=False)
    safe_bytes: int = field(default=0, init=False)  # of these, how many may be sent twice
    client_syn_bytes: int = field(default=0, init=False)  # what the client itself sent inside its SYN
    duplicate: bool = field(default=False, init=False)  # and that very SYN had come before
    waited: float = field(default=0.0, init=False)  # for early data
    client_first: bool = field(default=False, init=False)  # the client spoke before the upstream did
    client_delay: float | None = field(
        default=None, init=False
    )  # from accepted until it was heard, where that was after the dial
    server_first: bool = field(default=False, init=False)  # the upstream spoke before the client did
    open: str = field(default="", init=False)  # how it was dialled: data | empty | plain | spare
    syn_bytes: int = field(default=0, init=False)  # what our SYN carried
    evidence: Evidence | None = field(default=None, init=False)
    standing_before: State | None = field(default=None, init=False)
    standing_after: State | None = field(default=None, init=False)
    hedged: bool = field(default=False, init=False)
    redialled: bool = field(default=False, init=False)
    spare: bool = field(default=False, init=False)  # carried by a connection dialled before its client came
    dead_spare: float = field(default=0.0, init=False)  # seconds spent on one that the server had closed
    tried: int = field(default=0, init=False)  # endpoints dialled
    dials: list[Dial] = field(default_factory=list[Dial], init=False)  # in the order in which they began
    doubted: float = field(default=0.0, init=False)  # with two connections, until one of them answered
    overtaken: bool = field(
        default=False, init=False
    )  # the answer came before the SYN-ACK, so the kernel dropped it
    greeted: bool = field(default=False, init=False)  # a banner came as early as a fast open lets it
    dial_time: float | None = field(default=None, init=False)
    first_byte: float | None = field(default=None, init=False)  # from accepted to the upstream's first byte
    rtt: float | None = field(default=None, init=False)
    retransmits: int = field(default=0, init=False)  # during the handshake
    saved: float = field(default=0.0, init=False)  # seconds that Fast Open saved this session
    lost: float = field(
        default=0.0, init=False
    )  # seconds that trying cost it: waits, hedges, redials, retransmitted SYNs
    repeated_bytes: int = field(default=0, init=False)  # sent twice, and safe to be
    up_bytes: int = field(default=0, init=False)
    down_bytes: int = field(default=0, init=False)
    duration: float = field(default=0.0, init=False)
    ended_by: EndedBy = field(default=EndedBy.PROXY, init=False)
    during: Stage = field(default=Stage.ACCEPT, init=False)
    reason: Reason = field(default=Reason.FAULT, init=False)
    detail: str = field(default="", init=False)  # words for the operator, where the reason wants some

    @property
    def dial(self) -> Dial | None:
        """The dial whose connection was used; the last one where none was."""
        for dial in self.dials:
            if dial.result == "won":
                return dial
        return self.dials[-1] if self.dials else None

    @property
    def source(self) -> Endpoint | None:
        """The downstream's address as numbers; None for a unix socket."""
        if isinstance(self.peer, str | bytes):
            return None
        # An IPv4 client of a dual-stack listener comes as ::ffff:192.0.2.1 (RFC 4291 section 2.5.5.2).
        bare = self.peer[0].partition("%")[0]
        mapped = bare.removeprefix("::ffff:")
        return Endpoint(mapped if "." in mapped else bare, self.peer[1])

    @property
    def source_host(self) -> str:
        """Its host alone; nothing for a unix socket."""
        source = self.source
        return source.host if source is not None else ""

    @property
    def client(self) -> str:
        """The downstream's address as text."""
        if isinstance(self.peer, str | bytes):
            return "unix"
        # An IPv4 client of a dual-stack listener comes as ::ffff:192.0.2.1 (RFC 4291 section 2.5.5.2).
        mapped = self.peer[0].removeprefix("::ffff:")
        return join_host_port(mapped if "." in mapped else self.peer[0], self.peer[1])
