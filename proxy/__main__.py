"""``python -m proxy`` is ``tfo-proxy``. The health check is answered before anything heavy is imported."""

from __future__ import annotations

import gc
import os
import sys


def main() -> int:
    """Run the command line; the exit status."""
    _open_standard_streams()
    if sys.platform != "linux":
        sys.stderr.write(f"tfo-proxy needs Linux, and this is {sys.platform}\n")
        return 78
    if sys.argv[1:2] == ["healthcheck"]:
        from proxy.commands import healthcheck  # noqa: PLC0415  # 40 ms instead of 400: it runs every few seconds

        return healthcheck.main(sys.argv[2:])
    if sys.argv[1:2] == ["run"]:
        from proxy.service import early_signals  # noqa: PLC0415  # a signal that comes now must not end it

        early_signals.catch()
    gc.set_threshold(50_000, 20, 50)  # what is imported stays: looking through it again and again takes 10 ms
    if sys.argv[1:2] == ["_worker"]:
        from proxy.service.crew import shift  # noqa: PLC0415  # one of several processes that a supervisor has started

        return shift.main(int(sys.argv[2]), int(sys.argv[3]))
    from proxy.commands import group  # noqa: PLC0415

    return group.main(sys.argv[1:])


def _open_standard_streams() -> None:
    """Open /dev/null for standard streams that are closed: else a socket gets the number, and the log's lines."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(
                os.open(os.devnull, os.O_RDWR), True
            )  # the lowest number that is free is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # it stays open
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # it stays open


if __name__ == "__main__":
    sys.exit(main())
