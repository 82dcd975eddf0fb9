"""What is no request, or nearly one: the server says so, or closes the connection, and goes on."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
from support.default_groups import entry, write
from support.fork_server import ForkServer
from support.http_process import HttpProcess

POST = (
    b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"accept: application/json, text/event-stream\r\n"
)
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
GET = b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n"
REQUESTS = {  # each with the status of its answer; None where more of it is waited for
    "a ping": (POST + b"content-length: 40\r\n\r\n" + PING, 200),
    "a ping in pieces": (POST + b"transfer-encoding: chunked\r\n\r\n28\r\n" + PING + b"\r\n0\r\n\r\n", 200),
    "no HTTP": (b"\x00\xff\x13\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a length below zero": (POST + b"content-length: -5\r\n\r\n{}", 400),
    "a length of many digits": (POST + b"content-length: 99999999999999999999999\r\n\r\n{}", 400),
    "two lengths": (POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}x", 400),
    "a length with a sign": (POST + b"content-length: +2\r\n\r\n{}", 400),
    "a length and pieces": (POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
    "a piece of no length": (POST + b"transfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n", 400),
    "half a body": (POST + b"content-length: 100\r\n\r\n{", None),
    "half a header": (POST + b"x-mo", None),
    "no host": (b"POST /mcp HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}", 421),
    "another host by a whole address": (GET % b"http://evil.example/mcp", 405),  # it is the header that counts
    "a tunnel": (b"CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    "another path": (GET % b"/..%2f..%2fetc/passwd", 404),
    "a path of no text": (GET % b"/%ff%00", 404),
    "a WebSocket": (GET[:-2] % b"/mcp" + b"upgrade: websocket\r\nconnection: upgrade\r\n\r\n", 405),
}
END = ("waits", "ends its half", "breaks off")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer | None) -> Iterator[HttpProcess]:
    folder = tmp_path_factory.mktemp("fuzz")
    settings = {
        "model_list": [entry("free", {"model": "ollama/none"})],
        "konstruct": {
            "ledger_url": f"sqlite:///{folder / 'ledger.sqlite3'}",
            "http": {"pause_s": 0},
            "metrics": {"listen": "off"},
        },
    }
    with HttpProcess(write(folder, settings), fork_server=fork_server) as made:
        yield made


def send(server: HttpProcess, sent: bytes, end: str, *, wait_s: float) -> bytes:
    """The first bytes of the answer; none where there is none."""
    # It may close before it has read all.
    with suppress(OSError), server.connection() as connection:
        connection.sendall(sent)
        if end == "breaks off":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # by a reset
            return b""
        if end == "ends its half":
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(wait_s)
        return connection.recv(100)
    return b""


def goes_on(server: HttpProcess) -> None:
    assert server.ask("ping", era="2025") == {}
    assert server.http.get(f"{server.root}/healthz").status_code == 200
    # No line for what anybody sends, and no defect.
    expected = ("serving MCP", "nobody is asked for a key", "audit")
    assert all(any(words in line for words in expected) for line in server.said), server.errors


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_no_request_is_said_to_be_none(server: HttpProcess, name: str) -> None:
    sent, status = REQUESTS[name]
    for end in END:
        wait_s = 60 if status and end == "waits" else 0.05
        answer = send(server, sent, end, wait_s=wait_s)
        if status and end == "waits":
            assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    goes_on(server)


@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.long)])
def test_changed_bytes_are_taken_or_refused(server: HttpProcess, count: int) -> None:
    chance = random.Random(19)
    for _ in range(count):
        sent = bytearray(chance.choice([sent for sent, _ in REQUESTS.values()]))
        for _ in range(chance.randint(1, 8)):
            sent[chance.randrange(len(sent))] = chance.randrange(256)
        send(server, bytes(sent), chance.choice(END), wait_s=0.01)
    goes_on(server)
