"""What the tests of the configuration share: writing a file, and reading what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config import ConfigError, Loaded, load

MINIMAL = 'listeners: {a: {bind: "127.0.0.1:18000", mode: forward, to: "10.77.2.10:80"}}\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], str]:
    """Write a configuration file; its path."""

    def write(content: str | bytes) -> str:
        path = tmp_path / "c.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


@pytest.fixture
def loaded(write: Callable[[str | bytes], str]) -> Callable[[str], Loaded]:
    """Load a configuration that is good."""
    return lambda content: load(write(content))


@pytest.fixture
def report(write: Callable[[str | bytes], str]) -> Callable[[str | bytes], str]:
    """The whole report about a configuration that is not, the file's name left out."""

    def report(content: str | bytes) -> str:
        path = write(content)
        with pytest.raises(ConfigError) as caught:
            load(path)
        return str(caught.value).replace(f"{path}:", "")

    return report


@pytest.fixture
def problems(report: Callable[[str | bytes], str]) -> Callable[[str | bytes], list[str]]:
    """As `report`, without the lines that show the source."""
    return lambda content: [line for line in report(content).splitlines() if not line.startswith("    ")]


@pytest.fixture
def minimal() -> str:
    """The smallest useful file."""
    return MINIMAL
