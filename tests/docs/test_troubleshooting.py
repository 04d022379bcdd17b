"""Whatever the log can say is explained: every event, every reason, every evidence."""

from __future__ import annotations

import ast
import re

import pytest

from proxy.core.evidence import Evidence
from proxy.core.outcomes import EndedBy, Reason, Stage
from tests.docs.pages import ROOT

SAYERS = {"say", "warn", "debug", "info", "warning", "error", "note"}
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
LOG = (ROOT / "docs" / "log.md").read_text()


def events() -> set[str]:
    """Every event name in the code: the first argument of what says something."""
    found: set[str] = set()
    for file in list((ROOT / "proxy").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr=attr), args=[ast.Constant(value=str(name)), *_]) if (
                    attr in SAYERS and re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
                ):
                    found.add(name)
                case _:
                    pass
    return found


def test_there_are_events() -> None:
    assert {"session", "ready", "not_reloaded", "endpoint_down", "stopped"} <= events()


@pytest.mark.parametrize("event", sorted(events()))
def test_every_event_is_explained(event: str) -> None:
    assert f"\n| `{event}` |" in PAGE, "docs/troubleshooting.md does not list it"


def test_no_event_is_explained_that_there_is_not() -> None:
    table = PAGE.partition("## By what the log says")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)
    assert told == sorted(told)
    assert set(told) == events()


@pytest.mark.parametrize("word", [*Evidence, *EndedBy, *Stage, *Reason])
def test_every_word_of_the_closed_lists_is_in_the_log_page(word: str) -> None:
    assert re.search(rf"\b{word}\b", LOG), f"docs/log.md does not know {word}"
