from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config import ConfigError
from proxy.config.source import place_at, read_source


def refusal(path: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_source(str(path))
    return str(caught.value)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_utf_8_with_and_without_a_mark(write: Callable[[str | bytes], str], bom: bytes) -> None:
    assert read_source(write(bom + "a: ü\n".encode())).text == "a: ü\n"


def test_a_link_is_followed_as_a_configmap_needs(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "c.yaml").write_text("a: 1")
    (tmp_path / "c.yaml").symlink_to("..data/c.yaml")
    assert read_source(str(tmp_path / "c.yaml")).text == "a: 1"


def test_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        said = {
            name: refusal(tmp_path / name).partition("cannot be read: ")[2]
            for name in ("fifo", "socket", "loop")
        }
    assert said == {
        "fifo": "it is not a regular file; name a YAML file",
        "socket": "No such device or address; name a YAML file",
        "loop": "Too many levels of symbolic links; name a YAML file",
    }
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory; name a YAML file"
    assert refusal(tmp_path / "none").endswith(
        "none: cannot be read: No such file or directory; name a YAML file"
    )
    assert "not a regular file" in refusal("/dev/zero")
    assert "not a regular file" in refusal("/dev/null")
    assert "embedded null" in refusal("a\0b")
    assert "No such file" in refusal("")
    assert "File name too long" in refusal("x" * 300)


@pytest.mark.parametrize(
    ("size", "good"), [(1024 * 1024, True), (1024 * 1024 + 1, False), (10_000_000, False)]
)
def test_the_size_is_bounded(write: Callable[[str | bytes], str], size: int, good: bool) -> None:
    path = write("#" * size)
    if good:
        assert len(read_source(path).text) == size
    else:
        assert refusal(path) == f"{path}: cannot be read: it is larger than 1024 KiB; name a YAML file"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_encodings(write: Callable[[str | bytes], str], encoding: str) -> None:
    path = write("\ufeffa: 1".encode(encoding))
    assert refusal(path) == f"{path}: the text is UTF-16; save it as UTF-8"


def test_latin_1_is_told_where(write: Callable[[str | bytes], str]) -> None:
    path = write("a: 1\nb: 'gr\u00fcn'".encode("latin-1"))
    assert refusal(path).splitlines() == [
        f"{path}:2:7: byte 0xfc is not UTF-8; save the file as UTF-8",
        "    b: 'gr",
        "          ^",
    ]


@pytest.mark.parametrize("byte", range(0x80, 0x100, 9))
def test_behind_a_byte_order_mark_it_is_told_too(write: Callable[[str | bytes], str], byte: int) -> None:
    path = write(b"\xef\xbb\xbfa" + bytes([byte]) + b"b")
    assert refusal(path).splitlines()[0].startswith(f"{path}:1:2: byte 0x{byte:02x} is not UTF-8; ")


def test_a_place_is_counted_as_yaml_counts(write: Callable[[str | bytes], str]) -> None:
    source = read_source(write("a\r\nb\rc\nde"))
    assert [(place_at(source, i).line, place_at(source, i).column) for i in (0, 3, 5, 7, 8)] == [
        (1, 1), (2, 1), (3, 1), (4, 1), (4, 2),
    ]  # fmt: skip
