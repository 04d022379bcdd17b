"""`python -m bench [relay …]`: a named benchmark, or all of them."""

from __future__ import annotations

import sys

import click

from bench.gauntlet import gauntlet
from bench.loris import loris
from bench.pages import pages
from bench.relay import relay
from bench.watching import watching

BENCHMARKS: dict[str, click.Command] = {"relay": relay, "gauntlet": gauntlet}
BY_NAME: dict[str, click.Command] = {
    "loris": loris,  # judges us alone
    "watching": watching,  # judges us alone
    "pages": pages,  # needs a browser, and takes its time
}


@click.group(commands={**BENCHMARKS, **BY_NAME})
def one() -> None:
    """What this relay costs and saves, beside others. Without a name: all of it, one after the other."""


def main(arguments: list[str]) -> None:
    """Hands the arguments to the benchmark they name; without one all run, or the first with its options."""
    if arguments[:1] and (arguments[0] in {*BENCHMARKS, *BY_NAME} or arguments[0] == "--help"):
        one.main(arguments, prog_name="python -m bench")
    first, *rest = BENCHMARKS.values()
    if set(arguments) - {"--quick"}:
        rest = []
    first.main(arguments, prog_name="python -m bench", standalone_mode=not rest)
    for benchmark in rest:
        benchmark.main(arguments, prog_name="python -m bench")


if __name__ == "__main__":
    main(sys.argv[1:])
