"""``python -m tests.differ``: the same scenarios through our program, plainly, and through the programs of others.

Exit code 1 where ours is worse in a way that the documentation does not name.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from proxy.lab.namespaces import ensure_allowed
from tests.differ.run import examine
from tests.differ.scenarios import draw, parse


def main() -> int:
    parser = argparse.ArgumentParser(prog="make differ", description=__doc__)
    parser.add_argument("--seed", default="", help="of the scenarios; another one each time without it")
    parser.add_argument("--count", type=int, default=1000, help="how many are drawn")
    parser.add_argument(
        "--scenario", action="append", default=[], help="only this line; may be given several times"
    )
    parser.add_argument("--code", type=Path, help="a checkout whose program is run in place of this one")
    options = parser.parse_args()
    ensure_allowed()
    seed = options.seed or str(random.SystemRandom().randrange(1 << 32))
    if options.scenario:
        scenarios = [parse(line) for line in options.scenario]
    else:
        print(f"{options.count} scenarios, SEED={seed}", flush=True)
        scenarios = [draw(f"{seed}:{number}") for number in range(options.count)]
    began = time.monotonic()
    findings = examine(scenarios, code=options.code)
    for finding in findings:
        print(finding, flush=True)
    print(f"{len(scenarios)} scenarios, {len(findings)} worse, {time.monotonic() - began:.0f} s")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
