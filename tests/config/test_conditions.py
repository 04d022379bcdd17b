from __future__ import annotations

import pytest

from proxy.config.conditions import HostCondition, NetworkCondition, Ports, Text
from proxy.config.scalars import BadScalar, Scalar


@pytest.mark.parametrize(
    ("cls", "text", "written"),
    [
        (HostCondition, "API.Example.com.", "api.example.com"),
        (HostCondition, "*.Example.com", "*.example.com"),
        (HostCondition, r"/api[0-9]+\.example\.com/", r"/api[0-9]+\.example\.com/"),
        (HostCondition, "192.0.2.1", "192.0.2.1"),
        (HostCondition, "[2001:DB8::1]", "2001:db8::1"),
        (HostCondition, "bücher.example", "xn--bcher-kva.example"),
        (Ports, "443", "443"),
        (Ports, "8000-8100", "8000-8100"),
        (Ports, "5-5", "5"),
        (NetworkCondition, "10.0.0.0/8", "10.0.0.0/8"),
        (NetworkCondition, "2001:DB8::/32", "2001:db8::/32"),
        (NetworkCondition, "192.0.2.1", "192.0.2.1/32"),
        (NetworkCondition, "private", "private"),
        (Text, "off limits", "off limits"),
    ],
)
def test_what_is_written_is_read_back(cls: type[Scalar[object]], text: str, written: str) -> None:
    value = cls.read(text)
    assert str(value) == written
    assert cls.read(str(value.plain())) == value
    if isinstance(value, NetworkCondition):
        assert value.networks


@pytest.mark.parametrize(
    ("cls", "text", "says"),
    [
        (HostCondition, "*", "leave the condition out"),
        (HostCondition, "*.1", "looks like an IPv4 address"),
        (HostCondition, "*.*.com", "not a valid host name"),
        (HostCondition, "a:443", "not a valid host name"),
        (HostCondition, "0x7f.1", "looks like an IPv4 address"),
        (HostCondition, "/(a+)+/", "another repeat"),
        (HostCondition, "/[/", "not understood"),
        (HostCondition, "", "not a valid host name"),
        (Ports, "0", "holds no port"),
        (Ports, "8100-8000", "holds no port"),
        (Ports, "1-65536", "holds no port"),
        (Ports, "http", "not understood"),
        (NetworkCondition, "10.0.0.1/8", "write 10.0.0.0/8"),
        (NetworkCondition, "locallink", "or loopback, private"),
        (Text, "", "200 characters"),
        (Text, "a\nb", "200 characters"),
        (Text, "a" * 201, "200 characters"),
    ],
)
def test_what_is_refused(cls: type[Scalar[object]], text: str, says: str) -> None:
    with pytest.raises(BadScalar, match=says):
        cls.read(text)
