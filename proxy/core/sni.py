"""Where a TLS client wants to go, by the name in its ClientHello (RFC 6066, 3)."""

from __future__ import annotations

from proxy.core.address import BadAddress
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, Parser, Reader
from proxy.core.request import Request, target_of
from proxy.core.tls import MAX_HELLO, client_hello

__all__ = ["LIMIT", "opening"]

LIMIT = MAX_HELLO * 2  # a hello in the smallest of records that anybody sends
_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"  # a fatal alert (RFC 8446, 6.2)
_UNTOLD = frozenset(
    {Reason.REFUSED, Reason.UNREACHABLE, Reason.NET_UNREACHABLE, Reason.CONNECT_TIMEOUT}
)  # looks like the server's own silence


def opening(reader: Reader, *, port: int) -> Parser[Request]:
    """One ClientHello, kept whole as first bytes for the upstream; ``port`` is where its name is dialled.

    Under ECH the name is the outer one, which is where the client wants the connection to go; a made-up ECH (RFC 9849,
    "GREASE") looks the same and its name is the real one. Without a name there is no authority. Raises `NotMine`
    and `Malformed` for what is no hello.
    """
    hello = yield from client_hello(reader)
    early = bytes(reader.data[: reader.position])
    if hello.server_name is None:
        return Request("tls", early=early, refused=_refused)
    try:
        target = target_of(hello.server_name, port)
    except BadAddress as error:
        raise Malformed(str(error)) from None
    return Request("tls", target, early, refused=_refused, sni=target.host)


def _refused(reason: Reason, detail: str) -> bytes:  # noqa: ARG001  # the shape of `Request.refused`
    return b"" if reason in _UNTOLD else _UNRECOGNIZED_NAME
