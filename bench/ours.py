"""This program, set up for each way of the benchmark."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import proxy
from bench.peer import Missing
from bench.shares import place
from proxy import __version__


def ours_version() -> str:
    if "PROXY" in os.environ:
        return os.environ["PROXY"]
    if importlib.util.find_spec("proxy.__main__") is None:
        raise Missing("python -m proxy does not exist here")
    _compile([sys.executable])
    return __version__


def sharing_version() -> str:
    """The same, where CPU can be shared out."""
    place()
    return ours_version()


def ours(prefix: list[str], *, sessions: bool, workers: int = 1) -> Callable[[Path, int, int], list[str]]:
    """Our own command line behind `prefix`, which runs `tfo-proxy` or stands in for it."""

    def command(directory: Path, port: int, upstream: int) -> list[str]:
        document: dict[str, object] = {
            "listeners": {
                "bench": {"bind": f"127.0.0.1:{port}", "mode": "forward", "to": f"127.0.0.1:{upstream}"}
            }
        }
        if workers > 1:
            document["workers"] = workers
        return _configured(prefix, directory, document, sessions=sessions)

    return command


def ours_asking(mode: str, routes: int = 0) -> Callable[[Path, int, int], list[str]]:
    """The same where clients say where to, with so many routes that are of no concern to them."""

    def command(directory: Path, port: int, _: int) -> list[str]:
        document: dict[str, object] = {
            "listeners": {"bench": {"bind": f"127.0.0.1:{port}", "mode": mode}},
            "direct": {"deny": ["metadata"]},
            "routes": _routes(routes),
        }
        return _configured(OURS, directory, document, sessions=False)

    return command


def ours_balancing(endpoints: int) -> Callable[[Path, int, int], list[str]]:
    """A forward listener to a cluster of so many endpoints, of which `upstream` is the first; see `more_ports`."""

    def command(directory: Path, port: int, upstream: int) -> list[str]:
        ports = [upstream, *more_ports(endpoints - 1)]
        document: dict[str, object] = {
            "listeners": {"bench": {"bind": f"127.0.0.1:{port}", "mode": "forward", "to": "many"}},
            "clusters": {"many": {"endpoints": [f"127.0.0.1:{one}" for one in ports]}},
        }
        return _configured(OURS, directory, document, sessions=False)

    return command


def workers(pids: Sequence[int]) -> list[int]:
    """Those of our processes that serve: the one there is, or what the supervisor has started."""
    return [pid for pid in pids if b"_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()] or list(pids)


def _routes(count: int) -> list[dict[str, object]]:
    """Rules of every kind that the traffic of the benchmark passes by."""
    kinds: tuple[Callable[[int], dict[str, object]], ...] = (
        lambda n: {"host": f"h{n}.example.com"},
        lambda n: {"host": f"*.s{n}.example.com", "port": 443},
        lambda n: {"network": f"10.{n >> 8 & 255}.{n & 255}.0/24", "port": 25},
        lambda n: {"client": f"172.{16 + (n >> 16)}.{n >> 8 & 255}.{n & 255}"},
        lambda n: {"host": f"/api[0-9]+\\.p{n}\\.example\\.com/"},
    )
    return [
        {"match": kinds[n % len(kinds)](n), "refuse": "no concern of the benchmark"} for n in range(count)
    ]


def _configured(
    prefix: list[str], directory: Path, document: dict[str, object], *, sessions: bool
) -> list[str]:
    file = directory / "proxy.yaml"
    log = {"format": "json", "sessions": sessions}
    file.write_text(json.dumps({**document, "log": log, "drain": "1s"}))
    return [*prefix, "run", str(file)]


def no_more_ports(count: int) -> list[int]:
    """Where nobody serves the peers' wish for more servers."""
    raise Missing(f"{count} more servers are needed")


more_ports: Callable[[int], list[int]] = no_more_ports
"""Gives the ports of so many more servers; the benchmark sets it when its load generator runs."""

OURS = shlex.split(os.environ.get("PROXY", "")) or [sys.executable, "-m", "proxy"]


def system_python() -> list[str]:
    """Our program on the distribution's interpreter, which is built with profile-guided optimisation."""
    site = next((path for path in sys.path if path.endswith("site-packages")), "")
    root = str(Path(__file__).parents[1])
    return ["env", f"PYTHONPATH={root}:{site}", "/usr/bin/python3", "-P", "-m", "proxy"]


def system_version() -> str:
    done = subprocess.run([*system_python(), "version"], capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise Missing("/usr/bin/python3 cannot run it with what is installed here")
    _compile(["/usr/bin/python3"])
    said = subprocess.run(
        ["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True
    ).stdout.split()
    return f"{__version__} on Python {said[-1]}"


def _compile(python: Sequence[str]) -> None:
    """Bytecode beside the sources, as an installed program has it, whatever PYTHONDONTWRITEBYTECODE says."""
    package = str(Path(proxy.__file__).parent)
    subprocess.run([*python, "-m", "compileall", "-q", package], capture_output=True, check=False, cwd="/")
