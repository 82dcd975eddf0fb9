"""Where the ledger is, as the environment or the config says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from konstruct_mcp.config.findings import Findings
from konstruct_mcp.config.masking import which_database
from konstruct_mcp.config.model import LedgerPlace
from konstruct_mcp.config.packages import installed
from konstruct_mcp.config.references import References
from konstruct_mcp.config.source import data_folder
from konstruct_mcp.core.errors import install_advice

_SCHEME = re.compile(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?\Z")


def ledger_place(given: str | None, references: References, findings: Findings) -> LedgerPlace:
    """The ledger that the environment names, else the config, else a file in the user's data folder.

    Args:
        given: `konstruct.ledger_url`.
        references: the environment.
        findings: where faults go.
    """
    place, url = references.address("KONSTRUCT_LEDGER_URL", "konstruct.ledger_url", given, findings)
    folder = data_folder(references.process)
    if not url:
        if folder is None:
            findings.fault("KONSTRUCT_LEDGER_URL", "is needed: this user has no data folder for the ledger")
            return LedgerPlace("", Path())
        file = folder / "ledger.sqlite3"
        return LedgerPlace(f"sqlite:///{file}", file.with_name(f"{file.name}.spool"))
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.match(scheme):
        findings.fault(place, "should be a SQLAlchemy URL, like sqlite:////absolute/path or postgresql://host/name")
    elif scheme.startswith("sqlite"):
        file = Path(rest.partition("?")[0].removeprefix("/"))
        if not file.is_absolute():  # the current folder is whatever a client has started the server in
            findings.fault(place, "should name an absolute path: sqlite:////absolute/path/ledger.sqlite3")
        return LedgerPlace(url, file.with_name(f"{file.name}.spool") if file.name else file)
    elif scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        url = f"postgresql+psycopg://{rest}"
        if not installed("psycopg"):
            findings.fault(place, f"needs the extra `postgres`: {install_advice('postgres')}")
    if folder is None:
        findings.fault(place, "this user has no data folder, which is needed beside a database server")
        return LedgerPlace(url, Path())
    which = hashlib.sha256(which_database(url).encode()).hexdigest()[:16]
    return LedgerPlace(url, folder / f"ledger-{which}.spool")
