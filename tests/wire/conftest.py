"""One lab for each module here: the tests share it, each with servers and addresses of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.lab.wan import Wan


@pytest.fixture(scope="module")
def wan(request: pytest.FixtureRequest) -> Iterator[Wan]:
    """An open `Wan` as the module's ``pytest.mark.wan`` says; every test runs in its client's namespace."""
    marker = request.node.get_closest_marker("wan")
    with Wan(**(marker.kwargs if marker else {})) as wan, wan.client.entered():
        yield wan


@pytest.fixture(autouse=True)
def fresh(wan: Wan) -> None:
    """No middlebox and no packet of an earlier test."""
    wan.clear()
    wan.forget()
