"""`python -m bench pages`: whole pages in a real browser, as in the paper that Fast Open comes from.

Radhakrishnan, Cheng, Chu, Jain, Raghavan: TCP Fast Open, CoNEXT 2011, section 6.2: page load times in Chrome over a
path with a delay, 4 to 41 % shorter. Theirs had a patched kernel at the client; here the browser is an ordinary one,
and what it dials goes through a relay beside it. The servers are nginx with Fast Open on, at the far end of the lab's
line, which delays, and does not limit the rate as theirs did (4 Mbit/s): what is large weighs less here.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bench.load import OUT
from bench.peers import OURS
from bench.runners import listens
from proxy.lab.namespaces import LabUnavailableError
from proxy.lab.wan import Wan
from tests.admin.chromium import Browser, program

RTTS = (0.02, 0.1, 0.2)
LOADS = 5
PATIENCE = 10.0
SEED = 2011
DIRECT, HAPROXY, OFF, OURS_ON = "direct", "haproxy", "ours, off", "ours"
WAYS = (DIRECT, HAPROXY, OFF, OURS_ON)
PORT = 1080
NETWORK = "10.77.2.{}"  # what the lab calls its server's
AT_HOME = "127.0.7.{}"  # where HAProxy stands for one of them


@dataclass(frozen=True, slots=True)
class Page:
    """What a page is made of: `objects` spread over `origins`, a share of them found only by scripts and styles.

    Sizes in bytes: the median of what an object weighs. The first origin has the document.
    """

    name: str
    title: str
    origins: int
    objects: int
    document: int
    median: int
    nested: float


@dataclass(frozen=True, slots=True)
class Way:
    """How a browser is told to go: by its command line, or a page at a time."""

    flags: tuple[str, ...] = ()
    proxy: str = ""


PAGES = (
    Page("article", "an article of an encyclopedia: 2 origins, 14 objects", 2, 14, 60_000, 9_000, 0.2),
    Page("shop", "a shop: 8 origins, 60 objects", 8, 60, 120_000, 7_000, 0.3),
    Page("news", "a newspaper: 20 origins, 110 objects", 20, 110, 150_000, 6_000, 0.4),
)


def build(page: Page, root: Path) -> None:
    """The page's files, one folder an origin, always the same ones."""
    dice = random.Random(f"{SEED} {page.name}")
    for origin in range(1, page.origins + 1):
        (root / str(origin)).mkdir(parents=True)
    found: dict[str, list[str]] = {"script": [], "style": [], "image": []}
    nested: list[str] = []
    for number in range(page.objects):
        # Few origins have most of the objects, as on real pages.
        origin = number + 1 if number < page.origins else min(page.origins, int(dice.paretovariate(0.8)))
        kind = dice.choices(("image", "script", "style"), (70, 20, 10))[0]
        size = min(200_000, int(dice.lognormvariate(0, 1) * page.median))
        url = f"http://{NETWORK.format(origin)}/{number}.{kind}"
        (root / str(origin) / f"{number}.{kind}").write_bytes(_content(kind, size, dice))
        if kind == "image" and dice.random() < page.nested:
            nested.append(url)
        else:
            found[kind].append(url)
    _hide(nested, found, root)
    head = "".join(f'<link rel="stylesheet" href="{url}">' for url in found["style"])
    body = "".join(f'<img src="{url}" width="9" height="9">' for url in found["image"])
    scripts = "".join(f'<script src="{url}"></script>' for url in found["script"])
    text = "".join(dice.choices("abcdefghij klmnop", k=page.document))
    (root / "1" / "index.html").write_text(
        f"<!doctype html><title>{page.name}</title>{head}{body}{scripts}<!-- {text} -->"
    )


def _content(kind: str, size: int, dice: random.Random) -> bytes:
    if kind == "image":
        return b"GIF89a\x01\x00\x01\x00\x00\x00\x00;" + dice.randbytes(size)
    return b"/*" + dice.randbytes(size).hex().encode()[:size] + b"*/"


def _hide(nested: Sequence[str], found: dict[str, list[str]], root: Path) -> None:
    """Images that a browser learns of only when it has read a script."""
    scripts = found["script"]
    for number, url in enumerate(nested):
        host, _, name = scripts[number % len(scripts)].removeprefix("http://").partition("/")
        with (root / host.rpartition(".")[2] / name).open("a") as script:
            script.write(f"\nnew Image().src = {json.dumps(url)};")


NGINX = """
daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; default_type text/plain; keepalive_timeout 60s; tcp_nodelay on;
    types {{ text/html html; text/css style; application/javascript script; image/gif image; }}
    add_header Cache-Control no-store;
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
    uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
{servers}}}
"""
SERVER = "    server {{ listen {address}:80 fastopen=256; root {root}/{origin}; }}\n"

HAPROXY_HEAD = """
global
    maxconn 4000
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
"""
HAPROXY_EACH = """
listen origin{origin}
    bind {home}:80
    server upstream {address}:80 tfo
"""


@contextlib.contextmanager
def _servers(wan: Wan, page: Page, folder: Path) -> Iterator[None]:
    build(page, folder)
    servers = "".join(
        SERVER.format(address=NETWORK.format(origin), root=folder, origin=origin)
        for origin in range(1, page.origins + 1)
    )
    (folder / "nginx.conf").write_text(NGINX.format(root=folder, servers=servers))
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    process = wan.server.popen(
        [nginx, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    )
    try:
        _until_ready(process, 80)
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _way(wan: Wan, way: str, page: Page, folder: Path) -> Iterator[Way]:
    """What the browser must be told to go this way."""
    if way == DIRECT:
        yield Way()
        return
    if way == HAPROXY:
        file = folder / "haproxy.cfg"
        origins = range(1, page.origins + 1)
        file.write_text(HAPROXY_HEAD + "".join(
            HAPROXY_EACH.format(origin=origin, home=AT_HOME.format(origin), address=NETWORK.format(origin))
            for origin in origins
        ))  # fmt: skip
        command = [shutil.which("haproxy") or "/usr/sbin/haproxy", "-db", "-f", str(file)]
        rules = ", ".join(f"MAP {NETWORK.format(origin)} {AT_HOME.format(origin)}" for origin in origins)
        told, port = Way(flags=(f"--host-resolver-rules={rules}",)), 80
    else:
        port = PORT + WAYS.index(way)
        file = folder / f"{port}.yaml"
        file.write_text(json.dumps({
            "listeners": {"in": {"bind": f"127.0.0.1:{port}", "mode": "mixed"}},
            "defaults": {"fast_open": "off" if way == OFF else "auto"},
            "log": {"format": "json", "sessions": False},
            "drain": "1s",
        }))  # fmt: skip
        command = [*OURS, "run", str(file)]
        told = Way(proxy=f"socks5://127.0.0.1:{port}")
    with (folder / f"{port}.log").open("wb") as output:
        process = wan.client.popen(command, stdout=output, stderr=output)
    try:
        _until_ready(process, port)
        yield told
    finally:
        process.terminate()
        process.wait()


def _until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not listens(process.pid, port):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"python -m bench pages: {process.args!r} does not listen")
        time.sleep(0.02)


TIMES = "(() => { const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd; })()"


def load(browser: Browser, proxy: str = "") -> float:
    """Seconds that the page took, in a browser that has no connection and nothing in its cache."""
    page = browser.page(proxy=proxy)
    try:
        page.call("Page.navigate", url=f"http://{NETWORK.format(1)}/")
        taken = page.until(f"document.readyState === 'complete' && {TIMES}", timeout=60)
    finally:
        page.close()
    return float(taken) / 1000


def measure(wan: Wan, page: Page, loads: int) -> dict[str, list[float]]:
    """Seconds of each load by way; the ways take turns. The first of each is not counted: cookies are fetched then."""
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as stack:
        stack.enter_context(_servers(wan, page, Path(name)))
        ways = {way: stack.enter_context(_way(wan, way, page, Path(name))) for way in WAYS}
        with wan.client.entered():
            browsers = {
                way: stack.enter_context(Browser(flags=told.flags))
                for way, told in ways.items()
                if not told.proxy
            }
        for number in range(loads + 1):
            for way, told in ways.items():
                seconds = load(browsers.get(way, browsers[DIRECT]), told.proxy)
                if number:
                    taken[way].append(seconds)
    return taken


Results = dict[float, dict[str, dict[str, list[float]]]]


def table(results: Results) -> str:
    """The medians as Markdown."""
    lines = [
        "| page | RTT | direct | HAProxy | ours, Fast Open off | ours | saved of direct | saved of ours off |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for rtt, pages in results.items():
        for page, ways in pages.items():
            middle = {way: statistics.median(times) for way, times in ways.items()}
            cells = " | ".join(f"{middle[way]:.2f} s" for way in WAYS)
            saved = " | ".join(f"{100 * (1 - middle[OURS_ON] / middle[way]):.0f} %" for way in (DIRECT, OFF))
            lines.append(f"| {page} | {1000 * rtt:.0f} ms | {cells} | {saved} |")
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--loads", default=LOADS, show_default=True, help="Of each page, each way, at each delay.")
@click.option("--only", "names", multiple=True, type=click.Choice([page.name for page in PAGES]))
@click.option("--rtt", "rtts", multiple=True, type=float, help="Milliseconds, instead of 20, 100 and 200.")
@click.option("--quick", is_flag=True, help="One page, one delay, two loads: to see that it works.")
def pages(loads: int, names: tuple[str, ...], rtts: tuple[float, ...], *, quick: bool) -> None:
    """Measure and print the table; all numbers go to a file."""
    missing = [name for name in ("nginx", "haproxy") if shutil.which(name, path="/usr/sbin:/usr/bin") is None]
    if missing or program() is None:
        sys.exit(f"python -m bench pages needs {', '.join(missing or ['chromium'])}")
    chosen = [page for page in PAGES if not names or page.name in names]
    delays = [rtt / 1000 for rtt in rtts] or list(RTTS)
    if quick:
        chosen, delays, loads = chosen[:1], delays[1:2] or delays, 2
    results: Results = {}
    began = time.monotonic()
    for rtt in delays:
        try:
            with Wan(rtt=rtt) as wan:
                for page in chosen:
                    results.setdefault(rtt, {})[page.name] = measure(wan, page, loads)
                    click.echo(
                        f"{page.title}, {1000 * rtt:.0f} ms, {time.monotonic() - began:.0f} s", err=True
                    )
        except LabUnavailableError as error:
            sys.exit(f"python -m bench pages: {error}")
    OUT.mkdir(exist_ok=True)
    (OUT / "pages.json").write_text(json.dumps(results, indent=1))
    click.echo(table(results))
