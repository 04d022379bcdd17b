"""Greetings after which the client must wait anyway: SSH's identification, SOCKS 5's list of methods."""

from __future__ import annotations

import re

__all__ = ["SOCKS_FIRST_BYTES", "SSH_FIRST_BYTES", "socks_safe_length", "ssh_safe_length"]

SSH_FIRST_BYTES = b"S"
SOCKS_FIRST_BYTES = b"\4\5"

_identification = re.compile(rb"SSH-(?:2\.0|1\.99)-[!-~][ -~]{0,246}\r?\n").match
_SOCKS5_METHODS = frozenset((0, 1, 2, 3, 5, 6, 7, 8, 9, *range(0x80, 0xFF)))
_AUTHENTICATION, _SOCKS5_REQUEST = 1, 5


def ssh_safe_length(early: bytes) -> int | None:
    """The identification line (RFC 4253, 4.2). The key exchange behind it waits."""
    line = _identification(early)
    if line:
        return line.end() if line.end() <= 255 else 0
    return 0 if early.startswith(b"SSH-") else None


def socks_safe_length(early: bytes) -> int | None:
    """The method list of SOCKS 5 (RFC 1928, 3), without what is pipelined behind it.

    A SOCKS 4 client speaks only one message, and that one asks to dial: 0.
    """
    if early[0] == 4:
        return 0 if len(early) >= 9 and early[1] in (1, 2) else None
    if len(early) < 3:
        return None
    end = 2 + early[1]
    methods = early[2:end]
    if not methods or len(methods) < early[1] or not _SOCKS5_METHODS.issuperset(methods):
        return None
    if len(set(methods)) < len(methods) or early[end : end + 1] not in (b"", b"\1", b"\5"):
        return None
    return end
