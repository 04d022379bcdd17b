"""The state file: what was learned about endpoints and clients, kept over a restart.

Losing it costs some round trips and nothing else, so nothing here raises: whatever is wrong with the file, the disk
or its permissions comes back as a sentence for the log, and the service goes on with what it has in memory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import msgspec

from proxy.core.patience import Habits
from proxy.core.standings import Remembered

VERSION = 1
LARGEST = 16 * 1024 * 1024  # bytes; ten thousand endpoints are some 2 MiB


class ListenerHabits(msgspec.Struct, frozen=True):
    """Who speaks first on one listener with one cluster."""

    listener: str
    cluster: str
    habits: Habits


class Learned(msgspec.Struct, frozen=True):
    """Everything that is kept."""

    standings: list[Remembered] = []
    patience: list[ListenerHabits] = []


class Damaged(msgspec.Struct, frozen=True):
    """Why nothing could be read, in words for the log."""

    reason: str


class _File(msgspec.Struct, frozen=True):
    version: int
    learned: msgspec.Raw = msgspec.Raw()


def load(path: str | Path) -> Learned | Damaged:
    """What the file holds; nothing, where there is no file yet. Never raises OSError."""
    try:
        raw = _read(os.fspath(path))
    except FileNotFoundError:
        return Learned()
    except OSError as error:
        return Damaged(f"{path} cannot be read: {_words(error)}")
    if isinstance(raw, Damaged):
        return Damaged(f"{path} {raw.reason}")
    try:
        file = msgspec.json.decode(raw, type=_File)
        if file.version != VERSION:
            return Damaged(f"{path} is of version {file.version}, and this program reads version {VERSION}")
        return msgspec.json.decode(file.learned, type=Learned)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return Damaged(f"{path} is damaged: {error}")


def save(path: str | Path, learned: Learned) -> str | None:
    """Replace the file by a new one, whole or not at all; why that failed, in words for the log. Never raises OSError.

    Only its owner may read it: it tells whom the clients talk to.
    """
    target = os.fspath(path)
    directory, name = os.path.split(target)
    part = os.path.join(directory, f".{name}.{os.getpid()}.part")  # beside `target`, as text
    raw = msgspec.json.encode(_File(VERSION, msgspec.Raw(msgspec.json.encode(learned))))
    if len(raw) > LARGEST:
        return (
            f"{path} was not written: {len(raw)} bytes are more than the {LARGEST} that would be read again"
        )
    try:
        _write(part, raw)
        os.rename(part, target)  # as above
    except OSError as error:
        with suppress(OSError):
            os.unlink(part)  # as above
        return f"{path} was not written: {_words(error)}"
    with suppress(OSError):  # a directory on a file system that cannot be synced
        _sync_directory(directory or ".")
    return None


def obstacle(path: str, uid: int, gids: Collection[int]) -> str:
    """Why a user could not save there, in words; empty where nothing is known against it. Mode bits only, no ACLs."""
    folder = os.path.dirname(path) or "."
    try:
        found = os.stat(folder)
    except OSError as error:
        return f"the folder {folder} cannot be used: {_words(error)}"
    if not stat.S_ISDIR(found.st_mode):
        return f"{folder} is not a folder"
    if os.path.isdir(path):
        return f"{path} is a folder"
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder} is on a file system that is mounted read-only"
    shift = 6 if found.st_uid == uid else 3 if found.st_gid in gids else 0
    if uid != 0 and (found.st_mode >> shift) & 3 != 3:
        return f"user {uid} may not write to the folder {folder}"
    return ""


def _read(path: str) -> bytes | Damaged:
    fd = os.open(
        path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    )  # never wait for a pipe's writer
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return Damaged("is not a regular file")
        if found.st_uid not in {0, os.geteuid()}:
            return Damaged(f"belongs to user {found.st_uid}, not to us")
        if found.st_mode & stat.S_IWOTH:
            return Damaged("may be written by everybody")
        chunks: list[bytes] = []
        size = 0
        while size <= LARGEST:
            chunk = os.read(fd, 1 << 20)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            size += len(chunk)
        return Damaged(f"is larger than {LARGEST} bytes")
    finally:
        os.close(fd)


def _write(path: str, raw: bytes) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)  # left by a process of our number that was killed
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(raw)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _words(error: OSError) -> str:
    return error.strerror or str(error)
