"""Who serves the connections of a listening socket, and how many at once; what a reload changes is in test_worker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.limits import Caps
from proxy.core.patience import Patience
from proxy.core.snapshot import Cluster, FarSide, Listener, Mode
from proxy.service.admission import Admission
from proxy.service.post import Post
from proxy.sessions.arriving import ArrivingSession
from proxy.sessions.asking import AskingSession
from proxy.sessions.session import Session
from tests.serving import Recorder

PLAIN = Listener("web", (), Mode.FORWARD, Cluster("api", ()))
FAR = replace(PLAIN, mode=Mode.TUNNEL, far_side=FarSide((b"k" * 32,)))


def admission(inside: int = 0) -> Admission:
    return Admission(Caps(), None, Recorder(), lambda: inside, lambda *_: None)


@pytest.mark.parametrize(
    ("listener", "kind"),
    [(PLAIN, Session), (replace(PLAIN, mode=Mode.SOCKS), AskingSession), (FAR, ArrivingSession)],
)
def test_the_kind_of_session_is_the_listeners(listener: Listener, kind: type[Session]) -> None:
    doors = admission()
    post = Post(PLAIN, Patience(), doors.door(PLAIN))
    post.follow(listener, Patience(), doors.door(listener))
    assert post.kind is kind


def test_who_is_counted_comes_in_one_by_one() -> None:
    doors = admission()
    free = Post(PLAIN, Patience(), doors.door(PLAIN))
    assert free.room() > 1
    assert free.pause() == 0.0
    limited = replace(PLAIN, limits=Caps(connections=1))
    post = Post(limited, Patience(), doors.door(limited))
    assert post.room() == 1
    post.door.gate.enter(0.0)
    assert post.room() == 0
    assert post.pause() > 0.0
    post.held()


def test_without_descriptors_nobody_comes_in() -> None:
    doors = admission(inside=1 << 30)
    post = Post(PLAIN, Patience(), doors.door(PLAIN))
    assert post.room() == 0
    assert post.pause() > 0.0
