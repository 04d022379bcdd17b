"""The closed lists: how a session can end, and why. Log values, metric labels and return values at once."""

from __future__ import annotations

from enum import StrEnum


class EndedBy(StrEnum):
    """Whose act ended a session (after HAProxy's termination state, configuration.txt section 8.5)."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    PROXY = "proxy"
    TIMEOUT = "timeout"
    OPERATOR = "operator"


class Stage(StrEnum):
    """The stage a session was in when it ended."""

    ACCEPT = "accept"
    SNIFF = "sniff"
    ROUTE = "route"
    DIAL = "dial"
    RELAY = "relay"


class Reason(StrEnum):
    """Why a session ended, in one word that an operator can search for."""

    CLOSED = "closed"  # both sides ended in order
    RESET = "reset"  # a RST came
    VANISHED = "vanished"  # keepalive or retransmissions went unanswered (ETIMEDOUT, EHOSTUNREACH)
    REFUSED = "refused"  # nobody listens there
    UNREACHABLE = "unreachable"  # the host does not answer, or ICMP said so
    NET_UNREACHABLE = "net_unreachable"  # there is no route to its network
    CONNECT_TIMEOUT = "connect_timeout"
    NO_SUCH_HOST = "no_such_host"
    NO_ENDPOINT = "no_endpoint"  # the cluster has none that can be dialled
    NO_PORTS = "no_ports"  # EADDRNOTAVAIL: local ports have run out
    NO_SOURCE = "no_source"  # connections cannot come from where the configuration wants them to
    NO_DESCRIPTORS = "no_descriptors"  # EMFILE, ENFILE
    NO_MEMORY = "no_memory"  # ENOBUFS, ENOMEM
    NOT_PERMITTED = "not_permitted"  # EACCES, EPERM: a local firewall or policy
    BAD_REQUEST = "bad_request"  # the handshake breaks its rules, or asks what nobody serves
    BAD_RESPONSE = (
        "bad_response"  # a server's answer to a forwarded HTTP request breaks the rules, or is cut short
    )
    HANDSHAKE_TIMEOUT = "handshake_timeout"  # it did not say in time where it wants to go
    NO_REQUEST = "no_request"  # it left before it said so
    NOT_AUTHENTICATED = "not_authenticated"
    NOT_ALLOWED = "not_allowed"  # the listener does not serve this client
    LIMITED = "limited"  # this client has as much as one may have
    WRONG_KEY = "wrong_key"  # an opening of a tunnel that no key fits, or that was tampered with
    OLD_CLOCK = "old_clock"  # one that was sealed too long ago, or in the future
    REPLAYED = "replayed"  # one that has come before
    NONCES_FULL = "nonces_full"  # one too many to remember
    TAKEN_OVER = "taken_over"  # not the end: a session of a tunnel goes on, on another connection
    DENIED = "denied"  # a route, or what `direct` denies, is against it
    LOOP = "loop"  # the way would lead back to this proxy
    IDLE = "idle"
    HALF_CLOSED = "half_closed"
    LIFETIME = "lifetime"
    DRAIN = "drain"
    FAULT = "fault"  # a mistake of ours; the log has the details


UPSTREAM_FAILURES = frozenset(
    {Reason.REFUSED, Reason.UNREACHABLE, Reason.NET_UNREACHABLE, Reason.CONNECT_TIMEOUT}
)
"""Why a dial failed, where the endpoint or the way there is to blame."""
