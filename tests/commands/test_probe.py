"""``tfo-proxy probe`` on every kind of path the lab can lay: the verdict must be the path's."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest

from proxy.commands import group
from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.lab.behaviours import answers, never_answers, resets, slow, speaks_first
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from proxy.probe import http_payload

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.05)]
HTTP = answers(b"HTTP/1.0 200 OK\r\n\r\n", request=40)
Capsys = pytest.CaptureFixture[str]


def probe(server: Server | str, capsys: Capsys, *options: str) -> tuple[int, dict[str, Any]]:
    target = server if isinstance(server, str) else str(Endpoint(*server.address))
    code = group.main(["probe", target, "--json", *options])
    said = capsys.readouterr().out
    return code, json.loads(said) if said else {}


def test_a_clean_path(wan: Wan, capsys: Capsys) -> None:
    server = wan.serve(HTTP)
    code, report = probe(server, capsys)
    assert (code, report["verdict"], report["acked_on_try"]) == (0, "works", 2)
    rtt, saved = report["rtt"], report["saved"]
    assert wan.rtt * 0.99 < rtt < wan.rtt * 1.5
    assert wan.rtt / 2 < saved < wan.rtt * 3  # the difference of two dials, on a machine that may be busy
    assert report["syn_bytes"] == 1420
    assert f"on the 2nd try; saves {saved / rtt:.1f} round trips" in report["explanation"]
    server.wait(len(report["trials"]), ended=False)
    assert all(not heard or heard.startswith(b"HEAD / HTTP/1.0\r\n") for heard in server.received)


def test_the_report_for_people(wan: Wan, capsys: Capsys) -> None:
    server = wan.serve(HTTP)
    with wan.through("resets-syn-data"):
        assert group.main(["probe", f"{server.address[0]}:80"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert re.match(rf"{server.address[0]}:80, round trip [5-9]\d\.\d ms", lines[0])
    assert re.search(
        r"1  plain, small request +handshake .* ms \(1\.\d RTT\), first byte .* \(2\.\d RTT\)$", lines[1]
    )
    assert re.search(r"3  fast open, empty +handshake .*, cookie asked for, got one$", lines[3])
    assert re.search(r"4  fast open, small request, \d+ bytes in the SYN +reset$", lines[4])
    assert lines[-1].startswith("resets: fast opens are reset while ordinary connections get through")


def test_several_servers_are_a_line_each(wan: Wan, capsys: Capsys) -> None:
    works, silent = wan.serve(HTTP), wan.unrouted_address()
    targets = [str(Endpoint(*works.address)), f"{silent}:80", str(Endpoint(*works.address))]
    assert group.main(["probe", *targets, "--timeout", "0.5"]) == 3
    told = capsys.readouterr()
    first, second = told.out.splitlines()
    assert re.match(rf"{works.address[0]}:80 +[5-9]\d\.\d ms  works +saves \d+ ms$", first)
    assert re.match(rf"{silent}:80 +- ", second)
    assert told.err == "", "nobody looks: no progress"
    assert group.main(["probe", *targets, "--timeout", "0.5", "--json"]) == 3
    both = json.loads(capsys.readouterr().out)
    assert [one["target"] for one in both] == targets[:2]
    assert both[0]["verdict"] == "works"


@pytest.mark.parametrize("version", [4, 6])
def test_a_warm_cookie_is_used_at_once(wan: Wan, version: int, capsys: Capsys) -> None:
    server = wan.serve(HTTP, version=version)
    assert probe(server, capsys)[1]["acked_on_try"] == 2
    code, report = probe(server, capsys)
    assert (code, report["verdict"], report["acked_on_try"]) == (0, "works", 2)
    assert report["trials"][2]["evidence"] == "empty_open"
    assert report["syn_bytes"] == (1420 if version == 4 else 1400)


@pytest.mark.parametrize(
    ("box", "params", "verdict", "code"),
    [
        ("strips-option-from-syn", {}, "no-cookie", 1),
        ("strips-option-from-syn", {"kinds": (34,)}, "works", 0),
        ("strips-option-from-syn-ack", {}, "no-cookie", 1),
        ("drops-syn-data", {}, "drops-syn-data", 1),
        ("drops-option", {}, "drops-option", 1),
        ("resets-syn-data", {}, "resets", 1),
        ("rejects-syn-data", {}, "rejects", 1),
        ("cuts-syn-data-off", {}, "ignored", 1),
        ("cuts-syn-data-short", {}, "ignored", 1),
        ("nat-changes-source", {}, "ignored", 1),
        ("silent-after-handshake", {}, "silent", 1),
        ("silent-after-handshake", {"both_ways": True}, "silent", 1),
        ("drops-server-data", {}, "silent", 1),
        ("small-path-mtu", {}, "path-mtu", 0),
        ("path-mtu-black-hole", {}, "path-mtu", 0),
        ("duplicates-syn-data", {}, "works", 0),
        pytest.param("loses-first-syn", {}, "unclear", 1, marks=pytest.mark.slow),
        pytest.param("loses-first-syn-ack", {}, "unclear", 1, marks=pytest.mark.slow),
        ("loses-every-syn-ack", {}, "timeout", 3),
    ],
)
def test_every_middlebox_is_called_by_its_name(
    wan: Wan, box: str, params: dict[str, object], verdict: str, code: int, capsys: Capsys
) -> None:
    server = wan.serve(HTTP)
    with wan.through(box, **params):  # type: ignore[arg-type]  # no middlebox has a parameter `host`
        found, report = probe(server, capsys, "--timeout", "1.5")
    assert (report["verdict"], found) == (verdict, code)


def test_what_follows_the_syn_being_dropped_shows_where_there_is_more_to_say(
    wan: Wan, capsys: Capsys
) -> None:
    server = wan.serve(answers(request=1500))  # answers the long request only
    with wan.through("drops-client-after-syn"):
        code, report = probe(server, capsys, "--send-hex", http_payload("x").large.hex(), "--timeout", "2")
    assert (code, report["verdict"]) == (1, "silent")


@pytest.mark.parametrize("seed", [1, 2, 3, 63])
def test_random_loss_is_not_called_a_middlebox(wan: Wan, seed: int, capsys: Capsys) -> None:
    server = wan.serve(HTTP)
    with wan.through("random-loss", rate=0.1, seed=seed):
        assert probe(server, capsys)[1]["verdict"] == "works"


def test_a_slow_server_is_not_a_silent_one(wan: Wan, capsys: Capsys) -> None:
    code, report = probe(wan.serve(slow(1.0)), capsys)
    assert (code, report["verdict"]) == (0, "works")
    assert report["saved"] == pytest.approx(wan.rtt, rel=0.6)


@pytest.mark.parametrize("behaviour", [never_answers(), resets(), resets(reply=b"x"), answers(closes=True)])
def test_a_server_with_manners_of_its_own_is_not_blamed_on_the_path(
    wan: Wan, behaviour: Any, capsys: Capsys
) -> None:
    assert probe(wan.serve(behaviour), capsys, "--timeout", "2")[1]["verdict"] == "works"


def test_servers_without_fast_open(wan: Wan, capsys: Capsys) -> None:
    assert probe(wan.serve(HTTP, fast_open=None), capsys)[1]["verdict"] == "no-cookie"
    wan.server.sysctl("net.ipv4.tcp_fastopen", 1)
    assert probe(wan.serve(HTTP), capsys)[1]["verdict"] == "no-cookie"


def test_a_stale_cookie_costs_one_try(wan: Wan, capsys: Capsys) -> None:
    server = wan.serve(HTTP)
    assert probe(server, capsys)[0] == 0
    server.set_keys(b"another key, 16.")
    code, report = probe(server, capsys)
    assert (code, report["verdict"]) == (0, "works")
    evidence = [trial["evidence"] for trial in report["trials"]]
    assert evidence.count("syn_data_acked") >= 3


def test_a_server_that_speaks_first_needs_no_byte(wan: Wan, capsys: Capsys) -> None:
    server = wan.serve(speaks_first(), port=22)
    code, report = probe(server, capsys)
    assert (code, report["verdict"]) == (0, "works")
    assert report["saved"] == pytest.approx(wan.rtt, rel=0.2)
    assert not any(server.received)


def test_no_byte_is_sent_unasked(wan: Wan, capsys: Capsys) -> None:
    server = wan.serve(HTTP, port=7000)
    assert probe(server, capsys)[1]["verdict"] == "cookie-only"
    assert not any(server.received)
    neighbour = wan.serve(HTTP, port=7001, fast_open=False)
    code, report = probe(server, capsys)
    assert (code, report["verdict"]) == (1, "not-shown"), "the cookie may be of another port"
    assert probe(neighbour, capsys)[1]["verdict"] in {"not-shown", "no-cookie"}
    code, report = probe(server, capsys, "--send", "get")
    assert (code, report["verdict"]) == (0, "works")
    assert all(segment.payload == b"" for segment in wan.capture().syns(dst=server.address)[:4])


def test_own_bytes_and_only_those(wan: Wan, capsys: Capsys) -> None:
    server = wan.serve(answers())
    assert probe(server, capsys, "--send-hex", "50494e470d0a")[1]["verdict"] == "works"
    assert {heard for heard in server.received if heard} == {b"PING\r\n"}


def test_who_is_not_there(wan: Wan, capsys: Capsys) -> None:
    assert probe(f"{wan.fresh_address()}:80", capsys)[0] == 3
    assert probe(f"{wan.fresh_address()}:80", capsys)[1]["verdict"] == "refused"
    code, report = probe(f"{wan.unrouted_address()}:80", capsys, "--timeout", "0.5")
    assert (code, report["verdict"]) == (3, "timeout")
    wan.client.run(["ip", "route", "add", "unreachable", "10.99.0.0/16"])
    code, report = probe("10.99.0.1:80", capsys)
    assert (code, report["verdict"]) == (3, "unreachable")


def test_where_the_client_may_not(wan: Wan, capsys: Capsys) -> None:
    server = wan.serve(HTTP)
    wan.client.sysctl("net.ipv4.tcp_fastopen", 2)
    code, report = probe(server, capsys)
    assert (code, report["verdict"]) == (1, "unavailable-here")


def test_a_name_without_an_address(capsys: Capsys) -> None:
    assert group.main(["probe", "nobody.invalid:80"]) == 3
    assert "nobody.invalid" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["x"],
        ["h:0"],
        ["unix:/x"],
        ["h:1", "--send-hex", "0"],
        ["h:1", "--send", "post"],
        ["h:1", "--timeout", "0"],
    ],
)
def test_usage(arguments: list[str]) -> None:
    assert group.main(["probe", *arguments]) == 2


@pytest.mark.root
def test_it_needs_no_privilege(wan: Wan) -> None:
    server = wan.serve(HTTP)
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]
    told = wan.client.run([*command, sys.executable, "-m", "proxy", "probe", f"{server.address[0]}:80"])
    if "shared libraries" in told.stderr:
        pytest.skip("the interpreter is out of another user's reach here")
    assert told.returncode == 0, told.stderr
    assert Evidence.SYN_DATA_ACKED.value not in told.stdout
    assert "works: TCP Fast Open works here" in told.stdout
