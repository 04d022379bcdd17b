"""How it is written where connections come from."""

from __future__ import annotations

import re
from typing import ClassVar, Self

from proxy.config.scalars import BadScalar, Scalar
from proxy.core.address import is_numeric, normal_ip

_INTERFACE = re.compile(r"[^\s/:]{1,15}\Z")  # IFNAMSIZ, dev_valid_name() in net/core/dev.c


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
            {"type": "string", "pattern": "^(0x[0-9a-fA-F]{1,8}|[0-9]{1,10})$"},
        ]
    }

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if re.fullmatch(r"0x[0-9a-fA-F]{1,8}|[0-9]{1,10}", text) is None or int(text, 0) > 0xFFFFFFFF:
            raise BadScalar(f"{text!r} is not a mark; write {cls.kind}")
        return cls(int(text, 0))

    def plain(self) -> str | int:
        """As `Scalar.plain`."""
        return self.value
