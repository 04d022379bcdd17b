from __future__ import annotations

from bench.accounts import balance
from bench.traffic import Call


def call(client: str = "127.0.0.1:1", outcome: str = "ok", ended: float = 10.0) -> Call:
    return Call("short", "a", 9.0, client, 5, 5, ended, outcome)


def line(client: str = "127.0.0.1:1", up: int = 5, down: int = 5, listener: str = "a") -> dict[str, object]:
    time = "1970-01-01T00:00:09.9Z"
    line: dict[str, object] = {
        "listener": listener,
        "client": client,
        "up_bytes": up,
        "down_bytes": down,
        "reason": "closed",
    }
    return line | {"time": time, "duration": 0.5}


def test_every_byte_is_accounted_for() -> None:
    found = balance([call(), call()], [line(), line()], [])
    assert (found.complaints, found.clients, found.sessions, found.up, found.down) == ([], 2, 2, 10, 10)


def test_what_is_complained_about() -> None:
    for calls, lines in (
        ([call()], []),
        ([call()], [line(up=4)]),
        ([call()], [line(down=6)]),
        ([call(outcome="broken")], [line()]),
        ([call(outcome="refused")], []),
        ([call(outcome="late")], [line()]),
        ([], [line()]),
        ([call()], [line(), line()]),
    ):
        assert len(balance(calls, lines, []).complaints) == 1, (calls, lines)


def test_who_broke_off_counts_as_much_as_he_likes() -> None:
    rude = call()
    rude.orderly = False
    assert balance([rude], [line(up=3, down=900)], []).complaints == []


def test_what_a_killed_worker_has_taken_with_it() -> None:
    found = balance([call(outcome="broken")], [], [9.9])
    assert (found.complaints, found.killed) == ([], 1)
    assert balance([call(outcome="broken")], [], [20.0]).complaints
    assert balance([call(outcome="broken", ended=30.0)], [], [9.9]).complaints
    assert balance([call(outcome="refused")], [], [9.9]).complaints


def test_listeners_that_serve_others_are_left_out() -> None:
    assert balance([call()], [line(), line(listener="far")], [], ["far"]).complaints == []
