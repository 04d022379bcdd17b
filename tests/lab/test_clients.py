"""The lab's yardstick on plain loopback: bytes, errors, and never an exception."""

from __future__ import annotations

import errno
import socket
import threading

import pytest

from proxy.lab.behaviours import answers, never_answers, resets, speaks_first
from proxy.lab.clients import ask
from proxy.lab.wan import Wan

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.02)]


@pytest.mark.parametrize("fast_open", [False, True])
def test_a_closed_port(fast_open: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    asked = ask(address, b"x", fast_open=fast_open)
    assert (asked.error, asked.error_name, asked.connected) == (errno.ECONNREFUSED, "ECONNREFUSED", None)
    assert (asked.reply, asked.first_byte) == (b"", None)


def test_a_server_that_ends_without_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def end() -> None:
            accepted, _ = listener.accept()
            accepted.close()

        thread = threading.Thread(target=end)
        thread.start()
        asked = ask(listener.getsockname(), b"", fast_open=False)
        thread.join()
    assert (asked.reply, asked.error) == (b"", 0)
    assert asked.connected is not None
    assert asked.source[0] == "127.0.0.1"


def test_as_much_is_read_as_is_expected(wan: Wan) -> None:
    assert ask(wan.serve(speaks_first(b"12345")).address, b"", expect=5).reply == b"12345"
    asked = ask(wan.serve(answers(b"1", closes=True)).address, b"x", expect=5)
    assert (asked.reply, asked.error) == (b"1", 0)


def test_times_are_from_when_the_dial_began(wan: Wan) -> None:
    rtts = []
    for _ in range(8):  # of which the quickest tells how far it is
        asked = ask(wan.serve(answers()).address, b"x", fast_open=False)
        assert asked.connected is not None
        assert asked.first_byte is not None
        assert wan.rtt <= asked.connected <= asked.first_byte
        assert (asked.in_syn, asked.syn_data_acked) == (None, False)
        rtts.append(asked.rtt)
    assert min(rtts) == pytest.approx(wan.rtt, abs=0.01)


def test_what_goes_wrong_later(wan: Wan) -> None:
    silent = ask(wan.serve(never_answers()).address, b"x", timeout=1.5)
    assert silent.error_name == "ETIMEDOUT"
    assert silent.connected is not None
    assert ask(wan.serve(resets()).address, b"x").error_name == "ECONNRESET"
