"""The warm-up is told of: while it lasts on a terminal, once it is over in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio

from proxy.core.warming import Warming, Warmth
from proxy.service import announcing
from proxy.service.announcing import Announcing, in_words
from tests.serving import Recorder


class Screen:
    """What a terminal was shown."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.open = False

    def tell(self, words: str) -> None:
        assert self.open
        self.told.append(words)

    @contextmanager
    def __call__(self) -> Iterator[Screen]:
        self.open = True
        yield self
        self.open = False


class Scene:
    """A warm-up that goes as the test says."""

    def __init__(self, screen: Screen | None) -> None:
        self.warming: Warming | None = None
        self.events, self.screen = Recorder(), screen
        self.announcing = Announcing(lambda: self.warming, self.events, screen)

    def said(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.events.said if name == event]


@asynccontextmanager
async def scene(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool = True, every: float = 30.0
) -> AsyncIterator[Scene]:
    for name, seconds in {"_SOON": 0.0, "_LOOK": 0.01, "_DRAW": 0.001, "_SAY_EVERY": every}.items():
        monkeypatch.setattr(announcing, name, seconds)
    made = Scene(Screen() if terminal else None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.announcing.run)
        yield made
        nursery.cancel_scope.cancel()


def warming(done: int, of: int = 20, *, over: bool = False, began: float = 1.0) -> Warming:
    return Warming(began, 2.0, over, of, {Warmth.FETCHED: done})


@pytest.mark.autojump
async def test_a_line_while_it_lasts_and_one_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(monkeypatch) as now:
        assert now.screen
        now.warming = warming(3)
        await trio.sleep(0.05)
        assert now.screen.told[-1] == "warm-up: 3 of 20 endpoints, 3 fetched"
        assert not now.events.said
        now.warming = warming(20, over=True)
        await trio.sleep(0.1)
        assert not now.screen.open
        assert now.said("warmed_up") == [
            {
                "endpoints": 20, "fetched": 20, "held": 0, "no_fast_open": 0, "dropped": 0, "unreachable": 0,
                "seconds": 2.0,
            }
        ]  # fmt: skip
        now.warming = warming(21, 21, over=True, began=9.0)
        await trio.sleep(0.1)
        assert [fields["endpoints"] for fields in now.said("warmed_up")] == [20, 21], "one that came later"


@pytest.mark.autojump
async def test_a_long_one_is_told_of_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(monkeypatch, terminal=False, every=0.05) as now:
        now.warming = warming(3)
        await trio.sleep(0.14)
        said = now.said("warming_up")
        assert len(said) == 2
        assert (said[0]["waiting"], said[0]["fetched"]) == (17, 3)
        assert not now.said("warmed_up")


@pytest.mark.autojump
async def test_a_handful_is_not_worth_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(monkeypatch) as now:
        assert now.screen
        now.warming = warming(3, 5)
        await trio.sleep(0.05)
        assert not now.screen.told
        now.warming = warming(5, 5, over=True)
        await trio.sleep(0.1)
        assert len(now.said("warmed_up")) == 1


@pytest.mark.autojump
async def test_nobody_to_be_warmed_and_what_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(monkeypatch) as now:
        await trio.sleep(0.05)
        now.warming = warming(3)
        await trio.sleep(0.05)
        now.warming = warming(3, over=True)
        await trio.sleep(0.05)
        now.warming = warming(4, began=8.0)
        await trio.sleep(0.05)
        now.warming = None
        await trio.sleep(0.05)
        assert not now.events.said
        assert now.screen
        assert not now.screen.open


def test_words() -> None:
    found = {Warmth.FETCHED: 0, Warmth.NO_FAST_OPEN: 2, Warmth.UNREACHABLE: 1}
    assert in_words(Warming(0.0, 1.0, False, 9, found)) == (
        "warm-up: 3 of 9 endpoints, 2 no fast open, 1 unreachable"
    )
