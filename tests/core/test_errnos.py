"""That every errno has a meaning for every call; what the kernel really says is asked in tests/trust/test_shortages."""

from __future__ import annotations

import errno

import pytest

from proxy.core import http1, socks
from proxy.core.errnos import MEANINGS, OTHERWISE, SHORTAGES, Call, meaning
from proxy.core.outcomes import Reason

OURS = {Reason.NO_DESCRIPTORS, Reason.NO_MEMORY, Reason.NO_PORTS, Reason.NO_SOURCE, Reason.NOT_PERMITTED}


@pytest.mark.parametrize("call", Call)
def test_every_errno_has_a_meaning(call: Call) -> None:
    assert set(MEANINGS) == set(OTHERWISE) == set(Call)
    assert {meaning(call, code) for code in (0, 9999, *errno.errorcode)} <= set(Reason)


@pytest.mark.parametrize(
    ("code", "connect", "handshake", "relay"),
    [
        ("ECONNREFUSED", "refused", "refused", "reset"),
        ("ECONNRESET", "refused", "refused", "reset"),
        ("EHOSTUNREACH", "unreachable", "unreachable", "vanished"),
        ("ENETUNREACH", "net_unreachable", "net_unreachable", "vanished"),
        ("ETIMEDOUT", "connect_timeout", "connect_timeout", "vanished"),
        (
            "EACCES",
            "not_permitted",
            "unreachable",
            "vanished",
        ),  # a local rule; ICMPv6 from a firewall on the way
        ("EADDRNOTAVAIL", "no_ports", "no_ports", "reset"),
        ("EADDRINUSE", "no_ports", "unreachable", "reset"),
        ("EAFNOSUPPORT", "net_unreachable", "unreachable", "reset"),
        ("EAGAIN", "refused", "unreachable", "reset"),  # a unix socket's queue
        ("ENOPROTOOPT", "unreachable", "refused", "reset"),  # ICMP: protocol unreachable
        ("EMFILE", "no_descriptors", "no_descriptors", "reset"),
        ("ENOBUFS", "no_memory", "no_memory", "reset"),
    ],
)
def test_a_number_means_what_it_means_in_its_call(
    code: str, connect: str, handshake: str, relay: str
) -> None:
    number = getattr(errno, code)
    said = [meaning(call, number) for call in (Call.CONNECT, Call.HANDSHAKE, Call.RELAY)]
    assert said == [connect, handshake, relay]


def test_a_source_is_not_to_be_had_whatever_the_number() -> None:
    for code in set(errno.errorcode) - SHORTAGES:
        assert meaning(Call.SOURCE, code) is Reason.NO_SOURCE


def test_what_a_client_is_told_follows_from_the_meaning() -> None:
    """A network without a route, a silent host and a refusal are three things in SOCKS 5; shortages are a 503."""
    codes = {Reason.NOT_PERMITTED: 2, Reason.NET_UNREACHABLE: 3, Reason.UNREACHABLE: 4, Reason.REFUSED: 5}
    assert {reason: socks._CODES[reason] for reason in codes} == codes
    for reason in OURS - {Reason.NOT_PERMITTED}:
        assert http1._STATUS[reason].startswith("503")
