"""Fixtures. Every call in the suite goes to a loopback fake or to the embedded model: no key and no real address of
the machine that runs the tests is ever seen by what is tested."""

from __future__ import annotations

import math
import os
import signal
import tempfile

# Before anything imports them: no price map and no `.env` from outside, as in the product.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"
os.environ["LITELLM_MODE"] = "PRODUCTION"
for _name in list(os.environ):
    if _name.upper().endswith(("_API_KEY", "_PROXY", "_BASE_URL", "_API_BASE", "_AUTH_TOKEN")) or _name.startswith(
        ("KONSTRUCT_", "OLLAMA_", "OPENAI_", "FORCE_COLOR")
    ):
        del os.environ[_name]
# Nor are the config and the ledger of whoever runs the tests.
os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="konstruct-tests-")
# Nor are the files of their clients, where a variable says where these are.
for _name in ("CLAUDE_CONFIG_DIR", "CLINE_MCP_SETTINGS_PATH", "CODEX_HOME", "CONTINUE_GLOBAL_DIR", "COPILOT_HOME"):
    os.environ.pop(_name, None)
# Nor is their keychain.
os.environ["PYTHON_KEYRING_BACKEND"] = "support.keychain.FileKeyring"
os.environ["TEST_KEYCHAIN"] = f"{os.environ['XDG_DATA_HOME']}/keychain"
# Nor does what is tested ignore Ctrl-C because a script has started the tests in its background.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from zlib import crc32

import pytest
from support.databases import Database, PostgreSQL, sqlite
from support.fork_server import ForkServer, shared
from support.priced_config import MakeConfig, priced_config
from support.providers import Provider

_ONE_IN = 4


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: for a third of their time the tests wait, for processes and for patience."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Choose what always runs of tests with a short and a long form.

    Of a test with many cases, one in four always runs, and the others are its long form. They are not chosen by their
    order, by which all of them might have the same value of some parameter. Of a test on two databases, that on the
    second is the long form.
    """
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("minutes"):
            item.add_marker("long")
        if item.get_closest_marker("two_databases") and "postgresql" in item.nodeid.partition("[")[2]:
            item.add_marker("long")
        if item.get_closest_marker("many_cases") and not item.get_closest_marker("long"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for of_one in cases.values():
        mixed = sorted(of_one, key=_number)
        for item in mixed[math.ceil(len(mixed) / _ONE_IN) :]:
            item.add_marker("long")


def _number(item: pytest.Item) -> int:
    """A number by which cases are mixed; the same wherever the test's file stands, so that a move chooses no others."""
    return crc32(f"tests/{item.path.name}::{item.nodeid.partition('::')[2]}".encode())


@pytest.fixture
def anthropic() -> Iterator[Provider]:
    with Provider("anthropic") as provider:
        yield provider


@pytest.fixture
def openai() -> Iterator[Provider]:
    with Provider("openai") as provider:
        yield provider


@pytest.fixture
def ollama() -> Iterator[Provider]:
    with Provider("ollama") as provider:
        yield provider


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server of our own, started when a test first asks for it."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database for one test, on each kind of server in turn."""
    if request.param == "sqlite":
        made = sqlite(tmp_path)
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        made = server.create()
    yield made
    made.engine.dispose()


@pytest.fixture(scope="session")
def fork_server() -> ForkServer | None:
    """The process that servers are forked from; None where the system cannot do that, and each starts by itself."""
    return shared()


@pytest.fixture
def priced(database: Database, openai: Provider, anthropic: Provider, ollama: Provider) -> MakeConfig:
    """Makes a config whose prices a test can reckon with, over this test's database and providers."""
    return partial(priced_config, database, openai, anthropic, ollama)
