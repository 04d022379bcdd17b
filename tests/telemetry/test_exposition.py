from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.telemetry.exposition import Exposition

ANY = st.text(max_size=20)


@settings(max_examples=200)
@given(ANY, ANY, st.integers(0, 2**64) | st.floats(allow_nan=False))
def test_no_label_can_break_the_text(label: str, meaning: str, value: float) -> None:
    for open_metrics, parse in ((False, parse_text), (True, parse_open_metrics)):
        out = Exposition(open_metrics=open_metrics)
        out.family("x", "gauge", meaning)
        out.sample(value, {"listener": label, "b": "c"})
        lines = out.body().decode().split("\n")
        assert len(lines) == 4 + open_metrics
        if "\r" in label + meaning or any(
            c in label + meaning for c in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
        ):
            continue  # the parser splits lines where the format knows none; Prometheus does not
        (family,) = parse(out.body().decode())
        (sample,) = family.samples
        assert (sample.labels, sample.value) == ({"listener": label, "b": "c"}, value)


def test_a_histogram_adds_up() -> None:
    out = Exposition()
    out.family("x_seconds", "histogram", "How long.")
    out.histogram((0.1, 1), [2, 0, 3], 7.5, {"a": "b"})
    (family,) = parse_text(out.body().decode())
    assert [(s.name, s.labels.get("le"), s.value) for s in family.samples] == [
        ("tfoproxy_x_seconds_bucket", "0.1", 2),
        ("tfoproxy_x_seconds_bucket", "1.0", 2),
        ("tfoproxy_x_seconds_bucket", "+Inf", 5),
        ("tfoproxy_x_seconds_sum", None, 7.5),
        ("tfoproxy_x_seconds_count", None, 5),
    ]


def test_whole_numbers_stay_exact() -> None:
    out = Exposition()
    out.family("bytes_total", "counter", "Bytes.")
    out.sample(2**63 + 1)
    assert str(2**63 + 1) in out.body().decode()
