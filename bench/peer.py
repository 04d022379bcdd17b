"""What a relay in the benchmark is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

BASELINE = "haproxy"
DIRECT = "direct"
"""The generator against its own server, nothing between: what no relay here can reach."""


class Missing(Exception):
    """This peer cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A relay: `command(directory, port, upstream)` writes its files and returns the argument vector.

    `way`: what it is set up for; rows of that way measure it. `extra`: only when it is asked for by name.
    """

    name: str
    version: Callable[[], str]
    command: Callable[[Path, int, int], list[str]]
    env: Mapping[str, str] = field(default_factory=dict)
    extra: bool = False
    way: str = "forward"
    wide: bool = False  # on all cores, those of the load included: it has several processes
    share: float | None = (
        None  # of a core, for each of its workers, all on the relay's core; None: what there is
    )
