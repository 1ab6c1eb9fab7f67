"""Threads share the memory that decoding takes."""

import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from ml.errors import MemoryBusy, UnreadableImage
from ml.imaging import Room
from tests.waiting import wait_until


def run(*works: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    return threads


def finished(threads: list[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(timeout=20)
    return not any(thread.is_alive() for thread in threads)


def test_room_is_shared_and_never_exceeded() -> None:
    room, held, most = Room(100), 0, 0
    counting = threading.Lock()

    def work(wanted: int) -> Callable[[], None]:
        def one() -> None:
            nonlocal held, most
            with room.taken(wanted):
                with counting:
                    held += wanted
                    most = max(most, held)
                with counting:
                    held -= wanted

        return one

    assert finished(run(*[work(size) for size in [60, 50, 100, 10] * 20]))
    assert held == 0
    assert most <= 100


def test_what_is_larger_than_all_of_it_is_refused_at_once() -> None:
    room = Room(100)
    with pytest.raises(UnreadableImage) as caught, room.taken(60), room.taken(41):
        pass
    assert caught.value.code == "too_many_pixels"
    with room.taken(100):  # nothing was kept
        pass


def test_who_waits_for_too_long_is_told_so() -> None:
    room = Room(100, patience=0.05)
    told = threading.Event()

    def second() -> None:
        with pytest.raises(MemoryBusy), room.taken(50):
            pass
        told.set()

    with room.taken(60):
        assert finished(run(second))
    assert told.is_set()
    with room.taken(100):
        pass


def test_a_large_one_is_not_kept_waiting_by_small_ones_behind_it() -> None:
    room, order = Room(100), []

    def work(size: int) -> Callable[[], None]:
        def one() -> None:
            with room.taken(size):
                order.append(size)

        return one

    with ExitStack() as held:
        held.enter_context(room.taken(60))
        threads = run(work(90))
        wait_until(lambda: room.waiting == 1, seconds=5, what="the large one")
        threads += run(work(10))
        wait_until(lambda: room.waiting == 2, seconds=5, what="the small one")
    assert finished(threads)
    assert order == [90, 10]


def test_a_thread_takes_more_beside_what_it_holds_before_others_begin() -> None:
    room, order = Room(100, patience=10), []
    holding = threading.Barrier(2)

    def grows() -> None:
        with room.taken(50):
            holding.wait()
            with room.taken(50):
                order.append("grown")

    def begins() -> None:
        with room.taken(30):
            order.append("begun")

    with ExitStack() as held:
        held.enter_context(room.taken(40))
        threads = run(grows)
        holding.wait()
        wait_until(lambda: room.waiting == 1, seconds=5, what="the one that grows")
        threads += run(begins)
        wait_until(lambda: room.waiting == 2, seconds=5, what="the one that begins")
    assert finished(threads)
    assert order == ["grown", "begun"]


def test_threads_that_wait_for_one_another_all_end() -> None:
    room, ended = Room(100, patience=15), []
    both_hold = threading.Barrier(2)

    def grows() -> None:
        with room.taken(45):
            both_hold.wait()
            with room.taken(50):
                ended.append(True)

    assert finished(run(grows, grows))
    assert len(ended) == 2
    with room.taken(100):
        pass


def test_room_is_given_back_by_whichever_thread_lets_go() -> None:
    room, held = Room(100, patience=1), ExitStack()
    assert finished(run(lambda: held.enter_context(room.taken(100))))
    held.close()
    with room.taken(100):
        pass
