from __future__ import annotations

import errno
import socket

import pytest

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.outcomes import EndedBy, Reason
from proxy.net.upstream import DialFailed, Upstream


@pytest.mark.parametrize(
    ("code", "reason", "blame"),
    [
        (errno.ECONNREFUSED, Reason.REFUSED, EndedBy.UPSTREAM),
        (errno.EHOSTUNREACH, Reason.UNREACHABLE, EndedBy.UPSTREAM),
        (errno.ETIMEDOUT, Reason.CONNECT_TIMEOUT, EndedBy.TIMEOUT),
        (errno.EMFILE, Reason.NO_DESCRIPTORS, EndedBy.PROXY),
        (errno.EPERM, Reason.NOT_PERMITTED, EndedBy.PROXY),
        (errno.EIO, Reason.UNREACHABLE, EndedBy.UPSTREAM),
    ],
)
def test_the_kernels_number_says_why_and_who(code: int, reason: Reason, blame: EndedBy) -> None:
    failed = DialFailed.because(code)
    assert (failed.reason, failed.errno, failed.blame) == (reason, code, blame)
    assert str(failed) == f"{reason} ({errno.errorcode[code]})"


def test_what_the_number_does_not_tell_is_added() -> None:
    assert str(DialFailed.because(errno.EPERM, "no such interface")).endswith("(EPERM): no such interface")
    assert str(DialFailed(Reason.CONNECT_TIMEOUT)) == str(Reason.CONNECT_TIMEOUT)


def test_a_closed_port_of_this_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    with pytest.raises(ConnectionRefusedError) as refused:
        socket.create_connection(address)
    assert DialFailed.because(refused.value.errno or 0).reason is Reason.REFUSED


def test_a_connection_is_nothing_special_until_it_is_said_to_be() -> None:
    with socket.socket() as sock:
        upstream = Upstream(Endpoint("192.0.2.1", 80), sock, 0, Evidence.PLAIN, 0, 0.0, 0.1, None)
        assert {upstream.hedged, upstream.redialled, upstream.plain, upstream.spoke} == {False}
        assert (upstream.repeated, upstream.unavailable, upstream.source) == (0, 0, None)
