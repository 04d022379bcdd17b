"""``python -m tests.fuzz [--seconds 60] [--within MINUTES] [--jobs 2] [NAME …]``: each parser gets so much of a
processor's time.

It runs when nothing else wants to (SCHED_IDLE, sched(7)), so it may run beside the tests: their timing does not
suffer. Exit code 1 if a target has failed; the failing input is then in the corpus. A machine that has not so much
time to spare within those minutes cuts the rest short, and says so.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.fuzz.campaign import fuzz
from tests.fuzz.mutation import Found
from tests.fuzz.targets import FUZZED


def step_back() -> None:
    """Run only when nothing else wants to."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def outcome(name: str, seconds: float, until: float) -> tuple[str, bool]:
    """What to say of a target, and whether it held."""
    try:
        fuzzer = fuzz(name, seconds, until=until, keep=os.environ.get("FUZZ_KEEP") == "1")
    except Found as found:
        return f"{name}: FAILED\n{''.join(traceback.format_exception(found))}", False
    short = "" if fuzzer.spent >= seconds else f"; CUT SHORT after {fuzzer.spent:.0f} s of processor time"
    return f"{name}: {fuzzer.runs} inputs, {len(fuzzer.shapes)} shapes{short}", True


def run(names: Iterable[str], seconds: float, jobs: int, within: float = math.inf) -> bool:
    """Whether all held."""
    began, failed = time.monotonic(), list[str]()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), step_back) as pool:
        futures = {pool.submit(outcome, name, seconds, began + within): name for name in names}
        for future in as_completed(futures):
            said, held = future.result()
            print(said, flush=True)
            if not held:
                failed.append(futures[future])
    minutes = (time.monotonic() - began) / 60
    verdict = f"{', '.join(failed)} failed" if failed else "all held"
    print(
        f"fuzz: {len(futures)} targets, {seconds:g} s of processor time each, in {minutes:.1f} minutes: {verdict}"
    )
    return not failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--within", type=float, default=math.inf, metavar="MINUTES")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("names", nargs="*", metavar="NAME", help="all, if none is given")
    given = parser.parse_args()
    if unknown := set(given.names) - FUZZED.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(sorted(FUZZED))}")
    sys.exit(not run(given.names or FUZZED, given.seconds, given.jobs, given.within * 60))


if __name__ == "__main__":
    main()
