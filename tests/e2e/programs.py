"""Programs of others that tests run: found, or the test says what is missing."""

from __future__ import annotations

import os
import shutil

import pytest


def needs(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"{program} is not installed", pytrace=False)
        pytest.skip(f"{program} is not installed")
    return path
