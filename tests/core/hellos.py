"""ClientHellos built field by field, so that a test can break one of them."""

from __future__ import annotations


def vector(width: int, body: bytes) -> bytes:
    return len(body).to_bytes(width, "big") + body


def extension(kind: int, body: bytes = b"") -> bytes:
    return kind.to_bytes(2, "big") + vector(2, body)


def server_name(name: bytes) -> bytes:
    return extension(0, vector(2, b"\0" + vector(2, name)))


def alpn(*names: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, name) for name in names)))


def body(
    extensions: bytes | None = b"",
    *,
    version: bytes = b"\3\3",
    session_id: bytes = b"s" * 32,
    ciphers: bytes = b"\x13\x01\x13\x02",
    compressions: bytes = b"\0",
) -> bytes:
    fixed = version + b"r" * 32 + vector(1, session_id) + vector(2, ciphers) + vector(1, compressions)
    return fixed if extensions is None else fixed + vector(2, extensions)


def message(extensions: bytes | None = b"", *, kind: int = 1, **fields: bytes) -> bytes:
    return bytes([kind]) + vector(3, body(extensions, **fields))


def record(fragment: bytes, *, kind: int = 22, version: bytes = b"\3\1") -> bytes:
    return bytes([kind]) + version + vector(2, fragment)


def records(handshake: bytes, *sizes: int) -> bytes:
    """The handshake in one record after the other, of these sizes; the last takes the rest."""
    framed = b""
    for size in sizes:
        framed += record(handshake[:size])
        handshake = handshake[size:]
    return framed + record(handshake)


TYPICAL = (
    server_name(b"Example.org")
    + alpn(b"h2", b"http/1.1")
    + extension(43, b"\2\3\4")
    + extension(51, b"k" * 38)
)
"""The extensions of an ordinary hello."""
