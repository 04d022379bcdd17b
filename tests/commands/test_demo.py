"""`tfo-proxy demo` as somebody types it."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from proxy.commands import group
from proxy.lab.namespaces import python_environment

Capsys = pytest.CaptureFixture[str]


def demo(
    *arguments: str, prefix: tuple[str, ...] = (), timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "proxy", "demo", *arguments]
    return subprocess.run(
        command, env=python_environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


def through(text: str) -> list[str]:
    found = re.search(r"^ *through tfo-proxy +(.*)$", text, re.MULTILINE)
    assert found, text
    return found[1].split()


def test_the_list_names_every_path(capsys: Capsys) -> None:
    assert group.main(["demo", "--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed[:2] == ["clean", "no-fast-open"]
    assert {"drops-syn-data", "silent-after-handshake", "path-mtu-black-hole"} <= set(listed)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--path", "nonsense"], "there are clean"),
        (["--rtt", "fast"], "--rtt"),
        (["--rtt", "10s"], "between 1ms and 2s"),
        (["--connections", "0"], "--connections"),
        (["--theme", "pink"], "--theme"),
        (["--serve", "nowhere"], "--serve"),
        (["--serve", "127.0.0.1:80", "--admin", "example.com:80"], "--admin"),
        (["--serve", "--tunnel"], "--tunnel"),
    ],
)
def test_usage(arguments: list[str], says: str, capsys: Capsys) -> None:
    assert group.main(["demo", *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "says", "drawn"),
    [
        ("clean", "travelled in the SYN, and the server took it", "━━ SYN + cookie + request ━━"),
        ("drops-syn-data", "The SYN with the request got lost.", "SYN + cookie + request ──╳"),
        ("resets-syn-data", "One plain dial more, and it went through.", "── RST ──▒"),
    ],
)
def test_a_path_is_shown(path: str, says: str, drawn: str, tmp_path: Path) -> None:
    svg = tmp_path / "seen.svg"
    done = demo("--path", path, "--connections", "3", "--svg", str(svg))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # a script hears of no progress
    assert "\033" not in done.stdout
    assert drawn in done.stdout
    assert says in re.sub(r"\s+", " ", done.stdout)
    assert len(through(done.stdout)) == 3
    assert "✗" not in through(done.stdout)
    words = [element.text for element in ET.parse(svg).iter() if element.text]
    (headline,) = re.findall(r"^.* → .* round trips$", done.stdout, re.MULTILINE)
    assert headline in words


@pytest.mark.netns
@pytest.mark.slow
def test_a_server_that_speaks_first_in_two_themes(tmp_path: Path) -> None:
    done = demo(
        "--server-first",
        "--rtt",
        "250ms",
        "--connections",
        "4",
        "--svg",
        str(tmp_path / "a.svg"),
        "--theme",
        "both",
    )
    assert done.returncode == 0, done.stderr
    assert "banner, 28 B" in done.stdout
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a-dark.svg", "a-light.svg"]
    assert min(map(float, through(done.stdout))) < 1.7


@pytest.mark.netns
@pytest.mark.slow
def test_a_tunnel_saves_a_round_trip_of_a_post() -> None:
    done = demo("--tunnel", "--connections", "5", "--rtt", "250ms")
    assert done.returncode == 0, done.stderr
    assert "━━ SYN + cookie + request ━━" in done.stdout
    assert "the far proxy took it" in re.sub(r"\s+", " ", done.stdout)
    found = re.search(r"through the tunnel +(.+)$", done.stdout, re.MULTILINE)
    assert found
    assert min(map(float, found[1].split()[1:])) < 1.7
    assert max(map(len, done.stdout.splitlines())) <= 80


def is_alive(pid: str) -> bool:
    """A zombie is not: whoever adopts orphans here may take its time to bury them."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.netns
def test_interrupted_it_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "proxy", "demo", "--connections", "50"]
    with subprocess.Popen(
        command, env=python_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        children: list[str] = []
        deadline = time.monotonic() + 30
        while not children and time.monotonic() < deadline:
            time.sleep(0.1)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        time.sleep(0.5)  # now it is in the middle of it
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == group.INTERRUPTED
    assert children
    deadline = time.monotonic() + 30
    while left := [pid for pid in children if is_alive(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.mark.netns
@pytest.mark.parametrize("prefix", [(), ("unshare", "--user", "--map-user=65534", "--map-group=65534")])
def test_served_it_is_tried_by_hand_as_it_says(prefix: tuple[str, ...]) -> None:
    """What it prints works as it stands, on this machine's network; the second connection saves a round trip."""
    command = [
        *prefix,
        sys.executable,
        "-m",
        "proxy",
        "demo",
        "--serve",
        "127.0.0.1:18081",
        "--admin",
        "127.0.0.1:17415",
    ]
    with subprocess.Popen(command, env=python_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert "curl" in lines[1], lines
        try:
            times: list[float] = []
            for _ in range(4):
                curl = [
                    *shlex.split(lines[1]),
                    "-sS",
                    "-w",
                    "\n%{http_code} %{time_total}",
                    "-o",
                    "/dev/null",
                ]
                code, took = subprocess.run(
                    curl, capture_output=True, text=True, timeout=30, check=True
                ).stdout.split()
                assert code == "200"
                times.append(float(took))
            assert times[0] > 0.19, "two round trips"
            assert min(times[1:]) < 0.19, "one"
            page = lines[2].split()[-1]
            with urllib.request.urlopen(f"{page}api/v1/status", timeout=20) as answer:
                assert json.load(answer)["total"]["round_trips_saved"] >= 1
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.netns
def test_where_namespaces_are_forbidden_it_says_what_would_allow_them() -> None:
    forbid = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "
    script = f'{forbid}"$@"'
    prefix = ("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh")
    done = demo(prefix=prefix)
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    assert "the lab cannot be built here: cannot make a user namespace" in done.stderr
    assert "user.max_user_namespaces is 0" in done.stderr
    assert "→ sysctl -w user.max_user_namespaces=15000" in done.stderr
    assert "Traceback" not in done.stderr
