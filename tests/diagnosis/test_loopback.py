from __future__ import annotations

import pytest

from proxy.diagnosis.finding import Finding, Level
from proxy.diagnosis.loopback import self_test
from proxy.diagnosis.machine import Machine
from proxy.lab.namespaces import Namespace

pytestmark = pytest.mark.netns


def the_finding() -> Finding:
    (found,) = self_test(Machine(), None)
    return found


def test_it_really_works_where_both_bits_are_set(namespace: Namespace) -> None:
    namespace.sysctl("net.ipv4.tcp_fastopen", 3)
    for _ in range(2):  # cold, and with an old cookie
        assert the_finding().level is Level.OK
        assert "acknowledged in the SYN-ACK" in the_finding().what


@pytest.mark.parametrize(("bits", "level"), [(1, Level.OK), (2, Level.NOTE), (0, Level.NOTE)])
def test_where_a_bit_is_missing_that_is_said_elsewhere(namespace: Namespace, bits: int, level: Level) -> None:
    namespace.sysctl("net.ipv4.tcp_fastopen", bits)
    assert the_finding().level is level


def test_what_the_settings_do_not_show_is_found(namespace: Namespace) -> None:
    namespace.sysctl("net.ipv4.tcp_fastopen", 3)
    namespace.sysctl("net.ipv4.tcp_syncookies", 2)
    assert the_finding().level is Level.MEND
    namespace.sysctl("net.ipv4.tcp_syncookies", 1)
    assert the_finding().level is Level.OK


def test_a_firewall_that_takes_the_option_out(namespace: Namespace) -> None:
    namespace.sysctl("net.ipv4.tcp_fastopen", 3)
    chain = "add table t; add chain t o { type filter hook output priority -150; }; "
    reset = [f"add rule t o reset tcp option {kind}" for kind in ("fastopen", "254")]
    assert namespace.run(["nft", chain + "; ".join(reset)]).returncode == 0
    assert the_finding().level is Level.MEND


def test_loopback_that_is_down(namespace: Namespace) -> None:
    namespace.run(["ip", "link", "set", "lo", "down"])
    found = the_finding()
    assert (found.level, found.mend) == (Level.WARNING, "ip link set lo up")
    namespace.run(found.mend.split())
    assert the_finding().level is Level.OK
