from __future__ import annotations

import pytest

from proxy.core import address
from proxy.core.address import Authority, BadAddress, Endpoint, Target
from proxy.core.outcomes import EndedBy, Reason
from proxy.core.request import Refused, Request, gone_early, target_of, too_slow


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("Example.ORG.", Authority("example.org", 80)),
        ("192.0.2.1", Endpoint("192.0.2.1", 80)),
        ("2001:DB8:0::1", Endpoint("2001:db8::1", 80)),
        ("::ffff:127.0.0.1", Endpoint("127.0.0.1", 80)),
        ("::ffff:7f00:1", Endpoint("127.0.0.1", 80)),
        ("bücher.test", Authority("xn--bcher-kva.test", 80)),
    ],
)
def test_what_a_client_names(host: str, target: Target) -> None:
    assert target_of(host, 80) == target


@pytest.mark.parametrize(
    "host",
    [
        "",
        "127.1",
        "0x7f.1",
        "2130706433",
        "a b",
        "a..b",
        "fe80::1%eth0",
        "unix:/x",
        "/x",
        "@x",
        "1.0" * 90,
        "a." * 128,
    ],
)
def test_what_is_no_destination(host: str) -> None:
    with pytest.raises(BadAddress):
        target_of(host, 80)


def test_long_hosts_leave_nothing_in_a_cache() -> None:
    before = address._is_numeric.cache_info().currsize
    for number in range(100):
        with pytest.raises(BadAddress, match="longer than 255 bytes"):
            target_of(f"{number}." * 200, 80)
    assert address._is_numeric.cache_info().currsize == before


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port(port: int) -> None:
    with pytest.raises(BadAddress):
        target_of("a", port)


def test_whose_act_a_refusal_is() -> None:
    assert Refused(Reason.HANDSHAKE_TIMEOUT).blame is EndedBy.TIMEOUT
    assert Refused(Reason.NO_REQUEST).blame is EndedBy.DOWNSTREAM
    assert Refused(Reason.DENIED, "why").blame is EndedBy.PROXY
    assert str(Refused(Reason.DENIED, "why")) == "why"


def test_who_says_nothing_is_told_nothing() -> None:
    assert Request("").refused(Reason.REFUSED, "why") == b""


def test_whose_act_it_was() -> None:
    assert [refused.blame for refused in (too_slow(), gone_early(), Refused(Reason.DENIED))] == [
        EndedBy.TIMEOUT, EndedBy.DOWNSTREAM, EndedBy.PROXY,
    ]  # fmt: skip
