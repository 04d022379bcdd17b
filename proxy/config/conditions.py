"""How the conditions of routes are written: names, ports and networks."""

from __future__ import annotations

import re
from typing import ClassVar, Self

from proxy.config.scalars import BadScalar, Scalar
from proxy.core.address import BadAddress, Endpoint, check_name, is_numeric, normal_ip, parse_target
from proxy.core.destinations import OWN
from proxy.core.networks import NAMED, BadNetwork, Network, parse_network
from proxy.core.patterns import BadPattern, compile_pattern

_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")


class HostCondition(Scalar[str]):
    """A name, all names below one (``*.example.com``), or an expression between slashes."""

    __slots__ = ()
    kind = (
        r'a name like api.example.com, "*.example.com" for all names below it, or "/api[0-9]+\.example\.com/"'
    )
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": 1}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`; ``value`` is the name in lower case, ``*.name``, or ``/pattern/``."""
        if len(text) > 2 and text[0] == text[-1] == "/":
            try:
                compile_pattern(text[1:-1])
            except BadPattern as error:
                raise BadScalar(f"{text!r}: {error}") from None
            return cls(text)
        if text == "*":
            raise BadScalar("'*' would take every name; leave the condition out")
        star = "*." if text.startswith("*.") else ""
        name = text.removeprefix(star).removeprefix("[").removesuffix("]")
        if not star and is_numeric(name):
            return cls(normal_ip(name))
        try:
            return cls(star + check_name(name))
        except BadAddress as error:
            raise BadScalar(f"{error}; write {cls.kind}") from None


class Ports(Scalar[tuple[int, int]]):
    """A port, or a range like ``8000-8100``."""

    __slots__ = ()
    kind = "a port like 443, or a range like 8000-8100"
    json_schema: ClassVar[dict[str, object]] = {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": "^[0-9]{1,5}(-[0-9]{1,5})?$"},
        ]
    }

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        match = _PORTS.match(text)
        if match is None:
            raise BadScalar(f"{text!r} is not understood; write {cls.kind}")
        first = int(match.group(1))
        last = int(match.group(2) or first)
        if not 1 <= first <= last <= 65535:
            raise BadScalar(f"{text!r} holds no port; write {cls.kind}, from 1 to 65535")
        return cls((first, last))

    def __str__(self) -> str:
        first, last = self.value
        return str(first) if first == last else f"{first}-{last}"

    def plain(self) -> str | int:
        """As `Scalar.plain`."""
        first, last = self.value
        return first if first == last else str(self)


class NetworkCondition(Scalar[str]):
    """A network by CIDR, one address, or the name of well-known ones."""

    __slots__ = ()
    kind = f"a network like 10.0.0.0/8 or 2001:db8::/32, or one of {', '.join(NAMED)}"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": 2}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if text in NAMED:
            return cls(text)
        try:
            return cls(str(parse_network(text)))
        except BadNetwork as error:
            hint = "" if "/" in text else f", or {', '.join(NAMED)}"
            raise BadScalar(f"{error}{hint}") from None

    @property
    def networks(self) -> tuple[Network, ...]:
        """What it stands for."""
        return NAMED.get(self.value) or (parse_network(self.value),)


class DestinationCondition(NetworkCondition):
    """A network where clients may not, or may, be taken; ``own`` for all addresses of this machine."""

    __slots__ = ()
    kind = f"{NetworkCondition.kind}, or {OWN}"

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        return cls(text) if text == OWN else super().read(text)

    @property
    def networks(self) -> tuple[Network, ...]:
        """As `NetworkCondition.networks`; none of `OWN`, which the kernel knows."""
        return () if self.value == OWN else super().networks


class NameServer(Scalar[Endpoint | None]):
    """A DNS server's address, or ``system`` for those of resolv.conf(5)."""

    __slots__ = ()
    kind = "system, or an address like 192.0.2.53 or 192.0.2.53:5353"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": 2}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if text == "system":
            return cls(None)
        if is_numeric(text):
            return cls(Endpoint(normal_ip(text), 53))
        try:
            target = parse_target(text)
        except BadAddress as error:
            raise BadScalar(f"{error}; write {cls.kind}") from None
        if not isinstance(target, Endpoint) or target.is_unix:
            raise BadScalar(f"{text!r} is not a number; write {cls.kind}")
        return cls(target)

    def __str__(self) -> str:
        return "system" if self.value is None else str(self.value)


class Text(Scalar[str]):
    """Words for people, or a name that somebody else gives."""

    __slots__ = ()
    kind = "some words"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": 1, "maxLength": 200}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if not text or len(text) > 200 or not text.isprintable():
            raise BadScalar(f"{text!r} does not fit on a line of a log; write up to 200 characters")
        return cls(text)
