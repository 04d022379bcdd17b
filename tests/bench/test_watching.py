from __future__ import annotations

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from bench.load import OUT
from bench.watching import watching


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_it_says_what_being_watched_costs() -> None:
    done = CliRunner().invoke(watching, ["--quick", "--rounds", "2"])
    assert done.exit_code == 0, done.output
    assert "nobody looks" in done.output
    assert "being watched costs" in done.output
    result = json.loads((OUT / "watching.json").read_text())
    assert result["alone_us"] > 0
    assert result["watched_us"] > 0
