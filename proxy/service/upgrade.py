"""Another program takes over: it gets the listening sockets, says when it serves, and the old one leaves.

The sockets are inherited, and one variable says which descriptors they are and for whom. Until the successor has said
that it serves (a byte in a pipe) nothing changes for anybody: both may accept from the same queues, so no connection
is refused or lost, and a successor that fails has failed alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from sysconfig import get_path
from typing import NamedTuple

import trio

import proxy
from proxy.service import systemd

PATIENCE = 60.0  # seconds that a successor may take to serve
_SOCKETS, _READY = "TFO_PROXY_SOCKETS", "TFO_PROXY_READY"
_NOT_HANDED_ON = ("WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_LENT = "lent"


class NotUpgraded(Exception):
    """The successor does not serve; the message says why."""


class Heirloom(NamedTuple):
    """A listening socket that goes from program to program."""

    name: str  # of the listener it was opened for
    sock: socket.socket
    lent: bool = False  # somebody else keeps it open, so its path is his to take away


class Passed(NamedTuple):
    """What else a successor is given: variables, and descriptors that they name."""

    env: Mapping[str, str]
    descriptors: Sequence[int]


NOTHING = Passed({}, ())


class Inheritance(NamedTuple):
    """What was there before we were."""

    sockets: list[Heirloom]
    ready: int | None  # where to say that we serve
    useless: list[str]  # names of what was passed and is no listening socket

    def serves(self) -> None:
        """Tell whoever waits for it."""
        if self.ready is not None:
            with suppress(OSError):
                os.write(self.ready, b"1")
            os.close(self.ready)


def inherited(environ: MutableMapping[str, str] = os.environ) -> Inheritance:
    """Sockets of a predecessor or of the service manager. To be asked once: the variables are taken away."""
    activated = systemd.activated(environ)
    found = [
        Heirloom(name, sock, lent=True) for name, several in activated.sockets.items() for sock in several
    ]
    useless = list(activated.useless)
    for entry in filter(None, environ.pop(_SOCKETS, "").split(";")):
        name, fd, *lent = entry.split("=")
        try:
            sock = socket.socket(fileno=int(fd))
            sock.setblocking(False)
            sock.set_inheritable(False)
        except (OSError, ValueError):
            useless.append(name)
            continue
        found.append(Heirloom(name, sock, bool(lent)))
    ready = environ.pop(_READY, "")
    if not ready.isdigit():
        return Inheritance(found, None, useless)
    os.set_inheritable(int(ready), False)
    return Inheritance(found, int(ready), useless)


def command() -> list[str]:
    """How this program was called: what is installed there now is the next one.

    ``python -m proxy`` would take a folder `proxy` of the working folder for it; ``-P`` keeps that out.
    """
    words = sys.orig_argv[1:]
    if "-m" in words and "-P" not in words[: words.index("-m")]:
        words.insert(words.index("-m"), "-P")
    return [sys.executable, *words]


def _import_path() -> dict[str, str]:
    """``PYTHONPATH`` for a successor where this program is not installed, but was found in the working folder."""
    package = str(Path(proxy.__file__).parent.parent)
    if "-m" not in sys.orig_argv or package in {get_path("purelib"), get_path("platlib")}:
        return {}
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{package}:{known}" if known else package}


async def hand_over(
    heirlooms: Iterable[Heirloom],
    argv: Iterable[str] | None = None,
    passed: Passed = NOTHING,
    stop: trio.Event | None = None,
) -> int:
    """Start a successor on these sockets and wait until it serves; its process number. Raises `NotUpgraded`.

    ``stop`` is set by whoever wants this program to end: nothing is to go on then.
    """
    sockets = list(heirlooms)
    try:
        ours, theirs = os.pipe()
    except OSError as error:
        raise NotUpgraded(f"it cannot be started: {error.strerror}") from error
    env = {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON}
    env[_SOCKETS] = ";".join(
        f"{name}={sock.fileno()}{'=' + _LENT if lent else ''}" for name, sock, lent in sockets
    )
    env |= {_READY: str(theirs), **_import_path(), **passed.env}
    descriptors = [theirs, *(one.sock.fileno() for one in sockets), *passed.descriptors]
    try:
        process = _start(list(argv or command()), descriptors, env)
    except OSError as error:
        os.close(ours)
        raise NotUpgraded(f"it cannot be started: {error.strerror}") from error
    finally:
        os.close(theirs)
    try:
        await _until_it_serves(process, ours, stop)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        os.close(ours)
    process.returncode = 0  # it is nobody's child any more: not to be waited for, nor complained about
    return process.pid


def _start(argv: list[str], descriptors: list[int], env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, pass_fds=descriptors, env=env)  # noqa: S603  # ourselves


async def _until_it_serves(process: subprocess.Popen[bytes], pipe: int, stop: trio.Event | None) -> None:
    os.set_blocking(pipe, False)
    problem = f"the new program did not serve within {PATIENCE:g} seconds"
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + PATIENCE
        if stop is not None:
            nursery.start_soon(_cancel_after, stop, nursery.cancel_scope)
        await trio.lowlevel.wait_readable(pipe)
        problem = "" if os.read(pipe, 1) else await _how_it_ended(process)
        nursery.cancel_scope.cancel()
    if stop is not None and stop.is_set():
        problem = "this program was told to stop meanwhile"
    if problem:
        raise NotUpgraded(problem)


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """It has closed the pipe without a word, so it is about to."""
    while process.poll() is None:  # noqa: ASYNC110  # a few times at most
        await trio.sleep(0.02)
    return f"the new program ended with {process.returncode}; its log says why"
