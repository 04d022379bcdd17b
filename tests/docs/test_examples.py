"""Every configuration on a page is one: it is loaded, with a listener where it shows only a part."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.config import load
from tests.docs.pages import PAGES, ROOT, blocks

LISTENER = 'listeners:\n  here: {bind: "127.0.0.1:8080", mode: mixed}\n'
CLUSTER = "clusters:\n  api: {endpoints: [203.0.113.10:443]}\n"
SECRETS = {
    "tfo": "00112233445566778899aabbccddeeff",
    "tunnel": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "admin": "0123456789abcdef0123",
}
FOUND = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, text in enumerate(blocks(page, "yaml"), 1)
    if not re.search(r"^(apiVersion|services|kind|groups|scrape_configs):", text, re.MULTILINE)
]


def test_there_are_examples() -> None:
    assert len(FOUND) > 15


@pytest.mark.parametrize("text", FOUND)
def test_it_is_a_configuration(text: str, tmp_path: Path) -> None:
    whole = "".join(
        part
        for part, key in ((LISTENER, "listeners"), (CLUSTER, "clusters"))
        if not re.search(rf"^{key}:", text, re.MULTILINE) and (key == "listeners" or "to: api" in text)
    )
    whole += text

    def secret(match: re.Match[str]) -> str:
        file = tmp_path / Path(match[1]).name
        file.write_text(
            next((value for name, value in SECRETS.items() if name in file.name), "a password") + "\n"
        )
        return f"${{file:{file}}}"

    file = tmp_path / "config.yaml"
    file.write_text(re.sub(r"\$\{file:([^}]+)\}", secret, whole))
    loaded = load(str(file))
    assert loaded.snapshot.listeners
