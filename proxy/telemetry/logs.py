"""structlog, set up once: JSON lines for machines, a console for people; both to standard error.

Clients choose names, users and whatever else they send us, and see to it that it gets into the log. So nothing that is
not printable leaves here as it is (line ends, escapes, U+2028, marks that turn the direction of writing), and nothing
that is endless: what they say can neither begin a line nor hide one.
"""

from __future__ import annotations

import atexit
import io
import logging
import re
import sys
import time
from functools import lru_cache, partial
from types import ModuleType
from typing import BinaryIO, TextIO, cast
from weakref import WeakKeyDictionary

import msgspec

from proxy.telemetry.lines import LONGEST, Lines

# With rich installed, importing structlog imports it (100 ms), and its tracebacks print local variables: secrets. It
# also imports asyncio (2 MiB, 25 ms), for methods that nobody here calls.
_spared: dict[str, ModuleType | None] = {"rich": None, "asyncio": ModuleType("asyncio")}
_put_off = {name: stand_in for name, stand_in in _spared.items() if name not in sys.modules}
sys.modules.update(_put_off)  # type: ignore[arg-type]  # None is the documented way to say "not importable"
import structlog  # noqa: E402

for _name in _put_off:
    del sys.modules[_name]

Logger = structlog.typing.FilteringBoundLogger
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_CLEAR = "\x1b[K"  # what stands there already: a line about a wait, with the cursor at its beginning
_LONGEST = 4096  # characters of one value
_ROOM = 32  # of these, for how many more there were
_encode = msgspec.json.Encoder(enc_hook=str).encode
_streams: WeakKeyDictionary[BinaryIO, Lines] = WeakKeyDictionary()
_not_plain = re.compile(r"[^ -~]").sub


def configure(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> Logger:
    """The program's logger. ``form`` is auto (console on a terminal, else JSON), console or json."""
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if not console else "%H:%M:%S", utc=not console),
        _shorten,
    ]
    if console:
        processors += [
            _make_printable,
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=_indented_traceback, sort_keys=False
            ),
        ]
        if out.isatty():
            processors.append(_on_a_clear_line)
        processors.append(_in_bytes)
    else:
        processors += [structlog.processors.format_exc_info, _render]
    lines = _lines_of(out.buffer)
    lines.takes_sessions = not console and _LEVELS[level] <= logging.INFO
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=partial(_same, lines),
        cache_logger_on_first_use=True,
    )
    logger: Logger = structlog.get_logger()
    return logger.bind()


def _same(lines: Lines, *_: object) -> Lines:
    return lines


def _lines_of(out: BinaryIO) -> Lines:
    """The lines of a stream: a new level must not overtake what the old one has said."""
    known = _streams.get(out)
    if known is None:
        known = _streams[out] = Lines(out)
        atexit.register(known.finish)
    return known


def lines_of(log: Logger) -> Lines | None:
    """Where ``log`` writes; None: to something that is not ours."""
    lines = getattr(log, "_logger", None)
    return lines if isinstance(lines, Lines) else None


def write(text: str) -> None:
    """Write a text to standard error, in its order among the lines of the log, and like them without a wait."""
    if sys.stderr is not None:
        _lines_of(sys.stderr.buffer).msg(text.encode(errors="backslashreplace"))


def line_of(line: msgspec.Struct) -> bytes:
    """A line of JSON from ready-made fields, printable and no longer than others. Its texts must be `shortened`."""
    try:
        encoded = _printable(_encode(line))
    except UnicodeEncodeError:  # half of a surrogate pair, as in the name of a file
        return _line(msgspec.to_builtins(line))
    return encoded if len(encoded) <= LONGEST else _line(msgspec.to_builtins(line))


def time_of(when: float) -> str:
    """As structlog writes it; a second's text is made once."""
    whole = int(when)
    return f"{_second(whole)}.{int((when - whole) * 1e6):06d}Z"


@lru_cache(8)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def _render(_logger: object, _method: str, event: structlog.typing.EventDict) -> bytes:
    return _line(
        {
            "time": event.pop("timestamp"),
            "level": event.pop("level"),
            "event": event.pop("event"),
            **event,
        }
    )


def _line(fields: dict[str, object]) -> bytes:
    try:
        line = _encode(fields)
    except UnicodeEncodeError:  # half of a surrogate pair, as in the name of a file
        fields = {name: _whole(value) for name, value in fields.items()}
        line = _encode(fields)
    line = _printable(line)
    most = _LONGEST
    while len(line) > LONGEST and most:  # the kernel does not write it in one piece
        most //= 2
        line = _printable(_encode({name: _fitting(name, value, most) for name, value in fields.items()}))
    return line


def _fitting(name: str, value: object, most: int) -> object:
    """A value as it is, or as text of some ``most`` characters; of a traceback its end, which says what happened."""
    if isinstance(value, str):
        text = str(value)
    else:
        text = _encode(value).decode()
    if len(text) <= most:
        return value
    if name == "exception":
        return f"{len(text) - most} characters, and …{text[-most:]}"
    return shortened(text, most)


def _printable(line: bytes) -> bytes:
    if line.isascii() and b"\x7f" not in line:
        return line
    return _not_plain(_in_json, line.decode()).encode()


def _in_json(found: re.Match[str]) -> str:
    """A character inside a JSON string: there is nowhere else for it to be."""
    character = found[0]
    return character if character.isprintable() else "".join(f"\\u{unit:04x}" for unit in _utf16(character))


def _utf16(character: str) -> tuple[int, ...]:
    units = character.encode("utf-16-be")
    return tuple(int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))


def _whole(value: object) -> object:
    """``value`` with escapes for what has no UTF-8, inside lists and dictionaries as well."""
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {name: _whole(one) for name, one in fields.items()}
    if isinstance(value, list):
        return [_whole(one) for one in cast("list[object]", value)]
    try:
        _encode(value)
    except UnicodeEncodeError:
        return str(value).encode(errors="backslashreplace").decode()
    return value


def _shorten(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for name, value in event.items():
        if isinstance(value, str) and len(value) > _LONGEST:
            event[name] = shortened(value)
    return event


def shortened(text: str, most: int = _LONGEST) -> str:
    """A text of some ``most`` characters at most, with how many were cut off; one that was shortened stays as it is."""
    if len(text) <= most:
        return text
    kept = most if most < _LONGEST else most - _ROOM
    return f"{text[:kept]}… and {len(text) - kept} more"


def _in_bytes(_logger: object, _method: str, line: structlog.typing.ProcessorReturnValue) -> bytes:
    return str(line).encode(errors="backslashreplace")


def _make_printable(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Texts as Python would write them, where they hold what cannot be printed; the renderer does so with the rest."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = _Quoted(value)
    return event


def _on_a_clear_line(_logger: object, _method: str, line: structlog.typing.ProcessorReturnValue) -> str:
    return f"{_CLEAR}{line!s}"


class _Quoted:
    """A text that the renderer shows as `repr` does."""

    def __init__(self, text: str) -> None:
        self._text = str(text)

    def __repr__(self) -> str:
        return repr(self._text)

    __str__ = __repr__


def _indented_traceback(out: TextIO, fault: structlog.typing.ExcInfo) -> None:
    """A message may hold line ends of a client's: no line of it begins where a log's lines begin."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, fault)
    lines = text.getvalue().strip().splitlines()
    out.writelines(f"\n    {line if line.isprintable() else repr(line)}" for line in lines)
