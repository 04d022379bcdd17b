"""What the admin said last, as its own structs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from proxy.admin.views import Endpoints, Listeners, Sessions, Status

_PATHS = {
    "status": "/api/v1/status",
    "listeners": "/api/v1/listeners",
    "endpoints": "/api/v1/endpoints?limit=1000",
    "sessions": "/api/v1/sessions?limit=200",
}


class Source(Protocol):
    """Whoever can be asked for a path of the API."""

    def get(self, path: str) -> bytes:
        """The body of the answer."""
        ...


class Unreadable(Exception):
    """The answer is not what this program knows: another version, or another program."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at everything."""

    status: Status
    listeners: Listeners
    endpoints: Endpoints
    sessions: Sessions


def ask(source: Source) -> dict[str, bytes]:
    """One look at everything, as JSON; raises what ``source`` raises."""
    return {name: source.get(path) for name, path in _PATHS.items()}


def read(bodies: dict[str, bytes]) -> Seen:
    """The same as structs; raises `Unreadable`."""
    try:
        return Seen(
            msgspec.json.decode(bodies["status"], type=Status),
            msgspec.json.decode(bodies["listeners"], type=Listeners),
            msgspec.json.decode(bodies["endpoints"], type=Endpoints),
            msgspec.json.decode(bodies["sessions"], type=Sessions),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"the answer is not what this version knows: {error}") from None


def as_json(bodies: dict[str, bytes], *, indent: bool) -> str:
    """The same as one JSON object, on one line or indented."""
    try:
        whole = msgspec.json.encode({name: msgspec.Raw(body) for name, body in bodies.items()})
        return msgspec.json.format(whole, indent=2 if indent else -1).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"the answer is no JSON: {error}") from None
