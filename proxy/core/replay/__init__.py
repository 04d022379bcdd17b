"""Which of a client's first bytes may be sent twice?

Data in a SYN can reach the server twice: the network may repeat the SYN, and a dial that seemed lost may be
repeated beside one that was not (RFC 7413, 2.1 and 6). `safe_prefix` says how many leading bytes of a first
flight do no harm then. Its rules:

* Any doubt is 0. Unknown bytes, another version, an unusual form, a broken message: 0.
* Safe is the longest leading run of *units* (a ClientHello, a request head, a frame, a command, a query) that
  the server answers without changing anything but its own memory of this connection.
* A unit not all there counts for nothing, with two exceptions where first flights outgrow a packet: a TLS
  ClientHello and the head of an HTTP/1 request count as far as they have come, if nothing in them is wrong so
  far. A server cannot act on half a hello; and one that acted on half the head of a GET would still only GET.
* What is safe stays safe when cut: the safe prefix by itself is judged safe, all of it.

This judges what protocols promise. A server that counts, bills or deletes on a GET breaks its protocol's
promise (RFC 9110, 9.2.1), and so does a queue that speaks memcached and pops on `get`: `replay: none` is for
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from proxy.core.protocol import Protocol
from proxy.core.replay import dns, greetings, http1, http2, memcached, postgres, redis, tls

__all__ = ["classify", "safe_prefix"]

Measure: TypeAlias = Callable[[bytes], int | None]
"""How many leading bytes are safe; `None` where these are not this protocol's bytes, or too few to tell."""

_MEASURES: tuple[tuple[bytes, Protocol, Measure], ...] = (
    (tls.FIRST_BYTES, Protocol.TLS, tls.safe_length),
    (http1.FIRST_BYTES, Protocol.HTTP1, http1.safe_length),
    (http2.FIRST_BYTES, Protocol.HTTP2, http2.safe_length),
    (greetings.SSH_FIRST_BYTES, Protocol.SSH, greetings.ssh_safe_length),
    (greetings.SOCKS_FIRST_BYTES, Protocol.SOCKS, greetings.socks_safe_length),
    (postgres.FIRST_BYTES, Protocol.POSTGRES, postgres.safe_length),
    (dns.FIRST_BYTES, Protocol.DNS, dns.safe_length),
    (redis.RESP_FIRST_BYTES, Protocol.REDIS, redis.resp_safe_length),
    (memcached.BINARY_FIRST_BYTES, Protocol.MEMCACHED, memcached.binary_safe_length),
    (memcached.TEXT_FIRST_BYTES, Protocol.MEMCACHED, memcached.text_safe_length),
    (redis.INLINE_FIRST_BYTES, Protocol.REDIS, redis.inline_safe_length),
)
"""First bytes, protocol, measure. Where several may begin with a byte, the first to know it answers."""


def _by_first_byte() -> tuple[tuple[tuple[Protocol, Measure], ...], ...]:
    """Who to ask, by the first byte; most bytes have nobody."""
    return tuple(
        tuple((protocol, measure) for first_bytes, protocol, measure in _MEASURES if first in first_bytes)
        for first in range(256)
    )


_CANDIDATES = _by_first_byte()


def classify(early: bytes) -> tuple[int, Protocol]:
    """How many leading bytes of `early` may be sent twice, and which protocol they speak.

    The protocol is named also where nothing is safe: `POST` is `(0, HTTP1)`.
    """
    if early:
        for protocol, measure in _CANDIDATES[early[0]]:
            length = measure(early)
            if length is not None:
                return length, protocol
    return 0, Protocol.UNKNOWN


def safe_prefix(early: bytes) -> int:
    """How many leading bytes of `early` may be sent twice; 0 where that is not known."""
    return classify(early)[0]
