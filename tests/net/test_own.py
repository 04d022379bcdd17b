from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from proxy.lab.namespaces import Namespace
from proxy.net import own

pytestmark = pytest.mark.netns
OURS = [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "0.0.0.0",
    "::",
    "10.1.2.3",
    "10.9.1.1",
    "10.9.200.7",
    "fd00:1::5",
    "fd00:2::77",
]
OTHERS = ["10.1.2.4", "192.0.2.1", "10.8.0.1", "fd00:1::6", "2001:db8::1", "255.255.255.255", "224.0.0.1"]


def test_the_kernel_says_what_is_ours() -> None:
    """Addresses of any device, whole networks that are local (AnyIP), and none because it could be bound."""
    with closing(Namespace.create("own")) as here, here.entered():
        here.run(["ip", "link", "set", "lo", "up"])
        for address in ("10.1.2.3/32", "fd00:1::5/128"):
            here.run(["ip", "address", "add", address, "dev", "lo"])
        for network in ("10.9.0.0/16", "fd00:2::/64"):
            here.run(["ip", "route", "add", "local", network, "dev", "lo"])
        here.run(["ip", "route", "add", "10.0.0.0/8", "dev", "lo"])
        for setting in ("ipv4/ip_nonlocal_bind", "ipv6/ip_nonlocal_bind"):
            Path(f"/proc/sys/net/{setting}").write_text("1")
        own._known.clear()
        assert [host for host in OURS + OTHERS if own.is_own(host)] == OURS
        for inside in ("::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::"):
            assert own.reaches_own(inside), inside
        assert not own.reaches_own("64:ff9b::c000:201")
    own._known.clear()
