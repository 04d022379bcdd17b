"""How it is written where connections come from, and through whom they go."""

from __future__ import annotations

import re
from typing import ClassVar, NamedTuple, Self

from proxy.config.scalars import BadScalar, Scalar
from proxy.core.address import BadAddress, Target, is_numeric, normal_ip, parse_target

_INTERFACE = re.compile(r"[^\s/:]{1,15}\Z")  # IFNAMSIZ, dev_valid_name() in net/core/dev.c


class GatewayAddress(NamedTuple):
    """A proxy, and who we are to it."""

    target: Target
    user: str | None
    password: str | None


class Gateway(Scalar[GatewayAddress]):
    """Another proxy: ``gw.example.com:1080`` or ``user:password@gw.example.com:1080``."""

    __slots__ = ()
    kind = "host:port or user:password@host:port"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "pattern": "^(.+@)?.+:[0-9]{1,5}$"}
    secret = True

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        credentials, at, address = text.rpartition("@")
        user, colon, password = credentials.partition(":")
        try:
            target = parse_target(address)
        except BadAddress as error:
            raise BadScalar(str(error)) from None
        if target.host[:1] in {"/", "@"}:
            raise BadScalar(f"a unix socket is no gateway; write {cls.kind}")
        if at and not (0 < len(user.encode()) <= 255 and colon and 0 < len(password.encode()) <= 255):
            raise BadScalar(f"the user and the password have 1 to 255 bytes each; write {cls.kind}")
        return cls(GatewayAddress(target, user if at else None, password if at else None))

    def __str__(self) -> str:
        target, user, password = self.value
        return f"{user}:{password}@{target}" if user is not None else str(target)


class SourceAddress(Scalar[str]):
    """A numeric address of this machine."""

    __slots__ = ()
    kind = "an IP address of this machine, like 192.0.2.5"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "pattern": "^[0-9a-fA-F.:]+(%.+)?$"}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if not is_numeric(text):
            raise BadScalar(f"{text!r} is not an address; write {cls.kind}")
        return cls(normal_ip(text))


class InterfaceName(Scalar[str]):
    """A network interface."""

    __slots__ = ()
    kind = "the name of a network interface, like eth1"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": 1, "maxLength": 15}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if _INTERFACE.match(text) is None or text in {".", ".."} or not text.isascii():
            raise BadScalar(f"{text!r} cannot be an interface; write {cls.kind}")
        return cls(text)


class Mark(Scalar[int]):
    """A packet mark (``SO_MARK``), like ``7`` or ``0x100``."""

    __slots__ = ()
    kind = "a number from 0 to 0xffffffff, like 7 or 0x100"
    json_schema: ClassVar[dict[str, object]] = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 0xFFFFFFFF},
            {"type": "string", "pattern": "^(0x[0-9a-fA-F]{1,8}|0|[1-9][0-9]{0,9})$"},
        ]
    }

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        is_number = re.fullmatch(r"0x[0-9a-fA-F]{1,8}|0|[1-9][0-9]{0,9}", text)
        if is_number is None or int(text, 0) > 0xFFFFFFFF:
            raise BadScalar(f"{text!r} is not a mark; write {cls.kind}")
        return cls(int(text, 0))

    def plain(self) -> str | int:
        """As `Scalar.plain`."""
        return self.value
