"""What the capture says is what tcpdump and tshark say."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.rules import Direction
from proxy.lab.wan import Wan

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]


def tcpdump(path: Path) -> list[str]:
    program = shutil.which("tcpdump") or "/usr/sbin/tcpdump"
    done = subprocess.run([program, "-nvvr", path], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("version", [4, 6])
def test_tcpdump_reads_the_file_and_finds_every_checksum_correct(
    wan: Wan, tmp_path: Path, version: int
) -> None:
    server = wan.serve(answers(), version=version)
    ask(server.address, b"ping")
    with wan.through("strips-option-from-syn"), wan.through("nat-changes-source"):
        ask(server.address, b"ping")
    with wan.through("resets-syn-data"):
        ask(server.address, b"ping")
    with wan.through("rejects-syn-data"):
        ask(server.address, b"ping")
    server.wait(2)
    for side in ("client", "server"):
        wan.capture().write_pcap(tmp_path / side, seen_from="client" if side == "client" else "server")
        text = "\n".join(tcpdump(tmp_path / side))
        assert "cksum 0x" in text
        assert "incorrect" not in text
        assert "bad" not in text
        assert "tfo  cookiereq" in text
    at_client, at_server = ("\n".join(tcpdump(tmp_path / side)) for side in ("client", "server"))
    cookie = wan.capture().syns()[1].cookie
    assert cookie
    quoted = version == 4  # tcpdump prints what an ICMP message quotes
    assert at_client.count(cookie.hex()) == 4 + quoted  # given once, presented three times
    assert at_server.count(cookie.hex()) == 1  # NAT hid one, and two never arrived
    assert ("10.79.0.1" if version == 4 else "fd77:9::1") in at_server


def test_times_are_those_of_the_side_that_looks(wan: Wan) -> None:
    at_client, at_server = [], []
    for _ in range(8):  # of which the quickest tells how far it is
        server = wan.serve(answers())
        ask(server.address, b"ping", fast_open=False)
        syn, syn_ack = wan.capture().between(server.address)[:2]
        assert syn.direction is Direction.UP
        left, answered = syn.seen_from("client"), syn_ack.seen_from("client")
        assert left is not None
        assert answered is not None
        at_client.append(answered[0] - left[0])
        arrived, replied = syn.seen_from("server"), syn_ack.seen_from("server")
        assert arrived is not None
        assert replied is not None
        at_server.append(replied[0] - arrived[0])
    assert wan.rtt <= min(at_client) < wan.rtt + 0.01
    assert 0 <= min(at_server) < 0.01


def test_selections_and_text(wan: Wan) -> None:
    one, other = wan.serve(answers()), wan.serve(answers(), port=81)
    ask(one.address, b"ping")
    wan.install("drops-syn-data")
    ask(one.address, b"ping", timeout=0.0)  # before the kernel says it again
    tried = ask(other.address, b"ping")
    capture = wan.capture()
    assert [len(capture.syns(server.address)) for server in (one, other)] == [2, 1]
    assert len(capture.syns(one.address[0])) == 2
    assert len(capture.syn_acks()) == 2
    assert len(capture.dropped()) == 1
    assert len(capture.syns(src=tried.source)) == 1
    assert {item.packet.dport for item in capture.between(other.address).way(Direction.UP)} == {81}
    assert "[S] seq" in str(capture[0])
    assert capture.text().count("\n") == len(capture) - 1
    assert "(dropped by drops-syn-data)" in capture.text()
    assert len(capture[:3].packets) == 3
    wan.forget()
    assert not wan.capture().syns()


def test_waiting_for_a_packet(wan: Wan) -> None:
    server = wan.serve(answers())
    with socket.create_connection(server.address):
        seen = wan.wait_for(lambda capture: len(capture.where(lambda packet: packet.is_syn_ack)) == 1)
        assert seen.syns(server.address)
    with pytest.raises(TimeoutError, match=r"\[S\] seq"):
        wan.wait_for(lambda capture: bool(capture.resets()), timeout=0.05)
