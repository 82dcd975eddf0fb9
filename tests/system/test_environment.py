"""What a machine does to a server: disks that are full or read-only, no home, no files left to open, wrong clocks.

It starts and answers, says once on stderr what is wrong, and counts what it can; or it does not start, and says why.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support.commands import Ran, ended, run
from support.databases import Database, sqlite
from support.default_groups import HELLO, opened, write
from support.file_systems import fill, inside, is_mounting, needs_mounts, read_only, small, with_mounts
from support.fork_server import ForkServer
from support.priced_config import COST_NUSD, OUTPUT_NUSD, MakeConfig, priced_config
from support.processes import WAIT_S, wait_for
from support.providers import Gate, Provider
from support.stdio_lines import SERVER, ServerProcess

from konstruct_mcp import BudgetExceededError, Konstruct
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.core.spending import Call
from konstruct_mcp.ledger.ledger import Ledger
from konstruct_mcp.ledger.migrations import upgrade

REPOSITORY = Path(__file__).parents[2]
LEDGER = "konstruct-mcp/ledger.sqlite3"
IN_HOME = f".local/share/{LEDGER}"
OUT_OF_REACH = "ledger: the ledger is out of reach; try again later"
LIMITED = {"limited": {"budgets": [{"usd": 1, "per": "day"}]}}


@dataclass(frozen=True)
class Situation:
    """Where a server is to keep its accounts; `FOLDER` stands for the test's own.

    says: what of that is wrong, as the one line on stderr; "" for nothing
    why: what a command that reads the ledger says, where it cannot be
    spools: whether calls go to the spool
    waiting: how many calls of another server wait in a spool that can be read
    """

    environ: Mapping[str, str]
    says: str = ""
    why: str = ""
    spools: bool = False
    waiting: int = 0


def in_home(name: str, **more: str) -> dict[str, str]:
    return {"HOME": f"FOLDER/{name}", "XDG_DATA_HOME": "", **more}


def in_data(name: str) -> dict[str, str]:
    return {"XDG_DATA_HOME": f"FOLDER/{name}"}


def nowhere(ledger: str, why: str, spool: str = "") -> str:
    return (
        f"ERROR: neither the ledger ({why}: {ledger}) nor its spool ({spool or why}: {ledger}.spool) can be written; "
        "calls are kept in memory, and lost if this process ends first"
    )


def spooling(ledger: str, why: str, cure: str = "") -> str:
    return f"WARNING: the ledger cannot be written ({why}: {ledger}{cure}); calls go to its spool until it can"


def no_spool(ledger: str, why: str) -> str:
    return (
        f"WARNING: the spool of the ledger cannot be written ({why}: {ledger}.spool); "
        "without the ledger, calls are kept in memory, and lost if this process ends first"
    )


FILE, FOLDER = "a file is where its folder should be", "Is a directory"
SITUATIONS = {
    "all is well": Situation(in_data("well")),
    "a home that is not there": Situation(in_home("made/by/us")),
    "a data folder that is relative": Situation(in_home("relative", XDG_DATA_HOME="data")),
    "a home that is a file": Situation(
        in_home("file"), nowhere(f"FOLDER/file/{IN_HOME}", "Not a directory"), "Not a directory"
    ),
    "a home that cannot be made": Situation(
        {"HOME": "/proc/nobody", "XDG_DATA_HOME": ""},
        nowhere(f"/proc/nobody/{IN_HOME}", "No such file or directory"),
        "No such file or directory",
    ),
    "a file in place of the data folder": Situation(
        in_data("data-is-file"), nowhere(f"FOLDER/data-is-file/{LEDGER}", FILE, "Not a directory"), FILE
    ),
    "a folder in place of the ledger": Situation(
        in_data("ledger-is-folder"), spooling(f"FOLDER/ledger-is-folder/{LEDGER}", FOLDER), FOLDER, spools=True
    ),
    "a ledger that is none": Situation(
        in_data("garbage"),
        spooling(f"FOLDER/garbage/{LEDGER}", "file is not a database"),
        "file is not a database",
        spools=True,
    ),
    "a file in place of the spool": Situation(
        in_data("spool-is-file"), no_spool(f"FOLDER/spool-is-file/{LEDGER}", FILE)
    ),
    "neither a ledger nor a spool": Situation(
        in_data("neither"), nowhere(f"FOLDER/neither/{LEDGER}", FOLDER, FILE), FOLDER
    ),
}
READ_ONLY, FULL = "Read-only file system", "No space left on device"
MOUNTED = {
    "a read-only home": Situation(in_home("ro-home"), nowhere(f"FOLDER/ro-home/{IN_HOME}", READ_ONLY), READ_ONLY),
    "a read-only ledger": Situation(
        in_data("ro-ledger"), spooling(f"FOLDER/ro-ledger/{LEDGER}", READ_ONLY), READ_ONLY, spools=True
    ),
    "a read-only spool": Situation(
        in_data("ro-spool"),
        no_spool(f"FOLDER/ro-spool/{LEDGER}", READ_ONLY) + "\nWARNING: in the ledger now: 1 call that had to wait",
        waiting=1,
    ),
    "a full disk": Situation(
        in_data("full"), nowhere(f"FOLDER/full/{LEDGER}", "database or disk is full", FULL), "database or disk is full"
    ),
}


def lay_out(folder: Path) -> None:
    """What the situations are made of, as far as it needs no mount."""
    for name in ("ledger-is-folder", "neither", "ro-ledger", "ro-spool", "garbage", "spool-is-file", "data-is-file"):
        (folder / name / "konstruct-mcp").mkdir(parents=True)
    (folder / "ro-home").mkdir()
    (folder / "file").touch()
    (folder / "data-is-file/konstruct-mcp").rmdir()
    (folder / "data-is-file/konstruct-mcp").touch()
    for name in ("ledger-is-folder", "neither"):
        (folder / name / LEDGER).mkdir()
    for name in ("spool-is-file", "neither"):
        (folder / name / f"{LEDGER}.spool").touch()
    (folder / "garbage" / LEDGER).write_bytes(os.urandom(20_000))
    (folder / "ro-ledger" / LEDGER).touch()
    (folder / "ro-spool" / f"{LEDGER}.spool").mkdir()
    waiting = asdict(Call("waiting", "2026-01-01T00:00:00Z", "acme", "paid", None, None, (), 0, 1, "timeout", 1))
    (folder / "ro-spool" / f"{LEDGER}.spool/waiting.json").write_text(json.dumps(waiting))


def mounts(folder: Path) -> list[str]:
    return [
        read_only(folder / "ro-home"),
        read_only(folder / "ro-ledger" / LEDGER),
        read_only(folder / "ro-spool" / f"{LEDGER}.spool"),
        small(folder / "full"),
        fill(folder / "full"),
    ]


@pytest.fixture
def config(tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider) -> Path:
    """Of calls that nobody's budget pays for, and of one tenant that has one."""
    return write(tmp_path, priced_config(None, openai, anthropic, ollama, allow_unknown=True, tenants=LIMITED))


@dataclass(frozen=True)
class Mounted:
    """A fork server whose servers see the mounts in `folder`; where none may be made, it does without."""

    fork_server: ForkServer | None
    folder: Path


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    folder = tmp_path_factory.mktemp("mounted")
    for form in ("short", "long"):
        lay_out(folder / form)
    valid = folder / "valid" / LEDGER
    valid.parent.mkdir(parents=True)
    with sqlite(valid.parent).engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        upgrade(connection)
        connection.commit()
    connection.engine.dispose()
    commands = [read_only(valid), *mounts(folder / "short"), *mounts(folder / "long"), small(folder / "disk")]
    if not hasattr(os, "pidfd_open"):
        yield Mounted(None, folder)
        return
    with ForkServer(with_mounts(*commands) if is_mounting() else ()) as fork_server:
        yield Mounted(fork_server, folder)


def started(fork_server: ForkServer | None, environ: Mapping[str, str], *arguments: str) -> Any:
    if fork_server is not None:
        return fork_server.start(environ, arguments)
    pipe = subprocess.PIPE
    return subprocess.Popen([*SERVER, *arguments], env=dict(environ), stdin=pipe, stdout=pipe, stderr=pipe)


def total(server: ServerProcess) -> int:
    """How many calls the ledger has, by the server that reads it."""
    result = server.answer(server.send("resources/read", {"uri": "konstruct://usage"})).get("result")
    return int(json.loads(result["contents"][0]["text"])["total"]["calls"]) if result else -1


def complaints(server: ServerProcess, folder: Path) -> list[str]:
    """What stands on stderr, without our name and the places."""
    lines = server.errors.decode().replace(str(folder), "FOLDER").splitlines()
    return [line.removeprefix("konstruct-mcp: ") for line in lines]


FEW = ("a home that cannot be made", "a read-only spool", "a full disk")


@pytest.mark.parametrize("form", ["short", pytest.param("long", marks=pytest.mark.long)])
def test_a_place_for_the_accounts_that_is_none_is_one_line_and_no_call_fails_for_it(
    form: str, config: Path, mounted: Mounted
) -> None:
    fork_server, folder = mounted.fork_server, mounted.folder / form
    there = SITUATIONS | (MOUNTED if fork_server is not None and is_mounting() else {})
    situations = {name: it for name, it in there.items() if form == "long" or name in FEW}
    environs = {
        name: {
            "PATH": os.environ["PATH"],
            "KONSTRUCT_CONFIG": str(config),
            **{key: value.replace("FOLDER", str(folder)) for key, value in it.environ.items()},
        }
        for name, it in situations.items()
    }
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(ServerProcess(config, environ=environs[name], fork_server=fork_server))
            for name in situations
        }
        for server in servers.values():
            server.initialize()
        asked = {
            name: [server.send_call(group, tenant_id="acme") for group in ("free", "paid", "free")]
            for name, server in servers.items()
        }
        limited = {name: server.send_call("paid", tenant_id="limited") for name, server in servers.items()}
        for name, requests in asked.items():
            for request in requests:
                assert not servers[name].answer(request)["result"]["isError"], name
        refused = {}
        for name, server in servers.items():
            result = server.answer(limited[name])["result"]
            refused[name] = result["content"][0]["text"] if result["isError"] else ""
        reading = {name: started(fork_server, environs[name], "usage", "--json") for name in situations}
        usage = {name: ended(process) for name, process in reading.items()}
        ends = {}
        for name, server in servers.items():
            server.close_stdin()
            ends[name] = server.wait()

    said = {name: complaints(server, folder) for name, server in servers.items()}
    assert said == {name: it.says.splitlines() for name, it in situations.items()}
    assert ends == dict.fromkeys(situations, 0)
    # Where a budget cannot be checked, nothing that costs money is asked; where it can, nothing is in the way.
    assert refused == {name: OUT_OF_REACH if it.why else "" for name, it in situations.items()}
    spooled = len(list(folder.glob("**/*.spool/*.json")))
    assert spooled == sum(4 * it.spools + it.waiting for it in situations.values())
    for name, it in situations.items():
        if it.why:
            complaint = f"error: ledger: the ledger is out of reach ({it.why}); try again later\n"
            assert usage[name] == Ran(1, "", complaint), name
        else:
            assert (usage[name].code, usage[name].err) == (0, ""), name
            assert json.loads(usage[name].out)["total"]["calls"] == 4 + it.waiting, name


@pytest.mark.long
def test_a_command_says_it_in_one_line_too(tmp_path: Path, config: Path, fork_server: ForkServer | None) -> None:
    why, place = "No such file or directory", f"/proc/nobody/{IN_HOME}"
    environ = {"PATH": os.environ["PATH"], "KONSTRUCT_CONFIG": str(config), "HOME": "/proc/nobody"}
    commands = {name: started(fork_server, environ, name) for name in ("usage", "budgets", "check")}
    answering = started(fork_server, environ, "complete", "Hello", "--group", "free")
    error = f"error: ledger: the ledger is out of reach ({why}); try again later\n"
    assert ended(commands["usage"]) == ended(commands["budgets"]) == Ran(1, "", error)
    checked = ended(commands["check"])
    assert (checked.code, checked.err) == (1, "")
    assert f"ledger: {place}; the ledger is out of reach ({why}); try again later\n" in checked.out
    answered = ended(answering)
    assert (answered.code, answered.out) == (0, "Hello from ollama\n")
    complaint, summary = answered.err.splitlines()
    assert complaint == f"konstruct-mcp: {nowhere(place, why)}"
    assert summary.startswith("(ollama/qwen3:8b, ")


def test_a_ledger_that_can_only_be_read_is_read_and_no_account_can_be_kept(config: Path, mounted: Mounted) -> None:
    needs_mounts()
    folder = mounted.folder / "valid"
    environ = {"PATH": os.environ["PATH"], "KONSTRUCT_CONFIG": str(config), "XDG_DATA_HOME": str(folder)}
    read = ended(started(mounted.fork_server, environ, "usage", "--json"))
    assert (read.code, read.err, json.loads(read.out)["total"]["calls"]) == (0, "", 0)
    checked = ended(started(mounted.fork_server, environ, "check"))
    assert (checked.code, checked.err) == (1, "")
    why = "the ledger is out of reach (attempt to write a readonly database); try again later"
    assert f"ledger: {folder / LEDGER}; {why}\n" in checked.out


def test_a_disk_that_fills_while_it_runs_loses_no_call(config: Path, mounted: Mounted) -> None:
    """A file system of two megabytes: full for the ledger, then for its spool too, then free again."""
    needs_mounts()
    disk = mounted.folder / "disk"
    with ServerProcess(config, environ={"XDG_DATA_HOME": str(disk)}, fork_server=mounted.fork_server) as server:
        server.initialize()
        assert not server.complete("free")["isError"]
        inside(server.process.pid, fill(disk))
        for calls in (20, 5):
            for _ in range(calls):
                assert not server.complete("paid", tenant_id="acme")["isError"]
            waiting = inside(server.process.pid, f"ls {disk}/{LEDGER}.spool/*.json")
            assert len(waiting.split()) == 20
            inside(server.process.pid, fill(disk))  # what the spool had kept free
        inside(server.process.pid, f"rm {disk}/filling.*")
        wait_for(lambda: total(server) == 26)
    place = f"FOLDER/{LEDGER}"
    assert complaints(server, disk) == [
        spooling(place, "database or disk is full"),
        no_spool(place, FULL).replace("WARNING", "ERROR"),
        "WARNING: the ledger is written again, with 25 calls that had to wait",
    ]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """For a ledger and its spool: a file, where neither can be made until it is gone."""
    made = tmp_path / "place"
    made.touch()
    return made


def give_way(place: Path) -> None:
    place.unlink()


@asynccontextmanager
async def opened_at(place: Path, config: Path, **more: Any) -> AsyncIterator[Konstruct]:
    ledger = Ledger(f"sqlite:///{place}/ledger.sqlite3", place / "spool", **more)
    async with Konstruct(load_config(config), ledger=ledger) as konstruct:
        yield konstruct


def spooled(place: Path) -> list[Path]:
    return list(place.glob("spool/*.json"))


def rows(place: Path) -> list[str]:
    """The tenants of the calls in the ledger there."""
    database = sqlite(place)
    try:
        return [row["tenant"] for row in database.rows()]
    finally:
        database.engine.dispose()


async def test_what_nothing_takes_is_kept_within_a_bound_and_written_when_something_does(
    place: Path, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened_at(place, config, most_in_memory=5) as konstruct:
        for n in range(8):
            await konstruct.complete(HELLO, tenant_id=f"t{n}")
        give_way(place)
        assert (await konstruct.usage()).as_dict()["total"]["calls"] == 5
    assert rows(place) == [f"t{n}" for n in range(3, 8)]
    ledger, spool = f"{FILE}: {place}/ledger.sqlite3", f"Not a directory: {place}/spool"
    assert caplog.messages == [
        f"neither the ledger ({ledger}) nor its spool ({spool}) can be written; "
        "calls are kept in memory, and lost if this process ends first",
        "no more than 5 calls are kept in memory: the oldest are lost",
        "the ledger is written again, with 5 calls that had to wait; 3 calls lost",
    ]


async def test_what_nothing_takes_goes_to_the_spool_as_soon_as_that_can_be_written(place: Path, config: Path) -> None:
    async with opened_at(place, config) as konstruct:
        for _ in range(3):
            await konstruct.complete(HELLO)
        give_way(place)
        (place / "ledger.sqlite3").mkdir(parents=True)
        await asyncio.to_thread(wait_for, lambda: len(spooled(place)) == 3)


async def test_what_nothing_takes_is_kept_at_the_end_if_something_takes_it_then(place: Path, config: Path) -> None:
    async with opened_at(place, config) as konstruct:
        for _ in range(3):
            await konstruct.complete(HELLO)
        give_way(place)
    async with opened_at(place, config) as konstruct:
        assert (await konstruct.usage()).as_dict()["total"]["calls"] == 3


async def test_a_call_waits_no_longer_for_the_database_than_it_is_told_and_half_a_second_at_least(
    tmp_path: Path,
) -> None:
    database = sqlite(tmp_path)
    ledger = Ledger(database.url, tmp_path / "spool")
    ledger.start()
    await ledger.opened()
    now = datetime.now(UTC).isoformat()

    async def record(name: str, within_s: float) -> float:
        began = time.monotonic()
        await ledger.record(Call(name, now, "acme", "paid", None, None, (), 0, 1, "ok", 1), within_s=within_s)
        return time.monotonic() - began

    with database.locked():
        took = await asyncio.gather(record("late", -7), record("soon", 0.8))
        assert len(spooled(tmp_path)) == 2
    assert (took[0] >= 0.5, took[1] >= 0.8, max(took) < 3) == (True, True, True)
    await asyncio.to_thread(wait_for, lambda: not spooled(tmp_path))
    await ledger.aclose()
    assert database.value("SELECT count(*) FROM konstruct_calls") == 2
    database.engine.dispose()


def test_a_process_that_may_open_no_more_files_still_writes_its_ledger(
    tmp_path: Path, config: Path, fork_server: ForkServer | None
) -> None:
    with ServerProcess(config, environ={"XDG_DATA_HOME": str(tmp_path)}, fork_server=fork_server) as server:
        server.initialize()
        assert not server.complete("paid")["isError"]
        assert total(server) == 1
        # The connection to the provider is kept, and so is what the ledger needs.
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        few = psutil.Process(server.process.pid).num_fds()
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (few, limits[1]))
        for _ in range(3):
            assert not server.complete("paid")["isError"]
        assert [total(server) for _ in range(3)] in ([-1] * 3, [4] * 3)
        assert not server.complete("paid")["isError"]
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
        assert total(server) == 5
    assert len(server.errors.splitlines()) <= 1  # at most that it cannot be read


@pytest.mark.parametrize("has_budgets", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_ledger_that_is_removed_while_it_is_open_is_missed_where_there_are_budgets(
    tmp_path: Path, config: Path, fork_server: ForkServer | None, has_budgets: bool
) -> None:
    """What is written to a file without a name, nobody finds. What was spent of a budget is not known any more, until
    somebody says that it is to count no more."""
    environ = {"XDG_DATA_HOME": str(tmp_path)}
    if not has_budgets:
        write(tmp_path, {**yaml.safe_load(config.read_text()), "konstruct": {"default_group": "paid"}})
    with ServerProcess(config, environ=environ, fork_server=fork_server) as server:
        server.initialize()
        assert not server.complete("paid", tenant_id="limited")["isError"]
        shutil.rmtree(tmp_path / "konstruct-mcp")
        assert not server.complete("paid", tenant_id="acme")["isError"]
        limited = server.complete("paid", tenant_id="limited")
        if has_budgets:
            assert limited["content"][0]["text"].startswith("ledger: the ledger that was here is gone")
            assert not (tmp_path / LEDGER).exists()
            ran = run("ledger", "accept-new", env=environ)  # whatever the config: this one has no budgets
            assert (ran.code, ran.err) == (0, "")
            assert ran.out.startswith(f"{tmp_path / LEDGER} is the ledger now, with 2 calls in it; ")
            wait_for(lambda: not server.complete("paid", tenant_id="limited")["isError"])
        else:
            assert not limited["isError"]
    how_on = "; put it back, or run `konstruct-mcp ledger accept-new` to begin with what is there now"
    said, again = complaints(server, tmp_path)
    assert said == spooling(f"FOLDER/{LEDGER}", "its file was moved or removed", how_on if has_budgets else "")
    assert again.startswith("WARNING: the ledger is written again")
    assert "acme" in rows(tmp_path / "konstruct-mcp")


def test_what_lies_in_the_spool_and_cannot_be_moved_is_told_once(
    tmp_path: Path, config: Path, fork_server: ForkServer | None
) -> None:
    spool = tmp_path / f"{LEDGER}.spool"
    (spool / "b.bad/full").mkdir(parents=True)
    (spool / "b.json").write_bytes(b"half a ro")
    with ServerProcess(config, environ={"XDG_DATA_HOME": str(tmp_path)}, fork_server=fork_server) as server:
        server.initialize()
        for _ in range(5):
            assert not server.complete("paid", tenant_id="limited")["isError"]
        assert total(server) == 5
    assert complaints(server, tmp_path) == ["ERROR: a row of the spool is damaged and is put aside: b.json"]


def test_a_full_stderr_and_no_temporary_folder_are_in_nobody_s_way(
    tmp_path: Path, config: Path, fork_server: ForkServer | None
) -> None:
    (tmp_path / LEDGER).mkdir(parents=True)
    with config.open("a") as file:
        file.write("general_settings: {}\n")  # has no effect here, of which it warns at its start
    environ = {"XDG_DATA_HOME": str(tmp_path), "KONSTRUCT_LOG_LEVEL": "DEBUG", "TMPDIR": "/nowhere"}
    with ServerProcess(config, environ=environ, fork_server=fork_server, stderr=Path("/dev/full")) as server:
        server.initialize()
        assert not server.complete("paid")["isError"]
        server.close_stdin()
        assert server.wait() == 0
    assert len(list(tmp_path.glob(f"{LEDGER}.spool/*.json"))) == 1


@pytest.mark.long
def test_a_current_folder_that_is_gone_is_not_needed(tmp_path: Path, config: Path) -> None:
    (tmp_path / "gone").mkdir()
    leave = f"cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec {shlex.join(SERVER)}"
    environ = {"XDG_DATA_HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    with ServerProcess(config, environ=environ, command=["sh", "-c", leave]) as server:
        server.initialize()
        assert not server.complete("free")["isError"]
    assert server.errors == b""


def test_a_user_without_a_home_is_told_what_is_needed() -> None:
    needs_mounts()
    nobody = ["unshare", "--user", "--map-user=64999", "--map-group=64999", "env", "-i"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    command = [*nobody, *(f"{name}={value}" for name, value in environ.items()), *SERVER, "usage"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
    said = "  KONSTRUCT_LEDGER_URL: is needed: this user has no data folder for the ledger\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", f"the built-in config cannot be used:\n{said}")


class TestAClockThatWasAhead:
    """By a year, and is right again. What it has left behind is written here as it would have."""

    YEAR = timedelta(days=365)

    @pytest.fixture
    def limit(self) -> dict[str, Any]:
        """Affords one call at a time."""
        return {"usd": 320 * OUTPUT_NUSD / 1e9, "per": "day"}

    @staticmethod
    def stands_for_s(database: Database) -> float:
        """How long the only reservation stands."""
        return float(database.value("SELECT lapses_at FROM konstruct_reservations")) - time.time()

    async def test_leaves_no_reservation_that_stands_for_longer_than_another(
        self,
        limit: dict[str, Any],
        tmp_path: Path,
        database: Database,
        priced: MakeConfig,
    ) -> None:
        config = priced(budgets=[limit])
        async with opened(tmp_path, config) as konstruct:
            await konstruct.complete(HELLO, max_tokens=1)
        lapses_at = int((datetime.now(UTC) + self.YEAR).timestamp())
        columns = 'call_id, attempt, owner, tenant, "group", amount_nusd, lapses_at'
        values = f"'c', 1, 'dead', 'default', 'paid', {200 * OUTPUT_NUSD}, {lapses_at}"
        database.run(f"INSERT INTO konstruct_reservations ({columns}) VALUES ({values})")
        async with opened(tmp_path, config) as konstruct:
            await konstruct.opened()
            assert self.stands_for_s(database) <= 120
            with pytest.raises(BudgetExceededError):
                await konstruct.complete(HELLO, max_tokens=200)
            database.run("UPDATE konstruct_reservations SET lapses_at = lapses_at - 121")  # two minutes later
            [state] = await konstruct.budgets("default")
            assert (state.reserved_nusd, state.held_nusd) == (0, 200 * OUTPUT_NUSD)
            assert (await konstruct.complete(HELLO, max_tokens=1)).content

    async def test_takes_no_reservation_from_a_server_that_is_still_there(
        self,
        limit: dict[str, Any],
        tmp_path: Path,
        database: Database,
        openai: Provider,
        priced: MakeConfig,
    ) -> None:
        config = priced(budgets=[limit])
        openai.script(Gate("held"))
        async with opened(tmp_path, config) as one, opened(tmp_path, config) as other:
            call = asyncio.ensure_future(one.complete(HELLO, max_tokens=200))
            await openai.until(lambda: openai.in_flight == 1)
            ahead = int(self.YEAR.total_seconds())
            database.run(f"UPDATE konstruct_reservations SET lapses_at = lapses_at + {ahead}")
            for _ in range(2):
                with pytest.raises(BudgetExceededError):
                    await other.complete(HELLO, max_tokens=200)
            assert 100 < self.stands_for_s(database) <= 120
            openai.release()
            await call
        assert database.spent("default") == COST_NUSD

    @pytest.mark.many_cases
    @pytest.mark.parametrize("per", ["day", "month", "total"])
    async def test_leaves_no_spending_in_the_present_window(
        self, per: str, tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider
    ) -> None:
        """It counts when its day has come; and to a budget that never renews, now."""
        database = sqlite(tmp_path)
        budget = {"usd": 300 * OUTPUT_NUSD / 1e9, "per": per}
        async with opened(tmp_path, priced_config(database, openai, anthropic, ollama, budgets=[budget])) as konstruct:
            await konstruct.complete(HELLO, max_tokens=1)
            ahead = (datetime.now(UTC).date() + self.YEAR).isoformat()
            database.run(f"UPDATE konstruct_spend SET day = '{ahead}'")
            [state] = await konstruct.budgets("default")
            assert state.spent_nusd == (COST_NUSD if per == "total" else 0)
            [line] = (await konstruct.usage(since=ahead)).lines
            assert (line.day, line.cost_nusd) == (ahead, COST_NUSD)
