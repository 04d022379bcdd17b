"""How limits are written: numbers of connections, and rates."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, ClassVar, Self

from msgspec import Meta

from proxy.config.cluster_schema import Section
from proxy.config.mistakes import Findings
from proxy.config.nodes import Tree
from proxy.config.scalars import BadScalar, Scalar
from proxy.core.limits import Caps
from proxy.core.loops import MOST_SILENT

__all__ = ["Amount", "Limits", "ListenerLimits", "Rate", "check_limits"]

_MOST = 10_000_000
_RATE = re.compile(r"([0-9]{1,8}(?:\.[0-9]{1,3})?)/(s|m|h)\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Amount(Scalar[int | None]):
    """A number of connections, or ``none`` for as many as there may be."""

    __slots__ = ()
    kind = f"a number from 1 to {_MOST}, or none"
    json_schema: ClassVar[dict[str, object]] = {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": _MOST},
            {"type": "string", "pattern": "^(none|[0-9]{1,8})$"},
        ]
    }

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if text == "none":
            return cls(None)
        if not (text.isascii() and text.isdigit() and len(text) <= 8 and 1 <= int(text) <= _MOST):
            raise BadScalar(f"{text!r} is not understood; write {cls.kind}")
        return cls(int(text))

    def plain(self) -> str | int:
        """As `Scalar.plain`."""
        return "none" if self.value is None else self.value


class Rate(Scalar[float | None]):
    """Connections a second (``100/s``), minute or hour, or ``none``. ``value`` is a second's."""

    __slots__ = ()
    kind = "a rate like 100/s, 30/m or 500/h, or none"
    json_schema: ClassVar[dict[str, object]] = {
        "type": "string",
        "pattern": r"^none$|^[0-9]{1,8}(\.[0-9]{1,3})?/(s|m|h)$",
    }

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if text == "none":
            return cls(None)
        match = _RATE.match(text)
        if match is None:
            raise BadScalar(f"{text!r} is not understood; write {cls.kind}")
        number = Decimal(match[1])
        if not number:
            raise BadScalar(f"{text!r} would let nobody in; write {cls.kind}")
        return cls(float(number / _SECONDS[match[2]]))

    def __str__(self) -> str:
        if self.value is None:
            return "none"
        for unit, seconds in _SECONDS.items():
            number = round(self.value * seconds, 3)
            text = f"{number:.3f}".rstrip("0").rstrip(".")
            if number and float(Decimal(text) / seconds) == self.value:
                return f"{text}/{unit}"
        return f"{self.value * 3600:.3f}/h"


class Limits(Section, frozen=True):
    """The most connections there may be, and the most that may come."""

    connections: Annotated[
        Amount,
        Meta(description="Connections at a time. Where there are so many, the next wait in the backlog."),
    ] = Amount(None)
    per_client: Annotated[
        Amount,
        Meta(description="Connections at a time of one client (an IPv6 /64 is one). The next are reset."),
    ] = Amount(None)
    accept_rate: Annotated[
        Rate,
        Meta(description="New connections, of a burst no more than a second's worth. The next wait."),
    ] = Rate(None)
    client_rate: Annotated[
        Rate, Meta(description="New connections of one client, in the same way. The next are reset.")
    ] = Rate(None)

    def caps(self) -> Caps:
        """The same as the core wants it."""
        return Caps(
            self.connections.value, self.per_client.value, self.accept_rate.value, self.client_rate.value
        )


class ListenerLimits(Limits, frozen=True):
    """Those of one listener."""

    per_destination: Annotated[
        Amount,
        Meta(
            description="Connections at a time to one destination in which neither side has said anything. The next "
            "are refused (`loop`): a connection that comes back to us looks like that."
        ),
    ] = Amount(MOST_SILENT)


def check_limits(written: Limits, path: tuple[str, ...], tree: Tree, findings: Findings) -> None:
    """Note what one client may have that all together may not: it never comes to that."""
    pairs = (
        ("per_client", written.per_client, "connections", written.connections),
        ("client_rate", written.client_rate, "accept_rate", written.accept_rate),
    )
    for key, one, whole_key, whole in pairs:
        if one.value is not None and whole.value is not None and one.value >= whole.value:
            label = ".".join((*path, key))
            problem = f"{label}: {one.plain()} is not below {whole_key}, which is {whole.plain()}; it changes nothing"
            findings.pointless(tree.nearest(*path, key).place, problem)
