"""A program that knows nothing of Fast Open: it asks the far server six times each way, and says how long that took."""

from __future__ import annotations

import statistics
import sys
import time
import urllib.error
import urllib.request


def seconds(url: str) -> float:
    began = time.monotonic()
    with urllib.request.urlopen(url, timeout=20) as response:
        response.read()
    return time.monotonic() - began


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            seconds(url)
        except (OSError, urllib.error.URLError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"app: {url}: {error}")
            time.sleep(0.2)
        else:
            return


def main() -> None:
    ways = dict(argument.split("=", 1) for argument in sys.argv[1:])
    medians = {}
    for name, url in ways.items():
        wait_for(url)
        times = [seconds(url) for _ in range(6)]
        medians[name] = statistics.median(times)
        listed = " ".join(f"{1000 * one:.0f}" for one in times)
        print(f"{name:>12}: {1000 * medians[name]:4.0f} ms in the middle of {listed}", flush=True)
    first, last = (list(medians.values())[place] for place in (0, -1))
    print(f"{'saved':>12}: {1000 * (first - last):4.0f} ms of each request", flush=True)


main()
