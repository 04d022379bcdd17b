"""Files of endpoints: a change is noticed, a mistake in one does no harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.core.address import Endpoint
from proxy.net.resolve import NoSuchHost
from proxy.sessions.endpoint_files import EndpointsFile

A, B = Endpoint("192.0.2.1", 80), Endpoint("192.0.2.2", 80)


def test_it_follows_and_survives_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    file = EndpointsFile(str(path))
    with pytest.raises(NoSuchHost, match=r"endpoints\.yaml"):
        file.read()
    path.write_text("- 192.0.2.1:80\n")
    assert file.read() == ((A, 1),)
    path.write_text("- {address: '192.0.2.2:80', weight: 3}\n- 192.0.2.1:80\n")
    assert file.read() == ((B, 3), (A, 1))
    path.write_text("- {address: nonsense\n")
    assert file.read() == ((B, 3), (A, 1)), "what it said before"
    path.unlink()
    assert file.read() == ((B, 3), (A, 1))


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("- 192.0.2.1:80\n")
    file = EndpointsFile(str(path))
    before = file.read()
    os.utime(path)
    assert file.read() == before
    assert file.read() is file.read()
