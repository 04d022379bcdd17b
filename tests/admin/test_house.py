from __future__ import annotations

from proxy.admin.house import Census, House
from proxy.config import load
from proxy.core.address import Endpoint
from proxy.service.supervisor import Supervisor
from tests.admin.house import SmallHouse
from tests.serving import Recorder


async def test_the_supervisor_is_a_house() -> None:
    """mypy says the same of its types; here, that nothing is missing."""
    asked = {name for name in dir(House) if not name.startswith("_")}
    supervisor = Supervisor(load(mixed=["127.0.0.1:0"]), Recorder(), None)
    assert asked <= set(dir(supervisor))
    assert asked <= set(dir(SmallHouse()))


def test_a_census_counts_by_way() -> None:
    census = Census({("web", "api", Endpoint("192.0.2.1", 1)): 2, ("web", "api", None): 1}, [])
    assert sum(census.by_way.values()) == 3
