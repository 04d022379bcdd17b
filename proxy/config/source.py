"""A file's text: read once, whole, within bounds, and without waiting for what is not a file."""

from __future__ import annotations

import codecs
import errno
import os
import stat

from proxy.config.mistakes import ConfigError, Mistake, Place, Source

FILE_LIMIT = 1024 * 1024


def read_source(path: str, *, once: bool = False) -> Source:
    """The text of the file at ``path``: regular, at most 1 MiB, UTF-8; raises `ConfigError`.

    ``once``: it is not going to be read again, so it may be a pipe, and ``-`` is standard input.
    """
    try:
        if once and path == "-":
            path, content = "<stdin>", _read_within(0, FILE_LIMIT)
        else:
            content = read_regular(path, FILE_LIMIT, pipe=once)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        what = f"cannot be read: {reason}; {remedy(error, 'name a YAML file')}"
        raise _refused(Source(path, ""), what) from None
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise _refused(Source(path, ""), "the text is UTF-16; save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return Source(path, content.decode())
    except UnicodeDecodeError as error:
        good = Source(path, content[: error.start].decode())
        problem = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise _refused(good, problem, place_at(good, len(good.text))) from None


def remedy(error: Exception, usual: str) -> str:
    """What mends it that a file cannot be read; ``usual`` where the error itself does not tell."""
    if isinstance(error, PermissionError):
        return f"let user {_user()} read it, and enter its folders"
    return usual


def _user() -> str:
    import pwd  # noqa: PLC0415  # for an error only

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def read_regular(path: str, limit: int, *, pipe: bool = False) -> bytes:
    """The bytes of a regular file of at most ``limit``; raises OSError, and ValueError that says what else it is.

    ``pipe``: it may be one, and is waited for.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not (stat.S_ISREG(mode) or (pipe and stat.S_ISFIFO(mode))):
            raise ValueError("it is not a regular file")
        os.set_blocking(descriptor, True)
        return _read_within(descriptor, limit)
    finally:
        os.close(descriptor)


def _read_within(descriptor: int, limit: int) -> bytes:
    """All bytes of an open file; raises OSError, and ValueError where there are more than ``limit``."""
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
        content = b""
        while len(content) <= limit and (more := file.read(limit + 1 - len(content))):
            content += more
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit // 1024} KiB")
    return content


def place_at(source: Source, index: int) -> Place:
    """The place of the character at ``index``."""
    before = (source.text[:index] + "x").splitlines()
    return Place(source, len(before), len(before[-1]))


def _refused(source: Source, problem: str, place: Place | None = None) -> ConfigError:
    return ConfigError([Mistake(place or Place(source), problem)])
