"""The clock of the program's trio: the kernel's monotonic one, asked without a detour.

A session asks six times what time it is. All processes on a machine share this clock (clock_gettime(2),
CLOCK_MONOTONIC).
"""

from __future__ import annotations

from time import monotonic  # noqa: TID251  # this is where trio gets it from

import trio


class Clock(trio.abc.Clock):
    """Seconds since some moment before this machine's start."""

    current_time = staticmethod(monotonic)  # pyright: ignore[reportAssignmentType]  # it is asked through an instance

    def start_clock(self) -> None:
        """It runs already."""

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Seconds from now to ``deadline``."""
        return deadline - monotonic()
