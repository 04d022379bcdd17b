from __future__ import annotations

from functools import partial

import pytest

from proxy.core import http1, socks
from proxy.core.familiar import Familiar
from proxy.core.request import Opening, OpeningParser
from tests.core.reading import in_pieces

SOCKS: OpeningParser = partial(socks.opening, login=False)
HTTP: OpeningParser = partial(http1.opening, login=False)
PASSWORD = b"\r\nProxy-Authorization: Basic YTpi\r\n\r\n"
CONNECT = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n"


def learned(familiar: Familiar, parser: OpeningParser, said: bytes) -> Opening:
    opening = in_pieces(parser, said, len(said)).value
    familiar.learn(parser, said, opening)
    return opening


@pytest.mark.parametrize(
    ("parser", "said"), [(SOCKS, b"\5\1\0"), (SOCKS, b"\4\1\0\1\1\2\3\4\0"), (HTTP, CONNECT)]
)
def test_what_was_said_before_means_the_same(parser: OpeningParser, said: bytes) -> None:
    familiar = Familiar()
    assert familiar.meaning(parser, said) is None
    opening = learned(familiar, parser, said)
    assert familiar.meaning(parser, said) is opening
    assert familiar.meaning(parser, said[:-1]) is None
    assert familiar.meaning(HTTP if parser is SOCKS else SOCKS, said) is None


@pytest.mark.parametrize(
    ("parser", "said"),
    [
        (partial(http1.opening, login=True), CONNECT.replace(b"\r\n\r\n", PASSWORD)),
        (HTTP, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        (HTTP, CONNECT.replace(b"\r\n\r\n", b"\r\nA: " + b"b" * 600 + b"\r\n\r\n")),
    ],
    ids=["a password", "a body", "too long"],
)  # fmt: skip
def test_what_is_read_anew_each_time(parser: OpeningParser, said: bytes) -> None:
    familiar = Familiar()
    learned(familiar, parser, said)
    assert familiar.meaning(parser, said) is None


def test_it_forgets() -> None:
    familiar = Familiar()
    said = [CONNECT.replace(b"a.test", b"a%d.test" % number) for number in range(1100)]
    for one in said:
        learned(familiar, HTTP, one)
    assert familiar.meaning(HTTP, said[0]) is None
    assert familiar.meaning(HTTP, said[-1]) is not None
    assert len(familiar._meanings) == 1024
