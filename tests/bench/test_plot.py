from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from bench.plot import Bar, Line, bars, lines, short


def test_bars_are_as_long_as_their_values() -> None:
    drawing = bars("CPU & more", [Bar("haproxy", 50, 40, 60), Bar("ours", 100, 90, 110)])
    root = ET.fromstring(drawing)
    widths = [
        float(one.attrib["width"]) for one in root.iterfind(".//{*}rect") if one.attrib["width"] != "100%"
    ]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert "CPU &amp; more" in drawing


def test_lines_go_up_where_values_do() -> None:
    drawing = lines("growth", "sessions", "MiB", [Line("ours", [(10, 1), (100, 2), (1000, 3)])])
    dots = [
        (float(one.attrib["cx"]), float(one.attrib["cy"]))
        for one in ET.fromstring(drawing).iterfind(".//{*}circle")
    ]
    assert dots == sorted(dots)
    assert [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)
    assert dots[1][0] - dots[0][0] == pytest.approx(dots[2][0] - dots[1][0], abs=0.2), "by powers of ten"


def test_lines_that_are_alike_are_both_seen() -> None:
    points = [(1.0, 2.0), (10.0, 20.0)]
    drawing = lines("growth", "ms", "ms", [Line(label, points) for label in ("plain", "haproxy", "ours")])
    paths = [one for one in ET.fromstring(drawing).iterfind(".//{*}path") if "stroke-width" in one.attrib]
    widths = [float(one.attrib["stroke-width"]) for one in paths]
    assert len({one.attrib["d"] for one in paths}) == 1
    assert all(below >= above + 2 for below, above in pairwise(widths))


@pytest.mark.parametrize(
    ("number", "text"), [(1234.5, "1,234"), (12.345, "12.3"), (0.01234, "0.0123"), (0, "0")]
)
def test_three_digits_are_enough(number: float, text: str) -> None:
    assert short(number) == text
