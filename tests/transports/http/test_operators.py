"""The operators' page: who is let in, what it shows, and that it is drawn in a real browser."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support import chromium
from support.databases import Database
from support.default_groups import write
from support.http_process import Start, key_of
from support.priced_config import priced_config
from support.providers import Provider

from konstruct_mcp import Konstruct

pytestmark = pytest.mark.timeout(600)  # seconds: the first test may install the browser
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def settings(ledger: Database, openai: Provider, anthropic: Provider, ollama: Provider) -> dict[str, Any]:
    tenants = {"ann": {"budgets": [{"usd": 1, "per": "day"}]}, "bob": {"note": HOSTILE}}
    http, auth = {"pause_s": 0}, {"required": True, "recheck_s": 0.2}
    return priced_config(ledger, openai, anthropic, ollama, tenants=tenants, auth=auth, http=http)


@pytest.fixture
def config(tmp_path: Path, settings: dict[str, Any]) -> Path:
    return write(tmp_path, settings)


@pytest.fixture
def page(start: Start, config: Path) -> Iterator[httpx2.Client]:
    """A browser that has not logged in."""
    with start(config) as server, httpx2.Client(base_url=server.root, follow_redirects=True, timeout=60) as client:
        yield client


class TestWhoeverHasNotLoggedIn:
    async def test_is_asked_for_a_token_and_shown_nothing(self, page: httpx2.Client) -> None:
        answer = page.get("/")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert '<input id="token" name="token" type="password"' in answer.text
        assert "ann" not in answer.text

    async def test_is_told_why_a_token_is_none(self, page: httpx2.Client) -> None:
        for token in ("", "ks_" + "x" * 43, "rubbish", "é", "x" * 50_000):
            answer = page.post("/login", data={"token": token})
            assert answer.status_code == 401, token[:20]
            assert 'role="alert"' in answer.text
            assert "set-cookie" not in answer.headers
        assert page.post("/login", content=b"\xff\xfe").status_code == 401
        assert page.post("/login", data={f"token{number}": "x" for number in range(11)}).status_code == 401

    async def test_is_no_tenant_without_the_scope(self, page: httpx2.Client, config: Path) -> None:
        key = await key_of(config, "ann")
        answer = page.post("/login", data={"token": key})
        assert answer.status_code == 403
        assert "lacks the scope operator" in answer.text
        page.cookies.set("konstruct_operator", key)
        answer = page.get("/")
        assert answer.status_code == 403
        assert "bob" not in answer.text

    async def test_has_a_line_in_the_audit_log(self, start: Start, config: Path) -> None:
        with start(config) as server:
            server.http.post(f"{server.root}/login", data={"token": "rubbish"})
            server.http.get(server.root, headers={"cookie": "konstruct_operator=rubbish"})
            server.terminate()
            assert server.ended() == 0
        assert server.errors.count("audit: refused code=invalid_token") == 2

    async def test_is_no_page_of_another_origin(self, page: httpx2.Client, config: Path) -> None:
        key = await key_of(config, "ann", scopes=["operator"])
        answer = page.post("/login", data={"token": key}, headers={"origin": "https://evil.example"})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


class TestAnOperator:
    async def test_sees_usage_budgets_keys_tenants_and_deployments(
        self, page: httpx2.Client, config: Path, openai: Provider
    ) -> None:
        key = await key_of(config, "ann", scopes=["operator"], note=HOSTILE)
        async with Konstruct.from_config(config) as konstruct:
            await konstruct.complete("hello", model_group="paid", tenant_id="bob")
        origin = str(page.base_url).rstrip("/")  # as a browser says of a form
        shown = page.post("/login", data={"token": key}, headers={"origin": origin})
        assert shown.status_code == 200
        rows = [re.sub(r"<[^>]+>", " ", row) for row in re.findall(r"<tr>.*?</tr>", shown.text)]
        for words in (("openai/paid", "ready"), ("ann", "day", "$1"), (key[:11], "ann", "operator"), ("bob", "config")):
            assert any(all(word in row for word in words) for row in rows), words
        assert key not in shown.text
        assert HOSTILE not in shown.text
        assert "<script" in shown.text
        for period in ("1", "7", "all", "nonsense"):
            assert page.get("/", params={"period": period}).status_code == 200

    async def test_sees_the_deployments_of_groups_that_calls_without_a_tenant_may_not_use(
        self, start: Start, tmp_path: Path, settings: dict[str, Any]
    ) -> None:
        settings["konstruct"] |= {"default_tenant": "few"}
        settings["konstruct"]["tenants"] |= {"few": {"groups": ["free"]}}
        settings["konstruct"].pop("auth")
        with start(write(tmp_path, settings | {"router_settings": {}})) as server:
            shown = server.http.get(f"{server.root}/").text
        assert "ollama/qwen3:8b" in shown
        assert "openai/paid" in shown

    async def test_has_a_cookie_that_no_script_and_no_other_site_gets(self, page: httpx2.Client, config: Path) -> None:
        key = await key_of(config, "ann", scopes=["operator"])
        page.follow_redirects = False
        answer = page.post("/login", data={"token": key})
        assert answer.status_code == 303
        attributes = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/"} <= attributes

    async def test_is_out_after_logging_out_and_when_the_key_is_revoked(
        self, page: httpx2.Client, config: Path
    ) -> None:
        key = await key_of(config, "ann", scopes=["operator"])
        assert "Deployments" in page.post("/login", data={"token": key}).text
        assert "Deployments" not in page.post("/logout").text
        assert "Deployments" in page.post("/login", data={"token": key}).text
        async with Konstruct.from_config(config) as konstruct:
            await konstruct.revoke_key(key[:11])
        for _ in range(600):  # a server looks again after `recheck_s`
            answer = page.get("/")
            if answer.status_code == 401:
                break
        assert "has been revoked" in answer.text


async def test_the_page_is_drawn_in_a_browser(
    start: Start, tmp_path: Path, settings: dict[str, Any], openai: Provider
) -> None:
    try:
        browser = chromium.executable()
    except RuntimeError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))  # nothing is installed as root on a machine that is not CI's
    settings["konstruct"].pop("auth")  # on loopback everybody is the operator
    config = write(tmp_path, settings)
    async with Konstruct.from_config(config) as konstruct:
        await konstruct.complete("hello", model_group="paid", tenant_id="bob")
    with start(config) as server:
        drawn = chromium.Browser(browser, tmp_path).dom_at(f"{server.root}/")
        answer = server.http.post(f"{server.root}/login", data={"token": "€"})  # which nobody needs here
        assert (answer.status_code, "set-cookie" in answer.headers) == (303, False)
    assert "This server now" in drawn
    assert drawn.count('class="main-svg"') >= 2  # plotly has drawn the charts
    assert "<img" not in drawn


async def test_a_ledger_that_does_not_answer_is_said(start: Start, tmp_path: Path, settings: dict[str, Any]) -> None:
    settings["konstruct"].pop("auth")
    settings["konstruct"]["ledger_url"] = f"sqlite:///{tmp_path / 'gone' / 'ledger.sqlite3'}"
    (tmp_path / "gone").write_text("no folder")
    with start(write(tmp_path, settings)) as server:
        shown = server.http.get(f"{server.root}/")
    assert shown.status_code == 200
    assert "The ledger does not answer" in shown.text
    assert "Deployments" in shown.text
