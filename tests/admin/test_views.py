from __future__ import annotations

import inspect

import msgspec
import pytest

from proxy.admin import views

STRUCTS = [
    view
    for _, view in inspect.getmembers(views, inspect.isclass)
    if issubclass(view, msgspec.Struct) and view is not msgspec.Struct
]


@pytest.mark.parametrize("view", STRUCTS, ids=lambda view: view.__name__)
def test_every_view_says_what_it_is_and_cannot_be_changed(view: type[msgspec.Struct]) -> None:
    assert view.__doc__
    assert view.__doc__.endswith(".")
    assert view.__struct_config__.frozen


@pytest.mark.parametrize("view", STRUCTS, ids=lambda view: view.__name__)
def test_fields_may_be_added(view: type[msgspec.Struct]) -> None:
    """Who reads a newer program's answer skips what he does not know; orders are taken at their word."""
    assert view.__struct_config__.forbid_unknown_fields is (view is views.Level)


def test_what_has_no_value_is_left_out_of_a_session() -> None:
    session = views.Session(id="x-1", listener="web", client="192.0.2.1:1", cluster="api", began=1.0)
    assert msgspec.to_builtins(session) == {
        "id": "x-1",
        "listener": "web",
        "client": "192.0.2.1:1",
        "cluster": "api",
        "began": 1.0,
    }


def test_only_known_levels() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"level": "loud"}', type=views.Level)
