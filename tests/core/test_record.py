from __future__ import annotations

import pytest

from proxy.core.address import Endpoint
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.record import Peer, SessionRecord


def of(peer: Peer) -> SessionRecord:
    return SessionRecord(1, "a", peer, "c", 0.0)


@pytest.mark.parametrize(
    ("peer", "client", "source"),
    [
        (("192.0.2.1", 7), "192.0.2.1:7", Endpoint("192.0.2.1", 7)),
        (("::ffff:192.0.2.1", 7, 0, 0), "192.0.2.1:7", Endpoint("192.0.2.1", 7)),
        (("2001:db8::1", 7, 0, 0), "[2001:db8::1]:7", Endpoint("2001:db8::1", 7)),
        (("::ffff:0:1", 7, 0, 0), "[::ffff:0:1]:7", Endpoint("::ffff:0:1", 7)),
        (("fe80::1%eth0", 7, 0, 2), "[fe80::1%eth0]:7", Endpoint("fe80::1", 7)),
        ("", "unix", None),
        (b"\0abstract", "unix", None),
    ],
)
def test_who_the_client_is(peer: Peer, client: str, source: Endpoint | None) -> None:
    record = of(peer)
    assert (record.client, record.source) == (client, source)


def test_a_session_of_which_nothing_is_known_yet_ended_by_our_fault() -> None:
    record = of(("192.0.2.1", 7))
    assert (record.ended_by, record.during, record.reason) == (EndedBy.PROXY, Stage.ACCEPT, Reason.FAULT)
    assert (record.endpoint, record.evidence, record.dial_time, record.first_byte) == (None,) * 4
    assert not record.early_bytes
    assert not record.client_first


def test_records_share_nothing() -> None:
    one, other = of("a"), of("b")
    one.detail, one.tried = "x", 3
    assert (other.detail, other.tried) == ("", 0)
