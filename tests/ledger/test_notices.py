"""What the ledger says in the log: each change once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from konstruct_mcp.ledger.notices import Notices


@pytest.fixture
def notices() -> Notices:
    notices = Notices("sqlite:////there/ledger", "/there/ledger", Path("/there/spool"))
    notices.serves_calls = True
    return notices


def test_a_fault_is_said_once_and_its_end_once(notices: Notices, caplog: pytest.LogCaptureFixture) -> None:
    notices.say_changes()
    notices.ledger_fault = "disk full"
    notices.say_changes()
    notices.say_changes()
    notices.ledger_fault = None
    notices.say_changes(folded=2)
    notices.say_changes()
    assert caplog.messages == [
        "the ledger cannot be written (disk full: /there/ledger); calls go to its spool until it can",
        "the ledger is written again, with 2 calls that had to wait",
    ]


def test_without_ledger_and_spool_it_is_an_error(notices: Notices, caplog: pytest.LogCaptureFixture) -> None:
    notices.ledger_fault, notices.spool_fault = "disk full", PermissionError(13, "Permission denied")
    notices.say_changes()
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        "neither the ledger (disk full: /there/ledger) nor its spool (Permission denied: /there/spool) can be written; "
        "calls are kept in memory, and lost if this process ends first"
    )


def test_lost_calls_are_counted_when_the_ledger_is_back(notices: Notices, caplog: pytest.LogCaptureFixture) -> None:
    notices.ledger_fault = "disk full"
    notices.say_changes()
    notices.count_lost(10)
    notices.count_lost(10)
    notices.ledger_fault = None
    notices.say_changes()
    assert caplog.messages[1:] == [
        "no more than 10 calls are kept in memory: the oldest are lost",
        "the ledger is written again; 2 calls lost",
    ]


def test_who_only_reads_reports_is_told_why_and_has_no_log(notices: Notices, caplog: pytest.LogCaptureFixture) -> None:
    assert notices.out_of_reach("disk full") == "the ledger is out of reach; try again later"
    notices.serves_calls = False
    notices.ledger_fault = "disk full"
    notices.say_changes()
    assert notices.unusable() == "the ledger is out of reach (disk full); try again later"
    assert not caplog.messages


def test_a_ledger_that_is_gone_says_how_to_go_on(notices: Notices) -> None:
    notices.is_gone = True
    assert "konstruct-mcp ledger accept-new" in notices.unusable()
    notices.refusal = "a newer version wrote it"
    assert notices.unusable() == "a newer version wrote it"
