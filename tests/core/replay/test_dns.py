from __future__ import annotations

import pytest

from proxy.core.protocol import Protocol
from proxy.core.replay import classify

NAME = b"\7example\3org\0"
QUESTION = NAME + b"\0\1\0\1"
EDNS = b"\0\0\x29\x04\xd0\0\0\x80\0\0\x0c\0\x0a\0\x08cookie!!"
TSIG = b"\3key\0\0\xfa\0\xff\0\0\0\0\0\4data"


def message(
    body: bytes = QUESTION, *, flags: int = 0x0120, counts: tuple[int, int, int, int] = (1, 0, 0, 0)
) -> bytes:
    header = b"\x12\x34" + flags.to_bytes(2, "big") + b"".join(count.to_bytes(2, "big") for count in counts)
    return len(header + body).to_bytes(2, "big") + header + body


SAFE = {
    "A": message(),
    "root": message(b"\0\0\2\0\1"),
    "checking disabled": message(flags=0x0110),
    "no recursion": message(flags=0),
    "EDNS": message(QUESTION + EDNS, counts=(1, 0, 0, 1)),
    "EDNS and TSIG": message(QUESTION + EDNS + TSIG, counts=(1, 0, 0, 2)),
    "AXFR": message(NAME + b"\0\xfc\0\1"),
    "CHAOS": message(b"\7version\4bind\0\0\x10\0\3"),
    "long EDNS": message(QUESTION + b"\0\0\x29\x04\xd0\0\0\0\0\x02\0" + b"p" * 512, counts=(1, 0, 0, 1)),
}


@pytest.mark.parametrize("query", SAFE.values(), ids=SAFE.keys())
def test_queries_pipelined_or_not(query: bytes) -> None:
    assert classify(query) == (len(query), Protocol.DNS)
    assert classify(query + query + message()) == (len(query + query + message()), Protocol.DNS)
    assert classify(query + query[:-1]) == (len(query), Protocol.DNS)
    assert classify(query + message(flags=0x2800)) == (len(query), Protocol.DNS)
    assert not any(classify(query[:length])[0] for length in range(len(query)))


@pytest.mark.parametrize(
    "flight",
    [
        message(flags=0x2800),
        message(flags=0x2000),
        message(flags=0x8180),
        message(flags=0x0900),
        message(flags=0x0140),
        message(counts=(2, 0, 0, 0)),
        message(counts=(0, 0, 0, 0)),
        message(counts=(1, 1, 0, 0)),
        message(counts=(1, 0, 1, 0)),
        message(QUESTION + EDNS * 3, counts=(1, 0, 0, 3)),
        message(QUESTION + NAME + b"\0\1\0\1\0\0\0\0\0\4aaaa", counts=(1, 0, 0, 1)),
        message(QUESTION + EDNS[:-1], counts=(1, 0, 0, 1)),
        message(QUESTION, counts=(1, 0, 0, 1)),
        message(QUESTION + b"x"),
        message(b"\xc0\x0c\0\1\0\1aaaaa"),
        message(b"\x3faaaaaaaaaaaaaa"),
        message((b"\x3f" + b"a" * 63) * 4 + QUESTION),
        message(NAME + b"\0\xf9\0\xff"),
        message(NAME + b"\0\1\0\x07"),
        b"\0\0" + message()[2:],
        b"\0\x05" + message()[2:],
    ],
    ids=[
        "UPDATE",
        "NOTIFY",
        "a response",
        "IQUERY",
        "the Z bit",
        "two questions",
        "no question",
        "an answer",
        "an authority",
        "three additional",
        "an address, additional",
        "half an EDNS",
        "no EDNS",
        "more than it says",
        "compressed",
        "a label past the end",
        "a name of 256",
        "TKEY",
        "odd class",
        "length 0",
        "length 5",
    ],
)
def test_unknown(flight: bytes) -> None:
    assert classify(flight) == (0, Protocol.UNKNOWN)
