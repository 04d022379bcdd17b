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
from proxy.core.replay import http1, tls

__all__ = ["classify", "safe_prefix"]

Measure: TypeAlias = Callable[[bytes], int | None]
"""How many leading bytes are safe; `None` where these are not this protocol's bytes, or too few to tell."""

_TLS: tuple[Protocol, Measure] = (Protocol.TLS, tls.safe_length)
_HTTP1: tuple[Protocol, Measure] = (Protocol.HTTP1, http1.safe_length)


def _by_first_byte() -> tuple[tuple[tuple[Protocol, Measure], ...], ...]:
    """Who to ask, by the first byte; most bytes have nobody."""
    table: list[list[tuple[Protocol, Measure]]] = [[] for _ in range(256)]
    for first_bytes, candidate in (
        (b"\x16", _TLS),
        (http1.FIRST_BYTES, _HTTP1),
    ):
        for first in first_bytes:
            table[first].append(candidate)
    return tuple(map(tuple, table))


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
