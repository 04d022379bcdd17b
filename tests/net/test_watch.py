from __future__ import annotations

import os
import socket
import time
from functools import partial

import pytest
import trio
import trio.lowlevel

from proxy.net.watch import BROKEN, EDGE, FAULT, HUNG_UP, READ, URGENT, WRITE, Bell, LoopTimer
from tests.net.pairs import pair, reset
from tests.net.watching import watching
from tests.serving import nothing_stalls


async def told(events: list[int]) -> int:
    """The next event that is noticed."""
    with trio.fail_after(30):
        while not events:  # noqa: ASYNC110  # the handler is what is tested
            await trio.sleep(0.001)
    return events.pop(0)


async def test_a_handler_is_told_once_for_each_edge() -> None:
    events: list[int] = []
    async with watching() as watch:
        with pair() as (ours, peer):
            watch.add(ours.fileno(), READ | EDGE, events.append)
            await trio.sleep(0.02)
            assert not events
            peer.sendall(b"x")
            assert await told(events) & READ
            await trio.sleep(0.02)
            assert not events, "the same byte is not told again"
            peer.sendall(b"y")
            assert await told(events) & READ
            watch.forget(ours.fileno())


async def test_what_is_the_case_already_is_told() -> None:
    events: list[int] = []
    async with watching() as watch:
        with pair() as (ours, peer):
            peer.sendall(b"x")
            watch.add(ours.fileno(), READ | EDGE, events.append)
            assert await told(events) & READ
            watch.change(ours.fileno(), READ | WRITE | EDGE)
            again = await told(events)
            assert again & WRITE
            assert again & READ


@pytest.mark.parametrize("rude", [False, True])
async def test_an_end_and_a_reset_are_told_apart(rude: bool) -> None:
    events: list[int] = []
    async with watching() as watch:
        with pair() as (ours, peer):
            watch.add(ours.fileno(), READ | EDGE, events.append)
            if rude:
                reset(peer)
            else:
                peer.close()
            event = await told(events)
            assert event & HUNG_UP
            assert bool(event & BROKEN) is rude
            assert bool(event & FAULT) is rude


async def test_when_both_have_ended_in_order_it_is_no_fault() -> None:
    events: list[int] = []
    async with watching() as watch:
        with pair() as (ours, peer):
            ours.shutdown(socket.SHUT_WR)
            peer.close()
            watch.add(ours.fileno(), READ | EDGE, events.append)
            event = await told(events)
            assert event & BROKEN
            assert not event & FAULT


async def test_a_removed_descriptor_is_quiet_and_may_come_back() -> None:
    events: list[int] = []
    async with watching() as watch:
        with pair() as (ours, peer):
            watch.add(ours.fileno(), READ | EDGE, events.append)
            watch.remove(ours.fileno())
            peer.sendall(b"x")
            await trio.sleep(0.02)
            assert not events
            watch.add(ours.fileno(), READ | EDGE, events.append)
            assert await told(events)


async def test_a_handler_may_close_a_descriptor_that_is_due_in_the_same_round() -> None:
    seen: list[str] = []
    async with watching() as watch:
        with pair() as (one, its_peer), pair() as (other, others_peer):

            def close(mine: socket.socket, victim: socket.socket, name: str) -> None:
                seen.append(name)
                watch.forget(victim.fileno())
                victim.close()

            watch.add(one.fileno(), READ | EDGE, lambda _: close(one, other, "one"))
            watch.add(other.fileno(), READ | EDGE, lambda _: close(other, one, "other"))
            its_peer.sendall(b"x")
            others_peer.sendall(b"x")
            await trio.sleep(0.05)
    assert len(seen) == 1


async def test_a_descriptor_number_may_be_used_again() -> None:
    first: list[int] = []
    second: list[int] = []
    async with watching() as watch:
        with pair() as (ours, peer), pair() as (other, others_peer):
            number = ours.fileno()
            watch.add(number, READ | EDGE, first.append)
            watch.forget(number)
            os.dup2(other.fileno(), number)  # closes the first socket, as close() would, and takes its number
            watch.add(number, READ | EDGE, second.append)
            others_peer.sendall(b"x")
            assert await told(second)
            peer.close()
            watch.forget(number)
    assert not first


async def test_again_comes_after_what_is_due() -> None:
    order: list[str] = []
    async with watching() as watch:
        with pair() as (ours, peer):
            watch.add(ours.fileno(), READ | EDGE, lambda _: order.append("event"))
            peer.sendall(b"x")

            def twice() -> None:
                order.append("again")
                if order.count("again") < 3:
                    watch.again(twice)

            watch.again(twice)
            peer.sendall(b"y")
            await trio.sleep(0.05)
    assert order.count("again") == 3
    assert "event" in order


async def test_the_epoll_descriptor_is_closed_at_the_end() -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with watching():
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before


async def test_descriptors_may_be_given_back_after_the_end() -> None:
    with pair() as (ours, peer):
        async with watching() as watch:
            watch.add(ours.fileno(), READ | EDGE, lambda _: None)
        watch.change(ours.fileno(), WRITE)
        watch.remove(ours.fileno())
        watch.add(peer.fileno(), READ, lambda _: None)


# Bell


async def test_rings_before_the_wait_are_not_missed() -> None:
    bell = Bell()
    bell.ring(3, 1)
    bell.ring(4, 2)
    assert await bell.wait() == [(3, 1), (4, 2)]
    assert await bell.wait_until(trio.current_time() + 0.01) == []


async def test_a_ring_wakes_the_one_who_waits() -> None:
    bell = Bell()
    async with trio.open_nursery() as nursery:

        async def ring() -> None:
            await trio.sleep(0.01)
            bell.ring(5, 0)
            bell.ring(6, 0)

        nursery.start_soon(ring)
        assert await bell.wait() == [(5, 0), (6, 0)]


@pytest.mark.autojump
async def test_a_wait_ends_at_its_deadline_and_the_bell_can_be_used_again() -> None:
    bell = Bell()
    started = trio.current_time()
    assert await bell.wait_until(started + 3) == []
    assert trio.current_time() == started + 3
    bell.ring(1, 1)
    assert await bell.wait() == [(1, 1)]


@pytest.mark.autojump
async def test_a_cancelled_wait_leaves_the_bell_usable() -> None:
    bell = Bell()
    with trio.move_on_after(1) as scope:
        await bell.wait()
    assert scope.cancelled_caught
    bell.ring(1, 1)
    assert await bell.wait() == [(1, 1)]


async def test_a_socket_that_lives_on_under_another_number_does_not_haunt_its_old_one() -> None:
    old: list[int] = []
    new: list[int] = []
    async with watching() as watch:
        with pair() as (ours, peer), pair() as (next_ours, _next_peer):
            number = ours.fileno()
            watch.add(number, READ | EDGE, old.append)
            with ours.dup():
                watch.let_go(number)
                ours.close()
                assert os.dup2(next_ours.fileno(), number) == number  # the number is another session's
                watch.add(number, READ | EDGE, new.append)
                peer.sendall(b"x")
                peer.close()
                await trio.sleep(0.02)
                assert (old, new) == ([], [])
                watch.forget(number)
                os.close(number)


async def test_what_a_handler_raises_is_not_the_end_of_the_others() -> None:
    events: list[int] = []
    faults: list[Exception] = []

    def wrong(_events: int) -> None:
        raise ZeroDivisionError

    def wrong_again() -> None:
        raise KeyError

    async with watching() as watch:
        watch.fault = faults.append
        with pair() as (ours, peer), pair() as (others, other_peer):
            watch.add(ours.fileno(), READ | EDGE, wrong)
            watch.add(others.fileno(), READ | EDGE, events.append)
            peer.sendall(b"x")
            other_peer.sendall(b"x")
            assert await told(events) & READ
            watch.again(wrong_again)
            other_peer.sendall(b"x")
            assert await told(events) & READ
        assert [type(fault) for fault in faults] == [ZeroDivisionError, KeyError]


async def test_what_cannot_be_watched_has_no_handler() -> None:
    async with watching() as watch:
        with pytest.raises(OSError, match="Bad file descriptor"):
            watch.add(99_999, READ, lambda _: None)
        assert not watch._handlers


async def test_who_adds_a_descriptor_that_is_watched_takes_it_over() -> None:
    before: list[int] = []
    events: list[int] = []
    async with watching() as watch:
        with pair() as (ours, peer):
            watch.add(ours.fileno(), READ | EDGE, before.append)
            peer.sendall(b"x")
            assert await told(before) & READ
            watch.add(ours.fileno(), READ | EDGE, events.append)
            assert await told(events) & READ, "what is the case already is told again"
            peer.sendall(b"x")
            assert await told(events) & READ
            assert not before
            watch.forget(ours.fileno())


async def test_who_takes_the_place_of_a_closed_descriptor_is_not_told_of_it() -> None:
    """In one round: the first handler closes the second's socket, and opens another of the same number."""
    told_of: list[int] = []
    async with watching() as watch:
        with pair() as (one, one_peer), pair() as (two, two_peer), pair() as (three, three_peer):
            numbers = one.fileno(), two.fileno()
            seen: list[int] = []

            def first(other: socket.socket, events: int) -> None:
                if seen:
                    return
                seen.append(events)
                number = other.fileno()
                watch.forget(number)
                other.close()
                os.dup2(three.fileno(), number)
                watch.add(number, READ | EDGE, told_of.append)

            watch.add(numbers[0], READ | EDGE, partial(first, two))
            watch.add(numbers[1], READ | EDGE, partial(first, one))
            one_peer.sendall(b"x")
            reset(two_peer)
            with trio.fail_after(30):
                while not seen:  # noqa: ASYNC110  # the handler is what is tested
                    await trio.sleep(0.001)
            await trio.sleep(0.02)
            assert not told_of
            three_peer.sendall(b"x")
            assert await told(told_of) == READ & ~URGENT & ~HUNG_UP
            taken = numbers[1] if one.fileno() >= 0 else numbers[0]
            watch.let_go(taken)
            os.close(taken)
            for sock in (one, two):
                if sock.fileno() >= 0:
                    watch.let_go(sock.fileno())


async def test_after_each_round_it_is_told_once() -> None:
    order: list[object] = []
    async with watching() as watch:
        watch.after = lambda: order.append("after")
        with pair() as (ours, peer), pair() as (other, else_peer):
            for sock in (ours, other):
                watch.add(sock.fileno(), READ | EDGE, lambda _: order.append(watch.busy))
            peer.sendall(b"x")
            else_peer.sendall(b"y")
            with trio.fail_after(30):
                while order.count(True) < 2 or order[-1] != "after":  # noqa: ASYNC110  # as above
                    await trio.sleep(0.001)
            assert not watch.busy
            watch.again(lambda: order.append(watch.busy))
            order.clear()
            peer.sendall(b"z")
            with trio.fail_after(30):
                while order.count(True) < 2 or order[-1] != "after":  # noqa: ASYNC110  # as above
                    await trio.sleep(0.001)
            watch.forget(ours.fileno(), other.fileno())
    assert False not in order


async def test_the_loop_timer_counts_what_keeps_the_loop_and_no_waits() -> None:
    timer = LoopTimer()
    trio.lowlevel.add_instrument(timer)
    await trio.lowlevel.checkpoint()
    time.sleep(0.06)  # noqa: ASYNC251  # what it is about
    await trio.sleep(0.1)
    time.sleep(0.09)  # noqa: ASYNC251  # as above
    await trio.sleep(0.07)
    trio.lowlevel.remove_instrument(timer)
    assert timer.stalls == 2
    assert 0.09 <= timer.longest < 5
    assert 0.15 <= timer.stalled < 5


async def test_tests_can_say_that_nothing_stalls() -> None:
    with nothing_stalls():
        for _ in range(10):
            await trio.sleep(0.01)
    with pytest.raises(AssertionError, match="the loop was kept for"), nothing_stalls():
        await trio.lowlevel.checkpoint()
        time.sleep(0.06)  # noqa: ASYNC251  # as above
        await trio.lowlevel.checkpoint()
