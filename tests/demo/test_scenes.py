from __future__ import annotations

import pytest

from proxy.demo.scenes import BANNER, POST, get, scene, scenes, tunnelled
from proxy.lab.middleboxes import MIDDLEBOXES


def test_every_middlebox_of_the_lab_can_be_shown() -> None:
    assert set(MIDDLEBOXES) - set(scenes()) == {"drops", "later"}
    assert list(scenes())[:2] == ["clean", "no-fast-open"]


def test_titles_are_sentences_without_letters_of_tables() -> None:
    for found in scenes().values():
        assert found.title[0].isupper()
        assert "[" not in found.title
        assert not found.title.endswith(".")
    assert scene("drops-syn-data").title == "A middlebox drops every SYN that carries data"
    assert scene("path-mtu-black-hole").title.startswith("A link of MTU 1400")
    assert (
        scene("nat-changes-source").title.startswith("NAT gives")
        or scene("nat-changes-source").title[:3] == "NAT"
    )


def test_a_path_is_turned_round() -> None:
    turned = scene("drops-option").turned_round()
    assert turned.server_first
    assert (turned.request, turned.reply, turned.port) == (b"", BANNER, 25)
    assert turned.through == scene("drops-option").through
    assert not scene("drops-option").server_first


def test_requests_have_the_size_that_is_asked_for() -> None:
    assert len(get(300)) == 300
    assert len(get(2000)) == 2000
    assert get().startswith(b"GET / HTTP/1.1\r\n")
    assert get(300).endswith(b"\r\n\r\n")


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'nonsense'; there are clean, no-fast-open, strips"):
        scene("nonsense")


def test_a_tunnel_carries_what_no_syn_would() -> None:
    made = tunnelled(scene("drops-syn-data"))
    assert (made.tunnel, made.fast_open, made.request) == (True, False, POST)
    assert made.through == scene("drops-syn-data").through
    assert made.title.endswith("; a middlebox drops every SYN that carries data")
    first = tunnelled(scene("clean").turned_round())
    assert first.request == b""
    assert "speaks first" in first.title
