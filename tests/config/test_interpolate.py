from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.config import interpolate
from proxy.config.interpolate import BadReference, escape, expand


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOST", "db.example.com")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr(interpolate, "_SECRETS", str(tmp_path / "run-secrets"))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expanded", "foreign"),
    [
        ("plain", "plain", False),
        ("${HOST}", "db.example.com", True),
        ("${env:HOST}:80", "db.example.com:80", True),
        ("a${HOST}b${HOST}c", "adb.example.combdb.example.comc", True),
        ("${HOST:-other}", "db.example.com", True),
        ("${UNSET:-other}", "other", False),
        ("${env:UNSET:-other}", "other", False),
        ("${EMPTY:-other}", "other", False),
        ("${UNSET:-}", "", False),
        ("${UNSET:-a:b-c$d}", "a:b-c$d", False),
        ("${EMPTY}", "", True),
        ("$$", "$", False),
        ("$${HOST}", "${HOST}", False),
        ("$$$${HOST}", "$${HOST}", False),
        ("$$${HOST}", "$db.example.com", True),
        ("$HOST", "$HOST", False),
        ("$scrypt$ln=16$x", "$scrypt$ln=16$x", False),
        ("cost: 5$", "cost: 5$", False),
    ],
)
def test_expand(text: str, expanded: str, foreign: bool) -> None:
    assert expand(text) == (expanded, foreign)


@pytest.mark.parametrize("text", ["", "$", "$$", "${HOST}", "a$b", "$$${x", "}${"])
def test_escape_is_undone_by_expand(text: str) -> None:
    assert expand(escape(text)) == (text, False)


@pytest.mark.parametrize(
    ("text", "reference", "says"),
    [
        (
            "x${UNSET}",
            "${UNSET}",
            "the environment variable UNSET is not set; set it, or write ${UNSET:-default}",
        ),
        ("${env:UNSET}", "${env:UNSET}", "the environment variable UNSET is not set"),
        ("a ${HOST", "${HOST", "no closing brace"),
        ("${", "${", "no closing brace"),
        ("${}", "${}", "not a reference; write ${NAME}"),
        ("${9}", "${9}", "not a reference"),
        ("${a b}", "${a b}", "not a reference"),
        ("${HOST-x}", "${HOST-x}", "not a reference"),
        ("${vault:x}", "${vault:x}", "not a reference"),
        ("${file:}", "${file:}", "no path is given"),
        ("${file:/nonexistent/x}", "${file:/nonexistent/x}", "/nonexistent/x cannot be read: No such file"),
        ("${file:/}", "${file:/}", "Is a directory"),
        ("${file:/dev/zero}", "${file:/dev/zero}", "not a regular file"),
    ],
)
def test_what_cannot_be_resolved(text: str, reference: str, says: str) -> None:
    with pytest.raises(BadReference) as caught:
        expand(text)
    assert caught.value.reference == reference
    assert says in str(caught.value)


def test_a_file_loses_the_line_ends_at_its_end_and_nothing_else(environment: Path) -> None:
    path = environment / "x"
    path.write_bytes(b"\xef\xbb\xbf two words \r\n\n")
    assert expand(f"<${{file:{path}}}>") == ("< two words >", True)


def test_a_relative_name_is_a_credential_of_systemd_or_a_secret_of_the_container(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("run-secrets", "credentials"):
        (environment / folder).mkdir()
        (environment / folder / "both").write_text(folder)
    (environment / "run-secrets" / "only").write_text("secret")
    assert expand("${file:both}").text == "run-secrets"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(environment / "credentials"))
    assert expand("${file:both}").text == "credentials"
    assert expand("${file:only}").text == "secret"
    with pytest.raises(
        BadReference, match=r"credentials/none or .*run-secrets/none cannot be read: No such file"
    ):
        expand("${file:none}")


@pytest.mark.parametrize(
    ("content", "says"), [(b"\xff\xfe", "is not UTF-8 text"), (b"x" * 65_537, "larger than 64 KiB")]
)
def test_files_that_hold_no_value(environment: Path, content: bytes, says: str) -> None:
    path = environment / "x"
    path.write_bytes(content)
    with pytest.raises(BadReference, match=says):
        expand(f"${{file:{path}}}")


def test_a_fifo_is_not_waited_for(environment: Path) -> None:
    os.mkfifo(environment / "fifo")
    with pytest.raises(BadReference, match="not a regular file"):
        expand(f"${{file:{environment / 'fifo'}}}")


def test_what_a_reference_brings_is_not_expanded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTER", "${HOST}$$")
    assert expand("${OUTER}").text == "${HOST}$$"


def test_the_files_that_a_text_refers_to(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = environment / "run-secrets"
    text = "a: ${file:/run/a}\nb: '${file:b}' # $${file:/no} ${HOST} ${file:} ${file:/run/a}\nc: ${file:/open"
    assert interpolate.files_in(text) == ("/run/a", str(secrets / "b"), "/open")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/cred")
    assert interpolate.files_in("${file:b}") == ("/cred/b", str(secrets / "b"))
