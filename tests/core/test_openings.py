from __future__ import annotations

import pytest

from proxy.core.openings import opening_of
from proxy.core.reader import NotMine
from proxy.core.request import Refused, Request, Turn
from proxy.core.snapshot import Mode
from tests.core.reading import in_pieces

CONNECT = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n"
SOCKS4, SOCKS5 = b"\4\1\0\1\1\2\3\4\0", b"\5\1\0"


@pytest.mark.parametrize("step", [1, 100])
def test_mixed_takes_both(step: int) -> None:
    parser = opening_of(Mode.MIXED, login=False)
    http, socks4, socks5 = (in_pieces(parser, said, step).value for said in (CONNECT, SOCKS4, SOCKS5))
    assert isinstance(http, Request)
    assert isinstance(socks4, Request)
    assert (http.protocol, socks4.protocol) == ("connect", "socks4")
    assert isinstance(socks5, Turn)


@pytest.mark.parametrize(
    ("mode", "said"), [(Mode.SOCKS, CONNECT), (Mode.HTTP, SOCKS5), (Mode.MIXED, b"\x16\3\1")]
)
def test_what_is_not_spoken_there(mode: Mode, said: bytes) -> None:
    with pytest.raises(NotMine):
        in_pieces(opening_of(mode, login=False), said, 1)


def test_who_has_to_log_in() -> None:
    with pytest.raises(Refused):
        in_pieces(opening_of(Mode.MIXED, login=True), SOCKS5, 1)
    assert opening_of(Mode.MIXED, login=True) is opening_of(Mode.MIXED, login=True)
