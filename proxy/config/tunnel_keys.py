"""How the far side of a tunnel and the secrets shared with it are written."""

from __future__ import annotations

import base64
import binascii
import re
from typing import ClassVar, Self

from proxy.config.scalars import BadScalar, Scalar
from proxy.core.address import BadAddress, Target, parse_target

_LEAST = 16  # bytes
_DIFFERENT = 8  # so many of them at least; fewer among 16 random bytes come once in some 10^13 keys
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+\Z")


class TunnelAddress(Scalar[Target]):
    """Another tfo-proxy that listens in mode tunnel."""

    __slots__ = ()
    kind = "host:port of a tfo-proxy that listens in mode tunnel"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "pattern": "^.+:[0-9]{1,5}$"}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        try:
            target = parse_target(text)
        except BadAddress as error:
            raise BadScalar(str(error)) from None
        if target.host[:1] in {"/", "@"}:
            raise BadScalar(f"a unix socket is no tunnel; write {cls.kind}")
        return cls(target)


class TunnelKeys(Scalar[tuple[bytes, ...]]):
    """One or more secrets of 16 bytes or more, in hexadecimal or base64; the first one seals."""

    __slots__ = ()
    kind = "32 or more hexadecimal digits a key, or base64; several keys parted by commas"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": 22}
    secret = True

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        keys = tuple(_key(word) for word in re.split(r"[,\s]+", text) if word)
        if not keys:
            raise BadScalar(f"it is empty; write {cls.kind}")
        return cls(keys)

    def __str__(self) -> str:
        return ",".join(key.hex() for key in self.value)


def _key(word: str) -> bytes:
    """One key; what is wrong is said without saying the key."""
    if _HEX.match(word):
        key = bytes.fromhex(word)
    else:
        try:
            key = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise BadScalar(
                "a key is neither hexadecimal nor base64; `openssl rand -hex 32` makes one"
            ) from None
    if len(key) < _LEAST:
        raise BadScalar(
            f"a key has {len(key)} bytes, and must have {_LEAST}; `openssl rand -hex 32` makes one"
        )
    if len(set(key)) < _DIFFERENT:
        raise BadScalar("a key is too simple to be a secret; `openssl rand -hex 32` makes one")
    return key
