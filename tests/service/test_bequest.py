"""Counters and sums go from program to program, and nothing that is wrong with them stops the next one."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest
import trio

from proxy.core.ledger import Ledger
from proxy.service import bequest
from proxy.service.bequest import Bequest, inherited
from proxy.service.upgrade import NOTHING, Passed
from proxy.telemetry.counters import Counters
from proxy.telemetry.region import OfWay, Region
from proxy.telemetry.sums import add_up
from tests.admin.house import HERE, a_record


def counted(sessions: int) -> tuple[Counters, Ledger]:
    counters, ledger = Counters(Region.create()), Ledger()
    for number in range(sessions):
        counters.accepted("web")
        counters.ended(a_record(number))
        ledger.add(a_record(number))
    counters.accepted("web")  # and one that is open
    return counters, ledger


def successor(passed: Passed) -> Bequest:
    """What the next program makes of it; it gets copies of the descriptors, as over an exec."""
    fds = {fd: os.dup(fd) for fd in passed.descriptors}
    (variable,) = passed.env.items()
    raw = os.pread(int(variable[1]), 1 << 20, 0)
    told = msgspec.msgpack.decode(raw, type=bequest._Message)
    programs = [bequest._Program(one.name, [fds[fd] for fd in one.regions]) for one in told.programs]
    os.pwrite(
        fds[int(variable[1])], msgspec.msgpack.encode(msgspec.structs.replace(told, programs=programs)), 0
    )
    environ = {variable[0]: str(fds[int(variable[1])])}
    found = inherited(environ)
    assert not environ, "it is asked once"
    return found


def sessions(*several: Region) -> float:
    return add_up(several).total[OfWay.SESSIONS]


async def test_the_successor_counts_on_and_hears_of_what_still_ends() -> None:
    counters, ledger = counted(3)
    first = Bequest(100.0)
    with first.passed_on([counters.region], ledger) as passed:
        second = successor(passed)
    assert (second.since, second.problem) == (100.0, "")
    assert sessions(*second.regions) == 3
    assert add_up(second.regions).listeners["web"] == [4, 0], "what is open there is not open here"
    other = Ledger()
    second.add_to(other)
    second.add_to(other)
    assert other.endpoints[HERE].sessions == 3, "once"
    counters.ended(a_record(9))
    assert sessions(*second.regions) == 4, "the predecessor ends its sessions, and they are counted"


async def test_who_has_ended_keeps_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    running, before = {"1.1", "2.1"}, None
    monkeypatch.setattr(bequest, "_runs", running.__contains__)
    made = Bequest(1.0)
    for number in (1, 2):
        counters, ledger = counted(number)
        monkeypatch.setattr(bequest, "_name", lambda _, number=number: f"{number}.1")
        with made.passed_on([counters.region], ledger) as passed:
            before = before or os.listdir("/proc/self/fd")
            made = successor(passed)
        counters.region.close()
    running.remove("1.1")
    assert made.tidy()
    assert sessions(*made.regions) == 3
    assert [region.fd >= 0 for region in made.regions] == [False, True]
    assert all(region.former for region in made.regions)
    running.clear()
    with trio.fail_after(30):
        await made.tidy_up()
    assert sessions(*made.regions) == 3
    assert [region.fd for region in made.regions] == [-1]
    with made.passed_on([], Ledger()) as passed:
        assert sessions(*successor(passed).regions) == 3


async def test_who_ends_while_it_is_asked_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counters, ledger = counted(3)
    with Bequest(1.0).passed_on([counters.region], ledger) as passed:
        made = successor(passed)
    answers = iter([True])
    monkeypatch.setattr(bequest, "_runs", lambda _: next(answers, False))
    for _ in range(2):
        assert made.tidy()
        assert sessions(*made.regions) == 3


def test_who_has_ended_runs_no_more_though_nobody_has_asked_how() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        name = bequest._name(process.pid)
        assert bequest._runs(name)
        assert process.stdin is not None
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not bequest._runs(name)


async def test_programs_that_have_ended_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bequests, total = [Bequest(1.0)], 0
    for number in range(1, 6):
        counters, ledger = counted(number)
        total += number
        monkeypatch.setattr(bequest, "_name", lambda _, number=number: f"{number}.1")
        with bequests[-1].passed_on([counters.region], ledger) as passed:
            bequests.append(successor(passed))
    assert [len(one.regions) for one in bequests] == [0, 1, 1, 1, 1, 2]
    assert sessions(*bequests[-1].regions) == total == 15
    assert bequests[-1].since == 1.0


def test_a_process_is_known_by_its_number_and_beginning() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        name = bequest._name(process.pid)
        assert bequest._runs(name)
        assert not bequest._runs(name + "1"), "another one with its number"
        process.communicate(b"\n")
    assert not bequest._runs(name)
    assert not bequest._runs("")


async def test_without_a_predecessor() -> None:
    nothing = inherited({})
    assert (nothing.regions, nothing.problem) == ([], "")


async def test_what_cannot_be_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    counters, ledger = counted(1)
    with Bequest(1.0).passed_on([counters.region], ledger) as passed:
        monkeypatch.setattr(bequest, "LAYOUT", 0)
        assert "counted otherwise" in successor(passed).problem
    fd = os.memfd_create("test")
    os.write(fd, b"nonsense")
    assert "cannot be taken over" in inherited({"TFO_PROXY_COUNTED": str(fd)}).problem
    assert "cannot be taken over" in inherited({"TFO_PROXY_COUNTED": "99999"}).problem
    short = os.memfd_create("test")
    with pytest.raises(ValueError, match="holds no counters"):
        bequest._region(short)
    os.close(short)


async def test_without_shared_memory_nothing_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(os, "memfd_create", refuse)
    with Bequest(1.0).passed_on([Region()], Ledger()) as passed:
        assert passed is NOTHING
