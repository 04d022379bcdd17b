"""tfo-proxy healthcheck [WHERE]: does the proxy that runs here still accept? Exit code 0 or 1.

Asked at its admin (http://HOST:PORT, or unix:/PATH) it says itself whether it is ready: all is well unless it
starts, drains or does not answer; http://HOST:PORT/livez asks only whether it is alive. With HOST:PORT the answer is a
TCP connection. Without, nothing is connected to, so that a check every few seconds leaves no sessions behind: the
listening sockets which the running proxy holds are looked up in /proc, and all is well if there is one and no
connection keeps waiting in its accept queue.

It imports the standard library only, and little of that: orchestrators start it anew every few seconds.
"""

from __future__ import annotations

import socket
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROC = Path("/proc")
_USAGE = "usage: tfo-proxy healthcheck [HOST:PORT | http://HOST:PORT[/livez] | unix:/PATH]"
SAMPLES = 20  # one second of a queue that never is empty is no longer a burst
PATIENCE = 2.0  # seconds: below the usual timeouts of Docker (3 s here) and Kubernetes probes
MOST_ANSWER = 4096
TCP_LISTEN = "0A"  # include/net/tcp_states.h
ACCEPTS_CONNECTIONS = 0x10000  # __SO_ACCEPTCON, include/uapi/linux/net.h


class Listening(NamedTuple):
    """One listening socket: what to call it, and how many connections wait to be accepted."""

    name: str
    waiting: int


def main(arguments: Sequence[str]) -> int:
    """Check, say in one line what was found, and return the exit code."""
    if set(arguments) & {"-h", "--help"}:
        sys.stdout.write(f"{_USAGE}\n\n{__doc__}")
        return 0
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        sys.stderr.write(f"{_USAGE}\n")
        return 2
    problem = _judge(arguments[0]) if arguments else complaint()
    if problem:
        sys.stderr.write(f"unhealthy: {problem}\n")
        return 1
    sys.stdout.write("healthy\n")
    return 0


def _judge(where: str) -> str:
    """What is wrong at this address; empty if nothing is."""
    if where.startswith("unix:"):
        path = where.removeprefix("unix:")
        return unreadiness(where, socket.AF_UNIX, f"\0{path[1:]}" if path.startswith("@") else path)
    if not where.startswith("http://"):
        return refusal(where)
    authority, slash, path = where.removeprefix("http://").partition("/")
    host, _, port = authority.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        return f"{where!r} is not http://HOST:PORT"
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return unreadiness(where, family, (host.strip("[]"), int(port)), slash + path if path else "/readyz")


def unreadiness(where: str, family: int, address: tuple[str, int] | str, path: str = "/readyz") -> str:
    """Why the proxy whose admin is there is not ready; empty if it is. HTTP/1.0 by hand: http.client takes 30 ms."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(address)
            sock.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = b""
            while len(answer) < MOST_ANSWER and (data := sock.recv(MOST_ANSWER)):
                answer += data
    except (OSError, ValueError) as error:
        return f"{where}: {error}"
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split(b" ")
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        return f"{where}: that is no admin address"
    said = body.decode("ascii", "replace").strip()[:100]
    return (
        ""
        if words[1] == b"200"
        else f"{where} says {said!r}"
        if said.isprintable()
        else f"{where} is not ready"
    )


def refusal(where: str) -> str:
    """Why a TCP connection to HOST:PORT or [HOST]:PORT does not come about; empty if it does."""
    host, _, port = where.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        return f"{where!r} is not HOST:PORT"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        return f"{where}: {error}"
    return ""


def complaint() -> str:
    """What is wrong with the proxy that runs here; empty if nothing is."""
    processes = list(proxies())
    if not processes:
        return "no proxy runs here"
    stuck: set[str] = set()
    for sample in range(SAMPLES):
        time.sleep(sample and 0.05)
        sockets = [listening for process in processes for listening in listening_sockets(process)]
        if not sockets:
            return "the proxy does not listen"
        waiting = {listening.name for listening in sockets if listening.waiting}
        stuck = stuck & waiting if sample else waiting
        if not stuck:
            return ""
    return f"connections wait and are not accepted on {', '.join(sorted(stuck))}"


def proxies() -> Iterator[Path]:
    """The /proc directories of the processes that are `tfo-proxy run` and that we may look into."""
    for process in PROC.glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
        named = any(word.rpartition("/")[2] == "tfo-proxy" for word in words[:2])
        if "run" in words and (named or ("-m", "proxy") in pairwise(words)):
            yield process


def listening_sockets(process: Path) -> Iterator[Listening]:
    """The listening TCP and unix sockets among a process's open files (proc(5), net/tcp and net/unix)."""
    held = set(socket_inodes(process))
    for table in ("tcp", "tcp6"):
        for _, local, _, state, queues, _, _, _, _, inode, *_ in rows(process / "net" / table):
            if state == TCP_LISTEN and inode in held:
                port, waiting = local.rpartition(":")[2], queues.partition(":")[2]
                yield Listening(f"port {int(port, 16)}", int(waiting, 16))
    for _, _, _, flags, _, _, inode, *path in rows(process / "net" / "unix"):
        if int(flags, 16) & ACCEPTS_CONNECTIONS and inode in held:
            yield Listening(" ".join(path), 0)  # the table does not tell how many wait


def socket_inodes(process: Path) -> Iterator[str]:
    """The inode numbers of a process's sockets; none if it ended or is not ours to look into."""
    try:
        for descriptor in (process / "fd").iterdir():
            kind, _, inode = str(descriptor.readlink()).partition(":")
            if kind == "socket":
                yield inode.strip("[]")
    except OSError:
        return


def rows(table: Path) -> Iterator[list[str]]:
    """The fields of each line of a table under /proc/PID/net, without its head; none if it is not there."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return
    yield from (line.split() for line in lines[1:])
