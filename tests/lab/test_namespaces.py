"""Namespaces belong to threads, sockets keep theirs, and nothing is left behind."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from proxy.lab.namespaces import Namespace, allowed, obstacle, python_environment
from proxy.lab.rtnetlink import rtnetlink

pytestmark = pytest.mark.netns
HERE = Path("/proc/thread-self/ns/net")


def test_a_thread_goes_in_and_comes_back_whatever_happens() -> None:
    outside, namespace = HERE.readlink(), Namespace.create("a")
    with pytest.raises(ZeroDivisionError), namespace.entered():
        assert HERE.readlink() != outside
        _ = 1 // 0
    assert HERE.readlink() == outside
    seen: list[Path] = []
    with namespace.entered():
        thread = threading.Thread(target=lambda: seen.append(HERE.readlink()))
        thread.start()
        thread.join()
    assert seen == [namespace.call(HERE.readlink)]
    namespace.close()


def test_a_call_returns_what_it_returns_and_raises_what_it_raises() -> None:
    namespace = Namespace.create()
    assert namespace.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        namespace.call(divmod, 7, 0)
    namespace.close()


def test_a_socket_stays_where_it_was_made() -> None:
    def up() -> None:
        with rtnetlink() as netlink:
            netlink.bring_up("lo")

    namespace = Namespace.create()
    namespace.call(up)
    with namespace.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname(), timeout=5)
        namespace.call(socket.create_connection, listener.getsockname(), 5).close()
    namespace.close()


def test_settings_and_programs_are_the_namespaces_own() -> None:
    one, other = Namespace.create("one"), Namespace.create("other")
    one.sysctl("net.ipv4.tcp_fastopen", 519)
    assert one.sysctl("net.ipv4.tcp_fastopen") == "519"
    assert other.sysctl("net.ipv4.tcp_fastopen") != "519"
    done = one.run(["sh", "-c", "cat /proc/sys/net/ipv4/tcp_fastopen; cat; exit 3"], input="in")
    assert (done.stdout, done.returncode) == ("519\nin", 3)
    with one.popen(["true"]) as process:
        assert process.wait(10) == 0
    one.close()
    other.close()


def test_closing_twice_is_closing_once() -> None:
    namespace = Namespace.create("a")
    fd = namespace.fd
    namespace.close()
    namespace.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert repr(namespace) == "Namespace('a')"


def test_where_this_test_runs_the_lab_does() -> None:
    assert allowed()
    assert obstacle() is None
    assert Path(python_environment()["PYTHONPATH"], "proxy", "lab").is_dir()
