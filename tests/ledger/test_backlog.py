"""Where a call is kept that the database has not taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from konstruct_mcp.core.spending import Call
from konstruct_mcp.ledger.backlog import Backlog
from konstruct_mcp.ledger.notices import Notices
from konstruct_mcp.ledger.spool import Spool

CALL = Call("1", "2026-01-01T00:00:00.000000Z", "acme", "fast", "fast", "m", (), 0, 5, "ok", 1)
CALLS = [replace(CALL, id=id_) for id_ in "123"]


def backlog(folder: Path) -> Backlog:
    return Backlog(Spool(folder), Notices("", "", folder), 2)


def test_what_is_put_aside_is_in_the_spool(tmp_path: Path) -> None:
    kept = backlog(tmp_path / "spool")
    kept.hand_over(CALL)
    kept.put_all_aside()
    assert [file.name for file, _ in kept.spool.rows()] == ["1.json"]
    assert kept.has_spooled
    assert not kept.is_handed_over(CALL)
    assert not kept.has_memory


def test_without_a_spool_the_newest_are_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("no folder")
    kept = backlog(tmp_path / "spool")
    kept.put_aside(CALLS)
    assert kept.from_memory() == CALLS[1:]
    (tmp_path / "spool").unlink()
    kept.put_all_aside()
    assert not kept.has_memory
    assert len(list(kept.spool.rows())) == 2


def test_what_the_database_has_taken_is_forgotten(tmp_path: Path) -> None:
    kept = backlog(tmp_path / "spool")
    kept.hand_over(CALL)
    kept.forget([CALL])
    kept.put_all_aside()
    assert list(kept.spool.rows()) == []
