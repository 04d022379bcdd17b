from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from proxy.core.snapshot import Snapshot
from proxy.diagnosis.finding import Finding
from proxy.diagnosis.machine import Machine
from proxy.lab.namespaces import Namespace, ensure_allowed
from proxy.lab.rtnetlink import rtnetlink

Check: TypeAlias = Callable[[Machine, Snapshot | None], Iterator[Finding]]
Configured: TypeAlias = Callable[..., Snapshot]


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A network namespace as the kernel makes it, with loopback up; the test runs in it."""
    ensure_allowed()
    fresh = Namespace.create("doctor")
    with fresh.entered():
        with rtnetlink() as netlink:
            netlink.bring_up("lo")
        yield fresh
    fresh.close()


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """The snapshot of a file with one listener, to which lines are added."""
    from proxy.config import load

    def make(listener: str = "", cluster: str = "", more: str = "", bind: str = "127.0.0.1:0") -> Snapshot:
        file = tmp_path / "c.yaml"
        file.write_text(
            f"listeners: {{web: {{bind: '{bind}', mode: forward, to: api{listener}}}}}\n"
            f"clusters: {{api: {{endpoints: ['127.0.0.1:9']{cluster}}}}}\n{more}\n"
        )
        return load(str(file)).snapshot

    return make
