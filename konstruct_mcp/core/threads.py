"""Work beside the event loop: what takes long, because one caller sent something large, runs in a thread.

So no other call, no deadline and no `ping` waits for it. One piece of work runs at a time, however many callers send
something large: every working thread competes for Python's one lock, and the loop would wait for all of them. The work
must be plain Python, between whose steps the loop gets its turn, and not one long step of C over all that was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar
from cachetools import TTLCache

_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")

_turns: RunVar[anyio.CapacityLimiter] = RunVar("turns")
_threads: RunVar[anyio.CapacityLimiter] = RunVar("threads")
_STOP_S = 1.0  # for a loop to stop: what runs on it may be in a long step


async def in_thread(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function in a thread and return its result.

    A cancelled caller does not wait for the thread to finish, but the next piece of work does: however many calls are
    given up, one thread is at work.
    """
    turns, threads = _limiters()
    loop, job = asyncio.get_running_loop(), object()
    await turns.acquire_on_behalf_of(job)

    def release() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(turns.release_on_behalf_of, job)

    taken = threading.Lock()  # by the thread that does the work, or by a caller that gives it up before

    def work() -> _T:
        if not taken.acquire(blocking=False):
            raise RuntimeError("nobody waits for it any more")
        try:
            return function(*args)
        finally:
            release()

    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=threads)
    finally:
        if taken.acquire(blocking=False):
            turns.release_on_behalf_of(job)


def _limiters() -> tuple[anyio.CapacityLimiter, anyio.CapacityLimiter]:
    try:
        return _turns.get(), _threads.get()
    except LookupError:
        made = anyio.CapacityLimiter(1), anyio.CapacityLimiter(float("inf"))
        _turns.set(made[0])
        _threads.set(made[1])
        return made


async def in_own_thread(function: Callable[[], _T], ended: Callable[[], None]) -> _T:
    """Call a function that may hang, as a read from a network's disk does, in a thread of its own.

    A cancelled caller does not wait for it, nor does anybody else, nor the end of the process.

    Args:
        ended: is called on the event loop when the thread has ended, however late.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        ended()
        if future.done():  # its caller has given it up
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # what the function has returned
        else:
            future.set_exception(error)

    def work() -> None:
        result: _T | None = None
        error: BaseException | None = None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    try:
        threading.Thread(target=work, name="beside the loop", daemon=True).start()
    except RuntimeError:  # there can be no more threads
        ended()
        raise
    return await future


async def in_thread_if_large(function: Callable[..., _T], *args: Any, is_large: bool) -> _T:
    """Call a function in a thread where it works on something large, else here and at once."""
    return await in_thread(function, *args) if is_large else function(*args)


class LoopThread:
    """An event loop in a thread of its own, which starts with the first coroutine that is run on it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def is_running(self) -> bool:
        return self._loop is not None

    async def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine there and return its result. A cancellation is passed on to it and not waited for."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._running_loop()))

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon, so that a process told to end does not wait for it.
                self._thread = threading.Thread(target=self._loop.run_forever, name="aside", daemon=True)
                self._thread.start()
            return self._loop

    def stop(self) -> None:
        """Stop the loop, and with it whatever still runs there."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_S)
        if not thread.is_alive():
            loop.close()


class LockedTTLCache(TTLCache[_K, _V]):
    """A cache that may be used in several threads."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._lock = threading.RLock()
        super().__init__(*args, **options)

    def __getitem__(self, key: _K) -> _V:
        with self._lock:
            return super().__getitem__(key)

    def __setitem__(self, key: _K, value: _V) -> None:
        with self._lock:
            super().__setitem__(key, value)

    def get(self, key: _K, default: Any = None) -> Any:
        with self._lock:
            return super().get(key, default)

    def pop(self, key: _K, *default: Any) -> Any:
        with self._lock:
            return super().pop(key, *default)
