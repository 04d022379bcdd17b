"""Every parser, fed with what grows out of a corpus: it answers or refuses, and the same however its input is cut.

Half a second for each; `make fuzz` and `.ci/run` give them a minute. ``FUZZ_KEEP=1`` keeps what led to something new in
the corpus. What a target fails on is kept there in any case, as ``found-…``, and is to be committed with what mends it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz import __main__ as program
from tests.fuzz import campaign
from tests.fuzz.mutation import Found, Fuzzed, Fuzzer
from tests.fuzz.targets import FUZZED

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0.5"))
KEEP = os.environ.get("FUZZ_KEEP") == "1"


@pytest.mark.parametrize("name", FUZZED)
def test_it_answers_or_refuses(name: str) -> None:
    fuzzer = campaign.fuzz(name, SECONDS, keep=KEEP)
    print(f"seed {campaign.SEED}: {fuzzer.runs} inputs, {len(fuzzer.shapes)} shapes")
    assert fuzzer.runs > 20


def test_what_is_found_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(data: bytes) -> str:
        assert b"!" not in data
        return str(len(data) % 3)

    monkeypatch.setattr(campaign, "CORPUS", tmp_path)
    monkeypatch.setitem(FUZZED, "weak", Fuzzed(fails, (b"abc",), (b"!",)))
    monkeypatch.setattr(program, "step_back", os.getpid)
    assert not program.run(["weak", "chunks"], 1.0, 2)
    said = capsys.readouterr().out
    (path,) = (tmp_path / "weak").iterdir()
    assert path.name.startswith("found-")
    assert str(path) in said
    assert "weak failed" in said
    assert "chunks: " in said
    with pytest.raises(Found, match="seed"):
        campaign.fuzz("weak", 0.0)


def test_without_time_to_spare_it_is_cut_short_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "step_back", os.getpid)
    assert program.run(["chunks"], 60.0, 1, within=0.2)
    assert "CUT SHORT after 0 s" in capsys.readouterr().out


def test_the_fuzzer_finds_what_is_there() -> None:
    """A mistake three steps away."""

    def fails(data: bytes) -> str:
        steps = [data.startswith(b"a"), data[1:2] == b"\xff", len(data) > 40]
        assert not all(steps)
        return str(steps)

    fuzzer = Fuzzer(fails, [b"abc"], (), 1)
    with pytest.raises(Found, match="AssertionError"):
        fuzzer.run(30.0)


def test_a_seed_makes_a_run_the_same_again() -> None:
    seen: list[list[bytes]] = []
    for _ in range(2):
        inputs: list[bytes] = []

        def target(data: bytes, inputs: list[bytes] = inputs) -> str:
            inputs.append(data)
            return str(len(data) % 7)

        fuzzer = Fuzzer(target, [b"abc", b"d"], (b"word",), 5)
        for _ in range(200):
            fuzzer._try(fuzzer._changed(fuzzer._random.choice(fuzzer.corpus)))
        seen.append(inputs)
    assert seen[0] == seen[1]
