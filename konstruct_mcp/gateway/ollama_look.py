"""What Ollama there is, by which the built-in config goes: looked at when somebody asks, and again after a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from konstruct_mcp.config.built_in import OLLAMA, OllamaSeen
from konstruct_mcp.config.environment import is_url
from konstruct_mcp.config.model import Config
from konstruct_mcp.providers.local_servers import look_at_ollama

_FRESH_S = 15.0  # of a server that answers: a model may be installed or removed any time
_UNKNOWN_FRESH_S = 60.0  # of one that does not say, so that not every call waits for it


def address_of_ollama(config: Config) -> str | None:
    """Where the built-in config asks Ollama; None where the environment names no address that can be asked."""
    found = (one.params.get("api_base") for one in config.deployments.values() if one.model.startswith(OLLAMA))
    address = next(found, None)
    return address if isinstance(address, str) and is_url(address) else None


class OllamaLook:
    """Looks at Ollama, once at a time.

    Attributes:
        seen: what was found last; None where nobody has looked, or it did not say.
        under_way: the look that is being made, if any.
    """

    def __init__(self) -> None:
        self.seen: OllamaSeen | None = None
        self.under_way: list[asyncio.Task[None]] = []
        self._fresh_until = 0.0  # a reading of `time.monotonic`

    async def look(self, address: str | None, changed: Callable[[], Awaitable[None]]) -> None:
        """Look, unless what is known is fresh. That nobody is there never is: to find that again takes a millisecond.

        Args:
            changed: is awaited where something else is found than before.
        """
        if address is None or (not self.under_way and time.monotonic() < self._fresh_until):
            return
        if not self.under_way:
            looking = asyncio.create_task(self._look(address, changed))
            self.under_way.append(looking)
            looking.add_done_callback(self.under_way.remove)
        await asyncio.shield(self.under_way[0])  # in a task of its own: a call that is cancelled ends it for no other

    async def _look(self, address: str, changed: Callable[[], Awaitable[None]]) -> None:
        seen = await look_at_ollama(address)
        fresh_s = _UNKNOWN_FRESH_S if seen is None else _FRESH_S if seen.is_there else 0.0
        self._fresh_until = time.monotonic() + fresh_s
        if seen != self.seen:
            self.seen = seen
            await changed()
