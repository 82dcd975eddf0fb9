"""`ledger prune` and `ledger export`; and that an SQLite ledger is copied and taken back as the docs say."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pyarrow.parquet as pq
import pytest
from support.commands import LIMIT_S, Ran, ended, run, started
from support.databases import Database, sqlite
from support.default_groups import HELLO, opened, write
from support.priced_config import COST_NUSD, MakeConfig, priced_config
from support.providers import Drop, Provider

from konstruct_mcp import KonstructError

DOCS = Path(__file__).parents[2] / "docs"
OLD, OLD_DAY = "2020-02-29T10:00:00.000000Z", "2020-02-29"
EXPORT = "SELECT id, time, tenant, model, cost_nusd, most_nusd, outcome FROM konstruct_calls ORDER BY time, id"


@pytest.fixture
async def config(database: Database, priced: MakeConfig, openai: Provider, tmp_path: Path) -> Path:
    """Of a ledger with an old call of `acme`, and with two new ones of `other`, of which one has an unknown cost."""
    made = priced(tenants={"acme": {"budgets": [{"usd": 1, "per": "total"}]}}, allow_unknown=True)
    async with opened(tmp_path, made) as konstruct:
        await konstruct.complete(HELLO, tenant_id="acme")
        database.run(f"UPDATE konstruct_calls SET time = '{OLD}'", f"UPDATE konstruct_spend SET day = '{OLD_DAY}'")
        openai.script(Drop())
        with pytest.raises(KonstructError):
            await konstruct.complete(HELLO, tenant_id="other", model_group="unpriced")
        await konstruct.complete(HELLO, tenant_id="other", model_group="free")
    return write(tmp_path, made)


def ask(config: Path, *arguments: str | Path) -> Ran:
    return run("--config", config, "ledger", *arguments, env={})


class TestPrune:
    def test_deletes_rows_and_keeps_their_sums(self, config: Path, database: Database) -> None:
        reports = (run("--config", config, "usage", "--json"), run("--config", config, "budgets", "--json"))

        tried = ask(config, "prune", "--before", "2020-03-01", "--dry-run")
        assert (tried.code, tried.out) == (0, "1 call before 2020-03-01 would be deleted; their sums stay\n")
        assert len(database.rows()) == 3
        assert ask(config, "prune", "--before", OLD_DAY).out == f"0 calls before {OLD_DAY} deleted; their sums stay\n"
        pruned = ask(config, "prune", "--before", "8d")

        assert re.fullmatch(r"1 call before \d{4}-\d\d-\d\d deleted; their sums stay\n", pruned.out)
        assert {row["tenant"] for row in database.rows()} == {"other"}
        assert reports == (run("--config", config, "usage", "--json"), run("--config", config, "budgets", "--json"))
        assert json.loads(reports[1].out)["budgets"][0]["spent_usd"] == COST_NUSD / 1e9

    def test_keeps_what_a_server_that_comes_back_may_need(self, config: Path, database: Database) -> None:
        """A row that waits in a spool, and is in the ledger already, would count twice."""
        for day in ("6d", (datetime.now(UTC).date() + timedelta(days=1)).isoformat()):
            refused = ask(config, "prune", "--before", day)
            assert (refused.code, refused.out) == (2, "")
            assert "should be at least 7 days ago" in refused.err
        assert len(database.rows()) == 3

    @pytest.mark.two_databases
    def test_takes_as_many_as_there_are(self, config: Path, database: Database) -> None:
        """In portions, where others could not write meanwhile."""
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) "
        columns = ", ".join(f"'{OLD}'" if name == "time" else name for name in database.rows()[0] if name != "id")
        insert = (
            f"INSERT INTO konstruct_calls {numbers} SELECT i, {columns} FROM n, konstruct_calls WHERE time = '{OLD}'"
        )
        database.run(insert if database.kind == "sqlite" else insert.replace("SELECT i,", "SELECT i::text,"))
        assert "12,001 calls" in ask(config, "prune", "--before", "8d").out
        assert len(database.rows()) == 2


class TestExport:
    def test_writes_each_call(self, config: Path, database: Database, tmp_path: Path) -> None:
        file = tmp_path / "calls.csv"
        assert ask(config, "export", file).err == f"written to {file}\n"

        rows = list(csv.DictReader(io.StringIO(file.read_text("utf-8"))))
        assert set(rows[0]) == set(database.rows()[0])
        expected = [{name: "" if it is None else str(it) for name, it in row.items()} for row in database.rows(EXPORT)]
        assert [{name: row[name] for name in expected[0]} for row in rows] == expected
        assert [row["cost_nusd"] for row in rows] == [str(COST_NUSD), "", "0"]

    def test_writes_those_that_are_asked_for(self, config: Path, database: Database) -> None:
        def tenants(*arguments: str) -> list[str]:
            return [row["tenant"] for row in csv.DictReader(io.StringIO(ask(config, "export", *arguments, "-").out))]

        assert tenants("--tenant", "acme") == ["acme"]
        assert tenants("--since", "2020-03-01") == ["other", "other"]
        assert tenants("--until", OLD_DAY) == ["acme"]
        assert tenants("--until", "2020-02-28") == []

    def test_writes_parquet(self, config: Path, database: Database, tmp_path: Path) -> None:
        file = tmp_path / "calls.parquet"
        assert ask(config, "export", "--format", "parquet", file).code == 0
        found = pq.read_table(file)
        rows: list[dict[str, Any]] = found.to_pylist()
        assert [{name: row[name] for name in database.rows(EXPORT)[0]} for row in rows] == database.rows(EXPORT)
        assert str(found.schema.field("cost_nusd").type) == "int64"

    @pytest.mark.two_databases
    def test_has_no_cell_that_a_spreadsheet_would_run(self, config: Path, database: Database) -> None:
        database.run("UPDATE konstruct_calls SET model = '=1+1|cmd', group_asked = '+a\"b,c' WHERE tenant = 'acme'")
        [row] = csv.DictReader(io.StringIO(ask(config, "export", "--tenant", "acme", "-").out))
        assert (row["model"], row["group_asked"]) == ("'=1+1|cmd", "'+a\"b,c")

    def test_without_pyarrow_says_what_is_missing(self, tmp_path: Path) -> None:
        """In an interpreter that does not find it."""
        hiding = "import sys; sys.modules['pyarrow'] = None; sys.argv[0] = 'konstruct-mcp'\n"
        command = [sys.executable, "-c", f"{hiding}from konstruct_mcp.cli.main import main; main()"]
        arguments = ["ledger", "export", "--format", "parquet", str(tmp_path / "calls.parquet")]
        ran = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=LIMIT_S)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert (
            ran.stderr
            == "Error: Parquet needs pyarrow, which is not installed: in the clone, python3 -m uv pip install pyarrow\n"
        )
        assert not (tmp_path / "calls.parquet").exists()

    def test_to_a_place_that_cannot_be_written_fails_in_a_line(self, config: Path, database: Database) -> None:
        ran = ask(config, "export", "/nowhere/calls.csv")
        assert (ran.code, ran.err.count("\n")) == (1, 1)
        assert "/nowhere/calls.csv" in ran.err

    def test_of_a_ledger_out_of_reach_fails_in_a_line(
        self, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path
    ) -> None:
        url = "postgresql://127.0.0.1:1/nowhere"
        config = write(tmp_path, priced_config(None, openai, anthropic, ollama, ledger_url=url))
        with started("--config", config, "ledger", "export", tmp_path / "calls.csv") as process:
            ran = ended(process)
        assert ran.code == 1
        assert ran.err.startswith("error: ledger: the ledger is out of reach (")


async def test_an_sqlite_ledger_is_copied_while_it_is_written_and_taken_back(
    tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider
) -> None:
    database = sqlite(tmp_path)
    config = priced_config(database, openai, anthropic, ollama, budgets=[{"usd": 1, "per": "total"}])
    [command] = re.findall(r"^python3 (-c .*VACUUM INTO.*)$", (DOCS / "ledger.md").read_text("utf-8"), re.MULTILINE)
    async with opened(tmp_path, config) as konstruct:
        await konstruct.complete(HELLO)
        await anyio.run_process([sys.executable, *shlex.split(command)], cwd=tmp_path)  # which raises where it fails
        await konstruct.complete(HELLO)
    database.engine.dispose()

    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"ledger.sqlite3{suffix}").unlink(missing_ok=True)
    (tmp_path / "copy.sqlite3").rename(tmp_path / "ledger.sqlite3")
    async with opened(tmp_path, config) as konstruct:
        [state] = await konstruct.budgets("default")
        assert state.spent_nusd == COST_NUSD
        await konstruct.complete(HELLO)
    assert sqlite(tmp_path).spent("default") == 2 * COST_NUSD
