from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.config import ConfigError
from proxy.config.endpoints import read_endpoints
from proxy.core.address import Authority, Endpoint

TWO = ((Endpoint("192.0.2.1", 80), 1), (Authority("b.example", 81), 5))


@pytest.mark.parametrize(
    "text",
    [
        "- 192.0.2.1:80\n- {address: 'b.example:81', weight: 5}\n",
        "endpoints: ['192.0.2.1:80', {address: 'b.example:81', weight: 5}]\n",
        '["192.0.2.1:80", {"address": "b.example:81", "weight": 5}, "srv:_a._tcp.b.example"]',
    ],
)
def test_lists_of_endpoints(write: Callable[[str], str], text: str) -> None:
    assert read_endpoints(write(text)) == TWO


@pytest.mark.parametrize(
    "text", ["", "nothing", "- 192.0.2.1\n", "- {adress: 'b:1'}\n", "endpoint: []", "- [", "- b:0"]
)
def test_what_is_no_list_of_endpoints(write: Callable[[str], str], text: str) -> None:
    with pytest.raises(ConfigError):
        read_endpoints(write(text))
