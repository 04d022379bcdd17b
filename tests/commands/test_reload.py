"""`tfo-proxy reload` beside the real program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands.running import Running, said


@contextmanager
def being_written(file: Path) -> Iterator[None]:
    """Touched all the time, so that the program waits with noticing by itself what it shall be told."""
    over = threading.Event()

    def touch() -> None:
        while not over.wait(0.1):
            os.utime(file)

    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        yield
    finally:
        over.set()
        toucher.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_over_the_admin(tmp_path: Path, workers: int) -> None:
    with Running(tmp_path, workers=workers) as proxy:
        proxy.configure(drain="7s")
        with being_written(proxy.file):
            status, out, err = said("reload", str(proxy.file))
        assert (status, out, err) == (0, "reloaded: drain\n", "")
        status, out, _ = said("reload", "--admin", proxy.admin)
        assert (status, out) == (0, "reloaded: nothing has changed\n")
        proxy.file.write_text("listeners: 7\n")
        status, out, err = said("reload", "--admin", proxy.admin)
        assert (status, out) == (1, "")
        assert f"{proxy.file}:1:12" in err
        assert err.endswith("not reloaded: what ran before runs on\n")
        status, _, err = said("reload", str(proxy.file))
        assert status == 78, "it cannot even be read where the admin is"


def test_by_a_signal(tmp_path: Path) -> None:
    with Running(tmp_path) as proxy:
        proxy.configure(drain="7s")
        status, out, _ = said("reload", "--pid", str(proxy.process.pid))
        assert (status, "its log says" in out) == (0, True)
        proxy.until('"reloaded","changed":["drain"]')


def test_nobody_there(tmp_path: Path) -> None:
    status, _, err = said("reload", "--admin", f"unix:{tmp_path}/none")
    assert (status, "nobody answers" in err) == (1, True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    time.sleep(0.01)
    status, _, err = said("reload", "--pid", str(gone.pid))
    assert (status, err) == (1, f"Error: process {gone.pid}: No such process\n")


@pytest.mark.parametrize("workers", [1, 2])
def test_on_this_machine_it_needs_no_token(tmp_path: Path, workers: int) -> None:
    """The admin takes no order over TCP then, and the kernel says who may send a signal."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bind = {"bind": ["unix:" + str(tmp_path / "admin"), f"127.0.0.1:{port}"]}
    with Running(tmp_path, workers=workers, admin=bind) as proxy:
        there = ["--admin", f"http://127.0.0.1:{port}"]
        with being_written(proxy.file):
            proxy.configure(drain="7s")
            assert said("reload", *there) == (0, "reloaded: drain\n", "")
        proxy.file.write_text("listeners: 7\n")
        status, _, err = said("reload", *there)
        assert status == 1
        assert f"{proxy.file}:1:12" in err
        for command in ("reload", "drain"):
            stranger = [
                "setpriv",
                "--reuid=65533",
                "--clear-groups",
                "--inh-caps=-all",
                "--ambient-caps=-all",
            ]
            stranger += ["--bounding-set=-all,+dac_read_search"]
            done = subprocess.run(
                [*stranger, sys.executable, "-m", "proxy", command, *there],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode != 0
            assert "draining" not in done.stdout
        assert proxy.process.poll() is None
        assert said("drain", "--wait", *there) == (0, "stopped\n", "")
        assert proxy.process.wait(30) == 0
