"""Which models the servers on this machine have.

A look is bounded, follows no redirect, sends no key, and never raises: a server that does not say in time, or says
something else, is unknown. It stands on Python's own HTTP client, which is imported anyway: servers are looked at
before LiteLLM is loaded, and with it a better client.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio

from konstruct_mcp.config.built_in import OllamaSeen

_PATIENCE_S = 1.5  # for a whole look: a server on this machine answers in milliseconds
_MOST_BYTES = 4_000_000  # of an answer; a thousand models take a tenth of it
_MOST_SHOWN = 5  # models of Ollama's that are asked about, of those that do not say what they can do
_LONGEST_NAME = 200  # characters; Ollama itself takes fewer
_EMBEDDERS = ("bert", "embed", "minilm", "bge-", "rerank")  # in the families and names of models that embed or rank

_T = TypeVar("_T")


async def look_at_ollama(base: str) -> OllamaSeen | None:
    """What the Ollama at this address has; None where that cannot be said.

    Models in Ollama's cloud are left out: a group that asks Ollama promises that nothing leaves the machine.
    """
    with anyio.move_on_after(_PATIENCE_S):
        return await _looked(_ollama, base)
    return None


async def look_at_openais(base: str) -> tuple[str, ...]:
    """The chat models of a server that speaks OpenAI's format, as it lists them; none where nobody answers.

    Args:
        base: its address, with `/v1`.
    """
    with anyio.move_on_after(_PATIENCE_S):
        return await _looked(_openais, base)
    return ()


async def _looked(look: Callable[[_Server], _T], base: str) -> _T:
    """What a look gives. It is made in a daemon thread, so that no process waits for its end: a resolver may take half
    a minute, and a server that sends a byte at a time for ever."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[_T] = loop.create_future()

    def tell(settle: Callable[[Any], None], what: Any) -> None:
        if not found.done():
            settle(what)

    def run() -> None:
        try:
            settled: tuple[Callable[[Any], None], Any] = found.set_result, look(_Server(base))
        except Exception as error:
            settled = found.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, *settled)

    threading.Thread(target=run, name="local-server", daemon=True).start()
    return await found


def _openais(server: _Server) -> tuple[str, ...]:
    try:
        models = server.json("GET", "/models").get("data")
    except ConnectionRefusedError:
        return ()
    listed = [{"name": one.get("id")} for one in models if isinstance(one, dict)] if isinstance(models, list) else []
    return tuple(str(one["name"]) for one in listed if _is_local_chat(one))


def _ollama(server: _Server) -> OllamaSeen | None:
    try:
        models = server.json("GET", "/api/tags").get("models")
    except ConnectionRefusedError:
        return OllamaSeen(is_there=False)
    if not isinstance(models, list):
        return None
    local = sorted(filter(_is_local_chat, models), key=_size, reverse=True)
    return OllamaSeen(is_there=True, models=tuple(_chatting(server, local)))


def _chatting(server: _Server, models: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of those that complete: the server is asked about the first ones if the list does not say it."""
    names: list[str] = []
    asked = 0
    for model in models:
        name, can = str(model["name"]), model.get("capabilities")
        if not isinstance(can, list) and not names and asked < _MOST_SHOWN:
            asked += 1
            can = server.json("POST", "/api/show", {"model": name}).get("capabilities")
        if not isinstance(can, list) or "completion" in can:
            names.append(name)
    return names


def _is_local_chat(model: Any) -> bool:
    """Whether a model of the list is one for chat, as far as the list says, that is on the server's own machine."""
    if not isinstance(model, dict) or not isinstance(name := model.get("name"), str):
        return False
    if not name.strip() or not name.isprintable() or "*" in name or len(name) > _LONGEST_NAME:  # which is a wildcard
        return False
    if model.get("remote_host") or model.get("remote_model") or name.endswith(("-cloud", ":cloud")):
        return False
    details = model.get("details")
    families = [details.get("family"), details.get("families")] if isinstance(details, dict) else []
    return not any(word in str(said).lower() for said in (*families, name) for word in _EMBEDDERS)


def _size(model: Mapping[str, Any]) -> tuple[int, str]:
    size = model.get("size")
    return size if isinstance(size, int) else 0, str(model["name"])


class _Server:
    """A server that is looked at, within the time of one look."""

    def __init__(self, base: str) -> None:
        self._url = urlsplit(base)
        self._deadline = time.monotonic() + _PATIENCE_S

    def json(self, method: str, path: str, body: Any = None) -> Mapping[str, Any]:
        """The object that it answers with; nothing for any other answer, or none in time.

        Raises:
            ConnectionRefusedError: nobody is there.
        """
        try:
            answer = self._ask(method, path, None if body is None else json.dumps(body))
            said = json.loads(answer)
        except ConnectionRefusedError:
            raise
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def _ask(self, method: str, path: str, body: str | None) -> bytes:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=self._left_s)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, self._url.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            if response.status != http.client.OK:
                return b""
            content = b""
            while chunk := response.read1(1 << 16):
                content += chunk
                if len(content) > _MOST_BYTES or not self._left_s:
                    return b""
            return content
        finally:
            connection.close()

    @property
    def _left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())
