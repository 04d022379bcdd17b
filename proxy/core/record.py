"""One session's row: everything the log line, the counters and the account are made from."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import State
from proxy.core.outcomes import EndedBy, Reason, Stage


@dataclass(slots=True)
class SessionRecord:
    """Filled in stage by stage. Times are seconds, durations unless they say otherwise; sizes are bytes."""

    id: str
    listener: str
    client: str  # the downstream's address as text
    cluster: str
    began: float  # monotonic, when it was accepted
    endpoint: Endpoint | None = None  # the one that was dialled last
    protocol: str = ""  # what the early data looked like
    early_bytes: int = 0
    safe_bytes: int = 0  # of these, how many may be sent twice
    client_syn_bytes: int = 0  # what the client itself sent inside its SYN
    waited: float = 0.0  # for early data
    client_first: bool = False  # the client spoke before the upstream did
    client_delay: float | None = None  # from accepted until it was heard, where that was after the dial
    server_first: bool = False  # the upstream spoke before the client did
    open: str = ""  # how it was dialled: data | empty | plain
    syn_bytes: int = 0  # what our SYN carried
    evidence: Evidence | None = None
    standing_before: State | None = None
    standing_after: State | None = None
    hedged: bool = False
    redialled: bool = False
    tried: int = 0  # endpoints dialled
    dial_time: float | None = None
    first_byte: float | None = None  # from accepted to the upstream's first byte
    rtt: float | None = None
    retransmits: int = 0  # during the handshake
    saved: float = 0.0  # seconds that Fast Open saved this session
    lost: float = 0.0  # seconds that trying cost it: waits, hedges, redials, retransmitted SYNs
    repeated_bytes: int = 0  # sent twice, and safe to be
    up_bytes: int = 0
    down_bytes: int = 0
    duration: float = 0.0
    ended_by: EndedBy = EndedBy.PROXY
    during: Stage = Stage.ACCEPT
    reason: Reason = Reason.FAULT
    detail: str = ""  # words for the operator, where the reason wants some
