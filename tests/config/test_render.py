from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config import Loaded, load
from proxy.config.render import render

KEY = "00112233445566778899aabbccddeeff"


def sections(
    required: dict[str, list[str]], optional: dict[str, list[str]]
) -> st.SearchStrategy[dict[str, object]]:
    def choices(keys: dict[str, list[str]]) -> dict[str, st.SearchStrategy[object]]:
        return {key: st.sampled_from(texts) for key, texts in keys.items()}

    return st.fixed_dictionaries(choices(required), optional=choices(optional))


TIMES = ["250ms", "5s", "1h30m", "0.0001s", "33.3ms"]
TIMEOUTS = sections(
    {}, {"first_bytes": ["auto", "0s"], "handshake": TIMES, "idle": ["none", *TIMES], "lifetime": ["none"]}
)
DIALLING = sections({}, {
    "fast_open": ["auto", "always", "off"], "replay": ["safe", "any", "none"], "server_first": ["auto", "yes", "no"],
    "syn_data": ["auto", "1200", "1KiB"], "hedge": ["auto", "off", "50ms"], "preconnect": ["off", "auto", "3"],
    "keepalive": ["off"],
})  # fmt: skip


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, object]:
    names = draw(
        st.lists(
            st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,5}", fullmatch=True), min_size=1, max_size=3, unique=True
        )
    )
    targets = ["h.example.com:1", "[2001:db8::1]:2", "unix:/run/$x", "unix:@a${b"]
    clusters = {
        f"c-{name}": draw(DIALLING) | {"endpoints": [escaped(draw(st.sampled_from(targets)))]}
        for name in names
    }
    listeners = {
        name: {
            "bind": [f"127.0.0.1:{port}", f"[::1]:{port}", f"unix:/run/{port}"][: draw(st.integers(1, 3))],
            "mode": "forward",
            "to": draw(st.sampled_from([*clusters, *map(escaped, targets)])),
            "timeouts": draw(TIMEOUTS),
        }
        for port, name in enumerate(names, 1)
    }
    return {
        "listeners": listeners,
        "clusters": clusters,
        "defaults": draw(DIALLING),
        "drain": draw(st.sampled_from(TIMES)),
    }


def escaped(text: str) -> str:
    return text.replace("$", "$$")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(configurations())
def test_what_is_shown_means_the_same(loaded: Callable[[str], Loaded], value: dict[str, object]) -> None:
    first = loaded(yaml.safe_dump(value))
    again = loaded(render(first.config))
    assert again.snapshot == first.snapshot
    assert render(again.config) == render(first.config)


def test_the_example_is_shown_in_full(tmp_path: Path) -> None:
    example = load(str(Path(__file__).parents[2] / "config.example.yaml"))
    path = tmp_path / "shown.yaml"
    path.write_text(render(example.config))
    assert load(str(path)).snapshot == example.snapshot


def test_endpoints_come_first_and_words_of_old_yaml_are_quoted(
    loaded: Callable[[str], Loaded], minimal: str
) -> None:
    shown = render(loaded(minimal + "clusters: {c: {endpoints: 'h:1', server_first: no, hedge: off}}").config)
    cluster = shown.partition("clusters:\n  c:\n")[2]
    assert cluster.startswith("    endpoints:\n    - h:1\n")
    assert "server_first: 'no'\n" in cluster
    assert "hedge: 'off'\n" in cluster


def test_secrets_are_hidden(loaded: Callable[[str], Loaded], minimal: str) -> None:
    shown = render(loaded(f"{minimal}tfo_keys: {KEY}").config)
    assert KEY not in shown
    assert "tfo_keys:\n- '***'\n" in shown


def test_passwords_are_hidden(loaded: Callable[[str], Loaded]) -> None:
    shown = render(
        loaded("listeners: {a: {bind: '[::1]:1', mode: socks, users: {alice: open-sesame}}}").config
    )
    assert "open-sesame" not in shown
    assert "alice: '***'" in shown
