"""The SOCKS handshakes: whole, byte by byte, cut off, and broken."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import socks
from proxy.core.address import Authority, Endpoint, Target
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, NotMine, Reading
from proxy.core.request import Credentials, OpeningParser, Refused, Request, Turn

V4 = b"\x01\xc0\x00\x02\x01"
V6 = b"\x04" + bytes.fromhex("20010db8000000000000000000000001")
NAME = b"\x03\x0bexample.org"
PORT = b"\x01\xbb"


def connect5(address: bytes = NAME, port: bytes = PORT, command: int = 1, reserved: int = 0) -> bytes:
    return bytes([5, command, reserved]) + address + port


def connect4(address: bytes = b"\xc0\x00\x02\x01", rest: bytes = b"me\0", command: int = 1) -> bytes:
    return bytes([4, command]) + PORT + address + rest


def talk(
    data: bytes, step: int = 1 << 20, *, login: bool = False, known: Callable[[Credentials], bool] = bool
) -> tuple[Request | None, bytes, bytes]:
    """As the session drives it: what came of it (None: more is needed), what was said, what is left."""
    parser: OpeningParser = partial(socks.opening, login=login)
    said, held, pieces = b"", b"", [data[at : at + step] for at in range(0, len(data), step)]
    while True:
        reading = Reading(parser, socks.LIMIT)
        parsed = reading.feed(held)
        while parsed is None:
            if not pieces:
                return None, said, bytes(reading.reader.data)
            parsed = reading.feed(pieces.pop(0))
        held = bytes(reading.reader.data)[parsed.consumed :]
        opening = parsed.value
        if isinstance(opening, Request):
            return opening, said, held + b"".join(pieces)
        if opening.credentials is not None and not known(opening.credentials):
            raise Refused(Reason.NOT_AUTHENTICATED, "", opening.rejected)
        said += opening.reply
        parser = opening.proceed(opening.credentials.user if opening.credentials else None)


LOGIN = b"\x05\x01\x02" + b"\x01\x05alice\x06secret"
GOOD: list[tuple[bytes, bool, Target, str | None, bytes]] = [
    (b"\x05\x01\x00" + connect5(V4), False, Endpoint("192.0.2.1", 443), None, b"\5\0"),
    (b"\x05\x02\x00\x02" + connect5(V6), False, Endpoint("2001:db8::1", 443), None, b"\5\0"),
    (b"\x05\x01\x00" + connect5(), False, Authority("example.org", 443), None, b"\5\0"),
    (b"\x05\x01\x00" + connect5(b"\x03\x0910.0.0.10"), False, Endpoint("10.0.0.10", 443), None, b"\5\0"),
    (LOGIN + connect5(), True, Authority("example.org", 443), "alice", b"\5\2\1\0"),
    (connect4(), False, Endpoint("192.0.2.1", 443), None, b""),
    (connect4(b"\0\0\0\x07", b"\0Example.ORG\0"), False, Authority("example.org", 443), None, b""),
]  # fmt: skip


@pytest.mark.parametrize("step", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize(("data", "login", "target", "user", "said"), GOOD)
def test_who_connects_where(
    data: bytes, login: bool, target: Target, user: str | None, said: bytes, step: int
) -> None:
    early = b"\x16\x03\x01 the first bytes"
    request, replies, rest = talk(data + early, step, login=login)
    assert request is not None
    assert (request.authority, request.user, replies, rest) == (target, user, said, early)
    assert request.granted[:2] in {b"\5\0", b"\0\x5a"}


@pytest.mark.parametrize(("data", "login", "target", "user", "said"), GOOD)
def test_a_handshake_that_is_cut_off_waits_for_more(
    data: bytes, login: bool, target: Target, user: str | None, said: bytes
) -> None:
    for size in range(len(data)):
        assert talk(data[:size], login=login)[0] is None


HELLO = b"\x05\x01\x00"
BROKEN: list[tuple[bytes, bool, Reason, bytes]] = [
    (b"\x05\x01\x02", False, Reason.NOT_AUTHENTICATED, b"\5\xff"),
    (b"\x05\x00", False, Reason.NOT_AUTHENTICATED, b"\5\xff"),
    (b"\x05\x01\x00", True, Reason.NOT_AUTHENTICATED, b"\5\xff"),
    (b"\x05\x01\x02\x05", True, Reason.BAD_REQUEST, b"\1\1"),
    (HELLO + connect5(command=2), False, Reason.BAD_REQUEST, b"\5\7"),
    (HELLO + connect5(command=3), False, Reason.BAD_REQUEST, b"\5\7"),
    (HELLO + connect5(b"\x02"), False, Reason.BAD_REQUEST, b"\5\x08"),
    (HELLO + connect5(reserved=1), False, Reason.BAD_REQUEST, b"\5\1"),
    (HELLO + b"\x04" + connect5()[1:], False, Reason.BAD_REQUEST, b"\5\1"),
    (HELLO + connect5(port=b"\0\0"), False, Reason.BAD_REQUEST, b"\5\1"),
    (HELLO + connect5(b"\x03\x00"), False, Reason.BAD_REQUEST, b"\5\1"),
    (HELLO + connect5(b"\x03\x06127.01"), False, Reason.BAD_REQUEST, b"\5\1"),
    (HELLO + connect5(b"\x03\x03a b"), False, Reason.BAD_REQUEST, b"\5\1"),
    (HELLO + connect5(b"\x03\x05fe80:"), False, Reason.BAD_REQUEST, b"\5\1"),
    (HELLO + connect5(b"\x03\x0afe80::1%lo"), False, Reason.BAD_REQUEST, b"\5\1"),
    (connect4(command=2), False, Reason.BAD_REQUEST, b"\0\x5b"),
    (connect4(), True, Reason.NOT_AUTHENTICATED, b"\0\x5b"),
    (connect4(b"\0\0\0\1", b"\0a..b\0"), False, Reason.BAD_REQUEST, b"\0\x5b"),
]


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize(("data", "login", "reason", "reply"), BROKEN)
def test_what_is_refused_and_how(data: bytes, login: bool, reason: Reason, reply: bytes, step: int) -> None:
    with pytest.raises(Refused) as caught:
        talk(data, step, login=login)
    assert caught.value.reason is reason
    assert caught.value.reply[: len(reply)] == reply


def test_a_wrong_password() -> None:
    with pytest.raises(Refused) as caught:
        talk(LOGIN, login=True, known=lambda credentials: credentials.password == "other")
    assert caught.value.reply == b"\x01\x01"


@pytest.mark.parametrize(
    "data",
    [
        connect4(rest=b"u" * 600),
        connect4(b"\0\0\0\1", b"\0" + b"n" * 300),
        connect4(b"\0\0\0\1", b"\0\xff\xfe\0"),
        connect4(b"\0\0\0\1", b"\0\0"),
        *(
            HELLO + connect5(bytes([3, len(name)]) + name)
            for name in (
                b"", b"\xff\xfe", b"a\0b", b"\0", b".", b"..", b"a..b", b"a b", b"127.1", b"0x7f.1", b"x" * 255, b"a@b",
                b"[::1]", b"localhost\r\n", b"\xc3", b"\xe2\x80\x8blocalhost", b"local\xc2\xadhost", b"\xed\xa0\x80",
                "１２７.1".encode(), "local\u2060host".encode(), "\ufefflocalhost".encode(), "a\u200db".encode(),
            )
        ),
    ],
)  # fmt: skip
def test_malformed_names_are_refused_in_the_protocols_own_words(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        talk(data)
    assert caught.value.reason is Reason.BAD_REQUEST
    assert caught.value.reply == (b"\0\x5b" + bytes(6) if data[0] == 4 else b"\5\1\0\1" + bytes(6))


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\x06", b"\0"])
def test_other_protocols_are_not_mine(data: bytes) -> None:
    with pytest.raises(NotMine):
        talk(data)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.REFUSED, 5), (Reason.UNREACHABLE, 4), (Reason.CONNECT_TIMEOUT, 6), (Reason.DENIED, 2),
        (Reason.NO_SUCH_HOST, 4), (Reason.NO_DESCRIPTORS, 1), (Reason.NOT_ALLOWED, 2),
    ],
)  # fmt: skip
def test_the_codes_of_failures(reason: Reason, code: int) -> None:
    five, _, _ = talk(HELLO + connect5())
    four, _, _ = talk(connect4())
    assert five is not None
    assert four is not None
    assert five.refused(reason, "why") == bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])
    assert four.refused(reason, "why") == bytes([0, 0x5B, 0, 0, 0, 0, 0, 0])


def test_an_ipv4_address_in_ipv6_clothes_is_the_ipv4_address() -> None:
    mapped = b"\x04" + bytes(10) + b"\xff\xff\x7f\0\0\1"
    request, _, _ = talk(HELLO + connect5(mapped))
    assert request is not None
    assert request.authority == Endpoint("127.0.0.1", 443)


def mutations(seed: int, count: int, samples: Iterable[bytes]) -> Iterable[bytes]:
    rng = random.Random(seed)
    originals = list(samples)
    for _ in range(count):
        data = bytearray(rng.choice(originals) + b"behind")
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            if rng.random() < 0.3:
                del data[at]
            elif rng.random() < 0.5:
                data.insert(at, rng.randrange(256))
            else:
                data[at] = rng.randrange(256)
        yield bytes(data)


def outcome(data: bytes, step: int, *, login: bool) -> object:
    try:
        request, said, rest = talk(data, step, login=login)
    except (Refused, Malformed, NotMine) as error:
        return type(error), str(error)
    return request and (request.authority, request.user), said, rest


def test_mutations_end_the_same_in_any_pieces() -> None:
    samples = [data for data, *_ in GOOD] + [data for data, *_ in BROKEN]
    for number, data in enumerate(mutations(7, 300, samples)):
        login = bool(number % 2)
        assert outcome(data, 1, login=login) == outcome(data, 1 << 20, login=login)


@settings(max_examples=50)
@given(st.binary(max_size=40))
def test_anything_ends_in_an_answer(data: bytes) -> None:
    outcome(b"\x05" + data, 3, login=False)
    outcome(b"\x04" + data, 3, login=True)


def test_a_turn_says_what_it_waits_for() -> None:
    parsed = Reading(socks.opening, socks.LIMIT).feed(HELLO)
    assert parsed is not None
    assert isinstance(parsed.value, Turn)
