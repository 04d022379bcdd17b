from __future__ import annotations

import pytest

from proxy.core.address import Endpoint
from proxy.core.destinations import DENIED, Destinations, named

FORBIDDEN = [
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::127.0.0.1",
    "2002:7f00:0001::",
    "2001:0000:0102:0304:0000:ffff:80ff:fffe",
    "2001:0:7f00:1::",
    "fe80::5efe:127.0.0.1",
    "2001:db8::5efe:7f00:1",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "::ffff:0.0.0.0",
    "64:ff9b::",
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "febf::1",
    "fe80::1%1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "224.0.0.1",
    "239.255.255.255",
    "ff02::1",
    "ff0e::1",
    "::ffff:224.0.0.1",
    "255.255.255.255",
    "::ffff:255.255.255.255",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:100.100.100.200",
    "::ffff:0:127.0.0.1",
]

FINE = [
    "192.0.2.1",
    "10.0.0.1",
    "192.168.1.1",
    "8.8.8.8",
    "2001:db8::1",
    "fd00::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "128.0.0.1",
    "126.255.255.255",
    "1.0.0.0",
    "223.255.255.255",
    "169.253.255.255",
    "169.255.0.0",
    "255.255.255.254",
]


@pytest.mark.parametrize("host", FORBIDDEN)
def test_forbidden_by_default(host: str) -> None:
    assert Destinations().refusal(Endpoint(host, 80)) in DENIED


@pytest.mark.parametrize("host", FINE)
def test_allowed_by_default(host: str) -> None:
    assert Destinations().refusal(Endpoint(host, 80)) is None


def test_a_unix_socket_is_never_what_a_client_may_name() -> None:
    assert Destinations(()).refusal(Endpoint("/run/x", 0)) == "a unix socket"


def test_what_is_denied_is_what_is_said() -> None:
    assert Destinations(named("private")).refusal(Endpoint("127.0.0.1", 80)) is None
    assert Destinations(named("private")).refusal(Endpoint("10.0.0.1", 80)) == "private"
    assert Destinations(()).refusal(Endpoint("127.0.0.1", 80)) is None


def test_exceptions_hold_for_the_address_as_written() -> None:
    guarded = Destinations(named("loopback"), named("loopback"))
    assert guarded.refusal(Endpoint("127.0.0.1", 80)) is None
    assert guarded.refusal(Endpoint("64:ff9b::7f00:1", 80)) == "loopback"
