"""The paths of the gauntlet: what is in the way, who is at its end, and what a good relay owes there.

The letters in brackets are rows of the kernel's situation table, as in `proxy.lab.middleboxes`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from proxy.lab.behaviours import answers, slow, speaks_first
from proxy.lab.servers import TCP_FASTOPEN, Behaviour, Server
from proxy.lab.wan import Wan

GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
BANNER = b"220 ready\r\n"

Event: TypeAlias = Callable[[Wan, Server], None]


def get(size: int) -> bytes:
    """A GET of so many bytes: what rides in a SYN and what does not is a matter of size."""
    head, tail = b"GET / HTTP/1.1\r\nHost: example.com\r\nCookie: ", b"\r\n\r\n"
    return head + b"c" * (size - len(head) - len(tail)) + tail


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """One row. The limits are in round trips: of the mean, of the first and of the slowest connection.

    `request` b"": the server speaks first. `pause`: the client says nothing for so many seconds after connect(), and
    the time is taken from its first byte on. `halfway`: what happens to path or server after half of the
    connections. `usual`: one of the rows of the short table.
    """

    name: str
    title: str
    through: tuple[tuple[str, Mapping[str, object]], ...] = ()
    request: bytes = GET
    behaviour: Behaviour | None = None
    fast_open: int | None = 256
    cluster: Mapping[str, object] = field(default_factory=dict)
    pause: float = 0.0
    halfway: Event | None = None
    mean: float | None = None
    first: float | None = None
    worst: float | None = None
    timeout: float = 3.0
    usual: bool = False
    echoes: bool = False  # the network itself delivers bytes twice

    def served_by(self) -> Behaviour:
        if self.behaviour is not None:
            return self.behaviour
        return answers(request=len(self.request)) if self.request else speaks_first(BANNER)


def _box(name: str, **params: object) -> tuple[tuple[str, Mapping[str, object]], ...]:
    return ((name, params),)


def _another_key(_: Wan, server: Server) -> None:
    server.set_keys(os.urandom(16))


def _fast_open_off(_: Wan, server: Server) -> None:
    server.listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 0)


def _drops_option_from_now_on(wan: Wan, _: Server) -> None:
    wan.install("drops-option")


def _drops_syn_data_from_now_on(wan: Wan, _: Server) -> None:
    wan.install("drops-syn-data")


def _silent_from_now_on(wan: Wan, _: Server) -> None:
    wan.install("silent-after-handshake")


def _stale_for_ever(wan: Wan, server: Server) -> None:
    server.set_keys(os.urandom(16))
    wan.install("strips-option-from-syn-ack")


PLAIN = 2.06
"""Where Fast Open does not work and does no harm: as a plain connect, and 6 ms for everything that is not the wire."""

PATHS = (
    Path("clean", "clean, TFO server [A B]", mean=1.04, first=1.05, usual=True),
    Path("no-tfo", "no TFO on the server [C D]", fast_open=None, mean=PLAIN, usual=True),
    Path("strips-syn", "option stripped from SYN [G3]", _box("strips-option-from-syn"), mean=PLAIN, usual=True),
    Path(
        "strips-syn-ack",
        "option stripped from SYN-ACK [H]",
        _box("strips-option-from-syn-ack"),
        mean=PLAIN,
        usual=True,
    ),
    Path("strips-34", "only option 34 stripped from SYN [G]", _box("strips-option-from-syn", kinds=(34,)), mean=1.2),
    Path("drops-syn-data", "drops SYNs with data [I]", _box("drops-syn-data"), mean=2.4, worst=4.0, usual=True),
    Path("drops-option", "drops SYNs with the option [J]", _box("drops-option"), mean=2.2, worst=4.0, usual=True),
    Path("resets", "RST to SYN data [R]", _box("resets-syn-data"), mean=2.2, usual=True),
    Path("rejects", "ICMP prohibited to SYN data [R2]", _box("rejects-syn-data"), mean=2.2),
    Path("cuts-off", "SYN data cut off [P]", _box("cuts-syn-data-off"), mean=PLAIN, usual=True),
    Path("cuts-short", "SYN data cut to 40 bytes [Q]", _box("cuts-syn-data-short"), request=get(300), mean=PLAIN),
    Path(
        "silent", "silent after a Fast Open handshake [L2]", _box("silent-after-handshake"), mean=2.8, usual=True
    ),
    Path("silent-both", "silent both ways [L3]", _box("silent-after-handshake", both_ways=True), mean=2.8),
    Path("silent-data", "server's data lost, ACKs pass", _box("drops-server-data"), mean=2.8),
    Path(
        "silent-large", "client's data lost after SYN data [L5]", _box("drops-client-after-syn"),
        request=get(3000), mean=2.8,
    ),
    Path(
        "silent-option", "silent after any Fast Open, empty too", _box("silent-after-handshake", option=True),
        mean=2.8,
    ),
    Path("loses-acks", "client lost after SYN data [L1 F]", _box("drops-client-after-syn"), fast_open=4, mean=3),
    Path("mtu", "path MTU 1400, ICMP says so [S]", _box("small-path-mtu"), request=get(2000), mean=2.1),
    Path("mtu-hole", "path MTU 1400, nobody says so [S2]", _box("path-mtu-black-hole"), request=get(1345), mean=2.3),
    Path("nat", "NAT changes the source [M]", _box("nat-changes-source"), mean=2.1),
    Path("new-key", "the server's key changes halfway [E]", halfway=_another_key, mean=1.15),
    Path("turned-off", "the server turns TFO off halfway [E2]", halfway=_fast_open_off, mean=1.6),
    Path("stale", "new key, and no cookie comes any more [H5]", halfway=_stale_for_ever, mean=1.6),
    Path("drops-later", "drops SYNs with data from halfway on", halfway=_drops_syn_data_from_now_on, mean=1.85),
    Path("option-later", "drops the option from halfway on [J2]", halfway=_drops_option_from_now_on, mean=1.85),
    Path("silent-later", "silent from halfway on", halfway=_silent_from_now_on),
    Path("first-syn", "every first SYN lost [I']", _box("loses-first-syn"), timeout=6.0),
    Path("first-syn-ack", "every first SYN-ACK lost [K]", _box("loses-first-syn-ack"), timeout=6.0),
    Path("duplicates", "every SYN with data comes twice", _box("duplicates-syn-data"), mean=1.1, echoes=True),
    Path("loss", "10 % of all packets lost", _box("random-loss"), timeout=10.0),
    Path("slow", "slow server (1 s)", behaviour=slow(1.0), mean=11.1),
    Path("silent-client", "a client that says nothing for 300 ms", pause=0.3, mean=1.06),
    Path("server-first", "server speaks first, TFO server", request=b"", mean=1.10, usual=True),
    Path("server-first-plain", "server speaks first, no TFO", request=b"", fast_open=None, mean=2.10, usual=True),
    Path(
        "server-first-silent", "server speaks first, silent after any Fast Open",
        _box("silent-after-handshake", option=True), request=b"", mean=2.8,
    ),
    Path(
        "preconnect", "no TFO, with `preconnect: 2`", fast_open=None, cluster={"preconnect": 2},
        mean=1.15, usual=True,
    ),
)  # fmt: skip


def choose(names: str) -> list[Path]:
    """Paths by name; `usual` for those of the short table. Raises ValueError, which names what is not there."""
    if not names:
        return list(PATHS)
    known = {path.name: path for path in PATHS}
    chosen: list[Path] = []
    for name in names.split(","):
        if name == "usual":
            chosen += [path for path in PATHS if path.usual]
        elif name in known:
            chosen.append(known[name])
        else:
            raise ValueError(f"no path {name!r}; there are: usual, {', '.join(known)}")
    return list(dict.fromkeys(chosen))
