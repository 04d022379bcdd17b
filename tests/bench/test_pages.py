from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import pages

HOUSE = Path(__file__).parents[2]


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_a_page_is_the_same_each_time_and_whole(page: pages.Page, tmp_path: Path) -> None:
    pages.build(page, tmp_path / "one")
    pages.build(page, tmp_path / "two")
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == page.objects + 1
    texts = [(tmp_path / "one" / file).read_bytes() for file in files]
    assert texts == [(tmp_path / "two" / file).read_bytes() for file in files]
    # Every object is asked for, by the document or by a script, and is there.
    named = set(re.findall(rb"http://10\.77\.2\.(\d+)/(\d+\.\w+)", b"".join(texts)))
    there = {(file.parts[0].encode(), file.parts[1].encode()) for file in files} - {(b"1", b"index.html")}
    assert named == there
    assert len({file.parts[0] for file in files}) == page.origins


def test_the_table_says_what_was_saved() -> None:
    times = {"direct": [0.8, 0.9, 1.0], "haproxy": [0.9], "ours, off": [1.0, 1.0], "ours": [0.45, 0.4, 0.5]}
    last = pages.table({0.1: {"news": times}}).splitlines()[-1]
    assert last == "| news | 100 ms | 0.90 s | 0.90 s | 1.00 s | 0.45 s | 50 % | 55 % |"


@pytest.mark.netns
@pytest.mark.slow
def test_a_browser_loads_a_page_every_way() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "pages", "--quick"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| article | 100 ms |" in done.stdout
    kept = json.loads((HOUSE / "bench" / "out" / "pages.json").read_text())
    assert all(len(times) == 2 for times in kept["0.1"]["article"].values())
