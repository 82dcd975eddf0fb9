"""Fake providers on loopback, so that a program's tests need no network, no key and no money.

A `Provider` speaks the wire format of one provider, gives the answers that the test scripted, one per request, and
records what it was sent. It knows nothing of the package that asks it, and no other package of ours imports this one.

    with Provider("openai") as openai:
        openai.script(Status(503), Text("at the second try"))
        config = {"model_list": [{"model_name": "any", "litellm_params": openai.litellm_params("openai/gpt-4o")}]}
        ...
        assert openai.calls == 2

provider                  `Provider`: what it was asked, and how it is waited for
answers                   what a script is made of: texts, refusals, and all ways to fail
formats, shapes, bodies   how each provider speaks, and what that is made of
connection, credentials   HTTP with the means to end it rudely; a login that only a fake takes
"""

from konstruct_mcp.testing.answers import (
    Answer,
    AnswerFor,
    Changed,
    ContentPolicy,
    ContextOverflow,
    Dribble,
    Drop,
    Endless,
    Gate,
    Hang,
    HangBody,
    Raw,
    Received,
    Reset,
    Status,
    Text,
    Truncated,
)
from konstruct_mcp.testing.provider import Provider
from konstruct_mcp.testing.shapes import Finish, OtherWire, Wire

__all__ = [
    "Answer",
    "AnswerFor",
    "Changed",
    "ContentPolicy",
    "ContextOverflow",
    "Dribble",
    "Drop",
    "Endless",
    "Finish",
    "Gate",
    "Hang",
    "HangBody",
    "OtherWire",
    "Provider",
    "Raw",
    "Received",
    "Reset",
    "Status",
    "Text",
    "Truncated",
    "Wire",
]
