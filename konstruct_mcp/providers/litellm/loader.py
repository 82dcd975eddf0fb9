"""Loads LiteLLM in a thread, since its import takes seconds."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

from konstruct_mcp.config.environment import lend, take_back
from konstruct_mcp.core.errors import InternalError, KonstructError

if TYPE_CHECKING:
    from konstruct_mcp.providers.litellm.engine import Engine

_log = logging.getLogger(__name__)
_loading = threading.Lock()  # LiteLLM's warm-up call must not run beside somebody else's first real one

_HEAD_START_S = 0.25  # of a server before LiteLLM is loaded, in which most clients have `initialize` and `tools/list`
# After a failure to load it, until that is tried again: an import that fails takes seconds of the processor too.
_LOAD_AGAIN_S, _LOAD_AGAIN_TIMES = 1.0, 4


class EngineLoader:
    """Makes one engine in a thread: once, and again some time after a failure.

    The environment variables of the config are set from then on until `aclose`.
    """

    def __init__(self, make: Callable[[], Engine], variables: Mapping[str, str]) -> None:
        """`make` is called in the thread; `variables` are the config's, which LiteLLM reads when it asks."""
        self._make = make
        self._variables = variables
        self._lender = object()  # of the variables
        self._made: Future[Engine] = Future()
        self._load_again_at = 0.0  # a reading of `time.monotonic`, where it has failed
        self._started = self._wanted = False
        self._is_urgent = threading.Event()  # whether a call waits for it

    @property
    def engine(self) -> Engine:
        """The engine, after `ready`."""
        if not self._made.done():
            raise InternalError("a provider was to be asked before LiteLLM was ready")
        return self._made.result()

    @property
    def is_started(self) -> bool:
        return self._started

    @property
    def is_ready(self) -> bool:
        return self._made.done() and self._made.exception() is None

    def start(self) -> None:
        """Begin to load, at once if a call waits for it and else in a moment; returns at once."""
        self._wanted = True
        if not self._started:
            self._started = True
            # A daemon, so that a process told to end does not wait for an import.
            threading.Thread(target=self._load, args=(self._made,), name="litellm", daemon=True).start()

    async def ready(self) -> None:
        """Wait until it is loaded.

        Raises:
            InternalError: it cannot be loaded.
        """
        if self.is_ready:
            return
        if self._made.done() and time.monotonic() >= self._load_again_at:  # what was missing may be there by now
            self._made, self._started = Future(), False
        self.start()
        self._is_urgent.set()
        try:
            # Shielded: the thread serves every call, and one that is cancelled must not cancel it for the others.
            await asyncio.shield(asyncio.wrap_future(self._made))
        except (asyncio.CancelledError, KonstructError):
            raise
        except BaseException:
            raise InternalError("LiteLLM cannot be loaded; the log says why; try again in a moment") from None

    def _load(self, made: Future[Engine]) -> None:
        began = time.monotonic()
        # A client waits for what it asks at the start, and an import beside that takes turns with it.
        self._is_urgent.wait(_HEAD_START_S)
        if not self._wanted:  # closed before it began
            made.set_exception(InternalError("LiteLLM is not loaded any more"))
            return
        try:
            with _loading:
                if self._wanted:
                    lend(self._lender, self._variables)
                engine = self._make()
                try:
                    engine.warm_up()
                except Exception:
                    said = "the warm-up call failed; the first call will be slow"
                    self._complain(logging.WARNING, said, exc_info=True)
            if engine.is_first and gc.get_freeze_count():
                gc.freeze()  # as a server does with all that it has imported; to look through it takes 0.1 s
        except BaseException as error:
            self._complain(logging.ERROR, "LiteLLM cannot be loaded: %r", error)
            took = time.monotonic() - began
            self._load_again_at = time.monotonic() + max(_LOAD_AGAIN_S, _LOAD_AGAIN_TIMES * took)
            made.set_exception(error)
            return
        made.set_result(engine)
        if not self._wanted:  # closed meanwhile, when there was nothing to close
            take_back(self._lender)
            engine.forget()

    def _complain(self, level: int, said: str, *about: object, exc_info: bool = False) -> None:
        """Log it, but not once this is closed: the process may be ending, in which no import and no thread succeeds."""
        if self._wanted:
            _log.log(level, said, *about, exc_info=exc_info)

    def take_over(self, earlier: EngineLoader) -> None:
        """Use and close the connections of an earlier one, which is asked no more. This one is `ready` if that is."""
        take_back(earlier._lender)
        if earlier.is_ready:
            self.engine.take_over(earlier.engine)
        else:
            earlier._wanted = False

    async def aclose(self) -> None:
        """Close the engine's connections. Safe to call twice."""
        self._wanted = False
        take_back(self._lender)
        if self.is_ready:
            await self._made.result().aclose()
