"""The netfilter rules in docs/transparent.md are rules: nft takes each table, in a namespace of the test's own."""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "transparent.md"
TABLES = re.findall(r"^    table .*?^    }$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
IPTABLES = sorted(set(re.findall(r"`(ip6?tables -t [^`]+)`", PAGE.read_text())))
INSIDE = ["unshare", "--user", "--map-root-user", "--net"]

pytestmark = pytest.mark.netns


def test_there_are_rules() -> None:
    assert len(TABLES) >= 3
    assert len(IPTABLES) >= 2


@pytest.mark.parametrize("table", TABLES)
def test_nft_takes_the_table(table: str) -> None:
    rules = textwrap.dedent(table)
    done = subprocess.run(
        [*INSIDE, "nft", "--file", "-"], input=rules, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.root  # a user that is not mapped into the namespace is no owner there
@pytest.mark.parametrize("rule", IPTABLES)
def test_iptables_takes_the_rule(rule: str) -> None:
    done = subprocess.run(["unshare", "--net", *rule.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
