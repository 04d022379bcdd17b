from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

from proxy.core.evidence import Evidence
from proxy.core.fastopen import NEXT, State

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_fastopen", DOCS / "draw_fastopen.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_what_the_script_draws(drawing: ModuleType) -> None:
    assert (DOCS / "fastopen.svg").read_text() == drawing.draw(), "run `python -m docs.draw_fastopen`"


def test_the_picture_holds_every_word_of_the_table(drawing: ModuleType) -> None:
    words = {element.text for element in ET.fromstring(drawing.draw()).iter() if element.text}
    assert {evidence.value for evidence in Evidence} <= words
    assert {state.value.replace("_", " ") for state in State} <= words


@pytest.mark.parametrize(
    ("state", "evidence", "target"),
    [
        (State.UNKNOWN, Evidence.PLAIN, State.QUARANTINED),  # a new transition
        (State.UNKNOWN, Evidence.SILENT, State.UNKNOWN),  # one less
        (State.DATA_DOUBTED, Evidence.REFUSED, State.UNSUPPORTED),  # one that leads elsewhere
    ],
)
def test_a_table_that_changed_needs_a_new_picture(
    drawing: ModuleType, monkeypatch: pytest.MonkeyPatch, state: State, evidence: Evidence, target: State
) -> None:
    monkeypatch.setitem(NEXT[state], evidence, target)
    with pytest.raises(ValueError, match=evidence.value):
        drawing.draw()
