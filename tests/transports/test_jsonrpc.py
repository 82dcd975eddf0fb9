"""Lines into messages and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp import types

from konstruct_mcp.transports.stdio.jsonrpc import read_message, write_message


def line(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


def test_a_request_and_a_notification_are_read() -> None:
    request = read_message(line(id=1, method="ping"))
    assert request == types.JSONRPCRequest(jsonrpc="2.0", id=1, method="ping")
    assert isinstance(read_message(line(method="notifications/initialized")), types.JSONRPCNotification)


@pytest.mark.parametrize("nothing", [b"", b" \r", b"\xef\xbb\xbf", line(id=1, result={})])
def test_what_is_owed_no_answer_is_left_out(nothing: bytes) -> None:
    assert read_message(nothing) is None


@pytest.mark.parametrize(
    ("wrong", "code", "answered"),
    [
        (b"{", types.PARSE_ERROR, None),
        (b"[]", types.INVALID_REQUEST, None),
        (line(id=7, method=1), types.INVALID_REQUEST, 7),
        (line(id=True, method=1), types.INVALID_REQUEST, None),
    ],
)
def test_what_is_no_message_is_answered_with_an_error(wrong: bytes, code: int, answered: int | None) -> None:
    error = read_message(wrong)
    assert isinstance(error, types.JSONRPCError)
    assert (error.error.code, error.id) == (code, answered)


def test_text_is_mended_on_the_way_in() -> None:
    request = read_message(line(id="\ud800", method="ping"))
    assert isinstance(request, types.JSONRPCRequest)
    assert request.id == "\ufffd"


@pytest.mark.parametrize("is_long", [False, True])
def test_text_is_mended_on_the_way_out(is_long: bool) -> None:
    answer = types.JSONRPCResponse(jsonrpc="2.0", id=1, result={"text": "half \ud83d of", "whole": "\ud83d\udc4b"})
    written = json.loads(write_message(answer, is_long=is_long))
    assert written["result"] == {"text": "half \ufffd of", "whole": "\N{WAVING HAND SIGN}"}


def test_an_answer_that_is_no_json_becomes_an_error() -> None:
    written = json.loads(write_message(types.JSONRPCResponse(jsonrpc="2.0", id=3, result={"x": object()})))
    assert (written["id"], written["error"]["code"]) == (3, types.INTERNAL_ERROR)
