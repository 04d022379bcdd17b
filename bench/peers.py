"""The relays that can be measured, and the plainest configuration of each that does the same work."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy import __version__


class Missing(Exception):
    """This peer cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A relay: `command(directory, port, upstream)` writes its files and returns the argument vector.

    `extra`: measured only when it is asked for by name.
    """

    name: str
    version: Callable[[], str]
    command: Callable[[Path, int, int], list[str]]
    env: Mapping[str, str] = field(default_factory=dict)
    extra: bool = False


def _first_line(program: str, flag: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Missing(f"{program} is not installed")
    said = subprocess.run([path, flag], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).splitlines()[0]


def _descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def haproxy_version() -> str:
    said = re.search(r"version ([0-9.]+)", _first_line("haproxy", "-v"))
    return said[1] if said else "?"


def _haproxy(*options: str) -> Callable[[Path, int, int], list[str]]:
    def command(directory: Path, port: int, upstream: int) -> list[str]:
        file = directory / "haproxy.cfg"
        # Two descriptors a connection; HAProxy refuses to start when maxconn asks for more than the limit.
        most = min(20_000, (_descriptors() - 1_000) // 2)
        chosen = "\n".join(f"    option {option}" for option in options)
        file.write_text(
            f"""
global
    maxconn {most}
    maxpipes 200
    nbthread 1
defaults
    mode tcp
{chosen}
    timeout connect 5s
    timeout client 10m
    timeout server 10m
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server upstream 127.0.0.1:{upstream}
"""
        )
        return ["haproxy", "-db", "-f", str(file)]

    return command


_NGINX_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")


def _nginx_module() -> str:
    """The load_module line for `stream`, empty where it is built in."""
    said = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=False).stderr
    if re.search(r"--with-stream(\s|$)", said):
        return ""
    for folder in _NGINX_MODULES:
        if (module := Path(folder, "ngx_stream_module.so")).exists():
            return f"load_module {module};"
    raise Missing("nginx is there, its stream module is not (Debian: libnginx-mod-stream)")


def _nginx_version() -> str:
    version = _first_line("nginx", "-v").rpartition("/")[2]
    _nginx_module()
    return version


def _nginx(directory: Path, port: int, upstream: int) -> list[str]:
    file = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(
        f"""
{_nginx_module()}
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {_descriptors() - 100}; }}
stream {{
    access_log off;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_pass 127.0.0.1:{upstream};
        tcp_nodelay on;
    }}
}}
"""
    )
    return ["nginx", "-p", str(directory), "-e", "stderr", "-c", str(file)]


def _pproxy_version() -> str:
    if importlib.util.find_spec("pproxy") is None:
        raise Missing("the Python package pproxy is not installed")
    return importlib.metadata.version("pproxy")


def _pproxy(_: Path, port: int, upstream: int) -> list[str]:
    return [sys.executable, "-m", "pproxy", "-l", f"tunnel{{127.0.0.1:{upstream}}}://127.0.0.1:{port}"]


def _ours_version() -> str:
    if "PROXY" in os.environ:
        return os.environ["PROXY"]
    if importlib.util.find_spec("proxy.__main__") is None:
        raise Missing("python -m proxy does not exist here")
    return __version__


def ours(prefix: list[str], *, sessions: bool) -> Callable[[Path, int, int], list[str]]:
    """Our own command line behind `prefix`, which runs `tfo-proxy` or stands in for it."""

    def command(directory: Path, port: int, upstream: int) -> list[str]:
        file = directory / "proxy.yaml"
        file.write_text(
            f"""
listeners:
  bench: {{bind: "127.0.0.1:{port}", mode: forward, to: "127.0.0.1:{upstream}"}}
log: {{format: json, sessions: {str(sessions).lower()}}}
drain: 1s
"""
        )
        return [*prefix, "run", str(file)]

    return command


OURS = shlex.split(os.environ.get("PROXY", "")) or [sys.executable, "-m", "proxy"]
BASELINE = "haproxy"
DIRECT = "direct"
"""The generator against its own server, nothing between: what no relay here can reach."""

PEERS = (
    Peer("haproxy", haproxy_version, _haproxy("splice-auto")),
    # splice-auto guesses, and often guesses that it should copy; this one is told.
    Peer("haproxy-splice", haproxy_version, _haproxy("splice-request", "splice-response"), extra=True),
    Peer("nginx", _nginx_version, _nginx),
    Peer("pproxy", _pproxy_version, _pproxy),
    Peer("ours", _ours_version, ours(OURS, sessions=False)),
    Peer("ours-log", _ours_version, ours(OURS, sessions=True)),
)
