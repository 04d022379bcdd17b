"""`python -m bench [relay …]`: a named benchmark, or all of them."""

from __future__ import annotations

import sys

import click

from bench.gauntlet import gauntlet
from bench.growth import growth
from bench.loris import loris
from bench.pages import pages
from bench.relay import relay
from bench.report import report
from bench.soak import soak
from bench.watching import watching

BENCHMARKS: dict[str, click.Command] = {"relay": relay, "growth": growth, "gauntlet": gauntlet}
BY_NAME: dict[str, click.Command] = {
    "report": report,
    "loris": loris,  # judges us alone
    "soak": soak,  # judges us alone, for as long as you like
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
    if set(arguments) - {"--quick", "--write-docs"}:
        relay.main(arguments, prog_name="python -m bench")
    quick = [argument for argument in arguments if argument == "--quick"]
    for name, benchmark in BENCHMARKS.items():
        click.echo(f"\n== {name}")
        # The whole gauntlet takes five minutes more: `python -m bench gauntlet`.
        few = ["--paths", "usual"] if benchmark is gauntlet and not quick else []
        try:
            benchmark.main([*quick, *few], prog_name="python -m bench", standalone_mode=False)
        except (click.ClickException, SystemExit) as failed:
            click.echo(f"{name}: {failed}", err=True)
    click.echo("\n== report")
    report.main(
        [argument for argument in arguments if argument == "--write-docs"], prog_name="python -m bench"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
