"""Values of the file about the processes that serve it."""

from __future__ import annotations

import os
from typing import ClassVar, Self

from proxy.config.scalars import BadScalar, Scalar

MOST = 256


class Workers(Scalar[int]):
    """How many processes serve: a number, or ``cores``, one for each processor that this process may use."""

    __slots__ = ()
    kind = f"cores, or a number from 1 to {MOST}"
    json_schema: ClassVar[dict[str, object]] = {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": MOST},
            {"type": "string", "pattern": "^(cores|[0-9]{1,3})$"},
        ]
    }

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if text == "cores":
            return cls(min(len(os.sched_getaffinity(0)), MOST))
        if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MOST):
            raise BadScalar(f"{text!r} is not understood; write {cls.kind}")
        return cls(int(text))

    def plain(self) -> int:
        """As `Scalar.plain`."""
        return self.value
