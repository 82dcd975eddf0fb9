"""From the tables of any older version to those of this one. Imported only when there is something to migrate."""

from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from konstruct_mcp.ledger.schema import HEAD, REVISION_TABLE, USABLE_FROM, USABLE_FROM_TABLE

_one_at_a_time = threading.Lock()  # what Alembic works on is known to the whole process, and not to a thread alone


def upgrade(connection: sa.Connection, revision: str = HEAD) -> None:
    """Migrate within the transaction that is open on this connection.

    Versions up to 0003 kept their own number where later ones keep `USABLE_FROM`.
    """
    for table in (USABLE_FROM_TABLE, REVISION_TABLE):
        connection.execute(sa.text(f"CREATE TABLE IF NOT EXISTS {table} (version_num VARCHAR(32) PRIMARY KEY)"))
    [[known]] = connection.execute(sa.text(f"SELECT count(*) FROM {REVISION_TABLE}"))  # noqa: S608  a name of ours
    if not known:
        copied = f"INSERT INTO {REVISION_TABLE} SELECT version_num FROM {USABLE_FROM_TABLE}"  # noqa: S608  names of ours
        connection.execute(sa.text(copied))
    config = Config()
    # Alembic reads % as the beginning of a variable.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes |= {"connection": connection, "version_table": REVISION_TABLE}
    with _one_at_a_time:
        command.upgrade(config, revision)
    usable_from = {"number": min(revision, USABLE_FROM)}
    connection.execute(sa.text(f"DELETE FROM {USABLE_FROM_TABLE}"))  # noqa: S608  a name of ours
    connection.execute(sa.text(f"INSERT INTO {USABLE_FROM_TABLE} VALUES (:number)"), usable_from)  # noqa: S608  the same
