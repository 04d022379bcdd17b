"""Our own listeners and Fast Open: what they really take, whose keys they use, what came twice."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from proxy.core.snapshot import Bind, Cluster, Listener, Mode
from proxy.lab.behaviours import answers, answers_each
from proxy.lab.clients import Exchange, ask
from proxy.lab.namespaces import Namespace
from proxy.lab.wan import Wan
from proxy.net import accept, sockopt
from tests.wire.program import GET, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]

A, B = b"A" * 16, b"B" * 16


def counters(namespace: Namespace) -> dict[str, int]:
    """The namespace's TcpExt counters."""
    lines = namespace.call(Path("/proc/thread-self/net/netstat").read_text).splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("TcpExt:"))
    return dict(zip(names, map(int, values), strict=True))


def listener(backlog: int = 1024, fast_open: bool = True) -> Listener:
    return Listener(
        "a", (Bind("127.0.0.1", 0),), Mode.FORWARD, Cluster("c", ()), fast_open=fast_open, backlog=backlog
    )


# What is taken


def test_the_queue_is_as_long_as_the_backlog_and_as_somaxconn_allows(wan: Wan) -> None:
    most = int(wan.client.sysctl("net.core.somaxconn"))
    for backlog, queue in ((1, 1), (256, 256), (most + 1, most)):
        with accept.listen(listener(backlog), Bind("127.0.0.1", 0)) as sock:
            assert sockopt.fast_open_queue(sock) == queue
    with accept.listen(listener(fast_open=False), Bind("127.0.0.1", 0)) as sock:
        assert sockopt.fast_open_queue(sock) == 0


def test_a_queue_cut_short_is_said(wan: Wan) -> None:
    wan.client.sysctl("net.ipv4.tcp_fastopen", 3)
    wan.client.sysctl("net.core.somaxconn", 100)
    with Program(wan.client, {"a": forward(("10.77.2.9", 80))}) as program:
        (said,) = program.events("short_queue")
        assert (said["level"], said["listener"]) == ("warning", "a")
        assert (said["backlog"], said["allowed"]) == (1024, 100)
        assert said["do"].startswith("sysctl -w net.core.somaxconn=1024")
    wan.client.sysctl("net.core.somaxconn", 1024)
    with Program(wan.client, {"a": forward(("10.77.2.9", 80))}) as program:
        assert not program.events("short_queue")


def test_a_missing_server_bit_is_said_with_the_line_that_mends_it(wan: Wan) -> None:
    ends = {
        "a": forward(("10.77.2.9", 80)),
        "b": forward(("10.77.2.9", 80)),
        "u": forward(("10.77.2.9", 80), "unix:@x-u"),
    }
    wan.client.sysctl("net.ipv4.tcp_fastopen", 1)
    with Program(wan.client, ends) as program:
        assert [line["fast_open"] for line in program.events("listening")] == [False] * 3
        (said,) = program.events("no_syn_data")
        assert (said["level"], said["listeners"]) == ("warning", ["a", "b"])
        assert said["do"].startswith("sysctl -w net.ipv4.tcp_fastopen=3")
    wan.client.sysctl("net.ipv4.tcp_fastopen", 3)
    with Program(wan.client, ends) as program:
        assert [line["fast_open"] for line in program.events("listening")] == [True, True, False]
        assert not program.events("no_syn_data")


def test_nobody_is_warned_who_does_not_want_it(wan: Wan) -> None:
    wan.client.sysctl("net.ipv4.tcp_fastopen", 1)
    settings, cluster = forward(("10.77.2.9", 80))
    with Program(wan.client, {"a": (settings | {"fast_open": False}, cluster)}) as program:
        assert not program.events("no_syn_data")


# Keys


def test_the_newer_key_makes_cookies_and_both_are_good(wan: Wan) -> None:
    here = wan.fresh_address()
    with wan.server.entered(), accept.listen(listener(), Bind(here, 80), (A,)) as sock:
        address = (here, 80)

        def dial() -> Exchange:
            with wan.client.entered():
                return ask(address, b"x", timeout=0.5)  # nobody answers: the kernel has it all

        def new_cookie() -> bytes | None:
            wan.forget()
            dial()
            found = wan.capture().syn_acks(src=here)[0].packet.cookie
            return found or None

        first = new_cookie()
        assert first
        assert dial().syn_data_acked
        sockopt.set_keys(sock, (B, A))
        before = counters(wan.server)["TCPFastOpenPassiveAltKey"]
        second = new_cookie()
        assert second
        assert second != first
        assert counters(wan.server)["TCPFastOpenPassiveAltKey"] == before + 1
        assert dial().syn_data_acked
        sockopt.set_keys(sock, (B,))
        assert dial().syn_data_acked
        with pytest.raises(OSError, match="Invalid"):
            sockopt.set_keys(sock, (b"short",))
        with pytest.raises(OSError, match="Invalid"):
            sockopt.set_keys(sock, (A, B, A))


def test_keys_are_changed_while_it_runs_without_one_lost_syn(wan: Wan, tmp_path: Path) -> None:
    here = wan.fresh_address()
    server = wan.serve(answers_each(request=4))
    keys = tmp_path / "keys"

    def write(*wanted: bytes) -> None:
        keys.write_text(" ".join(key.hex() for key in wanted))

    def config(*wanted: bytes) -> list[str]:
        return [key.hex() for key in wanted]

    file = tmp_path / "proxy.yaml"

    def configure(*wanted: bytes, drain: str = "1s") -> None:
        file.write_text(
            f"listeners: {{a: {{bind: '{here}:80', mode: forward, to: c}}}}\n"
            f"clusters: {{c: {{endpoints: ['{server.address[0]}:80'], warm_up: false}}}}\n"
            f"tfo_keys: {config(*wanted)}\nlog: {{format: json}}\ndrain: {drain}\n"
        )

    configure(A)
    dials: list[Exchange] = []
    over = threading.Event()

    def customers() -> None:
        with wan.client.entered():
            while not over.is_set():
                dials.append(ask((here, 80), b"ping"))

    with Program(wan.server, arguments=[str(file)]) as program:
        with wan.client.entered():
            ask((here, 80), b"ping")  # the cookie
        thread = threading.Thread(target=customers)
        thread.start()
        some = 0
        for number, wanted in enumerate([(B, A), (B,)], 1):
            some += 8
            until(lambda enough=some: len(dials) >= enough, 30)  # type: ignore[misc]  # bound now
            configure(*wanted)
            program.signal(signal.SIGHUP)
            assert program.wait_for("reloaded", number)["changed"] == ["tfo_keys"]
            some = len(dials)
        until(lambda: len(dials) >= some + 8 and len(dials) > 20, 30)
        over.set()
        thread.join()
        assert not program.events("restart_needed")
        configure(drain="2s")
        program.signal(signal.SIGHUP)
        assert program.wait_for("restart_needed")["keys"] == ["tfo_keys"]
        file.write_text("listeners: 7\n")
        program.signal(signal.SIGHUP)
        assert "proxy.yaml:1:12" in program.wait_for("not_reloaded")["why"]
        with wan.client.entered():
            assert ask((here, 80), b"ping").syn_data_acked, "and it goes on as before"
    assert len(dials) > 20
    assert all(dial.reply == b"pong" for dial in dials)
    assert all(dial.syn_data_acked for dial in dials), "at the first attempt: a SYN sent again has no data"


# What came twice


def test_the_networks_duplicate_is_recognised_and_counted(wan: Wan) -> None:
    here = wan.fresh_address()
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.server, {"a": forward(server, f"{here}:0")}) as program:
        ask(program.address(), GET)  # the cookie
        program.session(1)
        with wan.through("duplicates-syn-data", after=0.4):
            assert ask(program.address(), GET).syn_data_acked
            assert "duplicate" not in program.session(2)
            line = program.session(3)
        assert line["duplicate"] is True
        assert line["client_syn_bytes"] == len(GET)
        assert program.status()["duplicates"] == 1
        assert ask(program.address(), GET).syn_data_acked
        assert "duplicate" not in program.session(4)


def test_the_duplicate_of_a_request_that_names_its_destination_is_recognised_too(
    wan: Wan, tmp_path: Path
) -> None:
    """The destination is an address of the proxy's own machine, which direct.allow has to name."""
    here, server = (
        wan.fresh_address(),
        wan.serve(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", request=20)),
    )
    file = tmp_path / "proxy.yaml"
    file.write_text(
        f"listeners: {{a: {{bind: '{here}:80', mode: http, allow: [10.0.0.0/8]}}}}\n"
        f"direct: {{allow: ['{server.address[0]}']}}\nlog: {{format: json}}\n"
    )
    request = f"GET http://{server.address[0]}/ HTTP/1.1\r\nHost: {server.address[0]}\r\n\r\n".encode()
    with Program(wan.server, arguments=[str(file)]) as program:
        ask((here, 80), request)  # the cookie
        program.session(1)
        with wan.through("duplicates-syn-data", after=0.4):
            assert ask((here, 80), request).syn_data_acked
            assert "duplicate" not in program.session(2)
            assert program.session(3)["duplicate"] is True
