"""Each middlebox does what its name says: seen on the packets, in TCP_INFO, and at the server, byte for byte.

The letters are the rows of the situation table in the kernel facts; so are the expected values.
"""

from __future__ import annotations

import socket

import pytest

from proxy.lab.behaviours import answers, sends
from proxy.lab.clients import MSG_FASTOPEN, Exchange, ask
from proxy.lab.middleboxes import MIDDLEBOXES, build, described
from proxy.lab.rules import Direction
from proxy.lab.servers import Server
from proxy.lab.wan import Wan

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.06)]
REQUEST = bytes(range(100))


def warmed(wan: Wan, version: int = 4) -> Server:
    """A server whose cookie the client has."""
    server = wan.serve(answers(), version=version)
    assert ask(server.address, REQUEST).in_syn is None
    server.wait(1)
    wan.forget()
    return server


def facts(exchange: Exchange) -> tuple[int | None, int, int, int]:
    """(taken by sendto, TCP_INFO options, client_fail, total_retrans)"""
    return exchange.in_syn, exchange.options, exchange.client_fail, exchange.total_retrans


def took(wan: Wan, seconds: float | None, rtts: int) -> bool:
    """At least so many round trips; why it is no more, the packets say. What this machine adds is its own."""
    return seconds is not None and seconds >= rtts * wan.rtt


# --- the four exchanges that define the protocol, without any middlebox


def test_a_first_contact_asks_for_a_cookie(wan: Wan) -> None:
    server = wan.serve(answers())
    first = ask(server.address, REQUEST)
    assert facts(first) == (None, 7, 1, 0)
    assert took(wan, first.first_byte, 2)
    (syn,), (syn_ack,) = wan.capture().syns(server.address), wan.capture().syn_acks(server.address)
    assert (syn.cookie, syn.payload) == (b"", b"")
    assert syn_ack.cookie is not None
    assert len(syn_ack.cookie) == 8
    assert server.wait(1)[0].received == REQUEST


@pytest.mark.parametrize("version", [4, 6])
def test_b_second_contact_carries_cookie_and_data(wan: Wan, version: int) -> None:
    server = warmed(wan, version)
    second = ask(server.address, REQUEST)
    assert facts(second) == (100, 39, 0, 0)
    assert took(wan, second.first_byte, 1)
    (syn,), (syn_ack,) = wan.capture().syns(server.address), wan.capture().syn_acks(server.address)
    assert (len(syn.cookie or b""), syn.payload) == (8, REQUEST)
    assert syn_ack.packet.ack == (syn.packet.seq + 101) & 0xFFFFFFFF
    conversation = server.wait(2)[1]
    assert conversation.received == REQUEST
    assert conversation.fast_opened
    assert conversation.had_syn_data


@pytest.mark.parametrize("without", ["sysctl", "option"])
def test_c_a_server_without_fast_open(wan: Wan, without: str) -> None:
    wan.server.sysctl("net.ipv4.tcp_fastopen", 0 if without == "sysctl" else 3)
    server = wan.serve(answers(), fast_open=None if without == "option" else 256)
    tries = [ask(server.address, REQUEST) for _ in range(3)]
    assert [facts(one) for one in tries] == [(None, 7, 1, 0)] * 3
    assert all(took(wan, one.first_byte, 2) for one in tries)
    asked = [item.packet.fast_open for item in wan.capture().syns(server.address)]
    assert asked == [(34, b""), (254, b""), (34, b"")]
    server.wait(3)
    assert server.received == [REQUEST] * 3


def test_e_a_stale_cookie_after_a_key_rotation(wan: Wan) -> None:
    server = warmed(wan)
    wan.server.sysctl("net.ipv4.tcp_fastopen_key", "01234567-89abcdef-01234567-89abcdef")
    stale = ask(server.address, REQUEST)
    assert facts(stale) == (100, 7, 2, 1)
    assert took(wan, stale.first_byte, 2)
    (syn,), (syn_ack,) = wan.capture().syns(server.address), wan.capture().syn_acks(server.address)
    assert syn_ack.packet.ack == (syn.packet.seq + 1) & 0xFFFFFFFF
    assert syn_ack.cookie not in (None, b"", syn.cookie)
    server.wait(2)
    assert server.received == [REQUEST] * 2
    assert facts(ask(server.address, REQUEST)) == (100, 39, 0, 0)


def test_keys_on_the_listener_rotate_without_losing_a_syn(wan: Wan) -> None:
    old, new = b"o" * 16, b"n" * 16
    server = wan.serve(answers(), key=old)
    ask(server.address, REQUEST)
    server.set_keys(new, old)
    assert facts(ask(server.address, REQUEST)) == (100, 39, 0, 0)
    server.set_keys(new)
    assert facts(ask(server.address, REQUEST)) == (100, 39, 0, 0)


# --- options taken away


def test_g_strips_the_option_from_the_syn(wan: Wan) -> None:
    server = warmed(wan)
    with wan.through("strips-option-from-syn"):
        assert facts(ask(server.address, REQUEST)) == (100, 7, 2, 1)
    (syn,) = wan.capture().syns(server.address)
    assert (syn.what, syn.middlebox) == ("rewritten", "strips-option-from-syn")
    assert syn.delivered is not None
    assert (syn.delivered.cookie, syn.delivered.payload, syn.delivered.mss) == (None, REQUEST, 1460)
    server.wait(2)
    assert server.received == [REQUEST] * 2


def test_g_linux_heals_itself_when_only_34_is_stripped(wan: Wan) -> None:
    server = wan.serve(answers())
    with wan.through("strips-option-from-syn", kinds=(34,)):
        taken = [ask(server.address, REQUEST).in_syn for _ in range(3)]
    assert taken == [None, None, 100]
    kinds = [item.packet.fast_open and item.packet.fast_open[0] for item in wan.capture().syns()]
    assert kinds == [34, 254, 254]


def test_h_strips_the_option_from_the_syn_ack(wan: Wan) -> None:
    cold, warm = wan.serve(answers()), warmed(wan)
    with wan.through("strips-option-from-syn-ack"):
        assert [facts(ask(cold.address, REQUEST)) for _ in range(3)] == [(None, 7, 1, 0)] * 3
        assert facts(ask(warm.address, REQUEST)) == (100, 39, 0, 0)
    first = wan.capture().syn_acks(cold.address)[0]
    assert first.cookie
    assert first.delivered is not None
    assert first.delivered.cookie is None


# --- SYNs lost or refused


def test_i_drops_syn_data(wan: Wan) -> None:
    server = warmed(wan)
    with wan.through("drops-syn-data"):
        lost = ask(server.address, REQUEST)
    assert facts(lost) == (100, 7, 3, 2)
    assert lost.total_rto == 1
    assert lost.connected is not None
    assert lost.connected > 0.9 + wan.rtt, "the kernel waits a second"
    first, second = wan.capture().syns(server.address)
    assert (first.what, first.delivered, first.payload) == ("dropped", None, REQUEST)
    assert (second.what, second.payload, second.cookie) == ("forwarded", b"", None)
    server.wait(2)
    assert server.received == [REQUEST] * 2


@pytest.mark.parametrize("warm", [False, True])
def test_j_drops_syns_with_the_option(wan: Wan, warm: bool) -> None:
    server = warmed(wan) if warm else wan.serve(answers())
    with wan.through("drops-option"):
        lost = ask(server.address, REQUEST)
    assert facts(lost) == ((100, 7, 3, 2) if warm else (None, 7, 1, 1))
    assert lost.connected is not None
    assert lost.connected > 0.9 + wan.rtt, "the kernel waits a second"
    assert [item.what for item in wan.capture().syns()] == ["dropped", "forwarded"]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("name", "error"), [("resets-syn-data", "ECONNREFUSED"), ("rejects-syn-data", "EHOSTUNREACH EACCES")]
)
def test_r_refuses_syn_data(wan: Wan, name: str, error: str, version: int) -> None:
    server = warmed(wan, version)
    with wan.through(name):
        refused = ask(server.address, REQUEST)
        assert refused.in_syn == 100
        assert refused.error_name in error.split()
        assert ask(server.address, REQUEST, fast_open=False).error == 0
    dropped, injected = wan.capture()[:2]
    assert (dropped.what, injected.what) == ("dropped", "injected")
    assert injected.left is not None
    assert wan.rtt / 2 <= injected.left - dropped.entered < 10
    if injected.packet.icmp:
        assert injected.packet.icmp == ((3, 13) if version == 4 else (1, 1))
    server.wait(2)
    assert server.received == [REQUEST] * 2


@pytest.mark.parametrize(
    ("name", "keep", "rtts"), [("cuts-syn-data-off", 0, 2), ("cuts-syn-data-short", 40, 1)]
)
def test_p_and_q_cut_syn_data(wan: Wan, name: str, keep: int, rtts: int) -> None:
    server = warmed(wan)
    with wan.through(name):
        cut = ask(server.address, REQUEST)
    assert facts(cut) == (100, 7, 2, 1)
    assert took(wan, cut.first_byte, rtts)
    (syn,) = wan.capture().syns(server.address)
    assert syn.delivered is not None
    assert (syn.delivered.payload, syn.delivered.cookie) == (REQUEST[:keep], syn.cookie)
    assert server.wait(2)[1].received == REQUEST


# --- losses


def test_first_syn_and_first_syn_ack_lost(wan: Wan) -> None:
    server = warmed(wan)
    with wan.through("loses-first-syn"):
        assert facts(ask(server.address, REQUEST)) == (100, 7, 3, 2)
    with wan.through("loses-first-syn-ack"):
        lost = ask(server.address, REQUEST)
    assert lost.options == 39
    assert (lost.client_fail, lost.total_retrans) == (0, 1)
    assert lost.rtt > 0.9
    conversations = server.wait(3)
    assert [bytes(one.received) for one in conversations] == [REQUEST] * 3


def test_every_syn_ack_lost(wan: Wan) -> None:
    server = warmed(wan)
    with wan.through("loses-every-syn-ack"):
        assert ask(server.address, REQUEST, timeout=0.4).error_name == "ETIMEDOUT"
        assert server.wait(2, ended=False)[1].had_syn_data


def test_l_silent_after_the_handshake(wan: Wan) -> None:
    server = warmed(wan)
    with wan.through("silent-after-handshake"):
        silent = ask(server.address, REQUEST, timeout=2.0)
        assert facts(silent) == (100, 39, 0, 0)
        assert silent.connected is not None
        assert silent.error_name == "ETIMEDOUT"
        assert ask(server.address, REQUEST, fast_open=False).reply == b"pong"
    assert server.wait(2, ended=False)[1].received == REQUEST
    passed = wan.capture().between(server.address, silent.source)
    assert all(item.packet.is_syn_ack for item in passed.way(Direction.DOWN) if not item.dropped)


def test_only_the_servers_data_or_the_clients_later_segments_dropped(wan: Wan) -> None:
    server = warmed(wan)
    with wan.through("drops-server-data"):
        assert ask(server.address, REQUEST, timeout=0.5).error_name == "ETIMEDOUT"
    assert all(item.packet.payload_length or item.packet.is_fin for item in wan.capture().dropped())
    with wan.through("drops-client-after-syn"):
        assert ask(server.address, REQUEST).reply == b"pong"
        assert ask(server.address, REQUEST * 20, expect=8, timeout=0.3).in_syn == 1420


def test_a_reset_in_place_of_the_answer(wan: Wan) -> None:
    server = warmed(wan)
    with wan.through("reset-at-first-answer"):
        second = ask(server.address, REQUEST)
        assert (second.syn_data_acked, second.error_name, second.reply) == (True, "ECONNRESET", b"")
        assert server.wait(2)[1].ended == "reset"
        assert ask(server.address, REQUEST, fast_open=False).reply == b"pong"


def test_a_middlebox_before_one_address_leaves_the_others_alone(wan: Wan) -> None:
    server, other = warmed(wan), warmed(wan)
    with wan.through("resets-syn-data", host=server.address[0]):
        assert ask(server.address, REQUEST).error_name == "ECONNREFUSED"
        assert ask(other.address, REQUEST).syn_data_acked


def test_jitter_holds_back_and_loses_nothing(wan: Wan) -> None:
    server = wan.serve(sends(100_000))
    wan.install("jitter", most=0.01)
    assert len(ask(server.address, REQUEST, expect=100_000).reply) == 100_000
    moments = [item.entered for item in wan.capture().way(Direction.DOWN) if item.what == "injected"]
    numbers = [item.packet.seq for item in wan.capture().way(Direction.DOWN) if item.what == "injected"]
    assert moments == sorted(moments)
    assert numbers != sorted(numbers)


def test_random_loss_is_repeatable(wan: Wan) -> None:
    server = wan.serve(sends(400_000), fast_open=None)
    wan.install("random-loss", rate=0.1, seed=1)
    with socket.create_connection(server.address, timeout=20) as client:
        got = 0
        while data := client.recv(65536):
            got += len(data)
    assert got == 400_000
    crossed = wan.capture()
    fates = [item.dropped for item in crossed]
    assert 0.04 < sum(fates) / len(fates) < 0.2
    rule = build("random-loss", {"rate": 0.1, "seed": 1})
    assert fates == [rule(item.packet, item.direction) is not None for item in crossed]


def test_drops_picks_single_packets(wan: Wan) -> None:
    server = wan.serve(answers(), fast_open=None)
    with wan.through("drops", direction="S>C", flags="P", data=True, count=1):
        assert ask(server.address, REQUEST).reply == b"pong"
    (dropped,) = wan.capture().dropped()
    assert dropped.payload == b"pong"


# --- path MTU, NAT, replay


@pytest.mark.parametrize(("version", "taken"), [(4, 1420), (6, 1400)])
def test_s_a_small_path_mtu_that_is_announced(wan: Wan, version: int, taken: int) -> None:
    server = warmed(wan, version)
    with wan.through("small-path-mtu"):
        first = ask(server.address, REQUEST * 20)
        assert (first.in_syn, first.client_fail, first.total_rto) == (taken, 3, 0)
        assert first.reply == b"pong"
        assert facts(ask(server.address, REQUEST * 20))[:3] == (taken - 100, 39, 0)
    announced = [item.packet.icmp for item in wan.capture() if item.what == "injected"]
    assert announced[0] == ((3, 4) if version == 4 else (2, 0))


def test_s2_a_small_path_mtu_that_is_not(wan: Wan) -> None:
    server = warmed(wan)
    with wan.through("path-mtu-black-hole"):
        assert facts(ask(server.address, REQUEST)) == (100, 39, 0, 0)
        assert ask(server.address, REQUEST * 20, timeout=0.4).error_name == "ETIMEDOUT"
    assert all(item.packet.length > 1400 for item in wan.capture().dropped())


@pytest.mark.parametrize("version", [4, 6])
def test_m_nat_with_a_changing_source(wan: Wan, version: int) -> None:
    server = wan.serve(answers(), version=version)
    with wan.through("nat-changes-source"):
        tries = [facts(ask(server.address, REQUEST)) for _ in range(3)]
    assert tries == [(None, 7, 1, 0), (100, 7, 2, 1), (100, 7, 2, 1)]
    conversations = server.wait(3)
    assert len({one.peer[0] for one in conversations}) == 3
    assert [bytes(one.received) for one in conversations] == [REQUEST] * 3


def test_a_second_copy_of_the_syn_reaches_the_application_twice(wan: Wan) -> None:
    server = warmed(wan)
    with wan.through("duplicates-syn-data", after=2.0):
        with socket.socket() as client:
            assert client.sendto(REQUEST, MSG_FASTOPEN, server.address) == 100
            assert client.recv(4) == b"pong"
        server.wait(3)
    assert server.received == [REQUEST] * 3
    first, copy = wan.capture().syns(server.address)
    assert (copy.what, copy.packet) == ("injected", first.packet)
    assert copy.entered - first.entered == pytest.approx(2.0, abs=0.01)


# --- the registry


def test_every_middlebox_is_described_and_unknown_ones_are_refused(wan: Wan) -> None:
    assert len(MIDDLEBOXES) >= 20
    assert all(text.endswith((".", "].")) for text in described().values())
    for name in MIDDLEBOXES:
        wan.install(name)
    with pytest.raises(ValueError, match="drops-syn-data"):
        wan.install("drops-everything")
    with pytest.raises(ValueError, match="keep"):
        wan.install("drops-syn-data", keep=3)
    wan.clear()
    assert ask(wan.serve(answers()).address, b"x").reply == b"pong"
