"""``python -m proxy`` is ``tfo-proxy``. The health check is answered before anything heavy is imported."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """Run the command line; the exit status."""
    if sys.argv[1:2] == ["healthcheck"]:
        from proxy.commands import healthcheck  # noqa: PLC0415  # 40 ms instead of 400: it runs every few seconds

        return healthcheck.main(sys.argv[2:])
    gc.set_threshold(50_000, 20, 50)  # what is imported stays: looking through it again and again takes 10 ms
    if sys.argv[1:2] == ["_worker"]:
        from proxy.service.crew import shift  # noqa: PLC0415  # one of several processes that a supervisor has started

        return shift.main(int(sys.argv[2]), int(sys.argv[3]))
    from proxy.commands import group  # noqa: PLC0415

    return group.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
