from __future__ import annotations

from dataclasses import replace

from proxy.core.differences import differences, waiting
from proxy.core.snapshot import Bind, Cluster, Dns, Listener, Mode, Snapshot

API = Cluster("api", ())
WEB = Listener("web", (Bind("127.0.0.1", 80),), Mode.FORWARD, API)
BEFORE = Snapshot((WEB,), {"api": API})


def test_the_same_is_no_difference() -> None:
    assert differences(BEFORE, Snapshot((replace(WEB),), {"api": replace(API)})) == []
    assert waiting(BEFORE, BEFORE) == []


def test_everything_that_differs_is_named() -> None:
    changed = replace(API, warm_up=False)
    after = Snapshot(
        (replace(WEB, cluster=changed), replace(WEB, name="new")),
        {"api": changed, "other": API},
        dns=Dns(ttl=1.0),
        drain=1.0,
        tfo_keys=(b"k" * 16,),
    )
    assert differences(BEFORE, after) == [
        "listener web", "new listener new", "cluster api", "new cluster other", "dns", "drain", "tfo_keys",
    ]  # fmt: skip
    assert differences(after, BEFORE)[1] == "no listener new"
    assert waiting(BEFORE, after) == []


def test_what_only_a_new_program_can_have_is_named() -> None:
    before = replace(BEFORE, tfo_keys=(b"k" * 16,))
    after = replace(BEFORE, workers=2, user="nobody")
    assert waiting(before, after) == ["tfo_keys", "workers", "user"]
