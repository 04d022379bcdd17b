"""Every socket option the proxy uses, by name; numbers that Python lacks are from ``include/uapi/linux/tcp.h``."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import termios
from collections.abc import Iterator
from fcntl import ioctl
from functools import lru_cache
from typing import NamedTuple

from proxy.core.address import Endpoint
from proxy.core.clusters import Source
from proxy.core.evidence import INFO_SIZE, Progress, TcpInfo
from proxy.core.snapshot import Keepalive
from proxy.net.connection import Connection

IP_BIND_ADDRESS_NO_PORT = 24
TCP_FASTOPEN = 23
TCP_SAVE_SYN = 27
TCP_SAVED_SYN = 28
TCP_FASTOPEN_KEY = 33
SO_ORIGINAL_DST = (
    80  # include/uapi/linux/netfilter_ipv4.h, and the same number in netfilter_ipv6/ip6_tables.h
)
IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75
_MARK_NEEDS = "it needs the capability CAP_NET_ADMIN (or, from Linux 5.17 on, CAP_NET_RAW)"
_INTERFACE_NEEDS = "it needs the capability CAP_NET_RAW"
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_STATE_AND_OPTIONS = 6  # bytes of TCP_INFO up to and including tcpi_options
_LINGER_NOT = struct.pack("ii", 1, 0)
_IPV6_HEADER = 40
_INT = struct.Struct("i")


class NoSource(OSError):
    """A connection cannot come from where it should; ``strerror`` says why."""


class SynData(NamedTuple):
    """How a client opened its connection to us."""

    fast_open: bool  # the SYN had a valid cookie (or none was needed)
    size: int  # bytes that came inside the SYN
    headers: bytes  # of the SYN, IP and TCP


NO_SYN_DATA = SynData(fast_open=False, size=0, headers=b"")


def tcp_info(sock: socket.socket) -> TcpInfo:
    """The handshake's evidence (``TCP_INFO``)."""
    return TcpInfo.parse(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_SIZE))


def local_address(sock: socket.socket) -> Endpoint | None:
    """The socket's own address and port; None for a unix socket, and where it has none (any more)."""
    if sock.family == socket.AF_UNIX:
        return None
    try:
        name = sock.getsockname()
    except OSError:
        return None
    host = name[0] if len(name) < 4 or not name[3] else f"{name[0]}%{_interface(name[3])}"
    return Endpoint(host, name[1])


def address_of(endpoint: Endpoint) -> tuple[str, int] | tuple[str, int, int, int]:
    """What connect(2), bind(2) and sendto(2) take: Python drops a zone (``fe80::1%eth0``) that stands in the host.

    Raises OSError (ENODEV: there is no such interface now; it may come later).
    """
    host, percent, zone = endpoint.host.partition("%")
    if not percent:
        return endpoint
    try:
        return host, endpoint.port, 0, int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    except OSError:
        raise OSError(errno.ENODEV, f"there is no network interface {zone}") from None


def _interface(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


def progress(sock: socket.socket) -> Progress:
    """What has become of the packets behind the SYN (``TCP_INFO``)."""
    return Progress.parse(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_SIZE))


def pending_error(sock: socket.socket) -> int:
    """The socket's errno, or 0; reading clears it (``SO_ERROR``)."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def dialling_socket(endpoint: Endpoint, source: Source | None = None) -> socket.socket:
    """A fresh non-blocking socket for this endpoint's family, bound to ``source``.

    The errors are those of socket(2), and `NoSource`.
    """
    family = _family(endpoint.host)
    sock = Connection(family, _STREAM, 0, None)
    if source is not None and family != socket.AF_UNIX:
        try:
            _come_from(sock, source, family)
        except BaseException:
            sock.close()
            raise
    return sock


@lru_cache(4096)
def _family(host: str) -> int:
    if host[:1] in {"/", "@"}:
        return int(socket.AF_UNIX)
    return int(socket.AF_INET6 if ":" in host else socket.AF_INET)


def _come_from(sock: socket.socket, source: Source, family: int) -> None:
    if source.mark is not None:
        with _explained(f"packets cannot be marked with {source.mark}", _MARK_NEEDS):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, source.mark)
    if source.interface is not None:
        with _explained(f"the source interface {source.interface} is not to be had", _INTERFACE_NEEDS):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, source.interface.encode() + b"\0")
    if source.addresses:
        own = next((host for host in source.addresses if (":" in host) is (family == socket.AF_INET6)), None)
        if own is None:
            raise NoSource(errno.EAFNOSUPPORT, "there is no source address of this family")
        sock.setsockopt(
            socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1
        )  # the port is chosen when the peer is known
        with _explained(f"the source address {own} is not of this machine"):
            sock.bind(address_of(Endpoint(own, 0)))


@contextlib.contextmanager
def _explained(problem: str, needs: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        missing = f"; {needs}" if needs and error.errno in {errno.EPERM, errno.EACCES} else ""
        raise NoSource(error.errno, f"{problem}: {os.strerror(error.errno or 0)}{missing}") from error


def has_way(endpoint: Endpoint, source: Source | None = None) -> bool:
    """Whether the kernel has a route and a local address for ``endpoint``; nothing is sent to find out."""
    try:
        with socket.socket(_family(endpoint.host), socket.SOCK_DGRAM) as probe:
            if source is not None:
                _come_from(probe, source, probe.family)
            probe.connect(address_of(endpoint))
    except OSError:
        return False
    return True


def source_problem(source: Source) -> str:
    """Why connections cannot come from there just now, on this machine and with our privileges; "" if they can."""
    families = [Endpoint(host, 0) for host in source.addresses] or [Endpoint("127.0.0.1", 0)]
    try:
        for family in families:
            dialling_socket(family, source).close()
    except NoSource as error:
        return f"{error.strerror} ({errno_name(error.errno or 0)})"
    return ""


def send_at_once(sock: socket.socket) -> None:
    """Never hold back a small write (``TCP_NODELAY``). Accepted sockets inherit it from their listener."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def unread(sock: socket.socket) -> int:
    """Bytes that can be read now (``SIOCINQ``, tcp(7)), without taking a pending error out of the socket."""
    try:
        return int(_INT.unpack(ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0])
    except OSError:
        return 0


def keep_alive(sock: socket.socket, keepalive: Keepalive | None) -> None:
    """Notice a peer that vanished. Accepted sockets inherit this from their listener. None: off again."""
    if keepalive is None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(keepalive.idle)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(keepalive.interval)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.count)


def accept_syn_data(sock: socket.socket, queue: int, keys: tuple[bytes, ...] = ()) -> None:
    """Let a listening socket take SYN data; ``queue`` handshakes at a time may carry some (tcp(7) TCP_FASTOPEN).

    The kernel caps ``queue`` at ``net.core.somaxconn``, and a SYN whose data was taken but that never went on
    keeps its place for a minute: hundreds, not tens. ``keys`` are 16 bytes each, newest first, at most two.
    """
    if keys:
        set_keys(sock, keys)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, queue)
    with contextlib.suppress(OSError):  # without it we only know less about our clients
        sock.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)


def set_keys(sock: socket.socket, keys: tuple[bytes, ...]) -> None:
    """Change what a listening socket makes and accepts cookies with; those of any of the keys are good.

    At once, and without a SYN lost. Raises OSError (EINVAL: not one or two keys of 16 bytes).
    """
    sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_KEY, b"".join(keys))


def fast_open_queue(sock: socket.socket) -> int:
    """The queue length a listening socket really has for SYN data; 0: it takes none."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN)
    except OSError:
        return 0


def client_syn_data(sock: socket.socket) -> SynData:
    """What a just accepted TCP connection had in its SYN. Costs one cheap call where it had nothing."""
    try:
        options = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _STATE_AND_OPTIONS)[5]
    except (OSError, IndexError):
        return NO_SYN_DATA
    if not options & (128 | 32):
        return NO_SYN_DATA
    try:
        saved = sock.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 256)
    except OSError:
        saved = b""
    return SynData(fast_open=True, size=_payload_size(saved), headers=saved)


def dialled_address(sock: socket.socket) -> Endpoint:
    """Where an accepted connection ends: one of our addresses or, with TPROXY, any."""
    host, port, *_ = sock.getsockname()
    return Endpoint(unmapped(host), port)


def original_destination(sock: socket.socket) -> Endpoint | None:
    """Where a client was going that REDIRECT or DNAT brought here; None where it dialled us itself.

    Raises OSError (ENOENT: netfilter knows nothing of this connection).
    """
    here = dialled_address(sock)
    if "." in here.host:
        raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        there = Endpoint(socket.inet_ntop(socket.AF_INET, raw[4:8]), int.from_bytes(raw[2:4], "big"))
    else:
        raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
        there = Endpoint(socket.inet_ntop(socket.AF_INET6, raw[8:24]), int.from_bytes(raw[2:4], "big"))
    return None if there == here else there


def unmapped(host: str) -> str:
    """``192.0.2.1`` for ``::ffff:192.0.2.1``, which is how an IPv4 peer of a dual-stack socket is called."""
    bare = host.removeprefix("::ffff:")
    return bare if "." in bare else host


def transparent(sock: socket.socket, wanted: bool) -> None:
    """Let a listening socket take connections to addresses that are not ours, or not; needs CAP_NET_ADMIN if so."""
    if bool(sock.getsockopt(socket.SOL_IP, IP_TRANSPARENT)) is wanted:
        return
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, wanted)
    sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, wanted)


def reset_on_close(sock: socket.socket) -> None:
    """Make ``close`` send a RST instead of a FIN (``SO_LINGER`` with no time)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


def errno_name(code: int) -> str:
    """``ECONNREFUSED`` for 111."""
    return errno.errorcode.get(code, f"errno {code}")


def _payload_size(saved_syn: bytes) -> int:
    """Bytes that followed the headers which ``TCP_SAVED_SYN`` kept: the IP header still counts them."""
    if len(saved_syn) < 20:
        return 0
    if saved_syn[0] >> 4 == 4:
        ip_header = (saved_syn[0] & 15) * 4
        total = int.from_bytes(saved_syn[2:4], "big")
    else:
        ip_header = _IPV6_HEADER
        total = ip_header + int.from_bytes(saved_syn[4:6], "big")
    if len(saved_syn) < ip_header + 13:
        return 0
    return max(0, total - ip_header - (saved_syn[ip_header + 12] >> 4) * 4)
