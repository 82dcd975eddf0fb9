"""What tests of serving share: an account book, and servers over HTTP that start at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.databases import Database, sqlite
from support.fork_server import ForkServer
from support.http_process import HttpProcess, Start


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Database]:
    made = sqlite(tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture
def start(fork_server: ForkServer | None) -> Start:
    return partial(HttpProcess, fork_server=fork_server)
