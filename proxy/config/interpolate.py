"""``${NAME}``, ``${NAME:-default}``, ``${env:NAME}``, ``${file:/run/secrets/x}``; ``$$`` is a dollar."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from proxy.config.source import read_regular, remedy

_REFERENCE = re.compile(r"\$(?:\$|\{([^}]*)(\}?))")
_NAME = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_FILE_LIMIT = 64 * 1024
_SECRETS = "/run/secrets"


class Expanded(NamedTuple):
    """A scalar's text with every reference replaced; ``foreign``: some of it came from outside the file."""

    text: str
    foreign: bool


class BadReference(ValueError):
    """A reference that cannot be resolved: ``str()`` says why, ``reference`` is its text in the file."""

    def __init__(self, reference: str, problem: str) -> None:
        super().__init__(problem)
        self.reference = reference


def expand(text: str) -> Expanded:
    """``text`` with its references replaced from the environment and from files; raises `BadReference`."""
    foreign = False

    def replace(match: re.Match[str]) -> str:
        nonlocal foreign
        if match.group() == "$$":
            return "$"
        value, came_from_outside = _look_up(match.group(), match.group(1), closed=bool(match.group(2)))
        foreign = foreign or came_from_outside
        return value

    return Expanded(_REFERENCE.sub(replace, text), foreign)


def files_in(text: str) -> tuple[str, ...]:
    """The paths of all files that ``text`` refers to, each place where one may be."""
    bodies = (match.group(1) or "" for match in _REFERENCE.finditer(text))
    names = (body.removeprefix("file:") for body in bodies if body.startswith("file:"))
    return tuple(dict.fromkeys(path for name in names for path in _candidates(name)))


def escape(text: str) -> str:
    """The text that `expand` turns into ``text``."""
    return text.replace("$", "$$")


def _look_up(reference: str, body: str, *, closed: bool) -> tuple[str, bool]:
    """The value a reference stands for, and whether it came from outside the file."""
    if not closed:
        raise BadReference(
            reference, f"{reference!r} has no closing brace; write ${{NAME}}, or $$ for a dollar"
        )
    if body.startswith("file:"):
        return _read(reference, body.removeprefix("file:")), True
    match = _NAME.match(body)
    if match is None:
        raise BadReference(
            reference,
            f"{reference!r} is not a reference; write ${{NAME}}, ${{NAME:-default}} or ${{file:/path}}",
        )
    name, default = match.group(1), match.group(2)
    value = os.environ.get(name)
    if value:
        return value, True
    if default is not None:
        return default, False
    if value is None:
        raise BadReference(
            reference, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
        )
    return "", True


def _read(reference: str, name: str) -> str:
    """What the file ``name`` holds, without the line ends at its end."""
    problem: OSError | None = None
    for path in _candidates(name):
        try:
            return read_regular(path, _FILE_LIMIT).decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise BadReference(reference, f"{path} is not UTF-8 text") from None
        except ValueError as error:
            raise BadReference(reference, f"{path or 'the path'!r}: {error}") from None
        except OSError as error:
            problem = problem if isinstance(error, FileNotFoundError) and problem else error
    reason = problem.strerror if problem else "no path is given"
    meant = remedy(problem or ValueError(), "it must be a file with the value")
    tried = " or ".join(_candidates(name)) or "${file:}"
    raise BadReference(reference, f"{tried} cannot be read: {reason}; {meant}")


def _candidates(name: str) -> list[str]:
    """Where ``name`` may be: a relative one in systemd's credentials, then among the container's secrets."""
    if not name or Path(name).is_absolute():
        return [name] if name else []
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return [str(Path(folder, name)) for folder in (credentials, _SECRETS) if folder]
