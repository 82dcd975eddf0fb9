"""Beside the event loop: what grows with what one caller sends is done in a thread, so that no other call, no deadline
and no `ping` waits for it.

One thing at a time, however many callers send what is large: each thread that works takes its turn at Python's one
lock, and the loop would wait for all of them. What is done here is plain Python, between whose steps the loop comes in;
nothing in it is one long step of C over all that was sent.
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
_STOP_S = 1.0  # for a loop to come to its end: what is on it may be in a long step


async def beside(function: Callable[..., _T], *args: Any) -> _T:
    """What the function returns, called in a thread. A cancellation is not kept waiting for it; but the next one is,
    so that calls that are given up at once leave no more than one thread at work."""
    turns, threads = _limiters()
    loop, job = asyncio.get_running_loop(), object()
    await turns.acquire_on_behalf_of(job)

    def done() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(turns.release_on_behalf_of, job)

    taken = threading.Lock()  # by the thread that does it, or by whoever gives it up before that

    def work() -> _T:
        if not taken.acquire(blocking=False):
            raise RuntimeError("nobody waits for it any more")
        try:
            return function(*args)
        finally:
            done()

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


async def done(function: Callable[..., _T], *args: Any, is_large: bool) -> _T:
    """The same, where it is for something large; else what it returns at once."""
    return await beside(function, *args) if is_large else function(*args)


class Aside:
    """An event loop in a thread of its own, which begins with the first that is run on it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def is_running(self) -> bool:
        return self._loop is not None

    async def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """What the coroutine returns. Where this is cancelled, so is that, which is not waited for."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._begun()))

    def _begun(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon, so that a process told to end does not wait for it.
                self._thread = threading.Thread(target=self._loop.run_forever, name="aside", daemon=True)
                self._thread.start()
            return self._loop

    def stop(self) -> None:
        """End the loop, and what is still on it."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_S)
        if not thread.is_alive():
            loop.close()


class Shared(TTLCache[_K, _V]):
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
