"""The pages for readers, and what stands on them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
    *sorted((ROOT / "deploy").glob("**/*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language on a page."""
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


def prose(page: Path) -> str:
    """A page without its fenced blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "``", FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """What links within a page may name, as GitHub makes them from headings."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", FENCE.sub("", page.read_text()), re.MULTILINE)
    made: set[str] = set()
    for heading in headings:
        plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 1
        while anchor in made:
            anchor = f"{anchor.rstrip('0123456789').rstrip('-')}-{number}"
            number += 1
        made.add(anchor)
    return made | set(re.findall(r'<a (?:id|name)="([^"]+)"', page.read_text()))
