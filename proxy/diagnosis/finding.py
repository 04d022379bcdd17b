"""One thing that a check found."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How much it matters."""

    OK = "ok"
    NOTE = "note"  # worth knowing, nothing to do
    WARNING = "warning"  # works, and could work better
    MEND = "mend"  # does not do what it is there for


class Finding(NamedTuple):
    """``check`` is a word that stays the same, ``mend`` the exact line that mends it."""

    check: str
    level: Level
    what: str
    why: str = ""
    mend: str = ""
