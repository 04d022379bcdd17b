"""The session line says what the packets say, over every kind of path; and `tfo-proxy explain` finds it where not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.explain import Explained, explain, read_capture
from proxy.lab.wan import Wan
from tests.wire.log_law import KINDS, LATE, LATER, RTT, Outcome, batches, report, run
from tests.wire.program import Line

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=RTT)]

SEED, EACH = 7413, 4
SOME = {"clean", "drops-syn-data", "resets", "silent", "server-first", "closed", "no-tfo", "overtaken"}


@pytest.fixture(scope="module")
def some(wan: Wan) -> Outcome:
    return run(wan, [(path, False) for path in KINDS if path.name in SOME], EACH, SEED)


def test_every_line_says_what_its_packets_say(wan: Wan) -> None:
    """Evidence, open, SYN bytes, dials, who won, first byte, saved and lost, also of sessions that failed."""
    sessions: list[Explained] = []
    for batch in batches(SEED):
        outcome = run(wan, batch, EACH, SEED)
        left, again = outcome, 0
        while wrong := disagreements(
            left.sessions
        ):  # a process that stands still has its own times: ask again
            assert again < 2, "\n".join(report(left.sessions))
            again += 1
            left = run(wan, [(path, late) for path, late in batch if path.name in dict(wrong)], EACH, SEED)
            left.sessions = [session for session in left.sessions if wrong & disagreements([session])]
        spares = sum(path.cluster.get("preconnect") is not None for path, _ in batch)
        assert len(outcome.unclaimed) <= 8 * spares, [one.story(one.syns[0]) for one in outcome.unclaimed]
        ended = [dict(session.line) for session in outcome.sessions]
        assert outcome.status["seconds_saved"] <= sum(one.get("saved", 0.0) for one in outcome.lines) + 1e-3
        assert all("evidence" in one and "standing_after" in one and "local" in one for one in ended)
        sessions += outcome.sessions
    assert len(sessions) >= 0.8 * EACH * (len(KINDS) + len(LATER))
    told = [(session, session.gain) for session in sessions if session.gain is not None]
    assert len(told) > len(sessions) / 2
    by_lines = sum(net(dict(session.line)) for session, _ in told)
    moved = sum(abs(gain) for _, gain in told)  # what was saved and what was lost
    assert by_lines == pytest.approx(sum(gain for _, gain in told), abs=0.05 * moved + 0.003 * len(told))


def disagreements(sessions: list[Explained]) -> set[tuple[str, str]]:
    """Path and field."""
    return {
        (str(session.line["listener"]), text.partition(":")[0])
        for session in sessions
        for text in session.disagreements
    }


def net(line: Line) -> float:
    return float(line.get("saved", 0.0) - line.get("lost", 0.0))


CHANGES: dict[str, tuple[Callable[[Line], object], str]] = {
    "local": (lambda _: "10.77.1.1:9", "local"),
    "open": (lambda line: "plain" if line["open"] != "plain" else "data", "open"),
    "syn_bytes": (lambda line: line["syn_bytes"] + 1, "syn_bytes"),
    "syn_acked": (lambda line: line.get("syn_acked", 0) + 1, "syn_acked"),
    "evidence": (lambda line: "plain" if line["evidence"] != "plain" else "syn_data_acked", "evidence"),
    "first_byte": (lambda line: line["first_byte"] + RTT if "first_byte" in line else 0.1, "first_byte"),
    "dial_time": (lambda line: line["dial_time"] + RTT, "dial_time"),
    "down_bytes": (lambda line: line["down_bytes"] + 1, "down_bytes"),
    "saved": (lambda line: line.get("saved", 0.0) + RTT, "saved"),
    "lost": (lambda line: line.get("lost", 0.0) + RTT, "saved"),
    "hedged": (lambda line: not line.get("hedged"), "hedged"),
    "redialled": (lambda line: not line.get("redialled"), "redialled"),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_line_that_says_otherwise_is_found(some: Outcome, name: str) -> None:
    """One field of one line is changed at a time: it is named, in nearly every line of every kind of path."""
    change, said = CHANGES[name]
    packets, tried, found = read_capture(some.pcap), 0, 0
    for line in some.lines:
        if name not in line and name in {"dial_time", "down_bytes"}:
            continue
        if line.get("dials") and name in {"local", "open"}:
            continue  # each dial has its own
        (session,) = explain(packets, [{**line, name: change(line)}], LATE)
        tried, found = tried + 1, found + any(text.startswith(said) for text in session.disagreements)
    assert tried >= 10
    assert found >= 0.9 * tried or name in {"saved", "lost", "down_bytes", "dial_time", "evidence"}
    assert found >= 0.5 * tried


def explained(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", "explain", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_command(some: Outcome, tmp_path: Path) -> None:
    """Exit code 0 where all agrees, 1 where something does not; pcapng, as Wireshark writes it, is read too."""
    capture, log = tmp_path / "packets.pcap", tmp_path / "log.jsonl"
    capture.write_bytes(some.pcap)
    log.write_text(
        "not a line\n" + "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in some.lines)
    )
    done = explained(capture, log, "--within", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(some.lines)} of {len(some.lines)} sessions are in the capture, 0 disagree" in done.stdout
    assert "SYN-ACK, acknowledges" in done.stdout
    newer = tmp_path / "packets.pcapng"
    subprocess.run(["editcap", "-F", "pcapng", capture, newer], check=True, timeout=60)
    again = explained(newer, log, "--within", "0.5")
    assert (again.returncode, again.stdout) == (0, done.stdout)

    wrong = dict(some.lines[0], syn_bytes=7)
    log.write_text(json.dumps(wrong, separators=(",", ":")) + "\n")
    done = explained(capture, log, "--disagreeing")
    assert done.returncode == 1
    assert "DISAGREES: syn_bytes: the line says 7, the packets 0" in done.stdout


@pytest.mark.parametrize(
    ("capture", "log", "said"),
    [
        (b"text", '{"event":"session"}', "neither a pcap nor a pcapng file"),
        (b"\xd4\xc3\xb2\xa1", '{"event":"session"}', "ends within its header"),
        (b"\xd4\xc3\xb2\xa1" + bytes(20), "no session", "no session line; it needs log: {format: json}"),
    ],
)
def test_what_is_no_capture_or_log(tmp_path: Path, capture: bytes, log: str, said: str) -> None:
    (tmp_path / "c").write_bytes(capture)
    (tmp_path / "l").write_text(log)
    done = explained(tmp_path / "c", tmp_path / "l")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("name", "trips"), [("closed", 1.0), ("nowhere", None)])
def test_a_server_that_is_not_there_is_found_out_once(wan: Wan, name: str, trips: float | None) -> None:
    """The first session dials once more, plainly; those after it dial once, plainly, and are told as soon as that."""
    batch = [(path, False) for path in KINDS if path.name == name]
    first, *others = run(wan, batch, 3, SEED).lines
    assert [dial["why"] for dial in first["dials"]] == ["first", "redial" if trips else "hedge"]
    assert (first["open"], first["evidence"]) == ("data", "no_handshake")
    assert first["redialled" if trips else "hedged"]
    assert len(others) == 2
    for line in others:
        assert "dials" not in line
        assert (line["open"], line["evidence"], line["dial_start"] < RTT) == ("plain", "no_handshake", True)
        assert trips is None or line["duration"] < (trips + 0.8) * RTT


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs tcpdump")
def test_a_capture_of_tcpdump(wan: Wan, tmp_path: Path) -> None:
    """Made as docs/log.md says: on all interfaces, so that the clients' connections on lo are in it twice."""
    capture, log = tmp_path / "packets.pcap", tmp_path / "log.jsonl"
    command = [
        "tcpdump",
        "-i",
        "any",
        "-U",
        "--immediate-mode",
        "-Z",
        "root",
        "-w",
        str(capture),
        "tcp or icmp or icmp6",
    ]
    process = wan.client.popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        assert b"listening" in process.stderr.readline() + process.stderr.readline()
        outcome = run(wan, [(path, False) for path in KINDS if path.name in SOME], 2, SEED)
    finally:
        time.sleep(0.2)
        process.terminate()
        process.wait(10)
        process.stderr.close()
    log.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in outcome.lines))
    done = explained(capture, log, "--within", "0.5")
    assert f"{2 * len(SOME)} of {2 * len(SOME)} sessions are in the capture" in done.stdout
    # Packets that tcpdump drops on a busy machine are missing in a session or two.
    assert int(done.stdout.rsplit(", ", 1)[1].split()[0]) <= 3, done.stdout
