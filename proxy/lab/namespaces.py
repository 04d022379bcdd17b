"""Network namespaces held by a file descriptor, never by a name: a process that dies leaves nothing behind.

A namespace belongs to a thread, a socket keeps the one it was made in, and ``/proc/sys/net`` shows the one of
the thread that looks. So one process can hold both ends of a connection. See network_namespaces(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, ParamSpec, TypeAlias, TypeVar

from proxy.lab.rtnetlink import rtnetlink

T = TypeVar("T")
P = ParamSpec("P")
Stream: TypeAlias = int | IO[bytes] | None

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
CAP_SYS_ADMIN = 21
_CAP_NET_ADMIN, _CAP_NET_RAW = 12, 13
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITIES_VERSION = 0x20080522
_TOOLS = frozenset({"ip", "nft", "tc"})

_libc = ctypes.CDLL(None, use_errno=True)


class LabUnavailableError(RuntimeError):
    """This system does not let us make network namespaces; the text says what would allow it."""


class Namespace:
    """One network namespace. Close it, or let it go with the process."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name

    @classmethod
    def create(cls, name: str = "") -> Namespace:
        """Make a new, empty namespace. The calling thread stays where it is. Raises LabUnavailableError."""

        def unshared() -> int:
            _system_call("unshare", CLONE_NEWNET)
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        try:
            return cls(_in_new_thread(unshared), name)
        except OSError as error:
            raise LabUnavailableError(f"cannot make a network namespace: {error.strerror}") from error

    @classmethod
    def current(cls, name: str = "") -> Namespace:
        """The namespace of the calling thread."""
        return cls(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), name)

    def enter(self) -> None:
        """Put the calling thread into this namespace for good."""
        _system_call("setns", self.fd, CLONE_NEWNET)

    def close(self) -> None:
        """Give up our hold. Sockets and processes in it keep the namespace alive until they end."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread into this namespace for a while: sockets, threads and processes it starts
        are born there. In async code keep awaits out of the block, unless the whole run belongs inside.
        """
        before = Namespace.current()
        try:
            self.enter()
            try:
                yield
            finally:
                before.enter()
        finally:
            before.close()

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a thread of its own inside the namespace; returns what it returns."""

        def inside() -> T:
            self.enter()
            return function(*args, **kwargs)

        return _in_new_thread(inside)

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket that lives in this namespace, whoever uses it."""
        with self.entered():
            return socket.socket(family, kind)

    def popen(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdout: Stream = None,
        stderr: Stream = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program inside the namespace. For more options use `subprocess` within `entered`."""
        with self.entered():
            return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)

    def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        input: str = "",  # noqa: A002  (as subprocess names it)
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside the namespace to its end; what it wrote and its exit code are in the result.

        The tools that set a namespace up may do so without root too; nothing else gets a capability.
        """
        is_tool = os.geteuid() != 0 and Path(command[0]).name in _TOOLS
        with self.entered():
            return subprocess.run(
                command, env=env, input=input, capture_output=True, text=True, timeout=timeout, check=False,
                preexec_fn=_keep_capabilities if is_tool else None,
            )  # fmt: skip

    def sysctl(self, name: str, value: object = None) -> str:
        """Read a setting such as ``net.ipv4.tcp_fastopen``, or write it when a value is given.

        Returns its text.
        """
        with self.entered():
            if value is not None:
                write_setting(name, value)
            return _setting(name).read_text(encoding="ascii").strip()

    def __repr__(self) -> str:
        return f"Namespace({self.name!r})"


def enter_user_namespace() -> None:
    """Give this process the right to make network namespaces without being root.

    It moves, for good, into a user namespace of its own, where it keeps its uid and has every capability, and
    into a network namespace with nothing but loopback (it could not come back to the old one after a visit).
    Call it before the first thread starts.

    Raises LabUnavailableError.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        _system_call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
        with rtnetlink() as netlink:
            netlink.bring_up("lo")
    except OSError as error:
        why = f"cannot make a user namespace: {error.strerror}"
        if threading.active_count() > 1:
            why += " (the process already has threads)"
        raise LabUnavailableError(
            f"{why}. Run it as root, or allow unprivileged user namespaces: sysctl user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; "
            "in a container: --cap-add SYS_ADMIN --security-opt seccomp=unconfined"
        ) from error


def allowed() -> bool:
    """Whether this process may make network namespaces as it is: whether it has CAP_SYS_ADMIN."""
    # Trying would need a thread, and a process whose thread has only just ended may not unshare its user namespace.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> CAP_SYS_ADMIN & 1)


def ensure_allowed() -> None:
    """Make sure that namespaces can be made, by moving into a user namespace if need be.

    Raises LabUnavailableError.
    """
    if not allowed():
        enter_user_namespace()


def obstacle() -> str | None:
    """Why the lab cannot run for this user, or None if it can. Tried out in a process of its own."""
    script = "from proxy.lab import namespaces as n\ntry: n.ensure_allowed(); n.Namespace.create()\n"
    script += "except n.LabUnavailableError as e: raise SystemExit(str(e))"
    command = [sys.executable, "-S", "-c", script]
    trial = subprocess.run(command, env=python_environment(), capture_output=True, text=True, check=False)
    return trial.stderr.strip() or "the trial failed" if trial.returncode else None


def python_environment() -> dict[str, str]:
    """The environment in which a Python we start finds this package."""
    root = Path(__file__).resolve().parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}


def write_setting(name: str, value: object) -> None:
    """Write a sysctl of the calling thread's namespace."""
    _setting(name).write_text(str(value), encoding="ascii")


def _setting(name: str) -> Path:
    return Path("/proc/sys", name.replace(".", "/"))


def _keep_capabilities() -> None:
    """In a child, before exec: let the tool have what we have in our own user namespace (capabilities(7), ambient)."""
    header = struct.pack("=Ii", _CAPABILITIES_VERSION, 0)
    wanted = 1 << _CAP_NET_ADMIN | 1 << _CAP_NET_RAW
    _libc.capset(header, struct.pack("=6I", wanted, wanted, wanted, 0, 0, 0))
    for number in (_CAP_NET_ADMIN, _CAP_NET_RAW):
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0)


def _system_call(name: str, *args: int) -> None:
    if getattr(_libc, name)(*args) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _in_new_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001  (handed to the caller below)
            failures.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
