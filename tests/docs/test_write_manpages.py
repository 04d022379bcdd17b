"""The manual pages and completions in the tree are what the commands say."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from docs.write_manpages import FOLDER, files
from proxy.commands.group import COMMANDS


def test_they_are_what_the_commands_say() -> None:
    kept = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*") if path.is_file()}
    assert kept == files(), "run `make docs`"


def test_every_command_has_its_page() -> None:
    assert {f"man/man1/tfo-proxy-{name}.1" for name in COMMANDS} < files().keys()


@pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")
def test_mandoc_finds_no_error() -> None:
    pages = sorted((FOLDER / "man" / "man1").iterdir())
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "error", *pages], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
