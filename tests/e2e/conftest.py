"""What the tests with containers share: one engine and one image for all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.containers import BASE, HOUSE, IMAGE, LIMITS, Engine, debian, run, wheels

PIP_CONF = "[global]\nno-index = true\nfind-links = /wheels\n"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    directory = tmp_path_factory.mktemp("podman")
    namespace = f"tfo-podman-{os.getpid()}"
    with ExitStack() as undo:
        run("ip", "netns", "add", namespace)
        undo.callback(run, "ip", "netns", "del", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        undo.callback(shutil.rmtree, directory)
        engine = Engine(directory, namespace)
        undo.callback(engine.podman, "rm", "--all", "--force", "--time", "0")
        yield engine


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image on a base with Debian's Python. The build's network is the namespace's: it leads nowhere."""
    scratch = tmp_path_factory.mktemp("build")
    engine.podman("import", debian(scratch), BASE)
    version = engine.podman("run", "--rm", "--network", "none", *LIMITS, BASE, "python3", "-c",
                            "import sys; print('%d.%d' % sys.version_info[:2])")  # fmt: skip
    (scratch / "pip.conf").write_text(PIP_CONF)
    engine.buildah(
        "build", "--isolation", "chroot", "--format", "docker", "--network", "host", "--build-arg", f"BASE={BASE}",
        "--secret", f"id=pip.conf,src={scratch}/pip.conf", "--volume", f"{wheels(version)}:/wheels:ro",
        "--tag", IMAGE, HOUSE,
    )  # fmt: skip
    return IMAGE
