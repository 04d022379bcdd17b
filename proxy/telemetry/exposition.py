"""Metrics as text: Prometheus' format 0.0.4, and OpenMetrics 1.0 where somebody asks for it.

Names follow prometheus.io/docs/practices/naming: one word in front, base units, ``_total`` for what only grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal, TypeAlias

PREFIX = "tfoproxy_"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_LINES = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Exposition:
    """The text, family by family: all samples of one after its head."""

    def __init__(self, *, open_metrics: bool = False) -> None:
        self._open_metrics = open_metrics
        self._lines: list[str] = []
        self._name = ""

    def family(self, name: str, kind: Kind, meaning: str, *, prefix: str = PREFIX) -> None:
        """Begin a family; ``name`` of a counter ends in ``_total``."""
        self._name = name = prefix + name
        if self._open_metrics and kind == "counter":
            name = name.removesuffix("_total")
        self._lines.append(f"# HELP {name} {meaning.translate(_LINES)}")
        self._lines.append(f"# TYPE {name} {kind}")

    def sample(self, value: float, labels: Mapping[str, str] | None = None) -> None:
        """One value of the family that was begun last."""
        self._lines.append(f"{self._name}{_braces(labels or {})} {_number(value)}")

    def histogram(
        self, bounds: Sequence[float], counts: Sequence[int], total: float, labels: Mapping[str, str]
    ) -> None:
        """One histogram: ``counts`` of each bucket for itself, the last without a bound; ``total`` their sum."""
        limits = [*(repr(float(bound)) for bound in bounds), "+Inf"]
        below = list(accumulate(counts))
        for limit, number in zip(limits, below, strict=True):
            self._lines.append(f"{self._name}_bucket{_braces({**labels, 'le': limit})} {number}")
        self._lines.append(f"{self._name}_sum{_braces(labels)} {_number(total)}")
        self._lines.append(f"{self._name}_count{_braces(labels)} {below[-1]}")

    def body(self) -> bytes:
        """All of it."""
        end = "# EOF\n" if self._open_metrics else ""
        return ("\n".join(self._lines) + "\n" + end).encode(errors="replace")

    @property
    def content_type(self) -> str:
        """What this is to HTTP."""
        return OPEN_METRICS if self._open_metrics else TEXT


def _braces(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items()) + "}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
