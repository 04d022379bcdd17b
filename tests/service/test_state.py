from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import stat
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import State
from proxy.core.patience import Patience
from proxy.core.standings import Remembered, Standings
from proxy.service import state
from proxy.service.state import Damaged, Learned, ListenerHabits, load, save

LEARNED = Learned(
    standings=[
        Remembered("192.0.2.1", 443, State.CONFIRMED, rtt=0.1, rtt_variation=0.01, answered=True),
        Remembered(
            "2001:db8::1", 443, State.QUARANTINED, until=1.8e9, sentence=60.0, cause=Evidence.SYN_DATA_LOST
        ),
        Remembered("/run/x.sock", 0, State.UNKNOWN, rtt=0.0001),
    ],
    patience=[ListenerHabits("web", "api", Patience([22]).habits())],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def damage(path: Path) -> str:
    found = load(path)
    assert isinstance(found, Damaged), found
    assert str(path) in found.reason
    assert "\n" not in found.reason
    return found.reason


def test_what_was_saved_is_loaded(path: Path) -> None:
    assert save(path, LEARNED) is None
    assert load(path) == LEARNED
    assert save(str(path), Learned()) is None
    assert load(str(path)) == Learned()


def test_the_file_is_its_owners_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        save(path, LEARNED)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_file_is_no_damage(path: Path) -> None:
    assert load(path) == Learned()


def test_a_relative_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert save("state.json", LEARNED) is None
    assert load("state.json") == LEARNED


def test_what_real_objects_know_comes_back(path: Path) -> None:
    standings, patience = Standings(), Patience()
    standings.get(Endpoint("192.0.2.1", 443)).learn_rtt(0.123456789)
    patience.client_spoke(0.01)
    save(path, Learned(standings.remember(5.0, 1.8e9), [ListenerHabits("a", "b", patience.habits())]))
    found = load(path)
    assert isinstance(found, Learned)
    later, patient = Standings(), Patience()
    assert later.recall(found.standings, 5.0, 1.8e9) == 1
    assert later.get(Endpoint("192.0.2.1", 443)).rtt == 0.123456789
    assert patient.recall(found.patience[0].habits)
    assert patient.sessions == 1


def test_ten_thousand_endpoints_fit(path: Path) -> None:
    remembered = [
        Remembered(f"2001:db8:1234:5678:9abc:def0:1234:{n:x}", 65535, State.UNSUPPORTED, 1.8e9 + n / 7, 14400.0,
                   Evidence.SYN_DATA_NOT_ACKED, 3, 3, 1200, answered=True, rtt=0.1234567890123456, rtt_variation=1 / 3)
        for n in range(10_000)
    ]  # fmt: skip
    assert save(path, Learned(standings=remembered)) is None
    assert path.stat().st_size < state.LARGEST / 4
    assert load(path) == Learned(standings=remembered)


# --- damage


GOOD = json.dumps({"version": 1, "learned": {"standings": [asdict(LEARNED.standings[0])], "patience": []}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '"version 1"',
        '{"version": "1"}',
        '{"version": 1}',
        '{"version": 1, "learned": []}',
        '{"version": 1, "learned": {"standings": {}}}',
        '{"version": 1, "learned": {"patience": [{"listener": 1}]}}',
        GOOD.replace("confirmed", "convinced"),
        GOOD.replace("0.1", '"0.1"'),
        GOOD.replace("443", "443.5"),
        GOOD[:-1],
        GOOD + "}",
        "[" * 100_000,
        '{"version": 1, "learned": ' + "[" * 100_000,
        "\0" * 4096,
    ],
)
def test_a_damaged_file(path: Path, text: str) -> None:
    path.write_text(text)
    damage(path)
    assert save(path, LEARNED) is None
    assert load(path) == LEARNED


def test_a_file_from_the_future(path: Path) -> None:
    path.write_text('{"version": 2, "learned": {"whatever": [1, 2, 3]}}')
    assert "version 2" in damage(path)


def test_fields_that_came_later_are_left_out(path: Path) -> None:
    path.write_text(GOOD.replace('"host"', '"mood": "good", "host"').replace("}]", "}]", 1))
    assert load(path) == Learned(standings=LEARNED.standings[:1])


@pytest.mark.parametrize("cut", range(0, len(GOOD), 7))
def test_a_file_cut_short(path: Path, cut: int) -> None:
    path.write_text(GOOD[:cut])
    damage(path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_garbage(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    assert isinstance(load(path), Damaged)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)
keys = st.sampled_from(
    ["host", "port", "state", "until", "sentence", "cause", "requested", "rtt", "syn_data"]
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(keys, values, max_size=3), values)
def test_a_meddled_file_is_damaged_or_makes_sense(path: Path, meddled: dict[str, Any], patience: Any) -> None:
    file = json.loads(GOOD)
    file["learned"]["standings"][0] |= meddled
    if isinstance(patience, list):
        file["learned"]["patience"] = patience
    path.write_text(json.dumps(file))
    found = load(path)
    if isinstance(found, Learned):
        standings = Standings()
        standings.recall(found.standings, 0.0, 1.8e9)
        for _, standing in standings:
            assert 0.0 <= standing.until <= standing.sentence


def test_bytes_flipped(path: Path) -> None:
    save(path, LEARNED)
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x15]) + good[place + 1 :])
        assert isinstance(load(path), Learned | Damaged)


# --- files that are none, or not ours


def test_a_pipe_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    assert "regular file" in damage(path)


def test_a_directory(path: Path) -> None:
    path.mkdir()
    assert "regular file" in damage(path)
    assert "directory" in str(save(path, LEARNED)).lower()
    assert os.listdir(path.parent) == [path.name]


def test_a_device() -> None:
    found = load("/dev/zero")
    assert isinstance(found, Damaged)


def test_a_file_that_is_too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(state.LARGEST + 1)
    assert "larger" in damage(path)


def test_too_much_to_save(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LARGEST", 100)
    assert "more than" in str(save(path, LEARNED))
    assert not os.listdir(path.parent)


@pytest.mark.root
def test_somebody_elses_file(path: Path) -> None:
    save(path, LEARNED)
    os.chown(path, 54321, 54321)
    assert "54321" in damage(path)


def test_a_file_that_everybody_may_write(path: Path) -> None:
    save(path, LEARNED)
    path.chmod(0o666)
    assert "everybody" in damage(path)


def test_a_file_that_may_not_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads everything, so the kernel's refusal is played."""

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    save(path, LEARNED)
    monkeypatch.setattr(os, "open", refuse)
    assert "Permission denied" in damage(path)


# --- writing: whole or not at all


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in str(save(tmp_path / "missing" / "state.json", LEARNED))


def test_a_read_only_directory() -> None:
    assert save("/proc/state.json", LEARNED) is not None
    assert load("/proc/state.json") == Learned()


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 64 bytes: writing fails half-way, as on a full disk.

    That holds for pytest's own output, too: nothing may be told inside.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signals = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signals)


def test_a_full_disk_keeps_the_old_file(path: Path) -> None:
    save(path, LEARNED)
    with full_disk():
        said = save(path, Learned(standings=LEARNED.standings * 10))
    assert "not written" in str(said)
    assert load(path) == LEARNED
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
def test_any_call_may_fail(path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    save(path, LEARNED)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        assert "Input/output error" in str(save(path, Learned()))
    assert load(path) == LEARNED
    assert os.listdir(path.parent) == [path.name]


def test_a_directory_that_cannot_be_synced_is_no_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(state, "_sync_directory", fail)
    assert save(path, LEARNED) is None
    assert load(path) == LEARNED


def test_what_a_killed_process_left_is_in_nobodys_way(path: Path) -> None:
    (path.parent / f".{path.name}.{os.getpid()}.part").write_text("half of it")
    assert save(path, LEARNED) is None
    assert os.listdir(path.parent) == [path.name]


def test_a_link_in_the_place_of_the_part_is_not_followed(path: Path) -> None:
    victim = path.parent / "victim"
    victim.write_text("precious")
    (path.parent / f".{path.name}.{os.getpid()}.part").symlink_to(victim)
    assert save(path, LEARNED) is None
    assert victim.read_text() == "precious"
    assert load(path) == LEARNED
