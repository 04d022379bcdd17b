from __future__ import annotations

from pathlib import Path

import pytest

from proxy.commands import group

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
    assert capsys.readouterr().err == (
        "warning: clusters.c.source: the source address 192.0.2.77 is not of this machine: "
        "Cannot assign requested address (EADDRNOTAVAIL)\n"
    )


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
listeners: {web: {bind: '127.0.0.1:1', mode: forward, to: api}}
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
        ("x.internal:8001", "x.internal:8001: cluster api (rule 1 at {path}:4:5)"),
        ("x.internal:1 --user mallory", "x.internal:1: refused, go away (rule 2 at {path}:6:5)"),
        ("10.0.0.1:1 --client 192.0.2.7", "10.0.0.1:1: refused, not from there (rule 3 at {path}:8:5)"),
        ("10.0.0.1:1", "10.0.0.1:1: direct (no rule takes it)"),
        (
            "10.0.0.1:1 --sni a.Internal --listener web",
            "10.0.0.1:1: cluster 192.0.2.9:443 (rule 4 at {path}:10:5)",
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
    if "decide" in says:
        assert "  127.0.0.1:1: refused, direct.deny has loopback (no rule takes it, so direct)" in others


@pytest.mark.parametrize("args", ["nowhere", "h:0", "h:1 --client me", "h:1 --listener none", "0x7f.1:80"])
def test_what_cannot_be_asked(path: Path, capsys: pytest.CaptureFixture[str], args: str) -> None:
    path.write_text(ROUTED)
    assert group.main(["check", str(path), "--route", *args.split()]) == group.USAGE
    assert "Invalid value" in capsys.readouterr().err
