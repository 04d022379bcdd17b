from __future__ import annotations

import pytest

from proxy.config.cluster_schema import Cluster, ClusterDefaults
from proxy.config.fill import shape_of, shorthand
from proxy.core import clusters


@pytest.mark.parametrize("key", [key.name for key in shape_of(ClusterDefaults).fields])
def test_every_key_is_one_of_a_cluster(key: str) -> None:
    assert key in {"via", "proxy_protocol"} or key in clusters.Cluster.__dataclass_fields__


def test_what_stands_for_a_whole() -> None:
    endpoints = next(key for key in shape_of(Cluster).fields if key.name == "endpoints")
    assert endpoints.required
    assert shorthand(shape_of(Cluster)) is None
