"""Sockets go from one program to the next, and whoever hands them on hears whether they are served."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from proxy.service import upgrade
from proxy.service.upgrade import Heirloom, NotUpgraded, inherited

SERVES = """
import socket, time
from proxy.service.upgrade import inherited
left = inherited()
assert [(one.name, one.lent) for one in left.sockets] == [("web", False), ("x", True)], left
left.serves()
left.sockets[0].sock.setblocking(True)
connection, _ = left.sockets[0].sock.accept()
connection.sendall(b"it is me")
"""


def test_what_is_inherited_is_asked_for_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        ours, theirs = os.pipe()
        fd = os.dup(sock.fileno())
        environ = {
            "TFO_PROXY_SOCKETS": f"web={fd};none=99999;odd=x",
            "TFO_PROXY_READY": str(theirs),
            "X": "y",
        }
        left = inherited(environ)
        assert environ == {"X": "y"}
        assert left.useless == ["none", "odd"]
        ((name, found, lent),) = left.sockets
        assert (name, lent, found.getsockname()) == ("web", False, sock.getsockname())
        assert not os.get_inheritable(found.fileno())
        left.serves()
        assert os.read(ours, 2) == b"1"
        os.close(ours)
        found.close()
    nothing = inherited({})
    assert (nothing.sockets, nothing.ready, nothing.useless) == ([], None, [])
    nothing.serves()


async def test_a_successor_takes_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        sockets = [Heirloom("web", one), Heirloom("x", other, lent=True)]
        pid = await upgrade.hand_over(sockets, [sys.executable, "-c", SERVES])
        with socket.create_connection(one.getsockname(), 5) as client:
            assert client.recv(100) == b"it is me"
        with suppress(ChildProcessError):
            await trio.to_thread.run_sync(os.waitpid, pid, 0)


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ([sys.executable, "-c", "raise SystemExit(7)"], "ended with 7"),
        (["/nonexistent"], "cannot be started: No such file"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "did not serve within"),
    ],
)
async def test_one_that_does_not_serve_is_ended(
    argv: list[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "PATIENCE", 0.5 if "60" in argv[-1] else 20.0)
    before = len(os.listdir("/proc/self/fd"))
    with trio.fail_after(30), pytest.raises(NotUpgraded, match=why):
        await upgrade.hand_over([], argv)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_next_one_is_called_as_this_one_was() -> None:
    words = [word for word in upgrade.command() if word != "-P"]
    assert words == [sys.executable, *sys.orig_argv[1:]]


@pytest.mark.parametrize(
    ("called", "again"),
    [
        (["python", "-m", "proxy", "run", "-m"], ["-P", "-m", "proxy", "run", "-m"]),
        (["python", "-I", "-m", "proxy", "run"], ["-I", "-P", "-m", "proxy", "run"]),
        (["python", "-P", "-m", "proxy", "run"], ["-P", "-m", "proxy", "run"]),
        (["python", "/usr/bin/tfo-proxy", "run"], ["/usr/bin/tfo-proxy", "run"]),
    ],
)
def test_the_working_folder_is_not_searched(
    called: list[str], again: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", called)
    assert upgrade.command() == [sys.executable, *again]


async def test_a_folder_of_the_programs_name_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / "__main__.py").write_text(
        "import os; os.write(int(os.environ['TFO_PROXY_READY']), b'1')"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "proxy", "version"])
    with trio.fail_after(30), pytest.raises(NotUpgraded, match="ended with 0"):
        await upgrade.hand_over([])
