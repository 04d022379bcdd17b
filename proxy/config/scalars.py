"""How single values are written: durations, sizes and the words that stand in for them.

Each is read from the text of a YAML scalar and written back by `plain`, so that ``read(str(x)) == x``.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import ClassVar, Generic, Self, TypeVar, cast

from proxy.core.snapshot import AUTO, Auto

T_co = TypeVar("T_co", covariant=True)

_PART = r"[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h)"
_DURATION = re.compile(rf"(?:{_PART})+\Z")
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS = {"h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
_LONGEST = 366 * 24 * 3600.0
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)?\Z")
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?\Z")
_DURATION_PATTERN = rf"^({_PART.replace('?:', '')})+$"
_DURATION_KIND = "a duration like 250ms, 5s, 2m or 1h"


class BadScalar(ValueError):
    """A text that a setting does not take; the message reads "what is wrong; what was meant"."""


class Scalar(Generic[T_co]):
    """A value with a text of its own. ``kind`` says what is written, ``json_schema`` says it to editors."""

    __slots__ = ("value",)
    kind: ClassVar[str]
    json_schema: ClassVar[dict[str, object]]
    secret: ClassVar[bool] = False

    def __init__(self, value: T_co) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'***' if self.secret else str(self)!r})"

    def __str__(self) -> str:
        return str(self.value)

    @classmethod
    def read(cls, text: str) -> Self:
        """The value that ``text`` writes; raises `BadScalar`."""
        raise NotImplementedError

    def plain(self) -> str | int:
        """What YAML should hold for this value."""
        return str(self)


def scalar_class(cls: type) -> type[Scalar[object]]:
    """``cls`` as what it must be, the class of a scalar."""
    if Scalar not in cls.__mro__:
        raise TypeError(f"{cls.__name__} is not a scalar of the schema")
    return cast("type[Scalar[object]]", cls)


def read_seconds(text: str) -> float:
    """The seconds of ``250ms``, ``5s``, ``2m``, ``1h``, ``1h30m``; raises `BadScalar`."""
    if _NUMBER.match(text):
        raise BadScalar(f"{text!r} has no unit; write {text}s, {text}ms or {text}m")
    if not _DURATION.match(text):
        raise BadScalar(f"{text!r} is not a duration; write one like 250ms, 5s, 2m or 1h")
    seconds = float(sum(Decimal(number) * _UNITS[unit] for number, unit in _PARTS.findall(text)))
    if seconds > _LONGEST:
        raise BadScalar(f"{text!r} is longer than a year; write something shorter")
    return seconds


def write_seconds(seconds: float) -> str:
    """The shortest text that `read_seconds` reads as exactly ``seconds``."""
    exact = Decimal(repr(seconds))
    for unit in ("h", "m", "s", "ms"):
        number = exact / _UNITS[unit]
        if number and number == number.to_integral_value():
            return f"{int(number)}{unit}"
    return f"{exact:f}s" if exact else "0s"


class Duration(Scalar[float]):
    """A time above zero."""

    __slots__ = ()
    kind = _DURATION_KIND
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "pattern": _DURATION_PATTERN}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        return cls(_above_zero(text))

    def __str__(self) -> str:
        return write_seconds(self.value)


class Delay(Scalar[float]):
    """A time, zero allowed."""

    __slots__ = ()
    kind = f"{_DURATION_KIND}; 0s is allowed"
    json_schema = Duration.json_schema

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        return cls(read_seconds(text))

    def __str__(self) -> str:
        return write_seconds(self.value)


class WholeSeconds(Scalar[float]):
    """What the kernel takes for keepalive: 1 to 32767 whole seconds (tcp(7), MAX_TCP_KEEPIDLE)."""

    __slots__ = ()
    kind = "whole seconds from 1s to 32767s"
    json_schema = Duration.json_schema

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        seconds = read_seconds(text)
        if not (seconds.is_integer() and 1 <= seconds <= 32767):
            raise BadScalar(f"{text!r} does not fit the kernel; write {cls.kind}")
        return cls(seconds)

    def __str__(self) -> str:
        return write_seconds(self.value)


class Limit(Scalar[float | None]):
    """A time after which something ends, or ``none``."""

    __slots__ = ()
    kind = f"{_DURATION_KIND}, or none"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "pattern": f"^none$|{_DURATION_PATTERN}"}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        return cls(None if text == "none" else _above_zero(text, "none"))

    def __str__(self) -> str:
        return "none" if self.value is None else write_seconds(self.value)


class Wait(Scalar[float | Auto]):
    """How long to wait for something, ``0s`` for not at all, or ``auto``."""

    __slots__ = ()
    kind = f"auto, or {_DURATION_KIND}"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "pattern": f"^auto$|{_DURATION_PATTERN}"}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        return cls(AUTO if text == "auto" else _or_words(text, cls.kind))

    def __str__(self) -> str:
        return str(self.value) if isinstance(self.value, Auto) else write_seconds(self.value)


class HedgeTime(Scalar[float | Auto | None]):
    """When a second dial starts beside a silent first one: ``auto``, ``off`` or a duration."""

    __slots__ = ()
    kind = f"auto, off, or {_DURATION_KIND}"
    json_schema: ClassVar[dict[str, object]] = {
        "type": "string",
        "pattern": f"^(auto|off)$|{_DURATION_PATTERN}",
    }

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if text in {"auto", "off"}:
            return cls(AUTO if text == "auto" else None)
        seconds = _or_words(text, cls.kind)
        if seconds == 0:
            raise BadScalar(f"{text!r} would dial twice every time; write off, or a time above zero")
        return cls(seconds)

    def __str__(self) -> str:
        if self.value is None:
            return "off"
        return str(self.value) if isinstance(self.value, Auto) else write_seconds(self.value)


class SynData(Scalar[int | Auto]):
    """Most bytes in a SYN: ``auto`` or a size from 1 to 65535 bytes."""

    __slots__ = ()
    kind = "auto, or a size from 1 to 65535 bytes like 1200 or 1KiB"
    json_schema: ClassVar[dict[str, object]] = {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": "^auto$|^[0-9]+(B|KiB)?$"},
        ]
    }

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if text == "auto":
            return cls(AUTO)
        size = read_size(text, cls.kind)
        if size == 0:
            raise BadScalar("0 bytes would never use a SYN; write replay: none, or fast_open: off")
        if size > 65535:
            raise BadScalar(f"{text!r} is more than a SYN can hold; write {cls.kind}")
        return cls(size)

    def plain(self) -> str | int:
        """As `Scalar.plain`."""
        return str(self.value) if isinstance(self.value, Auto) else self.value


class Spares(Scalar[int | Auto]):
    """Spare connections kept ready: ``off``, ``auto`` or a number."""

    __slots__ = ()
    kind = "off, auto, or a number from 1 to 1000"
    json_schema: ClassVar[dict[str, object]] = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 1000},
            {"type": "string", "pattern": "^(off|auto|[0-9]{1,4})$"},
        ]
    }

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if text in {"auto", "off"}:
            return cls(AUTO if text == "auto" else 0)
        if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) <= 1000):
            raise BadScalar(f"{text!r} is not understood; write {cls.kind}")
        return cls(int(text))

    def plain(self) -> str | int:
        """As `Scalar.plain`."""
        return str(self.value) if isinstance(self.value, Auto) else self.value or "off"


def read_size(text: str, kind: str) -> int:
    """The bytes of ``1200``, ``1200B``, ``64KiB`` or ``1MiB``; raises `BadScalar` naming ``kind``."""
    match = _SIZE.match(text)
    if match is None:
        raise BadScalar(f"{text!r} is not a size; write {kind}")
    return int(match.group(1)) * _SIZES[match.group(2) or "B"]


def _above_zero(text: str, instead: str = "a time above zero") -> float:
    seconds = _or_words(text, f"{instead}, or {_DURATION_KIND}" if instead == "none" else _DURATION_KIND)
    if seconds == 0:
        raise BadScalar(f"{text!r} is no time at all; write {instead}")
    return seconds


def _or_words(text: str, kind: str) -> float:
    """As `read_seconds`, with a message that knows the words which are allowed too."""
    if not _NUMBER.match(text) and not _DURATION.match(text):
        raise BadScalar(f"{text!r} is not understood; write {kind}")
    return read_seconds(text)
