from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.admin.assets import Assets
from proxy.admin.exchange import BadRequest

PAGE = Path(__file__).parents[2] / "proxy" / "admin" / "page"


def test_every_file_is_served_with_its_type() -> None:
    assets = Assets()
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for file in PAGE.iterdir():
        answer = assets.answer(f"/{file.name}")
        assert answer.content_type.startswith(kinds[file.suffix[1:]])
        assert answer.body == file.read_bytes()
    assert assets.answer("/").body == (PAGE / "index.html").read_bytes()


@pytest.mark.parametrize(
    "path", ["", "//", "/..", "/../server.py", "/page", "/index.html/", "/INDEX.html", "/%69ndex.html"]
)
def test_nothing_else_is(path: str) -> None:
    with pytest.raises(BadRequest):
        Assets().answer(path)


def test_the_policy_lets_nothing_inline_run_and_nothing_needs_to() -> None:
    policy = dict(Assets().answer("/").headers)["content-security-policy"]
    assert "unsafe" not in policy
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\bon\w+=|style=", html)
