"""From the tables of any older version to those of this one. Imported only when there is something to migrate."""

from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

_one_at_a_time = threading.Lock()  # what Alembic works on is known to the whole process, and not to a thread alone


def upgrade(connection: sa.Connection, version_table: str, revision: str = "head") -> None:
    """Migrate within the transaction that is open on this connection."""
    config = Config()
    # Alembic reads % as the beginning of a variable.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes |= {"connection": connection, "version_table": version_table}
    with _one_at_a_time:
        command.upgrade(config, revision)
