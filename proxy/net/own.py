"""Which addresses are this machine's own: those for which the kernel's route is local (rtnetlink(7), RTN_LOCAL).

That an address can be bound says less: with ``net.ipv4.ip_nonlocal_bind`` every address can.
"""

from __future__ import annotations

import socket
from struct import Struct
from time import monotonic  # noqa: TID251  # how long an answer is good, for `check` too, which has no event loop

from proxy.core.networks import meanings

_GETROUTE, _ERROR, _REQUEST = 26, 2, 1  # include/uapi/linux/rtnetlink.h, netlink.h
_DST, _LOCAL = 1, 2
_HEADER, _ROUTE, _ATTRIBUTE = Struct("=IHHII"), Struct("=BBBBBBBBI"), Struct("=HH")
_GOOD_FOR = 1.0  # seconds; addresses come and go
_MOST = 4096

_known: dict[str, tuple[float, bool]] = {}


def is_own(host: str) -> bool:
    """Whether packets to the numeric ``host`` stay on this machine. An answer is kept for a second."""
    now = monotonic()
    known = _known.get(host)
    if known is not None and known[0] > now:
        return known[1]
    if len(_known) >= _MOST:
        _known.clear()
    own = _ask(host)
    _known[host] = now + _GOOD_FOR, own
    return own


def reaches_own(host: str) -> bool:
    """Whether dialling the numeric ``host`` may end on this machine, by an IPv4 address inside it too."""
    return any(is_own(_text(version, value)) for version, value in meanings(host))


def _text(version: int, value: int) -> str:
    if version == 4:
        return socket.inet_ntoa(value.to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, value.to_bytes(16, "big"))


def _ask(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(family, host.partition("%")[0])
    if not any(packed):
        return True  # Linux dials itself
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), _DST) + packed
    body = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + attribute
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
            kernel.settimeout(1.0)  # it answers within the call
            kernel.sendto(_HEADER.pack(_HEADER.size + len(body), _GETROUTE, _REQUEST, 1, 0) + body, (0, 0))
            answer = kernel.recv(4096)
    except OSError:  # a sandbox without netlink
        return _can_be_bound(family, host)
    kind: int = _HEADER.unpack_from(answer)[1]
    route: int = _ROUTE.unpack_from(answer, _HEADER.size)[7] if kind != _ERROR else 0
    return route == _LOCAL


def _can_be_bound(family: int, host: str) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
