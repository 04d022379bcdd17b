"""The prober's payloads and single trials; whole probes are in tests/commands/test_probe.py."""

from __future__ import annotations

import resource
import socket

import pytest

from proxy.core import replay
from proxy.core.address import Endpoint
from proxy.core.outcomes import Reason
from proxy.core.verdict import Abilities, Load, Trial, Verdict
from proxy.net.upstream import DialFailed
from proxy.probe import LARGE, Payload, http_payload, probe, tls_payload


@pytest.mark.parametrize(
    "payload", [http_payload("example.com"), tls_payload("example.com"), tls_payload("192.0.2.1")]
)
def test_the_payloads_may_be_sent_twice_and_have_their_sizes(payload: Payload) -> None:
    for data in (payload.small, payload.large):
        assert replay.safe_prefix(data) == len(data)
    assert len(payload.small) <= 1200
    assert LARGE <= len(payload.large) <= LARGE + 400


def test_what_there_is_to_send() -> None:
    assert Payload().abilities == Abilities(small=False, large=False)
    assert Payload(b"x").abilities == Abilities(small=True, large=False)
    assert Payload(b"x", b"y" * 10).abilities == Abilities(small=True, large=False)
    assert Payload(b"x" * 2000).abilities == Abilities(small=True, large=True)
    assert Payload(b"x" * 1300).of(Load.SMALL) == b"x" * 1300


async def test_each_trial_is_told_and_every_socket_closed() -> None:
    heard: list[Trial] = []
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        report = await probe(Endpoint("127.0.0.1", nobody.getsockname()[1]), Payload(), 1.0, heard.append)
    assert report.verdict is Verdict.REFUSED
    assert report.trials == heard
    assert [trial.failure for trial in heard] == [Reason.REFUSED] * 2
    assert report.rtt is None


async def test_what_we_lack_ourselves_is_no_verdict() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        resource.setrlimit(resource.RLIMIT_NOFILE, (listener.fileno() + 1, hard))
        try:
            with pytest.raises(DialFailed) as failed:
                await probe(Endpoint("127.0.0.1", listener.getsockname()[1]), Payload(), 1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failed.value.reason is Reason.NO_DESCRIPTORS
