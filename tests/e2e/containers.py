"""podman and buildah for the tests: storage and networks of their own, and the image, built once.

There is no registry here: the base image is a small Debian made by debootstrap, and the packages are fetched
beforehand, so that the build itself needs no network. Both are kept between runs, in the cache directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, STDOUT

HOUSE = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfo-proxy-tests"
LIMITS = ["--ulimit", "nofile=10000:20000", "--ulimit", "nproc=1000:1000"]
IMAGE = "localhost/tfo-proxy"
BASE = "localhost/tfo-proxy-base"

CLIENT = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode(), flush=True)
"""


def run(*command: str | Path, check: bool = True, timeout: float = 300) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@contextmanager
def kept(name: str) -> Iterator[Path]:
    """A path under the cache directory, to be made if it is not there; one maker at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE / name


def debian(scratch: Path) -> Path:
    """A root file system of this machine's own Debian release, with Python and make."""
    sources = run("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages")
    codename = next(line.partition("=")[2] for line in Path("/etc/os-release").read_text().splitlines()
                    if line.startswith("VERSION_CODENAME="))  # fmt: skip
    mirror = dict(line.split() for line in sources.splitlines())[codename]
    with kept(f"debian-{codename}-python-make.tar") as tar:
        if not tar.exists():
            include = "--include=python3,python3-venv,make,ca-certificates"
            run("debootstrap", "--variant=minbase", include, codename, scratch / "root", mirror, timeout=1200)
            run("tar", "--directory", scratch / "root", "--create", "--file", scratch / "tar", ".")
            shutil.rmtree(scratch / "root")
            shutil.move(scratch / "tar", tar)
    return tar


IMAGE_LOCKS = ("requirements-build.lock", "requirements.lock")


def wheels(version: str, names: Sequence[str] = IMAGE_LOCKS) -> Path:
    """A folder with all that these locks name, as wheels for Python ``version``; hashes checked by pip."""
    locks = [HOUSE / name for name in names]
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()[:16]
    with kept(f"wheels-{version}-{digest}") as folder:
        if not folder.exists():
            partial = folder.with_suffix(".part")
            for lock in locks:
                run(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "-r", lock,
                    "--dest", partial, "--only-binary", ":all:", "--python-version", version)  # fmt: skip
            partial.rename(folder)
    return folder


@contextmanager
def apart(network: str) -> Iterator[list[str]]:
    """A command that runs another where podman keeps no state of the machine's: mounts of their own, and that network.

    What is mounted goes with the last process in there; whoever is still there at the end is killed.
    """
    fresh = "cd /run && mkdir -p containers libpod && mount -t tmpfs none containers && mount -t tmpfs none libpod"
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{fresh} && echo ready && exec sleep infinity"],
        stdout=PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "ready\n"
        yield [
            "nsenter",
            f"--mount=/proc/{holder.pid}/ns/mnt",
            f"--net=/run/netns/{network}",
            f"--wd={Path.cwd()}",
        ]
    finally:
        ours = Path(f"/proc/{holder.pid}/ns/mnt").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "ns" / "mnt").readlink() == ours and process.name != str(holder.pid):
                    os.kill(int(process.name), signal.SIGKILL)
        holder.stdout.close()
        holder.kill()
        holder.wait()


class Engine:
    """podman and buildah on storage of their own, run by ``inside`` (`apart`)."""

    def __init__(self, directory: Path, inside: list[str]) -> None:
        self.inside = inside
        self.store = ["--root", f"{directory}/storage", "--runroot", f"{directory}/run"]
        self.settings = ["--network-config-dir", f"{directory}/networks", "--runtime", "runc",
                         "--cgroup-manager", "cgroupfs"]  # fmt: skip

    def podman(self, *arguments: str | Path, check: bool = True) -> str:
        return run(*self.inside, "podman", *self.store, *self.settings, *arguments, check=check)

    def buildah(self, *arguments: str | Path) -> str:
        return run(*self.inside, "buildah", *self.store, *arguments)

    def start(self, name: str, *arguments: str | Path) -> str:
        """Start a container, and return its address."""
        self.podman("run", "--detach", "--name", name, "--network", "lan", *LIMITS, *arguments)
        network = json.loads(self.podman("inspect", name))[0]["NetworkSettings"]["Networks"]["lan"]
        address: str = network["IPAddress"]
        return address

    def log(self, name: str) -> str:
        """What a container wrote, to stdout and to stderr."""
        command = [*self.inside, "podman", *self.store, *self.settings, "logs", name]
        return subprocess.run(command, stdout=PIPE, stderr=STDOUT, text=True, check=True, timeout=60).stdout

    def sessions(self, count: int) -> list[dict[str, object]]:
        """What the proxy logged of its first sessions; a session's line may come a moment after its last byte."""
        deadline = time.monotonic() + 60
        while True:
            events = [json.loads(line) for line in self.log("proxy").splitlines() if line.startswith("{")]
            sessions = [event for event in events if event["event"] == "session"]
            if len(sessions) >= count or time.monotonic() > deadline:
                return sessions
            time.sleep(0.1)

    def client(self, url: str) -> str:
        return self.podman("run", "--rm", "--network", "lan", *LIMITS, "--entrypoint", "python3",
                           BASE, "-c", CLIENT, url)  # fmt: skip
