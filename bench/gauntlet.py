"""`python -m bench gauntlet`: bad paths, one after the other; what a relay makes of each, beside a plain connect."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from types import FrameType

import click

from bench.load import OUT
from bench.paths import Path, choose
from bench.process import waited
from bench.runners import NEWER_PEER, OWN, PEER, PLAIN, Line, NotReady, Runner, Running, present
from proxy.config.scalars import read_seconds
from proxy.lab.namespaces import LabUnavailableError
from proxy.lab.servers import Address, Server
from proxy.lab.wan import Wan

SPACING = 0.05
QUICK = ("clean", "drops-syn-data", "server-first")
CALM = 5.0
"""Percent of the time that others may have had the relay's or our core until a row is called disturbed."""


@dataclass(slots=True)
class Result:
    """What one runner made of one path. Times in round trips, `failed` connections, bytes the server got `twice`."""

    path: str
    runner: str
    times: list[float] = field(default_factory=list[float])
    failed: int = 0
    twice: int = 0
    repeated: int = 0  # what our log says may have come twice
    syn_data: int = 0  # connections whose SYN brought data that the server took
    evidence: dict[str, int] = field(default_factory=dict[str, int])
    disturbed: float = 0.0  # percent
    left_out: str = ""

    @property
    def mean(self) -> float | None:
        return sum(self.times) / len(self.times) if self.times else None

    def complaints(self, path: Path, plain: Result | None) -> list[str]:
        """What it owes and did not deliver."""
        found = []
        if self.left_out:
            return [self.left_out]
        if self.failed > (plain.failed if plain else 0):
            found.append(f"{self.failed} failed")
        if self.twice > self.repeated and not path.echoes:
            found.append(f"{self.twice} bytes came twice, {self.repeated} in the log")
        if self.times and self.mean is not None:
            reached = ((path.mean, self.mean, "mean"), (path.first, self.times[0], "first"))
            for limit, value, name in (*reached, (path.worst, max(self.times), "max")):
                if limit is not None and value > limit:
                    found.append(f"{name} {value:.2f} > {limit:.2f}")
        return found


def exchange(address: Address, path: Path) -> float | None:
    """Connect, say what there is to say, and wait: seconds until the first byte, None where it failed."""
    with socket.socket() as sock:
        sock.settimeout(path.timeout)
        started = time.monotonic()
        try:
            sock.connect(address)
            if path.pause:
                time.sleep(path.pause)
                started = time.monotonic()
            if path.request:
                sock.sendall(path.request)
            return time.monotonic() - started if sock.recv(65536) else None
        except OSError:
            return None


def run(wan: Wan, path: Path, runner: Runner, connections: int) -> Result:
    """One runner on one path: a server nobody has dialled before, and everything in the way from the start."""
    result = Result(path.name, runner.name)
    wan.clear()
    wan.forget()
    for name, params in path.through:
        wan.install_all([(name, dict(params), "")])
    server = wan.serve(path.served_by(), fast_open=path.fast_open)
    try:
        with runner.start(wan, path, server.address) as running:
            _connections(wan, path, running, server, connections, result)
        _from_log(result, running.sessions)
        wan.clear()
        _from_server(result, path, server)
    except NotReady as error:
        result.left_out = str(error)
    finally:
        wan.clear()
        server.close()
    return result


def _connections(
    wan: Wan, path: Path, running: Running, server: Server, connections: int, result: Result
) -> None:
    began, delay = time.monotonic(), waited(running.pids)
    for number in range(connections):
        if path.halfway is not None and number == connections // 2:
            path.halfway(wan, server)
        took = exchange(running.address, path)
        if took is None:
            result.failed += 1
        else:
            result.times.append(took / wan.rtt)
        time.sleep(SPACING)
    result.disturbed = 100 * (waited(running.pids) - delay) / (time.monotonic() - began)


def _from_log(result: Result, sessions: Sequence[Line]) -> None:
    result.evidence = dict(Counter(str(line.get("evidence", "none")) for line in sessions))
    result.repeated = sum(int(str(line.get("repeated_bytes", 0))) for line in sessions)


def _from_server(result: Result, path: Path, server: Server) -> None:
    """What it got, beyond one request for each connection that was answered or failed."""
    result.syn_data = sum(conversation.had_syn_data for conversation in server.conversations)
    brought = sum(len(received) for received in server.received)
    result.twice = max(0, brought - len(path.request) * (len(result.times) + result.failed))


def gauntlet_run(
    wan: Wan, paths: Sequence[Path], runners: Sequence[Runner], connections: int
) -> dict[str, dict[str, Result]]:
    """Path → runner → result; the runners take turns on each path."""
    results: dict[str, dict[str, Result]] = {}
    for path in paths:
        for runner in runners:
            if sys.stderr.isatty():
                click.echo(f"\r\033[K{path.name}: {runner.name}", nl=False, err=True)
            results.setdefault(path.name, {})[runner.name] = run(wan, path, runner, connections)
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    return results


def _cell(result: Result | None, *, brief: bool = False) -> str:
    if result is None or result.left_out:
        return "-"
    failed = f"{result.failed} of {result.failed + len(result.times)} failed" if result.failed else ""
    if result.mean is None or (brief and result.failed > len(result.times)):
        return failed
    if brief:
        words = [f"{result.mean:.2f}", failed]
        return ", ".join(word for word in words if word)
    return f"{result.mean:5.2f} {result.times[0]:5.2f} {max(result.times):5.2f} {result.failed or '':>2}"


def draw(paths: Sequence[Path], results: dict[str, dict[str, Result]], runners: Sequence[str]) -> str:
    """For a terminal: mean, first, largest, failed, for each runner; then what ours owes."""
    wide = max(len(path.title) for path in paths)
    lines = [" " * wide + "".join(f"   {name:<20}" for name in runners)]
    lines.append(" " * wide + "   mean first   max  ✗ " * len(runners))
    for path in paths:
        row = results[path.name]
        cells = "".join(f"   {_cell(row.get(name)):<20}" for name in runners)
        own = row.get(OWN)
        judged = own.complaints(path, row.get(PLAIN)) if own else []
        lines.append(f"{path.title:<{wide}}{cells}  {'; '.join(judged) or ('ok' if own else '')}".rstrip())
        if own and own.disturbed > CALM:
            lines.append(
                f"{'':<{wide}}   ! other programs had its core for {own.disturbed:.0f} % of the time"
            )
    return "\n".join(lines)


def markdown(paths: Sequence[Path], results: dict[str, dict[str, Result]], versions: dict[str, str]) -> str:
    """For the README: means only."""
    titles = {
        PLAIN: "a plain connect",
        PEER: f"HAProxy {versions.get(PEER, '')} with `tfo`",
        NEWER_PEER: f"HAProxy {versions.get(NEWER_PEER, '')} with `tfo`",
        OWN: "tfo-proxy",
    }
    lines = [
        "| path | " + " | ".join(titles[name] for name in versions) + " |",
        "|---" * (len(versions) + 1) + "|",
    ]
    for path in paths:
        cells = [_cell(results[path.name].get(name), brief=True) for name in versions]
        lines.append(f"| {path.title.partition(' [')[0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def never_opened(results: dict[str, dict[str, Result]], runners: Sequence[str]) -> list[str]:
    """Who was told to fast-open and did not once, on any path."""
    rows = [row for name, row in results.items() if name == "clean"]
    return [name for name in runners if name != PLAIN and any(not row[name].syn_data for row in rows)]


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@click.command()
@click.option("--paths", default="", metavar="NAME,…", help="Paths; `usual` for those of the short table.")
@click.option("--only", default="", metavar="NAME,…", help="Runners: plain, haproxy, haproxy-newer, ours.")
@click.option("--connections", type=click.IntRange(1), default=12, show_default=True, help="On each path.")
@click.option("--rtt", default="100ms", show_default=True, help="Round trip of the path.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the table in Markdown.")
@click.option("--quick", is_flag=True, help="Three paths, three connections: does it work.")
@click.option("--name", default="gauntlet", show_default=True, help="The result is bench/out/NAME.json.")
def gauntlet(  # noqa: PLR0913, PLR0917 -- one parameter an option
    paths: str,
    only: str,
    connections: int,
    rtt: str,
    as_json: bool,
    as_markdown: bool,
    quick: bool,
    name: str,
) -> None:
    """Time to first byte on bad paths, in round trips: a plain connect, HAProxy with `tfo`, and ours."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        chosen = choose(paths or (",".join(QUICK) if quick else ""))
        runners, versions, left_out = present([part for part in only.split(",") if part])
        seconds = read_seconds(rtt)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    began = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with Wan(rtt=seconds) as wan, wan.client.entered():
            results = gauntlet_run(wan, chosen, runners, 3 if quick else connections)
    except LabUnavailableError as error:
        raise click.ClickException(str(error)) from None
    document = json.dumps(
        {
            "format": 1,
            "began": began,
            "rtt": seconds,
            "runners": versions,
            "left_out": left_out,
            "results": [
                asdict(result) | {"mean": result.mean} for row in results.values() for result in row.values()
            ],
        },
        indent=1,
    )
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.json").write_text(document + "\n")
    idle = [f"{name} {versions[name]}" for name in never_opened(results, list(versions))]
    if as_json:
        click.echo(document)
    elif as_markdown:
        click.echo(markdown(chosen, results, versions))
        for peer in idle:
            click.echo(f"\n{peer}: on the clean path no SYN of it brought data, though `tfo` is set.")
    else:
        click.echo(draw(chosen, results, list(versions)))
        for peer, why in left_out.items():
            click.echo(f"\nleft out: {peer}: {why}")
        for peer in idle:
            click.echo(
                f"\n{peer}: on the clean path no SYN of it brought data, though it was told to fast-open"
            )
    missed = [
        path.name for path in chosen
        if (own := results[path.name].get(OWN)) and own.complaints(path, results[path.name].get(PLAIN))
    ]  # fmt: skip
    if missed:
        click.echo(f"missed on: {', '.join(missed)}", err=True)
        sys.exit(1)
