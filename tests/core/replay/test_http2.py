from __future__ import annotations

import pytest

from proxy.core.protocol import Protocol
from proxy.core.replay import classify

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


SETTINGS = frame(4, b"\0\3\0\0\0\x64\0\4\0\xa0\0\0")
WINDOW_UPDATE = frame(8, b"\0\1\0\0")
PRIORITY = frame(2, b"\0\0\0\0\xc8", stream=3)
HEADERS = frame(1, b"\x82\x86\x84\x41", flags=5, stream=1)


@pytest.mark.parametrize(
    "tuning",
    [b"", SETTINGS, frame(4, b""), SETTINGS + WINDOW_UPDATE, SETTINGS + PRIORITY * 3 + WINDOW_UPDATE],
    ids=["none", "SETTINGS", "empty SETTINGS", "and WINDOW_UPDATE", "and PRIORITY"],
)
@pytest.mark.parametrize(
    "tail", [b"", HEADERS, frame(0, b"body", stream=1), frame(6, b"8 bytes!"), frame(7, b"x" * 8)]
)
def test_the_preface_and_what_tunes(tuning: bytes, tail: bytes) -> None:
    safe = PREFACE + tuning
    assert classify(safe + tail) == (len(safe), Protocol.HTTP2)


def test_only_whole_frames_count() -> None:
    flight = PREFACE + SETTINGS + WINDOW_UPDATE
    ends = [len(PREFACE), len(PREFACE + SETTINGS), len(flight)]
    for length in range(len(flight) + 1):
        assert classify(flight[:length])[0] == max((end for end in ends if end <= length), default=0)


@pytest.mark.parametrize(
    "odd",
    [
        frame(4, b"12345"),
        frame(4, b"123456", stream=1),
        frame(4, b"123456", flags=1),
        frame(4, b"\0" * 16_386),
        WINDOW_UPDATE,
        PRIORITY,
    ],
    ids=[
        "odd size",
        "on a stream",
        "ACK with a payload",
        "too large",
        "WINDOW_UPDATE first",
        "PRIORITY first",
    ],
)
def test_no_first_frame_but_right_settings(odd: bytes) -> None:
    assert classify(PREFACE + odd + SETTINGS) == (len(PREFACE), Protocol.HTTP2)


@pytest.mark.parametrize("odd", [frame(8, b"\0\1\0"), frame(2, b"\0\0\0\0"), frame(2, b"\0\0\0\0\1")])
def test_frames_of_the_wrong_size_or_place_end_the_run(odd: bytes) -> None:
    assert classify(PREFACE + SETTINGS + odd) == (len(PREFACE + SETTINGS), Protocol.HTTP2)


@pytest.mark.parametrize("flight", [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PRI * HTTP/2.0\r\n", PREFACE[:-1]])
def test_no_preface(flight: bytes) -> None:
    assert classify(flight) == (0, Protocol.UNKNOWN)
