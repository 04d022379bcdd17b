"""The relays that can be measured, and the plainest configuration of each that does the same work."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.ours import (
    OURS,
    ours,
    ours_asking,
    ours_balancing,
    ours_version,
    sharing_version,
    system_python,
    system_version,
)
from bench.peer import Missing, Peer

SHARE = 0.25
"""Of a core, for one worker of a row that compares numbers of workers: two leave room for the supervisor."""
__all__ = ["OURS", "PEERS", "haproxy_newer", "haproxy_version"]


def _first_line(program: str, flag: str) -> str:
    path = _path(program)
    if path is None:
        raise Missing(f"{program} is not installed")
    said = subprocess.run([path, flag], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).splitlines()[0]


def _descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def haproxy_version(program: str = "haproxy") -> str:
    said = re.search(r"version ([0-9.]+)", _first_line(program, "-v"))
    return said[1] if said else "?"


def haproxy_newer() -> str:
    """The program `HAPROXY_NEWER` names: a distribution's own is often some years old."""
    if program := os.environ.get("HAPROXY_NEWER"):
        return program
    raise Missing("HAPROXY_NEWER names no newer one")


def _haproxy(
    *options: str, program: Callable[[], str] = lambda: "haproxy"
) -> Callable[[Path, int, int], list[str]]:
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
        return [program(), "-db", "-f", str(file)]

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


def _pproxy_asking(scheme: str) -> Callable[[Path, int, int], list[str]]:
    def command(_: Path, port: int, __: int) -> list[str]:
        return [sys.executable, "-m", "pproxy", "-l", f"{scheme}://127.0.0.1:{port}"]

    return command


def _debian(program: str, package: str) -> Callable[[], str]:
    """The version of a program that does not say it in a line of its own, as its package has it."""

    def version() -> str:
        if _path(program) is None:
            raise Missing(f"{program} is not installed")
        said = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False
        )
        return said.stdout.partition("-")[0].partition(":")[0] or "?"

    return version


def _socat(_: Path, port: int, upstream: int) -> list[str]:
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=4096"
    return ["socat", listen, f"TCP:127.0.0.1:{upstream}"]


def _shadowsocks(directory: Path, port: int, upstream: int) -> list[str]:
    """Both its ends, as one relay: what goes through has been encrypted and decrypted again."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        far = free.getsockname()[1]
    common = "-k bench -m aes-256-gcm -t 600 --fast-open"
    server = f"ss-server -s 127.0.0.1 -p {far} {common}"
    near = f"ss-tunnel -s 127.0.0.1 -p {far} -b 127.0.0.1 -l {port} -L 127.0.0.1:{upstream} {common}"
    return ["sh", "-c", f"cd {directory}; {server} & exec {near}"]


def _microsocks(_: Path, port: int, __: int) -> list[str]:
    return ["microsocks", "-i", "127.0.0.1", "-p", str(port)]


def _dante(directory: Path, port: int, _: int) -> list[str]:
    file = directory / "danted.conf"
    file.write_text(
        f"errorlog: /dev/null\ninternal: 127.0.0.1 port = {port}\nexternal: lo\nclientmethod: none\n"
        "socksmethod: none\nclient pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
        "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
    )
    return [_path("danted") or "danted", "-f", str(file), "-p", str(directory / "danted.pid")]


def _squid(directory: Path, port: int, _: int) -> list[str]:
    file = directory / "squid.conf"
    for folder in (directory, *directory.parents[:1]):
        folder.chmod(0o777)
    file.write_text(
        f"http_port 127.0.0.1:{port}\nhttp_access allow all\naccess_log none\ncache deny all\n"
        f"cache_log {directory}/cache.log\npid_filename {directory}/squid.pid\ncoredump_dir {directory}\n"
        "pinger_enable off\nshutdown_lifetime 0 seconds\nnetdb_filename none\nvisible_hostname bench.test\n"
        "max_filedescriptors 16384\n"
    )
    return [_path("squid") or "squid", "-N", "-n", f"bench{port}", "-f", str(file)]


def _tinyproxy(directory: Path, port: int, _: int) -> list[str]:
    file = directory / "tinyproxy.conf"
    file.write_text(
        f'Port {port}\nListen 127.0.0.1\nMaxClients 512\nLogLevel Critical\nPidFile "{directory}/pid"\n'
    )
    return ["tinyproxy", "-d", "-c", str(file)]


def _path(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


PEERS = (
    Peer("haproxy", haproxy_version, _haproxy("splice-auto")),
    # splice-auto guesses, and often guesses that it should copy; this one is told.
    Peer("haproxy-splice", haproxy_version, _haproxy("splice-request", "splice-response"), extra=True),
    Peer(
        "haproxy-newer",
        lambda: haproxy_version(haproxy_newer()),
        _haproxy("splice-auto", program=haproxy_newer),
    ),
    Peer("nginx", _nginx_version, _nginx),
    Peer("socat", _debian("socat", "socat"), _socat),
    Peer("shadowsocks", _debian("ss-tunnel", "shadowsocks-libev"), _shadowsocks),
    Peer("pproxy", _pproxy_version, _pproxy),
    Peer("ours", ours_version, ours(OURS, sessions=False)),
    Peer("ours-log", ours_version, ours(OURS, sessions=True)),
    Peer("ours-debian", system_version, ours(system_python(), sessions=False)),
    Peer("ours-debian-log", system_version, ours(system_python(), sessions=True)),
    Peer("dante", _debian("danted", "dante-server"), _dante, way="socks"),
    Peer("microsocks", _debian("microsocks", "microsocks"), _microsocks, way="socks"),
    Peer("pproxy-socks", _pproxy_version, _pproxy_asking("socks5"), way="socks"),
    Peer("ours-socks", ours_version, ours_asking("socks"), way="socks"),
    Peer("squid", _debian("squid", "squid"), _squid, way="connect"),
    Peer("tinyproxy", _debian("tinyproxy", "tinyproxy"), _tinyproxy, way="connect"),
    Peer("pproxy-connect", _pproxy_version, _pproxy_asking("http"), way="connect"),
    Peer("ours-connect", ours_version, ours_asking("http"), way="connect"),
    Peer("10-routes", ours_version, ours_asking("socks", 10), way="routes"),
    Peer("10000-routes", ours_version, ours_asking("socks", 10_000), way="routes"),
    Peer("10-endpoints", ours_version, ours_balancing(10), way="endpoints"),
    Peer("1000-endpoints", ours_version, ours_balancing(1000), way="endpoints"),
    Peer("1-worker", ours_version, ours(OURS, sessions=False), way="workers", wide=True),
    Peer("2-workers", ours_version, ours(OURS, sessions=False, workers=2), way="workers", wide=True),
    Peer("1-share", sharing_version, ours(OURS, sessions=False), way="shares", share=SHARE),
    Peer("2-shares", sharing_version, ours(OURS, sessions=False, workers=2), way="shares", share=SHARE),
)
