"""The compose examples, really run: by podman-compose, with the image of the Dockerfile, on a network of their own."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.containers import HOUSE, IMAGE, LIMITS, Engine

pytestmark = [pytest.mark.podman, pytest.mark.root, pytest.mark.slow]

COMPOSE = HOUSE / "deploy" / "compose"
Compose = Callable[..., str]


@pytest.fixture
def compose(engine: Engine, image: str, tmp_path: Path) -> Iterator[Callable[..., Compose]]:
    """podman-compose for a file, with the engine's own storage; what it has started goes with the test."""
    podman = tmp_path / "podman"
    command = [*engine.inside, "podman", *engine.store, *engine.settings]
    podman.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    podman.chmod(0o755)
    started = []

    def of(file: str, **environment: str) -> Compose:
        def run(*arguments: str) -> str:
            done = subprocess.run(
                [Path(sys.executable).parent / "podman-compose", "--podman-path", podman,
                 "--podman-run-args", shlex.join(LIMITS), "--file", COMPOSE / file, *arguments],
                env={**os.environ, "TFO_PROXY_IMAGE": IMAGE, **environment},
                capture_output=True, text=True, timeout=180, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        started.append(run)
        return run

    try:
        yield of
    finally:
        for run in started:
            run("down", "--timeout", "1")


def milliseconds(name: str, said: str) -> int:
    found = re.search(rf"{name}: +(\d+) ms", said)
    assert found is not None, said
    return int(found[1])


def test_one_command_shows_the_round_trip_that_is_saved(compose: Callable[..., Compose]) -> None:
    example = compose("compose.yaml")
    example("up", "--detach", "--no-build", "far", "sidecar")
    said = example("run", "--rm", "app")
    assert milliseconds("directly", said) >= 200
    assert milliseconds("through us", said) < 190
    assert milliseconds("saved", said) > 60
    assert '"evidence":"syn_data_acked"' in example("logs", "sidecar")


def test_a_tunnel_between_two_hosts_saves_it_where_the_server_has_no_fast_open(
    compose: Callable[..., Compose],
) -> None:
    example = compose("tunnel.yaml", TUNNEL_KEY=secrets.token_hex(32))
    example("up", "--detach", "--no-build", "gateway", "server", "near")
    said = example("run", "--rm", "app")
    assert milliseconds("directly", said) >= 200
    assert milliseconds("by tunnel", said) < 190
    assert '"evidence":"syn_data_acked"' in example("logs", "near")
    assert '"mode":"tunnel"' in example("logs", "gateway")


@pytest.mark.parametrize("file", ["compose.yaml", "tunnel.yaml"])
def test_the_sidecars_have_no_privilege(file: str) -> None:
    services = yaml.safe_load((COMPOSE / file).read_text())["services"]
    ours = [service for service in services.values() if "run" in service.get("command", [])]
    assert ours
    for service in ours:
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "cap_add" not in service
