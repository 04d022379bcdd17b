"""The reference is what the schema says, and its examples are configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import write_configuration
from docs.write_configuration import EXAMPLES, PAGE, parts, write
from proxy.config.fill import shape_of
from proxy.config.schema import Config


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text() == write(), "run `python -m docs.write_configuration`"


def test_every_key_is_on_the_page() -> None:
    page = write()
    shapes = [shape_of(Config), *(part.shape for part in parts())]
    assert not [
        key.name
        for shape in shapes
        for key in shape.fields
        if f"`{key.name}`" not in page and key.name not in page
    ]
    for part in parts():
        assert all(f"| `{key.name}` |" in page for key in part.shape.fields)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_shows_its_section(name: str) -> None:
    words = [word for word in name.split(".") if word != "NAME"]
    assert all(f"{word}:" in EXAMPLES[name] for word in words)


def test_a_section_without_words_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(write_configuration.WORDS, "dns")
    with pytest.raises(ValueError, match="'dns'"):
        write()
    assert isinstance(PAGE, Path)
