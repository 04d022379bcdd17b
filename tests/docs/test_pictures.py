"""The pictures that `tfo-proxy demo` drew: whole, alike in both themes, and what is said of them is what they say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*<img src="([^"]+)"([^>]*)>'
)
SHOWN = [
    pytest.param(page, dark, light, rest, id=f"{page.name}-{light}")
    for page in PAGES
    for dark, light, rest in PICTURE.findall(page.read_text())
    if light.endswith(".svg")
]


def words(file: Path) -> list[str]:
    return [element.text for element in ET.parse(file).iter() if element.text and element.text.strip()]


def test_there_are_pictures() -> None:
    assert len(SHOWN) >= 3


@pytest.mark.parametrize(("page", "dark", "light", "rest"), SHOWN)
def test_a_picture(page: Path, dark: str, light: str, rest: str) -> None:
    files = page.parent / dark, page.parent / light
    said = [[word for word in words(file) if "--paper" not in word] for file in files]
    assert said[0] == said[1]
    (headline,) = [word for word in said[0] if re.fullmatch(r"\d\.\d → \d\.\d round trips", word)]
    alt = re.search(r'alt="([^"]+)"', rest)
    assert alt
    assert all(number in " ".join(said[0]) for number in re.findall(r"\d\.\d", alt[1]))
    assert headline.split()[0] in {"2.0", "2.1"}
    assert "prefers-color-scheme" not in files[0].read_text() + files[1].read_text()


def test_none_is_left_over() -> None:
    shown = {
        name
        for page in PAGES
        for dark, light, _ in PICTURE.findall(page.read_text())
        for name in (dark, light)
    }
    drawn = {file.name for file in (ROOT / "docs").glob("*.svg") if re.search(r"-(dark|light)$", file.stem)}
    assert drawn == {Path(name).name for name in shown if name.endswith(".svg")}
