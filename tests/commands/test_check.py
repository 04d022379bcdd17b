from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from proxy.commands import check, group
from proxy.config import ConfigError, load
from proxy.core.address import Authority, Endpoint, parse_target
from proxy.net.resolve import NoSuchHost, Resolver
from proxy.sessions.pools import Pools
from proxy.sessions.routing import Refused, Routing

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


def test_a_good_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(
        "listeners:\n  a: {bind: '127.0.0.1:1', mode: forward, to: 'h:1'}\n"
        "  b: {bind: '127.0.0.1:2', mode: forward, to: 'h:1'}\n"
    )
    assert group.main(["check", str(path)]) == 0
    assert capsys.readouterr() == (f"{path}: ok, 2 listeners, 1 cluster\n", "")


def test_warnings_are_told_beside(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(
        "listeners: {a: {bind: '127.0.0.1:1', mode: forward, to: 'h:1'}}\nclusters:\n  c: {endpoints: 'h:1'}\n"
    )
    assert group.main(["check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path}: ok, 1 listener, 2 clusters\n"
    assert err.splitlines() == [
        f"{path}:3:3: warning: cluster 'c' is not used; name it in a `to`, or leave it out",
        "      c: {endpoints: 'h:1'}",
        "      ^",
    ]


def test_a_source_that_is_not_to_be_had_here(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(
        "listeners: {a: {bind: '127.0.0.1:1', mode: forward, to: c}}\n"
        "clusters: {c: {endpoints: 'h:1', source: {address: 192.0.2.77}}}\n"
    )
    assert group.main(["check", str(path)]) == 0
    assert capsys.readouterr().err.splitlines()[0] == (
        f"{path}:2:42: warning: clusters.c.source: the source address 192.0.2.77 is not of this machine: "
        "Cannot assign requested address (EADDRNOTAVAIL)"
    )


MINIMAL = "listeners: {a: {bind: '127.0.0.1:0', mode: forward, to: 'h:1'}}\n"


@pytest.mark.parametrize("key", ["user", "group"])
@pytest.mark.parametrize("name", ["nobody-here", "no such"])
def test_a_user_or_group_that_this_machine_does_not_have(
    path: Path, capsys: pytest.CaptureFixture[str], key: str, name: str
) -> None:
    path.write_text(f"{MINIMAL}{key}: {name}\n")
    assert group.main(["check", str(path)]) == 78
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == (
        "",
        f"{path}:2:{len(key) + 3}: {key}: there is no {key} {name!r} on this machine; create it, or name another one",
    )


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("{}/none/state", "the folder {}/none cannot be used: No such file or directory"),
        ("{}/file/state", "{}/file is not a folder"),
        ("{}", "{} is a folder"),
        ("/proc/self/state", "may not write to the folder"),
        ("{}/shut/state", "user 65533 may not write to the folder {}/shut"),
        ("{}/open/state", ""),
    ],
)
def test_a_state_file_that_cannot_be_written(
    path: Path, capsys: pytest.CaptureFixture[str], state: str, says: str
) -> None:
    folder = path.parent
    (folder / "file").touch()
    for name, mode in (("shut", 0o755), ("open", 0o777)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    path.write_text(f"{MINIMAL}user: '65533'\nstate: {state.format(folder)}\n")
    assert group.main(["check", str(path)]) == 0
    err = capsys.readouterr().err
    assert (says.format(folder) in err and "warning: state: " in err) if says else not err


def test_pipes_standard_input_and_several_files(path: Path) -> None:
    path.write_text(MINIMAL)
    shell = f"{sys.executable} -m proxy check"
    for command, status in (
        (f"{shell} - < {path}", 0),
        (f"cat {path} | {shell} -", 0),
        (f"echo nothing: 1 | {shell} -", 78),
        (f"{shell} <(cat {path}) {path}", 0),
        (f"{shell} {path} <(echo nothing: 1)", 78),
    ):
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout.count(": ok, ")) == (
            status, command.count(str(path)) if "nothing" not in command or str(path) in command else 0
        ), done.stderr  # fmt: skip
        assert ("unknown key 'nothing'" in done.stderr) is (status == 78)


def test_what_was_found_as_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(MINIMAL + "clusters: {c: {endpoints: 'h:1'}}\n")
    bad = path.with_name("bad.yaml")
    bad.write_text("drain: 5\n")
    assert group.main(["check", "--json", str(path), str(bad)]) == 78
    out, err = capsys.readouterr()
    assert not err
    good, wrong = json.loads(out)
    assert (good["file"], good["ok"], good["listeners"], good["mistakes"]) == (str(path), True, 1, [])
    (warning,) = good["warnings"]
    assert (warning["file"], warning["line"], warning["column"]) == (str(path), 2, 12)
    assert warning["problem"].startswith("cluster 'c' is not used")
    assert wrong["ok"] is False
    assert [(one["line"], one["column"]) for one in wrong["mistakes"]] == [(1, 1), (1, 8)]


@pytest.mark.parametrize("quotes", ['"', "'", ""])
def test_a_reference_is_a_number_wherever_numbers_are(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, quotes: str
) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "77")
    one = "127.0.0.1"

    def ref(text: str) -> str:
        return f"{quotes}${{{text}}}{quotes}"

    path.write_text(
        "listeners:\n  a:\n"
        f"    bind: {one}:0\n    mode: forward\n    to: c\n    backlog: {ref('BACKLOG:-1024')}\n"
        f"    fast_open: {ref('FAST:-true')}\n"
        f"clusters:\n  c:\n    endpoints: {one}:1\n    connect:\n      retries: {ref('RETRIES:-2')}\n"
        f"workers: {ref('WORKERS:-2')}\nlog:\n  sessions: {ref('LOG:-false')}\n"
    )
    assert group.main(["check", str(path)]) == 0, capsys.readouterr().err
    path.write_text(path.read_text().replace("BACKLOG:-1024", "FROM_OUTSIDE"))
    assert group.main(["check", str(path)]) == 0, capsys.readouterr().err
    monkeypatch.setenv("FROM_OUTSIDE", "many")
    assert group.main(["check", str(path)]) == 78
    assert "many" not in capsys.readouterr().err


def test_a_bad_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text("drain: 5\nlistners: {}\n")
    assert group.main(["check", str(path)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{path}:1:8: drain: '5' has no unit; write 5s, 5ms or 5m",
        "    drain: 5",
        "           ^",
        f"{path}:2:1: unknown key 'listners' in the file; did you mean 'listeners'?",
        "    listners: {}",
        "    ^",
    ]


def test_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert group.main(["check", str(EXAMPLE)]) == 0
    assert capsys.readouterr().out == f"{EXAMPLE}: ok, 1 listener, 0 clusters\n"


ROUTED = """\
listeners:
  web: {bind: '127.0.0.1:1', mode: mixed, users: {mallory: x}}
  fixed: {bind: '127.0.0.1:2', mode: forward, to: api}
  tls: {bind: '127.0.0.1:3', mode: sni}
  named: {bind: '127.0.0.1:4', mode: sni, to: api, allow: [192.0.2.0/24, 127.0.0.1]}
clusters: {api: {endpoints: 'h:1'}}
routes:
  - match: {host: "*.internal", port: 8000-8100}
    to: api
  - match: {user: mallory}
    refuse: go away
  - match: {network: 10.0.0.0/8, client: 192.0.2.0/24}
    refuse: not from there
  - match: {sni: "*.internal"}
    to: 192.0.2.9:443
"""


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("x.internal:8001", "x.internal:8001: cluster api (rule 1 at {path}:8:5)"),
        ("x.internal:1 --user mallory", "x.internal:1: refused, go away (rule 2 at {path}:10:5)"),
        ("10.0.0.1:1 --client 192.0.2.7", "10.0.0.1:1: refused, not from there (rule 3 at {path}:12:5)"),
        ("10.0.0.1:1", "10.0.0.1:1: direct (no rule takes it)"),
        (
            "a.internal:1 --sni a.Internal --listener tls",
            "a.internal:1: cluster 192.0.2.9:443 (rule 4 at {path}:14:5)",
        ),
        ("x.internal:1 --listener fixed", "x.internal:1: cluster api (listener fixed: to)"),
        ("127.0.0.1:4", "127.0.0.1:4: refused, direct.deny has loopback (no rule takes it, so direct)"),
        ("8.8.8.8:1 --listener named", "8.8.8.8:1: cluster api (no rule takes it; listener named: to)"),
        (
            "localhost:1 --listener named --client 192.0.2.7",
            "localhost:1: a rule for networks may take it; its addresses decide",
        ),
        (
            "8.8.8.8:1 --listener named --client 198.51.100.1",
            "8.8.8.8:1: refused, listener named does not allow this client",
        ),
        ("127.0.0.1:1", "127.0.0.1:1: refused, direct.deny has loopback (no rule takes it, so direct)"),
        ("localhost:1", "localhost:1: direct (no rule takes it); its addresses decide"),
        (
            "localhost:1 --client 192.0.2.7",
            "localhost:1: a rule for networks may take it; its addresses decide",
        ),
    ],
)
def test_where_somebody_would_be_sent(
    path: Path, capsys: pytest.CaptureFixture[str], args: str, says: str
) -> None:
    path.write_text(ROUTED)
    assert group.main(["check", str(path), "--route", *args.split()]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == says.format(path=path)
    if "decide" in says and "named" in args:
        assert "  127.0.0.1:1: cluster api (no rule takes it; listener named: to)" in others
    elif "decide" in says:
        assert "  127.0.0.1:1: refused, direct.deny has loopback (no rule takes it, so direct)" in others


@pytest.mark.parametrize(
    "args",
    [
        "nowhere",
        "h:0",
        "h:1 --client me",
        "h:1 --listener none",
        "0x7f.1:80",
        "h:1 --sni h",
        "h:1 --listener tls --sni i",
        "h:1 --listener tls --user u",
    ],
)
def test_what_cannot_be_asked(path: Path, capsys: pytest.CaptureFixture[str], args: str) -> None:
    path.write_text(ROUTED)
    assert group.main(["check", str(path), "--route", *args.split()]) == group.USAGE
    assert "Invalid value" in capsys.readouterr().err


# --- a law: what `check --route` says is what sessions do


_HOSTS = {"a.test": ["10.0.0.1"], "b.test": ["192.0.2.5"], "c.a.test": ["2001:db8::1"], "nowhere.test": []}
_NETWORKS = ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "loopback"]


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    some = st.sampled_from
    conditions = st.fixed_dictionaries(
        {},
        optional={
            "host": some(["a.test", "*.a.test", "b.test", "/[ab].*/"]),
            "port": some([80, 443, "400-500"]),
            "network": some(_NETWORKS),
            "client": some(["10.0.0.0/8", "192.0.2.0/24"]),
            "listener": some(["open", "named", "kept"]),
            "sni": some(["a.test", "*.a.test"]),
        },
    )
    goals = some([{"to": "api"}, {"to": "direct"}, {"refuse": "no"}, {"to": "192.0.2.9:9"}])
    rules = draw(
        st.lists(st.builds(lambda match, goal: {"match": match, **goal}, conditions, goals), max_size=6)
    )
    return {
        "listeners": {
            "open": {"bind": "127.0.0.1:1", "mode": "mixed"},
            "named": {"bind": "127.0.0.1:2", "mode": "sni"},
            "kept": {"bind": "127.0.0.1:3", "mode": "sni", "to": "api"},
        },
        "clusters": {"api": {"endpoints": "192.0.2.1:1"}},
        "routes": rules,
    }


def _expected(document: dict[str, Any], listener: str, host: str, port: int, client: str) -> str | None:
    """Rule by rule, for a destination with one address; None: it has none, and would have to be dialled."""
    address = host if host not in _HOSTS else next(iter(_HOSTS[host]), None)
    named = host in _HOSTS

    def is_name(pattern: str) -> bool:
        if pattern.startswith("/"):
            return named and re.fullmatch(pattern[1:-1], host) is not None
        return host.endswith(pattern[1:]) if pattern.startswith("*") else host == pattern

    undecided = False
    for number, rule in enumerate(document["routes"], 1):
        match = rule["match"]
        first, last = (str(match.get("port", "1-65535")).split("-") * 2)[:2]
        held = [
            "host" not in match or is_name(match["host"]),
            int(first) <= port <= int(last),
            match.get("listener", listener) == listener,
            "client" not in match or _is_in(client, match["client"]),
            "sni" not in match or (listener != "open" and is_name(match["sni"])),
        ]
        if not all(held):
            continue
        if "network" in match and not _is_in(address, match["network"]):
            undecided = undecided or address is None
            continue
        if undecided:
            return None
        if "refuse" in rule:
            return f"refused by {number}"
        if rule["to"] != "direct":
            return f"{rule['to']} by {number}"
        return _direct(address)
    return "api by None" if listener == "kept" else _direct(address)


def _is_in(one: str | None, network: str) -> bool:
    if one is None:
        return False
    real = {"loopback": "127.0.0.0/8"}.get(network, network)
    return ipaddress.ip_address(one) in ipaddress.ip_network(real)


def _direct(address: str | None) -> str | None:
    if address is None:
        return None
    return "denied" if ipaddress.ip_address(address).is_loopback else "direct"


def _said(lines: list[str]) -> str:
    """The last line in short: it is the one that the address decides."""
    line = lines[-1]
    found = re.search(r"rule (\d+) at", line)
    rule = found[1] if found else None
    if "direct.deny" in line:
        return "denied"
    if "refused, no (" in line:
        return f"refused by {rule}"
    cluster = re.search(r"cluster (\S+) ", line)
    return f"{cluster[1]} by {rule}" if cluster else "direct"


class _Table(Pools):
    """Pools that know the addresses of some names."""

    async def lookup(self, authority: Authority, client: str = "") -> list[Endpoint]:
        found = _HOSTS[authority.host.removesuffix(".")]  # clients' names are absolute
        if not found:
            raise NoSuchHost(authority.host)
        return [Endpoint(host, authority.port) for host in found]


@settings(max_examples=100)
@given(
    _documents(),
    st.sampled_from(["open", "named", "kept"]),
    st.sampled_from([*_HOSTS, "10.0.0.1", "192.0.2.5", "127.0.0.1"]),
    st.sampled_from([80, 443]),
    st.sampled_from(["10.9.9.9", "198.51.100.1"]),
)
def test_check_says_what_sessions_do(
    document: dict[str, Any], listener: str, host: str, port: int, client: str
) -> None:
    if listener != "open" and host not in _HOSTS:
        host = "a.test"  # a TLS hello has a name
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(json.dumps(document))
        file.flush()
        try:
            snapshot = load(file.name).snapshot
        except ConfigError:
            reject()  # a rule behind one that takes everything
    pools = _Table(Resolver())
    routing = Routing(snapshot.routes, snapshot.destinations, pools)
    place = next(one for one in snapshot.listeners if one.name == listener)
    fixed = place.cluster if place.cluster.endpoints else None
    query = check._query(place, parse_target(f"{host}:{port}"), client, None, None)

    async def way() -> str | None:
        try:
            route, cluster, _ = await routing.way(query, fixed)
        except NoSuchHost:
            return None
        except Refused as refused:
            by = refused.route.rule if refused.route else None
            return "denied" if "direct.deny" in refused.brief else f"refused by {by}"
        return "direct" if cluster is snapshot.direct else f"{cluster.name} by {route.rule}"

    expected = _expected(document, listener, host, port, client)
    assert trio.run(way) == expected
    if expected is not None:
        assert _said(check._explained(snapshot, query, pools)) == expected
