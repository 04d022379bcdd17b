"""What clients have said before, and what it meant: most say, byte for byte, what others have just said.

A parser is a function of the bytes alone, and what it makes of them does not change, so the answer can be kept. Only
for what was said in one piece and nothing behind it; whatever carries a password, or a body that is counted down, is
read anew each time.
"""

from __future__ import annotations

from proxy.core.request import Opening, OpeningParser, Turn

__all__ = ["Familiar"]

_LONGEST = 512  # bytes
_MOST = 1024


class Familiar:
    """Bounded: what was learned first is the first to be forgotten."""

    __slots__ = ("_meanings",)

    def __init__(self) -> None:
        self._meanings: dict[tuple[OpeningParser, bytes], Opening] = {}

    def meaning(self, parser: OpeningParser, said: bytes) -> Opening | None:
        """What ``parser`` makes of ``said``, if that is known; all of it belongs to it."""
        return self._meanings.get((parser, said))

    def learn(self, parser: OpeningParser, said: bytes, opening: Opening) -> None:
        """``parser`` makes ``opening`` of ``said``, and needs every byte of it."""
        if len(said) > _LONGEST:
            return
        if (opening.credentials if isinstance(opening, Turn) else opening.http) is not None:
            return
        if len(self._meanings) >= _MOST:
            del self._meanings[next(iter(self._meanings))]
        self._meanings[parser, said] = opening
