"""What is read of an error in the body of a response, and how long a provider asks to wait."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from konstruct_mcp.providers.faults.error_body import MOST_CHARS, ErrorBody, error_body
from konstruct_mcp.providers.faults.phrases import OVERFLOW, PERHAPS_NO_MONEY
from konstruct_mcp.providers.faults.retry_after import retry_after


@pytest.mark.parametrize(
    ("body", "codes", "message"),
    [
        ({"error": {"message": "m", "code": "c", "type": "t"}}, "c t", "m"),
        ({"error": {"message": '{"error": {"message": "inner", "code": 400}}'}}, "400", "inner"),
        ({"error": {"message": "outer", "code": 502, "metadata": {"raw": '{"message": "raw"}'}}}, "", "raw"),
        ({"detail": [{"loc": ["body", "tools", 0], "msg": "wrong"}]}, "", "tools.0: wrong"),
        ({"error": {"status": "RESOURCE_EXHAUSTED", "message": "m", "details": [{"reason": "r"}]}},
         "RESOURCE_EXHAUSTED r", "m"),
        ([{"error": {"message": "in a list"}}], "", "in a list"),
        ("text", "", "text"),
        (None, "", ""),
        (7, "", ""),
    ],
)  # fmt: skip
def test_every_known_form_is_read(body: Any, codes: str, message: str) -> None:
    said = error_body(httpx.Response(400, json=body))

    assert (said.codes, said.message) == (codes, message)


@pytest.mark.parametrize(
    ("text", "message"), [("Bad request", "Bad request"), ("<html>Bad</html>", ""), ('{"error": {"mess', "")]
)
def test_of_what_is_no_json_only_plain_text_is_taken(text: str, message: str) -> None:
    assert error_body(httpx.Response(400, text=text)).message == message


def test_what_a_message_quotes_is_mentioned_and_not_said() -> None:
    said = ErrorBody(message='cannot parse "the context window was exceeded"')
    assert said.mentions(OVERFLOW)
    assert not said.says(OVERFLOW)

    own = ErrorBody(message="the context window was exceeded")
    assert own.mentions(OVERFLOW)
    assert own.says(OVERFLOW)


def test_nothing_behind_an_open_quotation_mark_is_said_where_a_message_was_cut() -> None:
    cut = ErrorBody(message=f'in "{"x" * MOST_CHARS} credit balance'[:MOST_CHARS])
    assert not ErrorBody(message='in "credit balance' + "x" * MOST_CHARS).says(PERHAPS_NO_MONEY)
    assert not cut.says(PERHAPS_NO_MONEY)


def test_google_says_in_the_body_how_long_to_wait() -> None:
    details = [{"retryDelay": "soon"}, {"retryDelay": "36.5s"}]
    assert error_body(httpx.Response(429, json={"error": {"details": details}})).wait_s == 36.5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_headers_say_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_is_as_good_as_seconds() -> None:
    found = retry_after({"retry-after": formatdate(time.time() + 90, usegmt=True)})
    assert found is not None
    assert 80 < found <= 90
