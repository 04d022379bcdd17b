"""The reference of the API is what the structs say."""

from __future__ import annotations

import msgspec
import pytest

from docs.write_admin import PAGE, write
from proxy.admin import views

STRUCTS = [
    value for value in vars(views).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)
]


def test_the_page_is_what_the_structs_say() -> None:
    assert PAGE.read_text() == write(), "run `python -m docs.write_admin`"


@pytest.mark.parametrize("struct", [one for one in STRUCTS if one is not msgspec.Struct])
def test_every_field_is_told(struct: type[msgspec.Struct]) -> None:
    page = write()
    section = page.partition(f"\n### {struct.__name__}\n")[2].partition("\n### ")[0]
    assert section
    assert all(f"| `{name}` |" in section for name in struct.__struct_fields__)


def test_every_path_is_told() -> None:
    page = write()
    for path in (
        "status",
        "listeners",
        "clusters",
        "endpoints",
        "sessions",
        "config",
        "events",
        "reload",
        "drain",
    ):
        assert f"/api/v1/{path}" in page
    assert "[Status](#status)" in page
