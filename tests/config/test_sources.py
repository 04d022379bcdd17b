from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.config import Loaded
from proxy.config.scalars import BadScalar, Scalar
from proxy.config.sources import Gateway, InterfaceName, Mark, SourceAddress
from proxy.core.address import Authority, Endpoint
from proxy.core.clusters import Source, Via

CLUSTER = "listeners: {{a: {{bind: '127.0.0.1:1', mode: forward, to: c}}}}\nclusters: {{c: {{endpoints: 'h:1', {}}}}}\n"


@pytest.mark.parametrize(
    ("cls", "text", "written"),
    [
        (SourceAddress, "2001:DB8::1", "2001:db8::1"),
        (InterfaceName, "eth0.7", "eth0.7"),
        (Mark, "0x10", "16"),
        (Gateway, "gw.example:1080", "gw.example:1080"),
        (Gateway, "user:p@ss:word@[2001:db8::1]:1080", "user:p@ss:word@[2001:db8::1]:1080"),
    ],
)
def test_what_is_written_is_read_back(cls: type[Scalar[object]], text: str, written: str) -> None:
    assert str(cls.read(text)) == written
    assert cls.read(written) == cls.read(text)


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (SourceAddress, "here"),
        (InterfaceName, "a-name-that-is-too-long"),
        (InterfaceName, "a/b"),
        (InterfaceName, ".."),
        (Mark, "-1"),
        (Mark, "010"),
        (Mark, "0x100000000"),
        (Mark, "4294967296"),
        (Gateway, "gw"),
        (Gateway, "user@gw:1"),
        (Gateway, ":pass@gw:1"),
        (Gateway, f"{'u' * 256}:p@gw:1"),
        (Gateway, "unix:/run/x"),
    ],
)
def test_what_is_refused(cls: type[Scalar[object]], text: str) -> None:
    with pytest.raises(BadScalar):
        cls.read(text)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Gateway.read("user:secret@gw:1"))
    assert "secret" not in repr(Via("socks", Authority("gw", 1), "user", "secret"))


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("source: 192.0.2.5", Source(("192.0.2.5",))),
        ("source: {interface: eth1, mark: 7}", Source(interface="eth1", mark=7)),
        ("source: {address: [192.0.2.5, '2001:db8::5']}", Source(("192.0.2.5", "2001:db8::5"))),
    ],
)
def test_sources(loaded: Callable[[str], Loaded], written: str, source: Source) -> None:
    assert loaded(CLUSTER.format(written)).snapshot.clusters["c"].source == source


@pytest.mark.parametrize(
    ("written", "via"),
    [
        ("via: {socks: 'u:p@192.0.2.1:1080'}", Via("socks", Endpoint("192.0.2.1", 1080), "u", "p")),
        ("via: {http: 'gw:3128'}", Via("http", Authority("gw", 3128))),
    ],
)
def test_gateways(loaded: Callable[[str], Loaded], written: str, via: Via) -> None:
    cluster = loaded(CLUSTER.format(written)).snapshot.clusters["c"]
    assert cluster.via == via
    assert not cluster.only


@pytest.mark.parametrize("written", ["via: {}", "via: {socks: 'a:1', http: 'a:1'}"])
def test_one_kind_of_gateway(problems: Callable[[str], list[str]], written: str) -> None:
    (line,) = problems(CLUSTER.format(written))
    assert "clusters.c.via: write one of socks, http and tunnel" in line
