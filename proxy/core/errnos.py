"""What an errno of a network call means there: the same number means different things in different calls.

Sources: the man pages of the calls; for pending errors (``SO_ERROR``) icmp_err_convert[] in net/ipv4/icmp.c and
tab_unreach[] in net/ipv6/icmp.c; for routes fib_props[] in net/ipv4/fib_semantics.c (``blackhole`` is EINVAL,
``prohibit`` EACCES, ``unreachable`` EHOSTUNREACH). What a client is told follows from the meaning (`core.socks`,
`core.http1`).
"""

from __future__ import annotations

import errno
from enum import StrEnum

from proxy.core.outcomes import Reason


class Call(StrEnum):
    """What was called."""

    SOCKET = "socket"  # socket(2), epoll_ctl(2), pipe(2)
    SOURCE = "source"  # bind(2), setsockopt(2) of SO_MARK and SO_BINDTODEVICE, before a dial
    CONNECT = "connect"  # connect(2), sendto(2) with MSG_FASTOPEN: the kernel knows at once
    HANDSHAKE = "handshake"  # SO_ERROR of a dial under way: the network or the other host has answered
    RELAY = "relay"  # recv(2), send(2), splice(2), SO_ERROR of a connection
    ACCEPT = "accept"  # accept(2)


_SHORT = {
    errno.EMFILE: Reason.NO_DESCRIPTORS,
    errno.ENFILE: Reason.NO_DESCRIPTORS,
    errno.ENOBUFS: Reason.NO_MEMORY,
    errno.ENOMEM: Reason.NO_MEMORY,
    errno.ENOSPC: Reason.NO_MEMORY,  # fs.epoll.max_user_watches
}
_UNREACHABLE = {
    errno.ENETUNREACH: Reason.NET_UNREACHABLE,
    errno.ENETDOWN: Reason.NET_UNREACHABLE,
    errno.EHOSTUNREACH: Reason.UNREACHABLE,
    errno.EHOSTDOWN: Reason.UNREACHABLE,
    errno.ENONET: Reason.UNREACHABLE,  # ICMP: source host isolated
}
_POLICY = {errno.EPERM: Reason.NOT_PERMITTED, errno.EACCES: Reason.NOT_PERMITTED}

MEANINGS: dict[Call, dict[int, Reason]] = {
    Call.SOCKET: _SHORT
    | _POLICY
    | {
        errno.EAFNOSUPPORT: Reason.NET_UNREACHABLE,  # a kernel without IPv6, or a sandbox
        errno.EPROTONOSUPPORT: Reason.NET_UNREACHABLE,
    },
    Call.SOURCE: _SHORT,  # anything else: `OTHERWISE`
    Call.CONNECT: _SHORT
    | _UNREACHABLE
    | _POLICY  # a firewall that drops what goes out, a `prohibit` route, SELinux; a unix socket's mode
    | {
        errno.ECONNREFUSED: Reason.REFUSED,
        errno.ECONNRESET: Reason.REFUSED,
        errno.ECONNABORTED: Reason.REFUSED,
        errno.ENOENT: Reason.REFUSED,  # a unix socket that is not there
        errno.ENOTDIR: Reason.REFUSED,
        errno.ELOOP: Reason.REFUSED,
        errno.EPROTOTYPE: Reason.REFUSED,  # a unix socket of another kind
        errno.EAGAIN: Reason.REFUSED,  # a unix socket whose queue is full
        errno.ETIMEDOUT: Reason.CONNECT_TIMEOUT,
        errno.EADDRNOTAVAIL: Reason.NO_PORTS,  # or no local address of this family: the caller finds out which
        errno.EADDRINUSE: Reason.NO_PORTS,
        errno.EAFNOSUPPORT: Reason.NET_UNREACHABLE,
        errno.ENODEV: Reason.NET_UNREACHABLE,  # the interface of a zone (fe80::1%eth0) is not there
        errno.EINVAL: Reason.UNREACHABLE,  # a `blackhole` route; or a source address that cannot go there
    },
    Call.HANDSHAKE: _SHORT
    | _UNREACHABLE
    | {
        errno.ECONNREFUSED: Reason.REFUSED,
        errno.ECONNRESET: Reason.REFUSED,
        errno.ECONNABORTED: Reason.REFUSED,
        errno.EPIPE: Reason.REFUSED,
        errno.ENOPROTOOPT: Reason.REFUSED,  # ICMP: protocol unreachable
        errno.EPROTO: Reason.REFUSED,  # ICMPv6: unknown next header
        errno.ETIMEDOUT: Reason.CONNECT_TIMEOUT,
        errno.EACCES: Reason.UNREACHABLE,  # ICMPv6: prohibited, by a firewall on the way
        errno.EPERM: Reason.NOT_PERMITTED,
        errno.EADDRNOTAVAIL: Reason.NO_PORTS,
    },
    Call.RELAY: {
        errno.ETIMEDOUT: Reason.VANISHED,
        errno.EHOSTUNREACH: Reason.VANISHED,
        errno.EHOSTDOWN: Reason.VANISHED,
        errno.ENETUNREACH: Reason.VANISHED,
        errno.ENETDOWN: Reason.VANISHED,
        errno.ENONET: Reason.VANISHED,
        errno.EACCES: Reason.VANISHED,
        errno.ECONNRESET: Reason.RESET,
        errno.ECONNABORTED: Reason.RESET,
        errno.EPIPE: Reason.RESET,
    },
    Call.ACCEPT: _SHORT | {errno.EPERM: Reason.NOT_PERMITTED, errno.ECONNABORTED: Reason.RESET},
}
OTHERWISE: dict[Call, Reason] = {
    Call.SOCKET: Reason.UNREACHABLE,
    Call.SOURCE: Reason.NO_SOURCE,
    Call.CONNECT: Reason.UNREACHABLE,
    Call.HANDSHAKE: Reason.UNREACHABLE,
    Call.RELAY: Reason.RESET,
    Call.ACCEPT: Reason.RESET,  # that connection is gone, the next may be good
}
# Nothing is wrong with either side: this process or machine lacks something.
SHORTAGES = frozenset(_SHORT)
# Errors of accept(2) that took one connection out of the queue; after any other the same would fail again at once.
ABOUT_ONE_CONNECTION = frozenset(
    {errno.ECONNABORTED, errno.ECONNRESET, errno.EPROTO, errno.ENOPROTOOPT, *_UNREACHABLE}
)


def meaning(call: Call, code: int) -> Reason:
    """What errno ``code`` of ``call`` says; 0 or an unknown one: what such a failure usually is."""
    return MEANINGS[call].get(code, OTHERWISE[call])
