from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.scalars import (
    BadScalar,
    Delay,
    Duration,
    HedgeTime,
    Limit,
    Scalar,
    Spares,
    SynData,
    Wait,
    WholeSeconds,
    read_seconds,
    read_size,
    scalar_class,
    write_seconds,
)
from proxy.core.snapshot import AUTO


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("1h30m", 5400.0),
        ("0s", 0.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5", "'5' has no unit; write 5s, 5ms or 5m"),
        ("2.5", "'2.5' has no unit; write 2.5s"),
        ("", "is not a duration"),
        ("5 s", "is not a duration"),
        ("5S", "is not a duration"),
        ("-5s", "is not a duration"),
        ("5d", "is not a duration; write one like 250ms, 5s, 2m or 1h"),
        ("s", "is not a duration"),
        ("٥s", "is not a duration"),
        ("9000h", "is longer than a year"),
    ],
)
def test_what_is_no_duration(text: str, says: str) -> None:
    with pytest.raises(BadScalar, match=r"^'") as caught:
        read_seconds(text)
    assert says in str(caught.value)


@settings(max_examples=200)
@given(st.floats(0, 1e7, allow_nan=False) | st.integers(0, 10_000_000).map(float))
def test_durations_are_written_as_they_are_read(seconds: float) -> None:
    assert read_seconds(write_seconds(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "250ms"), (60, "1m"), (90, "90s"), (7200, "2h"), (0, "0s")]
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    assert write_seconds(float(seconds)) == text


@pytest.mark.parametrize(
    ("cls", "text", "value"),
    [
        (Duration, "5s", 5.0),
        (Delay, "0s", 0.0),
        (WholeSeconds, "30s", 30.0),
        (Limit, "none", None),
        (Limit, "10m", 600.0),
        (Wait, "auto", AUTO),
        (Wait, "0s", 0.0),
        (HedgeTime, "auto", AUTO),
        (HedgeTime, "off", None),
        (HedgeTime, "250ms", 0.25),
        (SynData, "auto", AUTO),
        (SynData, "1200", 1200),
        (SynData, "1KiB", 1024),
        (Spares, "off", 0),
        (Spares, "0", 0),
        (Spares, "auto", AUTO),
        (Spares, "2", 2),
    ],
)
def test_values_are_written_as_they_are_read(cls: type[Scalar[object]], text: str, value: object) -> None:
    scalar = cls.read(text)
    assert scalar.value == value
    assert cls.read(str(scalar.plain())) == scalar
    assert cls.read(str(scalar)) == scalar


@pytest.mark.parametrize(
    ("cls", "text", "says"),
    [
        (Duration, "0s", "'0s' is no time at all; write a time above zero"),
        (Duration, "none", "'none' is not understood; write a duration like 250ms, 5s, 2m or 1h"),
        (Limit, "0s", "'0s' is no time at all; write none"),
        (Limit, "off", "'off' is not understood; write none, or a duration like"),
        (Wait, "none", "'none' is not understood; write auto, or a duration"),
        (Wait, "5", "'5' has no unit"),
        (HedgeTime, "0s", "would dial twice every time; write off"),
        (HedgeTime, "no", "write auto, off, or a duration"),
        (WholeSeconds, "1500ms", "whole seconds from 1s to 32767s"),
        (WholeSeconds, "0s", "does not fit the kernel"),
        (WholeSeconds, "10h", "does not fit the kernel"),
        (SynData, "0", "write replay: none, or fast_open: off"),
        (SynData, "64KiB", "more than a SYN can hold"),
        (SynData, "1.5KiB", "is not a size; write auto, or a size"),
        (SynData, "1KB", "is not a size"),
        (Spares, "-1", "write off, auto, or a number from 1 to 1000"),
        (Spares, "1001", "a number from 1 to 1000"),
    ],
)
def test_what_is_refused(cls: type[Scalar[object]], text: str, says: str) -> None:
    with pytest.raises(BadScalar) as caught:
        cls.read(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("7B", 7), ("64KiB", 65536), ("2MiB", 2 << 20), ("1GiB", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert read_size(text, "a size") == size


def test_scalars_compare_by_class_and_value() -> None:
    assert Duration(5.0) == Duration(5.0) != Delay(5.0)
    assert hash(Duration(5.0)) == hash(Duration(5.0))
    assert repr(Duration(5.0)) == "Duration('5s')"
    with pytest.raises(TypeError):
        scalar_class(int)
