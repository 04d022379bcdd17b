"""A client's SYN that comes a second time: the network doubled it, or somebody recorded and replays it.

The kernel takes the data of such a SYN again once the first connection is over, because nothing in a cookie says that
it has been used (RFC 7413 section 6.1, and measured). All we can do is recognise it. The same SYN has the same
addresses, ports, sequence number and options (timestamp and cookie among them); two connections of an honest client
never do. What a middlebox has renumbered, or another of our addresses has heard, is not recognised.
"""

from __future__ import annotations

WINDOW = 600.0  # seconds; replays without end are possible, but the network's own duplicates live two minutes at most
MOST = 16_384  # SYNs remembered: some 2 MiB
_IPV4_HEADER, _IPV6_HEADER, _TCP_HEADER = 20, 40, 20
_CHECKSUM = slice(16, 18)


class Duplicates:
    """SYNs that brought data lately, oldest first. Bounded in number and time."""

    __slots__ = ("_last_seen", "_most", "_window")

    def __init__(self, window: float = WINDOW, most: int = MOST) -> None:
        self._last_seen: dict[int, float] = {}
        self._window = window
        self._most = most

    def seen(self, headers: bytes, now: float) -> bool:
        """Whether this SYN has come before, and remember it. ``headers`` are what ``TCP_SAVED_SYN`` gives.

        False also where they are too short to tell. ``now`` is monotonic seconds.
        """
        self._forget(now)
        identity = identify(headers)
        if identity is None:
            return False
        key = hash(identity)  # 64 bits, seeded anew by every process: nobody can aim at a collision
        before = self._last_seen.pop(key, None)
        self._last_seen[key] = now
        if len(self._last_seen) > self._most:
            del self._last_seen[next(iter(self._last_seen))]
        return before is not None

    def __len__(self) -> int:
        return len(self._last_seen)

    def _forget(self, now: float) -> None:
        while self._last_seen:
            oldest = next(iter(self._last_seen))
            if now - self._last_seen[oldest] < self._window:
                return
            del self._last_seen[oldest]


def identify(headers: bytes) -> bytes | None:
    """What a SYN has in common with its duplicates only: addresses, and the TCP header without its checksum.

    Hop limit, identification and congestion marks change on the way (RFC 791, RFC 3168). None where it is cut off.
    """
    version = headers[0] >> 4 if headers else 0
    if version == 4:
        start, addresses = (headers[0] & 15) * 4, headers[12:20]
        if start < _IPV4_HEADER:
            return None
    elif version == 6:
        start, addresses = _IPV6_HEADER, headers[8:40]
    else:
        return None
    if len(headers) < start + _TCP_HEADER:
        return None
    tcp = headers[start : start + (headers[start + 12] >> 4) * 4]
    return addresses + tcp[: _CHECKSUM.start] + tcp[_CHECKSUM.stop :]
