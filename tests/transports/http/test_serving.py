"""MCP over HTTP, with the server as a process of its own: what it answers, what it refuses, and how it ends."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import httpx2
import pytest
from starlette.responses import PlainTextResponse
from support.certificates import self_signed_file
from support.databases import Database
from support.default_groups import entry, write
from support.fork_server import ForkServer
from support.http_process import HttpProcess, Start, call, headers_for, message
from support.node import stringified
from support.priced_config import COST_NUSD, priced_config
from support.processes import wait_for
from support.providers import Gate, Hang, Provider, Text

from konstruct_mcp.config.http import HttpSettings
from konstruct_mcp.transports.http.doors import guarded, hosts_of, origins_of

BODY = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
PING = (
    b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"accept: application/json, text/event-stream\r\nmcp-protocol-version: 2025-06-18\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
BUDGET = {"usd": 1, "per": "total"}
AT_ONCE = {"pause_s": 0, "drain_s": 60}


@pytest.fixture
def config(tmp_path: Path, ledger: Database, openai: Provider, anthropic: Provider, ollama: Provider) -> dict[str, Any]:
    return priced_config(ledger, openai, anthropic, ollama, budgets=[BUDGET], http=dict(AT_ONCE))


def answered(connection: socket.socket, count: int = 1) -> bytes:
    """What is said on a connection until so many answers, each a stream of pieces, have ended."""
    said = b""
    while said.count(b"\r\n0\r\n\r\n") < count:
        more = connection.recv(65536)
        assert more, said
        said += more
    return said


def is_closed(connection: socket.socket, begin: bytes, more: bytes) -> bool:
    """Whether the other end closes a connection on which there is more and more to read."""
    try:
        connection.sendall(begin)
        for _ in range(1000):
            connection.sendall(more)
        said = b""
        while (answer := connection.recv(65536)) != b"" and len(said) < 1000:
            said += answer
        return answer == b""
    except ConnectionError:
        return True


@pytest.fixture
def server(tmp_path: Path, config: dict[str, Any], start: Start) -> Iterator[HttpProcess]:
    with start(write(tmp_path, config)) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer | None) -> Iterator[HttpProcess]:
    """One for all tests that no provider is asked in."""
    folder = tmp_path_factory.mktemp("shared")
    ledger_url = f"sqlite:///{folder / 'ledger.sqlite3'}"
    settings = {"model_list": [entry("free", {"model": "ollama/none"})], "konstruct": {"ledger_url": ledger_url}}
    with HttpProcess(write(folder, settings), fork_server=fork_server) as made:
        yield made


@pytest.mark.parametrize("era", ["2026", "2025"])
class TestAnswers:
    def test_are_a_completion_and_its_row(
        self, server: HttpProcess, ledger: Database, openai: Provider, era: str
    ) -> None:
        openai.script(Text("from afar"))
        answer = server.complete("paid", era)
        assert answer["structuredContent"]["content"] == "from afar"
        assert answer["content"][0]["text"] == stringified(answer["structuredContent"])
        (row,) = ledger.rows()
        assert (row["outcome"], row["cost_nusd"]) == ("ok", COST_NUSD)

    def test_tell_of_progress(self, server: HttpProcess, openai: Provider, era: str) -> None:
        openai.script(Gate("now"))
        with server.under_way("paid", era) as response:
            lines = response.iter_lines()
            said = ""
            while "openai/paid" not in said:
                said = next(lines)
            openai.release()
            assert any('"now' in line for line in lines)

    def test_name_no_tenant_where_nobody_is_verified(self, shared: HttpProcess, era: str) -> None:
        tools = shared.ask("tools/list", era=era)["tools"]
        assert "tenant_id" in tools[0]["inputSchema"]["properties"]  # on loopback without keys, as over stdio


def test_the_folders_of_the_process_are_closed_over_http(
    tmp_path: Path, config: dict[str, Any], start: Start, openai: Provider
) -> None:
    """Also where nobody is verified: whoever can reach the port need not be who started the server."""
    own, acmes = tmp_path / "own", tmp_path / "acmes"
    for folder in (own, acmes):
        folder.mkdir()
        (folder / "a.txt").write_text(f"of {folder.name}")
    config["konstruct"] |= {
        "files": {"roots": [str(own)]},
        "tenants": {"default": None, "acme": {"files": [str(acmes)]}},
    }
    with start(write(tmp_path, config), env={"KONSTRUCT_FILE_ROOTS": str(own)}) as server:
        complete = server.ask("tools/list")["tools"][0]
        assert "files" not in complete["inputSchema"]["properties"]
        refused = server.complete("paid", files=[str(own / "a.txt")])
        assert refused["content"][0]["text"].startswith("file_refused: no folder is open to you here")
        refused = server.complete("paid", files=[str(own / "a.txt")], tenant_id="acme")
        assert "not in a folder that is open to you" in refused["content"][0]["text"]
        assert openai.calls == 0
        answer = server.complete("paid", files=[str(acmes / "a.txt")], tenant_id="acme")
        assert answer["structuredContent"]["files"] == [{"path": "a.txt", "bytes": 8}]


@pytest.mark.parametrize("era", ["2026", "2025"])
def test_a_client_that_goes_away_cancels_its_call(
    server: HttpProcess, ledger: Database, openai: Provider, era: str
) -> None:
    openai.script(Hang())
    with server.under_way("paid", era):
        openai.wait_for(lambda: openai.in_flight == 1)
    openai.wait_for(lambda: openai.disconnected == 1)
    wait_for(lambda: bool(ledger.rows()))
    assert ledger.rows()[0]["outcome"] == "cancelled"
    assert ledger.reserved("default") == 0


class TestANotificationOfCancellation:
    def cancel(self, server: HttpProcess, request_id: Any, session: str) -> None:
        sent = message("notifications/cancelled", {"requestId": request_id}, "2025", id=None)
        assert server.post(sent, "2025", **{"mcp-session-id": session}).status_code == 202

    def test_cancels_the_call_of_its_session(self, server: HttpProcess, ledger: Database, openai: Provider) -> None:
        openai.script(Hang())
        with server.under_way("paid", "2025", session="mine", id=71) as response:
            openai.wait_for(lambda: openai.in_flight == 1)
            self.cancel(server, 71, "another's")
            self.cancel(server, 70, "mine")
            assert server.ask("ping", era="2025") == {}
            assert openai.in_flight == 1
            self.cancel(server, 71, "mine")
            assert "cancelled by its client" in response.read().decode()
        openai.wait_for(lambda: openai.disconnected == 1)
        assert [row["outcome"] for row in ledger.rows()] == ["cancelled"]
        assert ledger.reserved("default") == 0

    def test_that_overtakes_its_request_cancels_it(
        self, server: HttpProcess, ledger: Database, openai: Provider
    ) -> None:
        assert not server.complete("paid")["isError"]
        sent = message("tools/call", call("paid"), "2025")
        head, body = server.written(sent, "2025", **{"mcp-session-id": "mine"})
        with server.connection() as slow:
            slow.sendall(head + b"\r\n" + body[:-1])
            self.cancel(server, sent["id"], "mine")
            slow.sendall(body[-1:])
            assert b"cancelled by its client" in answered(slow)
        assert not server.complete("paid")["isError"]
        assert [asked.completes for asked in openai.requests].count(True) == 2

    @pytest.mark.parametrize("request_id", [None, True, [], {"a": 1}, 1.5, "x" * 5000])
    def test_of_nothing_is_harmless(self, shared: HttpProcess, request_id: Any) -> None:
        sent = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}}
        assert shared.post(sent, "2025", **{"mcp-session-id": "mine"}).status_code in (202, 400)
        assert shared.ask("ping", era="2025") == {}


def test_initialize_names_a_session_and_keeps_none(shared: HttpProcess) -> None:
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    sent = message("initialize", about, "2025")
    names = {shared.post(sent, "2025").headers["mcp-session-id"] for _ in range(2)}
    assert len(names) == 2
    # Any shared answers under any name.
    assert shared.post(message("ping", era="2025"), "2025", **{"mcp-session-id": "never given out"}).status_code == 200
    assert "mcp-session-id" not in shared.post(message("ping"), "2026").headers


class TestRefused:
    @pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
    def test_is_what_would_need_a_session(self, shared: HttpProcess, method: str) -> None:
        response = shared.http.request(method, shared.url, headers={"accept": "text/event-stream"})
        assert (response.status_code, response.headers["allow"]) == (405, "POST, OPTIONS")

    def test_is_no_question_of_what_is_allowed(self, shared: HttpProcess) -> None:
        response = shared.http.options(shared.url)
        assert (response.status_code, response.headers["allow"]) == (204, "POST, OPTIONS")

    def test_is_no_key_where_only_this_machine_can_ask_which_is_said(self, shared: HttpProcess) -> None:
        assert shared.post(message("ping", era="2025"), "2025").status_code == 200
        assert "nobody is asked for a key here: whoever is on this machine asks as the default tenant" in shared.errors

    def test_is_another_name_of_the_server(self, shared: HttpProcess) -> None:
        assert shared.post(message("ping", era="2025"), "2025", host="evil.example").status_code == 421
        wait_for(lambda: "code=foreign_host" in shared.errors)
        assert shared.post(message("ping", era="2025"), "2025", host="localhost:1").status_code == 200

    @pytest.mark.parametrize("origin", ["https://evil.example", "http://[", "null", "http://127.0.0.1.evil.example"])
    def test_is_a_web_page(self, shared: HttpProcess, origin: str) -> None:
        response = shared.post(message("ping", era="2025"), "2025", origin=origin)
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers
        wait_for(lambda: "code=foreign_origin" in shared.errors)
        assert "Traceback" not in shared.errors

    @pytest.mark.parametrize(
        ("settings", "own"),
        [
            (HttpSettings(), "127.0.0.1"),
            (HttpSettings(host="127.0.0.2"), "127.0.0.2"),
            (HttpSettings(host="::1"), "[::1]"),
            (HttpSettings(host="0:0:0:0:0:0:0:1"), "[0:0:0:0:0:0:0:1]"),
            (HttpSettings(host="fd00::1", allowed_hosts=("models.example",)), "[fd00::1]"),
            (HttpSettings(host="10.0.0.1", public_url="https://models.example:8443/mcp"), "models.example"),
            (HttpSettings(host="::", public_url="https://[fd00::5]/mcp"), "[fd00::5]"),
        ],
        ids=lambda one: one.address if isinstance(one, HttpSettings) else one,
    )
    async def test_is_whoever_calls_it_by_another_name_wherever_it_listens(
        self, settings: HttpSettings, own: str
    ) -> None:
        app = guarded(PlainTextResponse("taken"), hosts_of(settings), origins_of(settings))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://any") as client:
            status = {
                name: (await client.get("/", headers={"host": name})).status_code for name in (own, "evil.example")
            }
        assert status == {own: 200, "evil.example": 421}

    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [
            (b"", "application/json", 400),
            (b"not json", "application/json", 400),
            (b"[]", "application/json", 400),
            (b'{"jsonrpc": "2.0"}', "application/json", 400),
            (b"\xff\xfe", "application/json", 400),
            (b"{}", "text/plain", 415),
            (b"[" * 100_000, "application/json", 400),
        ],
    )
    @pytest.mark.parametrize("era", ["2026", "2025"])
    def test_is_rubbish(self, shared: HttpProcess, era: str, body: bytes, content_type: str, status: int) -> None:
        headers = headers_for(message("ping", era=era), era, **{"content-type": content_type})
        response = shared.http.post(shared.url, content=body, headers=headers)
        assert response.status_code in (status, 400)
        assert "Traceback" not in response.text + shared.errors

    def test_is_a_body_that_is_too_large(self, tmp_path: Path, config: dict[str, Any], start: Start) -> None:
        config["konstruct"]["http"] |= {"max_body_bytes": 20_000}
        with start(write(tmp_path, config)) as server:
            large = {**message("ping", era="2025"), "padding": "x" * 30_000}
            assert server.post(large, "2025").status_code == 413

            def pieces() -> Iterator[bytes]:  # whose length nobody has said
                for _ in range(30):
                    yield b" " * 1000

            headers = headers_for(message("ping", era="2025"), "2025")
            assert server.http.post(server.url, content=pieces(), headers=headers).status_code == 413
            assert server.ask("ping", era="2025") == {}

    def test_is_an_address_that_is_taken(
        self, tmp_path: Path, config: dict[str, Any], start: Start, shared: HttpProcess
    ) -> None:
        taken = urlsplit(shared.url).netloc
        other = start(write(tmp_path, config), listen=taken)
        assert other.ended() == 1
        assert other.errors == f"error: listen: cannot listen on {taken}: Address already in use"


class TestWebPages:
    def test_that_are_listed_may_ask(self, tmp_path: Path, config: dict[str, Any], start: Start) -> None:
        config["konstruct"]["http"] |= {"allowed_origins": ["https://app.example"]}
        with start(write(tmp_path, config)) as server:
            asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,mcp-name"}
            before = server.http.options(server.url, headers={"origin": "https://app.example", **asks})
            assert before.status_code == 200
            assert before.headers["access-control-allow-origin"] == "https://app.example"
            answer = server.post(message("ping", era="2025"), "2025", origin="https://app.example")
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            assert "mcp-session-id" in answer.headers["access-control-expose-headers"]
            assert (
                server.http.options(server.url, headers={"origin": "https://evil.example", **asks}).status_code == 400
            )
            assert server.post(message("ping", era="2025"), "2025", origin="https://evil.example").status_code == 403

    def test_of_this_machine_may_ask_what_only_it_reaches(self, shared: HttpProcess) -> None:
        page = "http://localhost:6274"
        asks = {"access-control-request-method": "GET", "access-control-request-headers": "mcp-protocol-version"}
        before = shared.http.options(shared.url, headers={"origin": page, **asks})
        assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, page)
        answer = shared.post(message("ping", era="2025"), "2025", origin=page)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, page)


@pytest.mark.parametrize("listed", [True, False])
def test_a_proxy_says_who_asks_where_it_is_listed(
    tmp_path: Path, config: dict[str, Any], start: Start, listed: bool
) -> None:
    config["konstruct"]["http"] |= {"trusted_proxies": ["127.0.0.0/8"] if listed else ["192.0.2.1"]}
    with start(write(tmp_path, config)) as server:  # which asks for a key, since others reach it through the proxy
        said = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
        assert server.post(message("ping", era="2025"), "2025", **said).status_code == 401
        wait_for(lambda: "audit: refused code=missing_token" in server.errors)
        assert f"client={'203.0.113.9' if listed else '127.0.0.1'}" in server.errors
        said["x-forwarded-for"] = "nobody code=ok"  # as a proxy passes on that adds nothing
        assert server.post(message("ping", era="2025"), "2025", **said).status_code == 401
        wait_for(lambda: server.errors.count("audit: refused code=missing_token") == 2)
        assert "code=ok" not in server.errors


class TestConnections:
    def test_that_say_nothing_are_closed(self, tmp_path: Path, config: dict[str, Any], start: Start) -> None:
        config["konstruct"]["http"] |= {"header_timeout_s": 0.5, "body_timeout_s": 0.5}
        with (
            start(write(tmp_path, config)) as server,
            server.connection() as silent,
            server.connection() as slow,
        ):
            slow.sendall(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n")  # and no more
            assert silent.recv(100) == b""
            assert slow.recv(100) == b""
            with server.connection() as trickling:
                trickling.sendall(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
                assert trickling.recv(100).startswith(b"HTTP/1.1 408 ")
            assert server.ask("ping", era="2025") == {}

    @pytest.mark.parametrize(
        "begin", [b"", b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"], ids=["headers", "trailers"]
    )
    def test_with_endless_headers_are_closed(self, shared: HttpProcess, begin: bytes) -> None:
        with shared.connection() as endless:
            endless.sendall(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n" + begin)
            try:
                for _ in range(100):
                    endless.sendall(b"x-more: " + b"x" * 2000 + b"\r\n")
                answer = endless.recv(100)
            except ConnectionError:
                answer = b""
            assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
        assert shared.ask("ping", era="2025") == {}

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_that_offer_another_protocol_are_answered_in_this_one(self, shared: HttpProcess, is_chunked: bool) -> None:
        """As Java's own client does, by default."""
        head, _, length = PING.partition(b"content-length")
        head += b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
        chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
        rest = b"transfer-encoding: chunked\r\n\r\n" + chunk if is_chunked else b"content-length" + length
        with shared.connection() as connection:
            for _ in range(2):
                connection.sendall(head + rest)
                assert b'"result":{}' in answered(connection)

    def test_with_too_long_a_head_are_told_so_though_it_comes_at_once(self, shared: HttpProcess) -> None:
        for length, status in ((60_000, b"200"), (70_000, b"431")):
            with shared.connection() as connection:
                connection.sendall(PING.replace(b"host:", b"x-long: %s\r\nhost:" % (b"x" * length)))
                assert connection.recv(100).startswith(b"HTTP/1.1 %s " % status)

    def test_with_endless_headers_behind_a_request_under_way_are_closed(self, shared: HttpProcess) -> None:
        sent = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        with shared.connection() as listening:
            listening.sendall(b"\r\n".join(shared.written(sent, "2026")))
            said = b""
            while b"acknowledged" not in said:
                said += listening.recv(65536)
            assert is_closed(listening, b"POST /mcp HTTP/1.1\r\n", b"x-more: " + b"x" * 2000 + b"\r\n")

    def test_with_endless_trailers_are_closed(self, shared: HttpProcess) -> None:
        with shared.connection() as connection:
            head = PING.partition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n0\r\n"
            assert is_closed(connection, head, b"x-more: " + b"x" * 2000 + b"\r\n")

    def test_may_send_a_body_in_many_small_pieces(self, shared: HttpProcess) -> None:
        with shared.connection() as connection:
            connection.sendall(PING.partition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n")
            connection.sendall(b"1\r\n \r\n" * 100_000 + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
            assert b'"result":{}' in answered(connection)

    @contextmanager
    def with_a_call(self, server: HttpProcess, openai: Provider) -> Iterator[socket.socket]:
        """A connection whose first request is a call that is under way."""
        openai.script(Hang())
        with server.connection() as connection:
            connection.sendall(b"\r\n".join(server.written(message("tools/call", call("paid"), "2025"), "2025")))
            openai.wait_for(lambda: openai.in_flight == 1)
            yield connection

    def test_with_endless_headers_behind_a_call_are_closed(self, server: HttpProcess, openai: Provider) -> None:
        with self.with_a_call(server, openai) as endless:
            with suppress(ConnectionError):
                endless.sendall(b"POST /mcp HTTP/1.1\r\n" + (b"x-more: " + b"x" * 2000 + b"\r\n") * 100)
            openai.wait_for(lambda: openai.disconnected == 1)

    def test_that_are_lost_cancel_a_call_with_other_requests_behind_it(
        self, server: HttpProcess, ledger: Database, openai: Provider
    ) -> None:
        with self.with_a_call(server, openai) as connection:
            connection.sendall(PING)
        wait_for(lambda: bool(ledger.rows()))
        assert ledger.rows()[0]["outcome"] == "cancelled"
        assert server.ask("ping", era="2025") == {}
        assert "Traceback" not in server.errors

    @pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
    def test_that_are_idle_keep_nobody_out(self, shared: HttpProcess, count: int) -> None:
        idle = [shared.connection() for _ in range(count)]
        assert shared.ask("ping", era="2025") == {}
        for one in idle:
            with one:
                one.sendall(PING)
                assert b'"result":{}' in answered(one)

    def test_that_are_idle_behind_an_answer_are_kept_for_as_long_as_the_config_says(
        self, tmp_path: Path, config: dict[str, Any], start: Start
    ) -> None:
        config["konstruct"]["http"] |= {"keep_alive_s": 1}
        with start(write(tmp_path, config)) as server, server.connection() as connection:
            for _ in range(2):
                connection.sendall(PING)
                assert b'"result":{}' in answered(connection)
            assert connection.recv(100) == b""  # before this test's own patience of a minute; else it is 75 s
        assert HttpSettings().keep_alive_s == 75

    def test_may_send_requests_before_the_first_is_answered(self, shared: HttpProcess) -> None:
        with shared.connection() as connection:
            connection.sendall(PING * 3)
            said = answered(connection, 3)
            assert said.count(b"HTTP/1.1 200 OK") == 3

    def test_are_encrypted_where_the_config_names_a_certificate(
        self, tmp_path: Path, config: dict[str, Any], start: Start
    ) -> None:
        file = self_signed_file(tmp_path)
        config["konstruct"]["http"] |= {"tls_cert": str(file), "tls_key": str(file)}
        with start(write(tmp_path, config)) as server:
            assert server.url.startswith("https://127.0.0.1:")
            assert server.ask("ping", era="2025") == {}

    @pytest.mark.parametrize("fault", ["gone", "no certificate"])
    def test_are_refused_where_the_certificate_cannot_be_used(
        self, tmp_path: Path, config: dict[str, Any], start: Start, fault: str
    ) -> None:
        file = self_signed_file(tmp_path)
        if fault == "gone":
            file.unlink()
        else:
            file.write_text("nothing of the kind")
        config["konstruct"]["http"] |= {"tls_cert": str(file), "tls_key": str(file)}
        server = start(write(tmp_path, config))
        assert server.ended() == 1
        why = {
            "gone": "tls_cert: No such file or directory",
            "no certificate": "tls_cert should have a certificate and tls_key its key without a password, both in PEM",
        }
        assert server.errors.splitlines()[-1] == f"error: listen: the TLS files cannot be used: {why[fault]}"
        assert "Traceback" not in server.errors


def test_a_server_that_is_killed_leaves_its_call_on_the_account(
    tmp_path: Path, config: dict[str, Any], start: Start, ledger: Database, openai: Provider
) -> None:
    openai.script(Hang(), Text("again"))
    path = write(tmp_path, config)
    with (
        start(path) as server,
        pytest.raises(httpx2.HTTPError),
        server.under_way("paid", "2025") as response,
    ):
        openai.wait_for(lambda: openai.in_flight == 1)
        server.process.kill()
        response.read()
    assert ledger.reserved("default") > 0  # held, until its lease runs out: the provider may bill it
    assert ledger.rows() == []
    with start(path) as server:
        assert not server.complete("paid")["isError"]
    assert [row["outcome"] for row in ledger.rows()] == ["ok"]


class TestTheEnd:
    def test_lets_calls_finish(self, server: HttpProcess, ledger: Database, openai: Provider) -> None:
        openai.script(Gate("in time"))
        with server.under_way("paid", "2025") as response:
            openai.wait_for(lambda: openai.in_flight == 1)
            server.terminate()
            wait_for(lambda: "requests under way: 1" in server.errors)
            openai.release()
            assert "in time" in response.read().decode()
        assert server.ended() == 0
        assert [row["outcome"] for row in ledger.rows()] == ["ok"]

    @pytest.mark.parametrize("era", ["2026", "2025"])
    @pytest.mark.parametrize("again", [False, True])
    def test_cancels_and_records_the_rest(
        self,
        tmp_path: Path,
        config: dict[str, Any],
        start: Start,
        ledger: Database,
        openai: Provider,
        era: str,
        again: bool,
    ) -> None:
        config["konstruct"]["http"] |= {"drain_s": 60 if again else 0}
        openai.script(Hang())
        with (
            start(write(tmp_path, config)) as server,
            server.under_way("paid", era) as response,
        ):
            openai.wait_for(lambda: openai.in_flight == 1)
            server.terminate()
            if again:
                wait_for(lambda: "requests under way: 1" in server.errors)
                server.process.send_signal(signal.SIGINT)
            assert "this server is ending; ask again" in response.read().decode()
            assert server.ended() == 0
        assert [row["outcome"] for row in ledger.rows()] == ["cancelled"]
        assert ledger.reserved("default") == 0

    def test_is_announced_before_it_comes(
        self, tmp_path: Path, config: dict[str, Any], start: Start, openai: Provider
    ) -> None:
        config["konstruct"]["http"] |= {"pause_s": 60, "drain_s": 0}
        with start(write(tmp_path, config)) as server:
            wait_for(lambda: server.http.get(f"{server.root}/readyz").status_code == 200)
            server.terminate()
            wait_for(lambda: "requests under way" in server.errors)
            response = server.http.get(f"{server.root}/readyz")
            assert response.status_code == 503
            assert response.json()["reasons"] == ["ending: calls under way are finished, and no others should come"]
            assert server.http.get(f"{server.root}/healthz").status_code == 200
            openai.script(Text("still answered"))
            assert not server.complete("paid")["isError"]
            server.process.send_signal(signal.SIGTERM)
            assert server.ended() == 0

    def test_lets_a_request_finish_that_is_on_its_way_in(self, server: HttpProcess, openai: Provider) -> None:
        openai.script(Text("in time"))
        head, body = server.written(message("tools/call", call("paid"), "2025"), "2025", expect="100-continue")
        with server.connection() as connection:
            connection.sendall(head + b"\r\n")
            assert b"100 Continue" in connection.recv(65536)
            server.terminate()
            wait_for(lambda: "requests under way: 0" in server.errors)
            connection.sendall(body)
            assert b"in time" in answered(connection)
        assert server.ended() == 0

    def test_ends_streams_of_notices(self, server: HttpProcess) -> None:
        sent = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        with server.http.stream("POST", server.url, json=sent, headers=headers_for(sent, "2026")) as response:
            lines = response.iter_lines()
            while "acknowledged" not in next(lines):
                pass
            server.terminate()
            assert any(f'"id":{sent["id"]}' in line for line in lines)  # its result: an end on purpose
        assert server.ended() == 0


def test_many_at_once_are_all_answered(server: HttpProcess, ollama: Provider, ledger: Database) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: server.complete("free", ("2026", "2025")[n % 2]), range(60)))
    assert not any(answer["isError"] for answer in answers)
    assert len(ledger.rows()) == 60
