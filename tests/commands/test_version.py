from __future__ import annotations

import pytest

from proxy import __version__
from proxy.commands import group


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert group.main(["version"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"tfo-proxy {__version__}"
