"""What is known of the programs that assistants work in: how much of a tool's result they show to their model.

A client that shows less than it is given loses the rest where nobody can choose: in the middle, or all of it. So an
answer is cut here first, at the end of a sentence, and says where the rest is. Each figure is the client's own, found
by running it or in its code, in autumn 2026. A client that nobody has looked at gets what most of these show.

A client says its name when it connects. Over HTTP, where no session is kept, the revisions that begin with `initialize`
say it in that one message alone: the session's name, which comes back with every other, has the client's in it.
"""

from __future__ import annotations

import json
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mcp.server.context import ServerRequestContext

from konstruct_mcp.core.jsonwriting import JAVASCRIPTS_LEAST_DECIMAL, RUSTS_LEAST_DECIMAL
from konstruct_mcp.protocol.texts import as_json

SESSION = "mcp-session-id"  # the header
_LONGEST_NAME = 100  # of a client; what is beyond says nothing
_LONGEST_INITIALIZE = 64 * 1024  # bytes of a message that is looked into for a name; real ones have one or two thousand


@dataclass(frozen=True, slots=True)
class Client:
    """A kind of client.

    Attributes:
        key: its name here.
        shows: how much of a result its model is shown, in UTF-16 code units as JavaScript counts, or in bytes of UTF-8.
        counts_bytes: whether it counts bytes.
        shows_both: whether it shows the text and the structure of a result, as JSON of both; others show one of them.
        reads_on: whether its model is offered the argument `read`, because it has no tool that reads resources, or one
            whose results are cut like all others.
        least_decimal: it makes a text of the structure, which has smaller numbers with an exponent, and shows both
            where ours is another.
    """

    key: str = ""
    shows: int = 40_000  # Gemini CLI's cut, and well below those of Claude Code and opencode
    counts_bytes: bool = False
    shows_both: bool = False
    reads_on: bool = False
    least_decimal: float = JAVASCRIPTS_LEAST_DECIMAL

    def size(self, fragment: str) -> int:
        """What a piece of a result's JSON takes of `shows`."""
        # The text of a result is JSON in a JSON text.
        pieces = (fragment, as_json(fragment)[1:-1]) if self.shows_both else (fragment,)
        return sum(_bytes(piece) if self.counts_bytes else _code_units(piece) for piece in pieces)


ANY = Client()
_COPILOT = Client("copilot", 20_000, counts_bytes=True, reads_on=True, least_decimal=RUSTS_LEAST_DECIMAL)
# By the first words of the name that each gives itself.
_KNOWN = {
    ("cline",): Client("cline", 8_000, shows_both=True, reads_on=True),  # keeps both ends
    ("codex",): Client("codex", 12_000, counts_bytes=True, reads_on=True),  # keeps both ends, of resources too
    ("continue",): Client("continue", reads_on=True),
    ("copilot",): _COPILOT,
    ("github", "copilot"): _COPILOT,
    ("opencode",): Client("opencode", 51_200, counts_bytes=True),  # shows nothing of a longer line
}
# The name of whoever gives none to MCP's Python SDK: agents in Python, whose models have no tool that reads resources.
# LangChain ends a conversation with OpenAI's chat API at a link in a result.
_PYTHON = Client("python", reads_on=True)
_BY_KEY = {client.key: client for client in (*_KNOWN.values(), _PYTHON)}


def client_named(name: str) -> Client:
    """The client that gives itself this name."""
    if name == "mcp":
        return _PYTHON
    words = re.findall(r"[a-z0-9]+", name[:_LONGEST_NAME].casefold())
    return next((client for begin, client in _KNOWN.items() if tuple(words[: len(begin)]) == begin), ANY)


def client_of(ctx: ServerRequestContext[Any]) -> Client:
    """The client that a request comes from."""
    if (said := ctx.session.client_params) is not None:
        return client_named(said.client_info.name)
    headers = getattr(ctx.request, "headers", None)
    key = "" if headers is None else headers.get(SESSION, "").partition(".")[0]
    return _BY_KEY.get(key, ANY)


def session_name(message: bytes) -> str:
    """A new name for the session that this message begins."""
    name = None
    if len(message) <= _LONGEST_INITIALIZE:
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            name = json.loads(message)["params"]["clientInfo"]["name"]
    key = client_named(name).key if isinstance(name, str) else ""
    return f"{key}.{secrets.token_urlsafe(16)}" if key else secrets.token_urlsafe(16)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _code_units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
