from __future__ import annotations

import json

import pytest

from proxy.top import seen
from tests.top.sample import bodies
from tests.top.sample import seen as sample


class Source:
    """Answers with the sample; tells what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get(self, path: str) -> bytes:
        self.asked.append(path)
        return bodies()[path.removeprefix("/api/v1/").partition("?")[0]]


def test_everything_is_asked_once_and_read() -> None:
    source = Source()
    assert seen.read(seen.ask(source)) == sample()
    assert len(source.asked) == 4


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b"[1]", b"<html>", b"\xff", b'{"version": 1}', b'{"\xff":1}', b'{"a":' + b"[" * 5000],
)
def test_another_program_is_told(damage: bytes) -> None:
    with pytest.raises(seen.Unreadable, match="not what this version knows"):
        seen.read(bodies() | {"status": damage})


@pytest.mark.parametrize("indent", [True, False])
def test_json(indent: bool) -> None:
    text = seen.as_json(bodies(), indent=indent)
    assert ("\n" in text) == indent
    assert json.loads(text) == {name: json.loads(body) for name, body in bodies().items()}


def test_no_json() -> None:
    with pytest.raises(seen.Unreadable):
        seen.as_json(bodies() | {"status": b"<html>"}, indent=False)
