"""Work beside the event loop: one piece at a time, and nobody waits for work that was given up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from konstruct_mcp.core.threads import LoopThread, in_own_thread, in_thread, in_thread_if_large


async def test_what_is_large_is_done_in_a_thread_and_what_is_not_here() -> None:
    here = threading.get_ident()
    assert await in_thread_if_large(threading.get_ident, is_large=False) == here
    assert await in_thread_if_large(threading.get_ident, is_large=True) != here


async def test_an_error_in_the_thread_comes_out_and_the_next_has_its_turn() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "none")
    assert await in_thread(int, "7") == 7


async def test_a_cancelled_call_does_not_wait_and_the_next_one_does() -> None:
    began, goes_on = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        goes_on.wait(10)

    given_up = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(began.wait, 10)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    following = asyncio.create_task(in_thread(int, "7"))
    await asyncio.sleep(0)
    assert not following.done()
    goes_on.set()
    async with asyncio.timeout(10):
        assert await following == 7


async def test_nobody_waits_for_what_hangs_in_a_thread_of_its_own() -> None:
    """A read from a disk that is away: its caller goes at its deadline, and other work goes on meanwhile."""
    goes_on, ended = threading.Event(), asyncio.Event()

    def hang() -> bool:
        assert threading.current_thread().daemon  # nor does the end of the process wait for it
        return goes_on.wait(30)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_own_thread(hang, ended.set)
    assert await in_own_thread(lambda: 7, lambda: None) == 7
    assert await in_thread(int, "8") == 8
    with pytest.raises(ZeroDivisionError):
        await in_own_thread(lambda: 1 // 0, lambda: None)
    assert not ended.is_set()
    goes_on.set()
    async with asyncio.timeout(10):
        await ended.wait()


async def test_a_loop_of_its_own_starts_with_the_first_coroutine_and_can_start_again() -> None:
    loop = LoopThread()

    async def where() -> int:
        return threading.get_ident()

    assert not loop.is_running
    for _ in range(2):
        assert await loop.run(where()) != threading.get_ident()
        loop.stop()
        assert not loop.is_running
    loop.stop()
