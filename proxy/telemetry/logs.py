"""structlog, set up once: JSON lines for machines, a console for people; both to standard error."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import msgspec

if "rich" not in sys.modules:
    # With rich installed, importing structlog imports it (100 ms), and its tracebacks print local variables: secrets.
    sys.modules["rich"] = None  # type: ignore[assignment]  # the documented way to say "not importable"
    import structlog

    del sys.modules["rich"]
else:
    import structlog

Logger = structlog.typing.FilteringBoundLogger
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> Logger:
    """The program's logger. ``form`` is auto (console on a terminal, else JSON), console or json."""
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if not console else "%H:%M:%S", utc=not console),
    ]
    factory: structlog.BytesLoggerFactory | structlog.PrintLoggerFactory = structlog.PrintLoggerFactory(out)
    if console:
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, sort_keys=False
            )
        )
    else:
        processors += [structlog.processors.format_exc_info, _render]
        if hasattr(out, "buffer"):
            factory = structlog.BytesLoggerFactory(out.buffer)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logger: Logger = structlog.get_logger()
    return logger.bind()


def _render(_logger: object, _method: str, event: structlog.typing.EventDict) -> bytes:
    return _encode(
        {"time": event.pop("timestamp"), "level": event.pop("level"), "event": event.pop("event"), **event}
    )
