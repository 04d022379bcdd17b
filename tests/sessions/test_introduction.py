"""The PROXY header in front of a client's bytes; on the wire it is seen in tests/wire/test_upstreams.py."""

from __future__ import annotations

import socket

import pytest

from proxy.core import proxy_header
from proxy.core.address import Endpoint
from proxy.core.clusters import Cluster, SendHeader
from proxy.core.evidence import Evidence
from proxy.core.outcomes import Reason
from proxy.core.reader import Reading
from proxy.core.record import Peer, SessionRecord
from proxy.net.upstream import DialFailed, Upstream
from proxy.sessions import introduction
from tests.net.pairs import pair, read_all, reset

PREFACE = b"PROXY UNKNOWN\r\n"
VERSION_1 = Cluster("c", (), proxy_header=SendHeader.V1)
VERSION_2 = Cluster("c", (), proxy_header=SendHeader.V2)


def session(peer: Peer) -> SessionRecord:
    return SessionRecord(1, "a", peer, "c", 0.0)


def connected(sock: socket.socket, sent: int) -> Upstream:
    return Upstream(Endpoint("127.0.0.1", 1), sock, sent, Evidence.PLAIN, 0, 0.0, 0.1, None)


def test_it_names_the_client_and_where_it_came_to() -> None:
    with pair() as (downstream, _):
        here = downstream.getsockname()
        line = introduction.header(session(("127.0.0.9", 7)), VERSION_1, downstream)
        assert line == b"PROXY TCP4 127.0.0.9 127.0.0.1 7 %d\r\n" % here[1]
        binary = introduction.header(session(("127.0.0.9", 7)), VERSION_2, downstream)
        parsed = Reading(proxy_header.header, 200).feed(binary)
    assert parsed is not None
    assert parsed.consumed == len(binary)
    assert parsed.value.source == Endpoint("127.0.0.9", 7)
    assert parsed.value.destination == Endpoint("127.0.0.1", here[1])


def test_what_a_header_told_us_is_passed_on() -> None:
    record = session(("192.0.2.1", 7))
    record.destination = Endpoint("198.51.100.1", 443)
    with pair() as (downstream, _):
        line = introduction.header(record, VERSION_1, downstream)
    assert line == b"PROXY TCP4 192.0.2.1 198.51.100.1 7 443\r\n"


def test_of_a_unix_client_nothing_is_known() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert introduction.header(session(""), VERSION_1, ours) == PREFACE


@pytest.mark.parametrize("sent", [0, 1, len(PREFACE)])
def test_the_rest_is_sent_and_only_the_clients_bytes_count(sent: int) -> None:
    with pair() as (ours, peer):
        ours.send(PREFACE[:sent])
        assert introduction.completed(connected(ours, sent), PREFACE).sent == 0
        ours.close()
        assert read_all(peer) == PREFACE


def test_bytes_behind_it_are_the_clients() -> None:
    with pair() as (ours, _):
        assert introduction.completed(connected(ours, len(PREFACE) + 3), PREFACE).sent == 3


def test_a_server_that_is_gone_before_it_was_said() -> None:
    with pair() as (ours, peer):
        reset(peer)
        with pytest.raises(DialFailed) as failed:
            introduction.completed(connected(ours, 0), PREFACE)
        assert failed.value.reason is Reason.RESET
        assert ours.fileno() == -1
