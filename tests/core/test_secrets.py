"""Passwords in a database's URL: understood as they were meant, and kept out of what is said."""

from __future__ import annotations

import pytest

from konstruct_mcp.core.secrets import with_whole_password, without_password


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("postgresql://me:a@b@host/db", "postgresql://me:a%40b@host/db"),
        ("postgresql://me:a@b@c@host/db?x=@", "postgresql://me:a%40b%40c@host/db?x=@"),
        ("postgresql://me:ab@host/db", "postgresql://me:ab@host/db"),
        ("sqlite:////home/a@b/c@d/ledger.sqlite3", "sqlite:////home/a@b/c@d/ledger.sqlite3"),
    ],
)
def test_a_password_ends_at_the_last_at_sign_before_the_host(url: str, whole: str) -> None:
    assert with_whole_password(url) == whole


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('could not translate host name "b@host"', 'could not translate host name "***@host"'),
        ("authentication failed for swordfish", "authentication failed for ***"),
        ("a cab at b", "*** cab at ***"),
    ],
)
def test_no_part_of_a_password_is_said(said: str, shown: str) -> None:
    assert without_password(said, "postgresql://me:a@b@host/db?password=swordfish") == shown
