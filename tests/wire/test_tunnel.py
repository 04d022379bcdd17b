"""A tunnel between two programs: any first bytes in the SYN, and every byte once."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.core import proxy_header, tunnel
from proxy.core.address import Endpoint
from proxy.core.tunnel import Ticket
from proxy.lab.behaviours import answers, echoes, never_answers, sends, speaks_first
from proxy.lab.clients import ask
from proxy.lab.servers import Address, Server
from proxy.lab.wan import Wan
from tests.wire.program import Line, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.1)]

KEY = "5d1f0c6b3a2e4f8897a6b5c4d3e2f101"
OTHER = "aa1f0c6b3a2e4f8897a6b5c4d3e2f1bb"
POST = b"POST /pay HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\n100"


BESIDE = {"allow": ["10.0.0.0/8", "fd00::/8"]}  # the servers are on the far side's machine


@contextmanager
def far_side(
    wan: Wan, key: str | list[str] = KEY, where: str = "", **more: Any
) -> Iterator[tuple[Program, str]]:
    """A far side beside the servers, and where it is."""
    address = where or f"{wan.fresh_address()}:7413"
    state = more.pop("state", None)
    settings = {"bind": address, "mode": "tunnel", "key": key, **more}
    document = {"listeners": {"far": settings}, "direct": BESIDE, "log": {"format": "json"}}
    with Program(wan.server, document=document | ({"state": state} if state else {})) as far:
        yield far, address


def through(server: Server | str, address: str, key: str = KEY, **more: Any) -> tuple[Line, Line]:
    return forward(server, via={"tunnel": address, "key": key}, **more)


def endpoint(address: str) -> Address:
    host, _, port = address.rpartition(":")
    return host, int(port)


def warm(near: Program, server: Server) -> None:
    """The cookie is there, and the far side is known to answer."""
    for number in range(1, 3):
        assert ask(near.address(), POST, fast_open=False).reply == b"pong"
        near.session(number)
    server.wait(2)


def heard(server: Server, number: int) -> bool:
    return len(server.received) == number


def received(server: Server) -> list[bytes]:
    return [bytes(one) for one in server.received]


def test_a_post_rides_in_the_syn(wan: Wan) -> None:
    """And is answered within a round trip, by a server that has no Fast Open."""
    server = wan.serve(answers(), fast_open=None)
    with far_side(wan) as (far, address), Program(wan.client, {"a": through(server, address)}) as near:
        warm(near, server)
        lines = []
        for number in range(3, 9):
            assert ask(near.address(), POST, fast_open=False).reply == b"pong"
            line = near.session(number)
            assert line["evidence"] == "syn_data_acked"
            assert line["syn_bytes"] > len(POST)
            assert (line["up_bytes"], line["down_bytes"]) == (len(POST), 4)
            lines.append(line)
        assert min(line["first_byte"] for line in lines) <= 1.1 * wan.rtt, lines
        line = far.session(8)
        assert line["authority"] == "{}:{}".format(*server.address)
        assert line["client"].startswith("127.0.0.1:"), "the far side is told whom it is for"
        assert (line["up_bytes"], line["down_bytes"]) == (len(POST), 4)
    assert received(server) == [POST] * 8


def test_a_name_is_looked_up_by_the_far_side_and_its_routes_hold(wan: Wan) -> None:
    server = wan.serve(answers(), fast_open=None)
    address = f"{wan.fresh_address()}:7413"
    document = {
        "listeners": {"far": {"bind": address, "mode": "tunnel", "key": KEY}},
        "clusters": {"pay": {"endpoints": ["{}:{}".format(*server.address)], "warm_up": False}},
        "routes": [{"match": {"host": "pay.example.com"}, "to": "pay"}, {"refuse": "nothing else"}],
        "log": {"format": "json"},
    }
    ways = {name: through(f"{name}.example.com:80", address) for name in ("pay", "play")}
    with Program(wan.server, document=document) as far, Program(wan.client, ways) as near:
        assert ask(near.address("pay"), POST, fast_open=False).reply == b"pong"
        assert far.session(1)["authority"] == "pay.example.com:80"
        assert not ask(near.address("play"), POST, fast_open=False).reply
        assert far.session(2)["reason"] == "denied"
    assert received(server) == [POST]


def test_where_nobody_may_go_the_far_side_does_not(wan: Wan) -> None:
    with (
        far_side(wan) as (far, address),
        Program(wan.client, {"a": through("127.0.0.1:22", address)}) as near,
    ):
        assert not ask(near.address(), POST, fast_open=False).reply
        assert "direct.deny" in far.session(1, reason="denied")["detail"]


@pytest.mark.parametrize("wait", [True, False], ids=["banner", "banner-without-first-bytes"])
def test_a_server_that_speaks_first(wan: Wan, wait: bool) -> None:
    server = wan.serve(speaks_first(b"220 ", b"pong"), fast_open=None)
    more = {} if wait else {"server_first": "yes"}
    with (
        far_side(wan) as (far, address),
        Program(wan.client, {"a": through(server, address, **more)}) as near,
    ):
        for number in range(1, 6):
            with socket.create_connection(near.address()) as client:
                assert client.recv(4) == b"220 "
                client.sendall(b"HELO\r\n")
                assert client.recv(4) == b"pong"
            near.session(number)
            far.session(number)
        if not wait:
            first_bytes = [near.session(number)["first_byte"] for number in range(3, 6)]
            assert min(first_bytes) < 1.5 * wan.rtt, "a banner in one round trip"
    assert received(server) == [b"HELO\r\n"] * 5


def test_bulk_both_ways_and_the_ends_of_both(wan: Wan) -> None:
    wan.set_rtt(0.02)
    blob = random.Random(1).randbytes(3_000_000)
    server = wan.serve(echoes(), fast_open=None)
    big = wan.serve(sends(5_000_000), fast_open=None)
    with far_side(wan) as (_, address):
        ways = {"a": through(server, address), "b": through(big, address)}
        with Program(wan.client, ways) as near, ThreadPoolExecutor() as pool:
            for _ in range(3):
                with socket.create_connection(near.address("a")) as client:
                    sent = pool.submit(send_and_end, client, blob)
                    assert read_all(client) == blob
                    sent.result()
                with socket.create_connection(near.address("b")) as client:
                    client.sendall(POST)
                    assert len(read_all(client)) == 5_000_000
    wan.set_rtt(0.1)
    assert {len(one) for one in received(server)} == {len(blob)}


def read_all(client: socket.socket) -> bytes:
    client.settimeout(20)
    found = bytearray()
    while data := client.recv(1 << 20):
        found += data
    return bytes(found)


def test_an_answer_that_ends_comes_whole_and_its_end_with_it(wan: Wan) -> None:
    """The server's FIN, too, comes with the answer."""
    server = wan.serve(answers(closes=True), fast_open=None)
    with far_side(wan) as (far, address), Program(wan.client, {"a": through(server, address)}) as near:
        took = []
        for number in range(1, 8):
            with socket.create_connection(near.address()) as client:
                began = time.monotonic()
                client.sendall(POST)
                assert read_all(client) == b"pong"
                took.append(time.monotonic() - began)
            near.session(number)
        assert min(took) < 2.5 * wan.rtt
        assert far.session(7)["reason"] == "closed"


def test_a_syn_that_is_replayed_is_refused_100_times_of_100(wan: Wan) -> None:
    """Once the first connection is over the kernel takes it for a new one; the far side does not."""
    server = wan.serve(answers(), fast_open=None)
    asked: list[bytes] = []
    with far_side(wan) as (far, address), Program(wan.client, {"a": through(server, address)}) as near:
        warm(near, server)
        with wan.through("duplicates-syn-data", after=0.6), ThreadPoolExecutor(10) as pool:
            # On a busy machine a session may last as long, or go without data in its SYN: others take its place.
            while replays(far) < 100 and len(asked) < 300:
                some = [POST[:-3] + b"%03d" % (200 + len(asked) + number) for number in range(20)]
                asked += some
                answered = [pool.submit(ask, near.address(), one, fast_open=False) for one in some]
                assert {one.result().reply for one in answered} == {b"pong"}
                time.sleep(0.1)
            far.wait_for("session", 100, reason="replayed")
            time.sleep(0.8)
    assert sorted(received(server)) == sorted([POST] * 2 + asked)


def replays(far: Program) -> int:
    return len([line for line in far.events("session") if line["reason"] == "replayed"])


@pytest.mark.parametrize("state", [True, False], ids=["file", "memory"])
def test_a_replay_after_a_restart_is_refused(wan: Wan, tmp_path: Path, state: bool) -> None:
    server = wan.serve(answers(), fast_open=None)
    address = f"{wan.fresh_address()}:7413"
    tmp_path.chmod(0o700)
    settings: dict[str, Any] = {"state": str(tmp_path / "state.json")} if state else {}
    with far_side(wan, where=address, **settings) as (far, _):
        opening = sealed(server, time.time()) + POST + tunnel.COMMITTED
        assert say(endpoint(address), opening, 5) == tunnel.ACCEPTED + b"pong"
        assert say(endpoint(address), opening) == b""
        assert far.session(1, reason="replayed")
        far.signal(signal.SIGTERM)
        far.end()
    with far_side(wan, where=address, **settings) as (far, _):
        assert say(endpoint(address), opening) == b""
        # Without a file, what was sealed before the start is not believed.
        assert far.session(1)["reason"] == ("replayed" if state else "old_clock")
        assert (
            say(endpoint(address), sealed(server, time.time()) + POST + tunnel.COMMITTED, 5)
            == tunnel.ACCEPTED + b"pong"
        )
    assert received(server) == [POST] * 2


def sealed(
    server: Server, now: float, attempt: int = 1, early: bytes = POST, *, key: str = KEY, nonce: bytes = b"",
    final: bool = False,
) -> bytes:  # fmt: skip
    ticket = Ticket(nonce or os.urandom(16), now, Endpoint(*server.address), Endpoint("192.0.2.1", 1))
    return tunnel.seal(bytes.fromhex(key), ticket, attempt, early, final=final)


def say(address: Address, data: bytes, expect: int = 1 << 20) -> bytes:
    """What is answered until the end, or until so many bytes have come."""
    with socket.create_connection(address) as sock:
        sock.settimeout(5)
        sock.sendall(data)
        found = b""
        while len(found) < expect:
            try:
                more = sock.recv(65536)
            except ConnectionResetError:
                break
            if not more:
                break
            found += more
        return found


def test_wrong_keys_and_clocks_and_noise_are_closed_without_a_word(wan: Wan) -> None:
    server = wan.serve(answers(), fast_open=None)
    with far_side(wan, timeouts={"handshake": "500ms"}) as (far, address):
        there, now = endpoint(address), time.time()
        for data, reason in [
            (sealed(server, now, key=OTHER) + POST, "wrong_key"),
            (sealed(server, now) + POST.replace(b"pay", b"buy"), "wrong_key"),
            (sealed(server, now - 31) + POST, "old_clock"),
            (sealed(server, now + 60) + POST, "old_clock"),
            (b"GET / HTTP/1.1\r\n\r\n", "bad_request"),
            (b"PROXY UNKNOWN\r\n", "bad_request"),
            (proxy_header.version2(None, None), "bad_request"),
            (sealed(server, now)[:40], "handshake_timeout"),
            (sealed(server, now) + POST[:20], "handshake_timeout"),
        ]:
            assert say(there, data) == b""
            assert far.wait_for("session", reason=reason)
        until(lambda: len(far.events("session")) == 9)
    assert not server.received


def test_the_near_side_says_why(wan: Wan) -> None:
    server = wan.serve(answers(), fast_open=None)
    with (
        far_side(wan) as (far, address),
        Program(wan.client, {"a": through(server, address), "b": through(server, address, OTHER)}) as near,
    ):
        warm(near, server)
        assert not ask(near.address("b"), POST, fast_open=False).reply
        assert far.session(1, reason="wrong_key")
        assert "key, clock" in near.session(3)["detail"]
    assert received(server) == [POST] * 2


def test_several_workers_are_one_far_side(wan: Wan) -> None:
    """Whichever worker an attempt reaches: a replay is refused, and a session goes on."""
    wan.set_rtt(0.004)
    server = wan.serve(answers(), fast_open=None)
    address = f"{wan.fresh_address()}:7413"
    document = {
        "listeners": {"far": {"bind": address, "mode": "tunnel", "key": KEY}},
        "workers": 3,
        "direct": BESIDE,
        "log": {"format": "json"},
    }
    with Program(wan.server, document=document) as far:
        for number in range(12):
            nonce, now = os.urandom(16), time.time()
            first = sealed(server, now, 1, nonce=nonce) + POST
            with socket.create_connection(endpoint(address)) as one:
                one.settimeout(5)
                one.sendall(first)
                assert read_some(one, 5) == tunnel.ACCEPTED + b"pong"
                assert say(endpoint(address), first) == b""
                second = sealed(server, now, 2, nonce=nonce, final=True) + POST
                assert say(endpoint(address), second, 4) == b"pong"
                assert say(endpoint(address), second) == b""
            far.wait_for("session", number + 1, reason="taken_over")
        far.wait_for("session", 24, reason="replayed")
    wan.set_rtt(0.1)
    assert received(server) == [POST] * 12


def read_some(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += sock.recv(size - len(found)) or pytest.fail(f"it ended after {found!r}")
    return found


def test_thousands_of_broken_openings_leave_nothing_behind(wan: Wan) -> None:
    wan.set_rtt(0.004)
    rng = random.Random(7413)
    server = wan.serve(answers(), fast_open=None)
    with far_side(wan, timeouts={"handshake": "100ms"}) as (far, address), ThreadPoolExecutor(32) as pool:

        def knock(seed: int) -> bytes:
            dice = random.Random(seed)
            data = bytearray(sealed(server, time.time(), key=OTHER) + POST)
            for _ in range(dice.randrange(1, 4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            return say(
                endpoint(address),
                bytes(data[: dice.randrange(1, len(data) + 1)]) if seed % 2 else bytes(data),
            )

        assert set(pool.map(knock, [rng.randrange(1 << 30) for _ in range(500)])) == {b""}
        until(lambda: len(far.events("session")) == 500)
        before, descriptors = far.memory(), far.descriptors()
        assert set(pool.map(knock, [rng.randrange(1 << 30) for _ in range(1000)])) == {b""}
        until(lambda: len(far.events("session")) == 1500)
        assert far.memory() - before < 3 << 20
        assert far.descriptors() <= descriptors
        reasons = {line["reason"] for line in far.events("session")}
        assert reasons <= {"wrong_key", "old_clock", "bad_request", "handshake_timeout"}
    wan.set_rtt(0.1)
    assert not server.received


def test_keys_are_changed_without_a_pause(wan: Wan) -> None:
    server = wan.serve(answers(), fast_open=None)
    with (
        far_side(wan, key=[OTHER, KEY]) as (_, address),
        Program(wan.client, {"a": through(server, address), "b": through(server, address, OTHER)}) as near,
    ):
        for name in "ab":
            assert ask(near.address(name), POST, fast_open=False).reply == b"pong"


# What the path does to a dial: nothing is delivered twice, and no session is lost


def test_a_lost_syn_is_hedged(wan: Wan) -> None:
    server = wan.serve(answers(), fast_open=None)
    with far_side(wan) as (far, address), Program(wan.client, {"a": through(server, address)}) as near:
        warm(near, server)
        with wan.through("drops-syn-data"):
            for number in range(3, 6):
                assert ask(near.address(), POST, fast_open=False).reply == b"pong"
                near.session(number)
        assert near.session(3)["hedged"]
        assert len(far.events("session")) == 5
    assert received(server) == [POST] * 5


def test_a_hedge_takes_the_session_over_that_the_first_attempt_has_begun(wan: Wan) -> None:
    """The SYN came, its SYN-ACK did not: the far side is at work when the plain connection comes."""
    server = wan.serve(answers(b"pong" * 5000), fast_open=None)
    with far_side(wan) as (far, address), Program(wan.client, {"a": through(server, address)}) as near:
        for number in (1, 2):
            assert len(ask(near.address(), POST, fast_open=False, expect=20000).reply) == 20000
            near.session(number)
        with wan.through("drops", direction="S>C", flags="S.", count=1):
            assert ask(near.address(), POST, fast_open=False, expect=20000).reply == b"pong" * 5000
        line = near.session(3)
        assert line["hedged"]
        assert line["first_byte"] < 4 * wan.rtt
        assert far.session(1, reason="taken_over")
        far.session(1, reason="closed", hedged=None)
    assert received(server) == [POST] * 3


@pytest.mark.parametrize(
    ("box", "known"), [("silent-after-handshake", False), ("drops-server-data", True)], ids=["new", "known"]
)
def test_a_path_that_falls_silent(wan: Wan, box: str, known: bool) -> None:
    server = wan.serve(answers(), fast_open=None)
    with far_side(wan) as (far, address), Program(wan.client, {"a": through(server, address)}) as near:
        ask(near.address(), POST, fast_open=False)
        near.session(1)
        if known:
            ask(near.address(), POST, fast_open=False)
            near.session(2)
        with wan.through(box):
            for number in range(2 + known, 6):
                assert ask(near.address(), POST, fast_open=False).reply == b"pong"
                near.session(number)
        assert near.session(5)["standing_before"] == "quarantined"
        assert far.session(1, reason="taken_over")
    assert received(server) == [POST] * 5


@pytest.mark.parametrize(
    "box", ["resets-syn-data", "cuts-syn-data-short", "loses-first-syn-ack", "nat-changes-source"]
)
def test_boxes_on_the_way(wan: Wan, box: str) -> None:
    server = wan.serve(answers(), fast_open=None)
    with far_side(wan) as (_, address), Program(wan.client, {"a": through(server, address)}) as near:
        warm(near, server)
        with wan.through(box):
            for number in range(3, 5):
                assert ask(near.address(), POST, fast_open=False).reply == b"pong"
                near.session(number)
    assert received(server) == [POST] * 4


def test_on_a_path_that_loses_packets_every_request_comes_once(wan: Wan) -> None:
    """A tenth of all packets, by a fixed seed: hedges, takeovers and retransmissions of all kinds."""
    wan.set_rtt(0.02)
    server = wan.serve(answers(), fast_open=None)
    with far_side(wan) as (_, address), Program(wan.client, {"a": through(server, address)}) as near:
        for _ in range(2):
            ask(near.address(), POST, fast_open=False)
        requests = [POST.replace(b"100", b"%03d" % number) for number in range(80)]
        with wan.through("random-loss", rate=0.1), ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask, near.address(), one, fast_open=False, timeout=30.0) for one in requests]
            assert {one.result().reply for one in asked} == {b"pong"}
    wan.set_rtt(0.1)
    assert sorted(one for one in received(server) if one != POST) == [one for one in requests if one != POST]


def test_a_slow_server_is_no_silent_path(wan: Wan) -> None:
    server = wan.serve(answers(delay=1.2), fast_open=None)
    with far_side(wan) as (_, address), Program(wan.client, {"a": through(server, address)}) as near:
        for number in range(1, 4):
            assert ask(near.address(), POST, fast_open=False).reply == b"pong"
            assert not near.session(number).get("hedged")
        assert near.session(3)["standing_after"] == "confirmed"
    assert received(server) == [POST] * 3


def test_a_session_whose_client_leaves(wan: Wan) -> None:
    server = wan.serve(never_answers(), fast_open=None)
    with far_side(wan) as (far, address), Program(wan.client, {"a": through(server, address)}) as near:
        for number in range(1, 4):
            with socket.create_connection(near.address()) as client:
                client.sendall(POST)
                until(partial(heard, server, number))
            near.session(number)
            far.session(number)
        assert far.open_sessions() == 0


def test_ipv6(wan: Wan) -> None:
    server = wan.serve(answers(), fast_open=None, version=6)
    where = f"[{wan.fresh_address(6)}]:7413"
    with (
        far_side(wan, where=where) as (_, address),
        Program(wan.client, {"a": through(server, address)}) as near,
    ):
        warm(near, server)
        assert ask(near.address(), POST, fast_open=False).reply == b"pong"
        assert near.session(3)["evidence"] == "syn_data_acked"


def test_tshark_reads_it_as_a_proxy_header(wan: Wan, tmp_path: Path) -> None:
    server = wan.serve(answers(), fast_open=None)
    with (
        far_side(wan) as (_, address),
        Program(
            wan.client, {"a": through("pay.example.com:80", address), "b": through(server, address)}
        ) as near,
    ):
        warm_address = near.address("b")
        for number in (1, 2):
            ask(warm_address, POST, fast_open=False)
            near.session(number)
        wan.forget()
        ask(near.address("a"), POST, fast_open=False)
        capture = wan.wait_for(lambda seen: bool(seen.syns(dst=endpoint(address))))
    assert POST in capture.syns(dst=endpoint(address))[0].payload
    file = tmp_path / "tunnel.pcap"
    capture.write_pcap(file)
    found = subprocess.run(
        ["tshark", "-r", str(file), "-Y", "proxy", "-T", "fields",
         *(f"-eproxy.v2.{field}" for field in ("version", "cmd", "tlv.type", "tlv.length", "tlv.value"))],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    version, command, kinds, sizes, values = found
    assert (version, command, kinds, sizes) == ("2", "1", "0x02,0x05,0x03,0xe0", "15,16,4,48")
    assert bytes.fromhex(values.partition(",")[0]) == b"pay.example.com"


# TLS around it


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Certificates: of the far side, of the near side, and of those who have signed them."""
    folder = tmp_path_factory.mktemp("papers")
    found: dict[str, str] = {}
    for side, name in (("far", "gw.example.com"), ("near", "near.example.com")):
        authority = trustme.CA()
        issued = authority.issue_cert(name)
        authority.cert_pem.write_to_path(str(folder / f"{side}-ca.pem"))
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{side}.pem"))
        found |= {side: str(folder / f"{side}.pem"), f"{side}-ca": str(folder / f"{side}-ca.pem")}
    return found


def test_tls_both_ways(wan: Wan, papers: dict[str, str]) -> None:
    wan.set_rtt(0.05)
    blob = random.Random(2).randbytes(2_000_000)
    server = wan.serve(answers(), fast_open=None)
    echo = wan.serve(echoes(), fast_open=None)
    far_tls = {"cert": papers["far"], "ca": papers["near-ca"]}
    near_tls = {"cert": papers["near"], "ca": papers["far-ca"], "name": "gw.example.com"}
    with far_side(wan, tls=far_tls) as (far, address):
        via = {"tunnel": address, "key": KEY, "tls": near_tls}
        ways = {"a": forward(server, via=via), "b": forward(echo, via=via)}
        with Program(wan.client, ways) as near, ThreadPoolExecutor() as pool:
            lines = []
            for number in range(1, 6):
                assert ask(near.address("a"), POST, fast_open=False).reply == b"pong"
                lines.append(near.session(number))
                assert far.session(number)["reason"] == "closed"
            assert lines[-1]["evidence"] == "syn_data_acked"
            assert min(line["first_byte"] for line in lines) < 2.6 * wan.rtt
            for _ in range(2):
                with socket.create_connection(near.address("b")) as client:
                    sent = pool.submit(send_and_end, client, blob)
                    assert read_all(client) == blob
                    sent.result()
        assert not [one for one in wan.capture().between(endpoint(address)) if b"POST" in one.payload]
    wan.set_rtt(0.1)
    assert received(server) == [POST] * 5


def send_and_end(client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("near_tls", "reason"),
    [
        ({"ca": "far-ca", "name": "other.example.com", "cert": "near"}, "not_authenticated"),
        ({"ca": "near-ca", "name": "gw.example.com", "cert": "near"}, "not_authenticated"),
        ({"ca": "far-ca", "name": "gw.example.com"}, "not_authenticated"),
        (None, "not_authenticated"),
    ],
    ids=["name", "authority", "no-certificate", "no-tls"],
)
def test_tls_that_is_not_trusted(
    wan: Wan, papers: dict[str, str], near_tls: dict[str, str] | None, reason: str
) -> None:
    server = wan.serve(answers(), fast_open=None)
    via: dict[str, Any] = {"key": KEY}
    if near_tls is not None:
        via["tls"] = {key: papers.get(value, value) for key, value in near_tls.items()}
    there = f"{wan.fresh_address()}:7413"
    far_tls = {"cert": papers["far"], "ca": papers["near-ca"]}
    with (
        far_side(wan, where=there, tls=far_tls) as (far, _),
        Program(wan.client, {"a": forward(server, via={"tunnel": there, **via})}) as near,
    ):
        assert not ask(near.address(), POST, fast_open=False).reply
        assert far.wait_for("session", reason=reason)
        near.session(1)
    assert not server.received
