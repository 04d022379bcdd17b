from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from proxy.demo.picture import picture
from proxy.demo.scenes import scene
from tests.demo.seen import careful, fast, lossy, played

SVG = "{http://www.w3.org/2000/svg}"


def words(svg: str) -> list[str]:
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text") if element.text]


def test_it_is_well_formed_and_says_the_numbers() -> None:
    said = words(picture(played([fast(), fast()])))
    assert {"2.0 round trips", "1.0 round trips", "2.0 → 1.0 round trips"} <= set(said)
    assert {"first byte after 200 ms", "first byte after 103 ms", "0 ms", "50 ms", "100 ms"} <= set(said)
    assert {"SYN + cookie + request", "SYN-ACK, took 37 B", "client", "tfo-proxy", "server"} <= set(said)
    assert "ACK" not in said
    assert "ACK" in words(picture(played([fast()]), everything=True))


def test_a_bad_path_has_three_panels_a_middlebox_and_a_cross() -> None:
    svg = picture(played([lossy(), careful()], scene("drops-syn-data")))
    said = words(svg)
    assert said.count("client") == 3
    assert said.count("middlebox") == 3
    assert svg.count("l12 12 m0 -12 l-12 12") == 1
    assert '"headline same"' in svg


@pytest.mark.parametrize(("theme", "papers"), [("light", 1), ("dark", 1), ("auto", 2)])
def test_light_and_dark(theme: str, papers: int) -> None:
    svg = picture(played([fast()]), theme=theme)
    assert len(re.findall("--paper: #", svg)) == papers
    assert ("prefers-color-scheme" in svg) == (theme == "auto")


def test_nothing_sticks_out() -> None:
    for runs in ([fast()], [lossy(), careful()]):
        svg = picture(played(runs, scene("drops-syn-data")))
        width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
        root = ET.fromstring(svg)
        assert all(0 <= float(text.get("x", 1)) <= width for text in root.iter(f"{SVG}text"))
        assert all(0 <= float(text.get("y", 1)) <= height for text in root.iter(f"{SVG}text"))


def test_names_cannot_break_the_picture() -> None:
    run = fast()
    nasty = played([run])
    svg = picture(
        type(nasty)(scene("rejects-syn-data"), nasty.rtt, nasty.plain, nasty.warm_up, nasty.through, ())
    )
    assert any('"administratively prohibited"' in text for text in words(svg))
