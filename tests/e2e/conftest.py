"""What the tests with containers share: one engine and one image for all of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.e2e.containers import BASE, HOUSE, IMAGE, LIMITS, Engine, apart, debian, run, wheels

Network: TypeAlias = Callable[[], AbstractContextManager[None]]

PIP_CONF = "[global]\nno-index = true\nfind-links = /wheels\n"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    directory = Path(tempfile.mkdtemp())  # podman takes no path of more than 50 characters
    namespace = f"tfo-podman-{os.getpid()}"
    with ExitStack() as undo:
        run("ip", "netns", "add", namespace)
        undo.callback(run, "ip", "netns", "del", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        undo.callback(shutil.rmtree, directory)
        engine = Engine(directory, undo.enter_context(apart(namespace)))
        undo.callback(engine.podman, "rm", "--all", "--force", "--time", "0", check=False)
        yield engine


@pytest.fixture(scope="session")
def python_version(engine: Engine, tmp_path_factory: pytest.TempPathFactory, machine_network: Network) -> str:
    """Of the base image, which holds Debian's Python and make, and no more."""
    with machine_network():
        root = debian(tmp_path_factory.mktemp("debian"))
    engine.podman("import", root, BASE)
    return engine.podman("run", "--rm", "--network", "none", *LIMITS, BASE, "python3", "-c",
                         "import sys; print('%d.%d' % sys.version_info[:2])")  # fmt: skip


@pytest.fixture(scope="session")
def build(
    engine: Engine, python_version: str, tmp_path_factory: pytest.TempPathFactory, machine_network: Network
) -> Callable[..., str]:
    """Build the image on that base, under a name; the build's network leads nowhere."""
    scratch = tmp_path_factory.mktemp("build")
    (scratch / "pip.conf").write_text(PIP_CONF)
    context = scratch / "context"  # a copy: who edits a file meanwhile does not make two different images
    ignored = shutil.ignore_patterns(".*", "tests", "docs", "bench", "dist", "__pycache__")
    shutil.copytree(HOUSE, context, ignore=ignored)
    shutil.copy(HOUSE / ".dockerignore", context)

    with machine_network():
        packages = wheels(python_version)

    def build(name: str, *options: str) -> str:
        engine.buildah(
            "build", "--isolation", "chroot", "--format", "docker", "--network", "host", "--build-arg", f"BASE={BASE}",
            "--secret", f"id=pip.conf,src={scratch}/pip.conf", "--volume", f"{packages}:/wheels:ro",
            *options, "--tag", name, context,
        )  # fmt: skip
        return name

    return build


@pytest.fixture(scope="session")
def image(build: Callable[..., str]) -> str:
    """The image of the Dockerfile."""
    return build(IMAGE)
